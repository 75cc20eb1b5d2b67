//! Pages of ranges in which somebody allowed a loss.

use std::io;

use codec::{FiniteSpan, LossyEncoder, LossyPart};
use image::{PageHash, PageMask};
use mem::{PageIndex, PageSet};
use plan::{LossyRange, Tier, Treatment};

use super::{Lane, PAGE_BYTES, Place, Target, changed_pages, frame_of, promoted};
use crate::divide;
use crate::hashes::{ChunkHashes, page_at};

/// Pages of one chunk that are in such ranges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedChunk<'a> {
    /// The chunk's first page.
    pub(crate) chunk: PageIndex,
    /// Which pages.
    pub(crate) pages: PageMask,
    /// Their bytes.
    pub(crate) bytes: &'a [u8],
    /// The ranges; no two have a byte in common.
    pub(crate) ranges: &'a [LossyRange],
    /// Those of the pages that are saved in full whatever was allowed.
    pub(crate) critical: PageMask,
}

/// What was done with the elements of one range.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) largest_error: f64,
    pub(crate) elements_lossy: u64,
    pub(crate) elements_not_finite: u64,
    pub(crate) page_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// Pages that were encoded, and that the parent has just as they come back: what they lose is
    /// counted here, whatever the parent says of them.
    pub(crate) again: PageSet,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.largest_error = self.largest_error.max(other.largest_error);
        self.elements_lossy += other.elements_lossy;
        self.elements_not_finite += other.elements_not_finite;
        self.page_bytes += other.page_bytes;
        self.stored_bytes += other.stored_bytes;
        self.again = self.again.union(&other.again);
    }
}

impl NamedChunk<'_> {
    fn page(&self, place: usize) -> PageIndex {
        page_at(self.chunk, place)
    }

    /// Those that are nothing but zeros: they take no space as they are, here and in memory.
    fn zeros(&self) -> PageMask {
        let each = self.pages.places().zip(self.bytes.chunks_exact(PAGE_BYTES));
        let mut zeros = PageMask::default();
        each.filter(|(_, page)| codec::is_zero(page)).for_each(|(place, _)| zeros.insert(place));
        zeros
    }

    /// The range that page `place` is encoded with: that which has most of it.
    fn range_of(&self, place: usize) -> Option<usize> {
        let bytes = |range: &LossyRange| range.part_of(self.page(place)).map_or(0, |p| p.len());
        let most = self.ranges.iter().enumerate().max_by_key(|(_, range)| bytes(range));
        most.filter(|(_, range)| bytes(range) > 0).map(|(number, _)| number)
    }

    /// The bytes of the pages `wanted`, one after the other.
    fn gather(&self, wanted: PageMask, out: &mut Vec<u8>) {
        out.clear();
        let each = self.pages.places().zip(self.bytes.chunks_exact(PAGE_BYTES));
        each.filter(|(place, _)| wanted.has(*place)).for_each(|(_, page)| {
            out.extend_from_slice(page);
        });
    }

    /// The elements of `range` in the pages `held`, one after the other. Between the first and the
    /// last of these pages all bytes are the range's, whether or not pages are missing there.
    fn part(&self, range: &LossyRange, held: PageMask) -> Option<LossyPart> {
        let (first, last) = (held.places().next()?, held.places().last()?);
        let before = PAGE_BYTES * held.places().count().saturating_sub(1);
        let start = range.part_of(self.page(first))?.start;
        let end = before + range.part_of(self.page(last))?.end;
        Some(LossyPart { bytes: start..end, numeric: range.numeric, bound: range.bound })
    }

    /// Elements of each range that are NaN or infinite.
    fn count_not_finite(&self, tallies: &mut [Tally]) {
        for (place, page) in self.pages.places().zip(self.bytes.chunks_exact(PAGE_BYTES)) {
            for (range, tally) in self.ranges.iter().zip(&mut *tallies) {
                if let Some(part) = range.part_of(self.page(place)) {
                    let mut span = FiniteSpan::new();
                    span.add(&page[part], range.numeric);
                    tally.elements_not_finite += span.not_finite();
                }
            }
        }
    }
}

