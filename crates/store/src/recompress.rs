//! Making a checkpoint smaller when there is time: the same pages under the same id, on the same
//! parent; what is stored of a chunk together and in the smallest form there is, without what was
//! copied and written again before the end. What is neither numbers nor the difference to anything
//! is stored many chunks together: what repeats further apart is found. What is needed before the first instruction stays in
//! the form that was chosen to be read soonest, and so does what lost something on request. Of a
//! checkpoint that is not divided, all of which is loaded before it starts, everything is stored
//! anew.
//!
//! As with [`Store::consolidate`] the new form is written and synced under `tmp` and then changes
//! places with the old one in one step. Children go on: they know it by what its pages hold.

mod group;
mod unit;

use std::time::Duration;

use codec::{Decoder, FRAME_BYTES_MAX, SmallestEncoder, Solid, SolidDecoder, SolidEncoder, Want};
use image::{CheckpointId, Frame, IndexEntry, Opener, PageHash, PageMask, Sealer};
use mem::{PageRange, PageSourceError};
use plan::{Tier, Treatment};
use rustix::fs::FlockOperation;

use crate::error::WriteError;
use crate::lane::{DELTA_DEPTH_MAX, zeros_and_others};
use crate::prune::holders;
use crate::{Checkpoint, CheckpointWriter, Store, WriteOptions};
use group::Group;
use unit::{Unit, runs, soonest, units};

/// The figure of a summary that says that it was done, and by which method: a better one would be
/// worth doing it again.
pub(crate) const RECOMPRESSED: &str = "recompressed";
const METHOD: u64 = 2;

/// Levels of zstd to choose from. With the one between, and with those above that are not much
/// slower, hardly anything is saved.
const LEVELS: [i32; 4] = [3, 6, 7, 8];

/// Processor time that reading, encoding and checking may take for each GB of pages. Writing takes
/// about half a second more.
const NS_PER_GB: u64 = 11_000_000_000;

/// A checkpoint that was stored anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recompressed {
    /// Which one.
    pub id: CheckpointId,
    /// Bytes that it took.
    pub before_bytes: u64,
    /// Bytes that it takes.
    pub after_bytes: u64,
}

impl Store {
    /// Stores checkpoint `id` in less space; `None` when that was done before. `each` hears of the
    /// bytes of pages that come next, and is asked whether to go on, the last time just before the
    /// step that cannot be undone. When this returns Ok the new form survives a crash of the
    /// machine; otherwise everything is as it was.
    ///
    /// # Errors
    /// When it cannot be read, somebody uses it, the store cannot be written, or `each` fails.
    pub fn recompress<E: From<WriteError>>(
        &self,
        id: CheckpointId,
        each: &dyn Fn(u64) -> Result<(), E>,
    ) -> Result<Option<Recompressed>, E> {
        let Some((mut again, units)) = self.begin_recompression(id)? else { return Ok(None) };
        let mut group = Group::default();
        for unit in &units {
            each(unit.page_bytes())?;
            again.put(unit, &mut group)?;
        }
        again.put_group(&mut group)?;
        let mut summary = again.old.summary().clone();
        summary.figures.insert(RECOMPRESSED.to_owned(), METHOD);
        let Recompression { old, writer, has_deepened, .. } = again;
        let written = writer.write(old.instance(), old.plan().clone(), &summary)?;
        each(0)?;
        let (before_bytes, after_bytes) = (old.stored_bytes(), written.published.stored_bytes);
        // A child that came meanwhile counted fewer differences.
        let may = || Ok(!has_deepened || !self.is_parent(id)?);
        self.exchange(&old, writer, &written, may)?;
        Ok(Some(Recompressed { id, before_bytes, after_bytes }))
    }

    fn begin_recompression(
        &self,
        id: CheckpointId,
    ) -> Result<Option<(Recompression, Vec<Unit>)>, WriteError> {
        let old = self.checkpoint(id)?;
        if old.summary().figures.get(RECOMPRESSED).is_some_and(|method| *method >= METHOD) {
            return Ok(None);
        }
        // Not for nothing: whoever uses it now is likely to do so at the end.
        if !old.dir.lock(FlockOperation::NonBlockingLockExclusive)? {
            return Err(WriteError::InUse { id, holder: holders(&old.dir) });
        }
        old.dir.lock(FlockOperation::LockShared)?;
        if !self.dirs.checkpoints.leads_to(&id.to_string(), &old.dir)? {
            return Err(WriteError::InUse { id, holder: "another process".to_owned() });
        }
        self.space_for(old.stored_bytes())?;
        let may_deepen = !self.is_parent(id)?;
        let options = WriteOptions { want: Want::Zstd(LEVELS[0]), reserve_bytes: 0 };
        let writer = CheckpointWriter::begin_again(self, options, &old)?;
        let mut stored: Vec<IndexEntry> = Vec::new();
        for memory in old.memories() {
            for entry in old.index.entries(memory, PageRange::new(0, u64::MAX)) {
                if entry.frame.stored_bytes > 0 {
                    stored.push(entry);
                    continue;
                }
                let put = writer.put_stored(entry.frame, Vec::new(), &[], &[]);
                put.map_err(|error| WriteError::EarlierPut(error.to_string()))?;
            }
        }
        let is_divided = old.plan().extents.iter().any(|extent| extent.tier != Tier::Critical);
        let units = units(stored, is_divided, may_deepen);
        let again = Recompression {
            tools: Tools::new(&old),
            old,
            writer,
            may_deepen,
            has_deepened: false,
            done_bytes: 0,
            spent: Duration::ZERO,
        };
        Ok(Some((again, units)))
    }

    fn is_parent(&self, id: CheckpointId) -> Result<bool, WriteError> {
        Ok(self.list()?.iter().any(|listed| listed.parent == Some(id)))
    }
}

/// Another form of a checkpoint on its way.
struct Recompression {
    old: Checkpoint,
    writer: CheckpointWriter,
    tools: Tools,
    /// Nobody builds on it, so that what was none may become a difference: children say how many
    /// stand behind each other.
    may_deepen: bool,
    has_deepened: bool,
    done_bytes: u64,
    spent: Duration,
}

/// Encoders, decoders and buffers.
struct Tools {
    encoder: SmallestEncoder,
    decoder: Decoder,
    solid_encoder: SolidEncoder,
    solid_decoder: SolidDecoder,
    solid: Solid,
    sealer: Sealer,
    stored: Vec<u8>,
    pages: Vec<u8>,
    chunk: Vec<u8>,
    base: Vec<u8>,
    decoded: Vec<u8>,
    hashes: Vec<PageHash>,
}

impl Tools {
    fn new(old: &Checkpoint) -> Self {
        let [stored, pages, chunk, base, decoded] = std::array::from_fn(|_| Vec::new());
        Self {
            encoder: SmallestEncoder::new(),
            decoder: Decoder::new(),
            solid_encoder: SolidEncoder::new(),
            solid_decoder: SolidDecoder::new(),
            solid: Solid::new(),
            sealer: Sealer::new(&old.key),
            stored,
            pages,
            chunk,
            base,
            decoded,
            hashes: Vec::new(),
        }
    }
}