impl Lane {
    /// Takes pages of a chunk, each as near to what it is as its range asks for; what is to be
    /// saved in full, or does not get smaller so, exactly. Adds what was done with each range to
    /// `tallies`.
    pub(crate) fn put_named(
        &mut self,
        target: &Target<'_>,
        named: &NamedChunk<'_>,
        tallies: &mut [Tally],
    ) -> io::Result<()> {
        named.count_not_finite(tallies);
        let mut groups = vec![PageMask::default(); named.ranges.len()];
        for place in named.pages.places() {
            if let Some(number) = named.range_of(place) {
                groups[number].insert(place);
                tallies[number].page_bytes += mem::PAGE_SIZE;
            }
        }
        let masks = match target.division {
            Some(division) => division.masks(target.memory, named.chunk).to_vec(),
            None => vec![(Tier::Critical, PageMask::ALL)],
        };
        let in_full = named.critical.or(named.zeros());
        for (number, (range, tally)) in named.ranges.iter().zip(tallies).enumerate() {
            for (tier, mask) in &masks {
                let pages = groups[number].and(*mask);
                let exact = Place { tier: *tier, chunk: named.chunk, pages: pages.and(in_full) };
                let near = Place { pages: pages.without(in_full), ..exact };
                tally.add(&self.put_exact(target, exact, named)?);
                tally.add(&self.put_lossy(target, near, named, range)?);
            }
        }
        Ok(())
    }

    /// Takes the pages of `place` as they are.
    fn put_exact(
        &mut self,
        target: &Target<'_>,
        place: Place,
        named: &NamedChunk<'_>,
    ) -> io::Result<Tally> {
        let Place { tier, chunk, pages } = place;
        if pages.is_empty() {
            return Ok(Tally::default());
        }
        let mut buffers = std::mem::take(&mut self.buffers);
        let mut bytes = std::mem::take(&mut buffers.part);
        named.gather(pages, &mut bytes);
        buffers.hashes.clear();
        self.sealer.hash(&bytes, &mut buffers.hashes);
        let stored = self.put_frame(target, (tier, chunk, pages), &bytes, &mut buffers);
        buffers.part = bytes;
        self.buffers = buffers;
        Ok(Tally { stored_bytes: stored?.into(), ..Tally::default() })
    }

    /// Takes the pages of `place` as near to what they are as `range` asks for.
    fn put_lossy(
        &mut self,
        target: &Target<'_>,
        place: Place,
        named: &NamedChunk<'_>,
        range: &LossyRange,
    ) -> io::Result<Tally> {
        if place.pages.is_empty() {
            return Ok(Tally::default());
        }
        let mut bytes = std::mem::take(&mut self.buffers.part);
        named.gather(place.pages, &mut bytes);
        let below = Below::look(target, place)?;
        // What is as it was is that, and loses nothing.
        let changed = below.changed(&self.hashes_of(&bytes), place.pages);
        self.refer_to(target.memory, place.chunk, place.pages.without(changed));
        let place = Place { pages: changed, ..place };
        named.gather(changed, &mut bytes);
        let put = self.put_changed(target, place, &bytes, (named, range, &below));
        self.buffers.part = bytes;
        put
    }