impl Recompression {
    /// Puts what is stored of a chunk, or adds it to `group`.
    fn put<'a>(&mut self, unit: &'a Unit, group: &mut Group<'a>) -> Result<(), WriteError> {
        self.timed(|this| {
            if unit.is_kept || !this.gather(unit, group)? {
                this.put_alone(unit)?;
            }
            Ok(())
        })?;
        self.done_bytes += unit.page_bytes();
        Ok(())
    }

    /// Puts what is in `group`, which is empty then.
    fn put_group(&mut self, group: &mut Group<'_>) -> Result<(), WriteError> {
        self.timed(|this| this.put_together(group))
    }

    fn timed(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), PutError>,
    ) -> Result<(), WriteError> {
        let begun = thread_time();
        let put = work(self);
        self.spent += thread_time().saturating_sub(begun);
        put.map_err(|error| WriteError::EarlierPut(error.to_string()))
    }

    /// Puts a chunk by itself.
    fn put_alone(&mut self, unit: &Unit) -> Result<(), PutError> {
        match !unit.is_kept && self.put_smaller(unit)? {
            true => Ok(()),
            false => unit.blobs.iter().try_for_each(|blob| self.put_as_it_is(blob)),
        }
    }

    /// Puts one piece of stored bytes as it is.
    fn put_as_it_is(&mut self, blob: &[IndexEntry]) -> Result<(), PutError> {
        let Some(entry) = soonest(blob) else { return Ok(()) };
        let (frame, stored) = (entry.frame, &mut self.tools.stored);
        self.old.read_stored(&frame, stored)?;
        let hashes = match frame.treatment {
            // Its file need not be as it was: it may be put back.
            Treatment::Twin => {
                Opener::twin_place(&frame, stored)?;
                self.old.hashes.of(entry)?
            }
            _ => self.old.readers.with(|reader| {
                self.old.open_stored(&frame, stored, reader).map(|(_, hashes)| hashes)
            })?,
        };
        Ok(self.writer.put_stored(frame, runs(blob), stored, &hashes)?)
    }

    /// Puts the pages of `unit`, encoded anew, decoded again and compared; false when that is not
    /// shorter than what there is.
    fn put_smaller(&mut self, unit: &Unit) -> Result<bool, PutError> {
        let Some(first) = soonest(unit.blobs.iter().flatten()) else { return Ok(true) };
        let first = Frame { held: unit.own(), ..first.frame };
        let (memory, chunk) = (first.memory, first.chunk());
        let runs = runs(unit.blobs.iter().flatten());
        let Tools { pages, chunk: scratch, .. } = &mut self.tools;
        self.old.pages_of(memory, chunk, first.held, scratch, pages)?;
        let depth = self.read_base(&first)?;
        let level = self.level();
        let Tools { encoder, decoder, sealer, pages, base, decoded, hashes, .. } = &mut self.tools;
        let base = depth.map(|_| &base[..]);
        let made = encoder.encode(pages, base, level)?;
        let frame = Frame { treatment: made.treatment, delta_depth: 0, slot: 0, ..first };
        if made.treatment == Treatment::Zero {
            let parts = runs.into_iter().map(|pages| zeros_and_others(&Frame { pages, ..frame }));
            for part in parts.flatten() {
                self.writer.put_stored(part, Vec::new(), &[], &[])?;
            }
            return Ok(true);
        }
        let stored_bytes = u32::try_from(made.bytes.len()).unwrap_or(u32::MAX);
        if !unit.is_shared() && u64::from(stored_bytes) >= unit.stored_bytes() {
            return Ok(false);
        }
        decoded.resize(pages.len(), 0);
        let base = base.filter(|_| made.treatment == Treatment::Delta);
        match base {
            Some(base) => decoder.decode_delta(base, made.bytes, decoded)?,
            None => decoder.decode(made.treatment, made.bytes, decoded)?,
        }
        if decoded != pages {
            return Err(PutError::NotTheSame);
        }
        hashes.clear();
        sealer.hash(pages, hashes);
        let sealed = sealer.seal_encoded(made.treatment, made.bytes, hashes);
        let delta_depth = depth.filter(|_| base.is_some()).unwrap_or(0);
        self.has_deepened |= self.may_deepen && delta_depth > 0;
        let (hash, stored_crc32c) = (sealed.hash, sealed.stored_crc32c);
        let frame = Frame { delta_depth, stored_bytes, hash, stored_crc32c, ..frame };
        self.writer.put_stored(frame, runs, made.bytes, hashes)?;
        Ok(true)
    }

    /// Reads the parent's pages, to which those of `frame` may be stored as the difference, into
    /// `tools.base`. How many differences that makes; `None` when they may not.
    fn read_base(&mut self, frame: &Frame) -> Result<Option<u8>, PutError> {
        let (Some(parent), Some((depth, bases))) = (self.old.parent(), self.base_of(frame)?) else {
            return Ok(None);
        };
        let Tools { chunk: scratch, base, .. } = &mut self.tools;
        parent.pages_of(frame.memory, frame.chunk(), bases, scratch, base)?;
        Ok(Some(depth))
    }

    /// The parent's pages, to which those of `frame` may be stored as the difference, and how many
    /// differences that makes; `None` when they may not.
    fn base_of(&self, frame: &Frame) -> Result<Option<(u8, PageMask)>, PutError> {
        let Some(parent) = self.old.parent() else { return Ok(None) };
        let (memory, chunk) = (frame.memory, frame.chunk());
        let bases = frame.held.and(parent.present(memory, chunk));
        let depth_max = if self.may_deepen { DELTA_DEPTH_MAX } else { frame.delta_depth };
        if bases.is_empty() || depth_max == 0 {
            return Ok(None);
        }
        let known = parent.chunk_hashes(memory, chunk, bases)?;
        let depth = bases.places().map(|place| known.delta_depths[place]).max().unwrap_or(0) + 1;
        let is_zero = bases.places().all(|place| known.hashes[place].is_zero());
        // As a difference it would have to be read where it was cold after all.
        let is_promoted = frame.tier != Tier::Cold
            && !parent.cold_pages(memory, chunk).and(frame.held).is_empty();
        let may = depth <= depth_max && !is_zero && !is_promoted;
        Ok(may.then_some((depth, bases)))
    }

    /// As hard as the time that was spent so far allows.
    fn level(&self) -> i32 {
        let frame_bytes = u64::try_from(FRAME_BYTES_MAX).unwrap_or(u64::MAX);
        let bytes = u128::from(self.done_bytes.saturating_add(frame_bytes));
        let allowed = bytes * u128::from(NS_PER_GB) / 1_000_000_000;
        match self.spent.as_nanos() * 100 / allowed.max(1) {
            0..92 => LEVELS[3],
            92..97 => LEVELS[2],
            97..100 => LEVELS[1],
            _ => LEVELS[0],
        }
    }
}

/// Why something could not be stored anew.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error(transparent)]
    Read(#[from] PageSourceError),
    #[error(transparent)]
    Open(#[from] image::OpenError),
    #[error(transparent)]
    Encode(#[from] codec::EncodeError),
    #[error(transparent)]
    Decode(#[from] codec::DecodeError),
    #[error(transparent)]
    Write(#[from] mem::PageSinkError),
    #[error("what was encoded does not come back as it was; nothing was changed, this is a bug")]
    NotTheSame,
}

/// Processor time of this thread so far.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