    /// Takes the pages of `place`, with these bytes, none of which the parent has as they are.
    fn put_changed(
        &mut self,
        target: &Target<'_>,
        place: Place,
        bytes: &[u8],
        (named, range, below): (&NamedChunk<'_>, &LossyRange, &Below),
    ) -> io::Result<Tally> {
        let all = place.pages;
        if all.is_empty() {
            return Ok(Tally::default());
        }
        if let Some(twin) = self.twin(target, place, all, bytes) {
            let hashes = self.hashes_of(bytes);
            return self.add_encoded(target, place, (Treatment::Twin, &twin.encode()), &hashes);
        }
        let mut lossy = std::mem::take(&mut self.lossy);
        let part = named.part(range, all);
        let near = match &part {
            Some(part) => lossy.encode(bytes, part).map_err(io::Error::other)?,
            None => None,
        };
        let Some(near) = near else {
            self.lossy = lossy;
            return self.put_exact(target, place, named);
        };
        let tally = Tally {
            largest_error: near.largest_error,
            elements_lossy: near.elements_changed,
            ..Tally::default()
        };
        let hashes = self.hashes_of(near.pages);
        let anew = below.changed(&hashes, all);
        let again = divide::runs(all.without(anew), place.chunk).collect();
        let stored = if anew == all {
            self.add_encoded(target, place, (Treatment::Lossy, near.frame.bytes), &hashes)?
        } else {
            // The parent has the others just as they come back.
            self.put_anew(target, place, anew, &mut lossy, (named, range))?
        };
        self.lossy = lossy;
        Ok(Tally { stored_bytes: stored.stored_bytes, again, ..tally })
    }

    /// Refers to the parent for the pages of `place` that are not in `anew`, if the rest alone can
    /// be encoded.
    fn put_anew(
        &mut self,
        target: &Target<'_>,
        place: Place,
        anew: PageMask,
        lossy: &mut LossyEncoder,
        (named, range): (&NamedChunk<'_>, &LossyRange),
    ) -> io::Result<Tally> {
        let (mut bytes, all) = (Vec::new(), place.pages);
        for pages in [anew, all] {
            let Some(part) = named.part(range, pages) else {
                self.refer_to(target.memory, place.chunk, all);
                return Ok(Tally::default());
            };
            named.gather(pages, &mut bytes);
            let Some(near) = lossy.encode(&bytes, &part).map_err(io::Error::other)? else {
                continue;
            };
            self.refer_to(target.memory, place.chunk, all.without(pages));
            let hashes = self.hashes_of(near.pages);
            let encoded = (Treatment::Lossy, near.frame.bytes);
            return self.add_encoded(target, Place { pages, ..place }, encoded, &hashes);
        }
        Err(io::Error::other("pages that were encoded cannot be encoded again"))
    }

    /// Takes the pages of `place`, encoded, with the hashes of what they come back as.
    fn add_encoded(
        &mut self,
        target: &Target<'_>,
        place: Place,
        (treatment, bytes): (Treatment, &[u8]),
        hashes: &[PageHash],
    ) -> io::Result<Tally> {
        let sealed = self.sealer.seal_encoded(treatment, bytes, hashes);
        let frame = frame_of(target, place, place.pages, &sealed, 0)?;
        let runs = divide::runs(place.pages, place.chunk).collect();
        self.add(target.data, (frame, runs), bytes, hashes)?;
        Ok(Tally { stored_bytes: frame.stored_bytes.into(), ..Tally::default() })
    }

    fn hashes_of(&self, pages: &[u8]) -> Vec<PageHash> {
        let mut hashes = Vec::new();
        self.sealer.hash(pages, &mut hashes);
        hashes
    }
}

/// What the parent has of some pages.
struct Below {
    known: ChunkHashes,
    /// Pages that are stored again in any case.
    promoted: PageMask,
}

impl Below {
    fn look(target: &Target<'_>, place: Place) -> io::Result<Self> {
        let Some(parent) = target.parent else {
            return Ok(Self { known: ChunkHashes::default(), promoted: PageMask::default() });
        };
        let known = parent.chunk_hashes(target.memory, place.chunk, place.pages);
        let known = known.map_err(io::Error::other)?;
        let promoted = promoted(target, parent, place, &known);
        Ok(Self { known, promoted })
    }

    /// Which of the pages `all`, with these hashes, it does not have.
    fn changed(&self, hashes: &[PageHash], all: PageMask) -> PageMask {
        changed_pages(hashes, &self.known, all).or(self.promoted.and(all))
    }
}
