//! Chunks that are stored together.

use codec::{SOLID_PAGES_MAX, SOLID_PARTS_MAX};
use image::{Frame, FrameHash};
use mem::PageRange;
use plan::{Tier, Treatment};

use super::unit::{Unit, runs, soonest};
use super::{PutError, Recompression, Tools};
use crate::lane::SolidPart;

const PAGE_BYTES: usize = 4096;

/// Chunks of one tier, in load order, that are to be stored together.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    members: Vec<Member<'a>>,
    /// Their pages, one behind the other.
    pages: Vec<u8>,
}

#[derive(Debug)]
struct Member<'a> {
    unit: &'a Unit,
    /// Which pages, how soon; nothing yet of how they are stored.
    frame: Frame,
}

impl Group<'_> {
    fn tier(&self) -> Option<Tier> {
        self.members.first().map(|member| member.frame.tier)
    }

    fn has_room_for(&self, frame: &Frame) -> bool {
        self.members.len() < SOLID_PARTS_MAX
            && self.pages.len() + frame.held_bytes() <= SOLID_PAGES_MAX * PAGE_BYTES
            && self.tier().is_none_or(|tier| tier == frame.tier)
    }
}

impl Recompression {
    /// Adds `unit` to `group`, which is put first where that makes room; says whether it belongs to
    /// any: numbers, differences, and what does not shrink are shorter by themselves.
    pub(super) fn gather<'a>(
        &mut self,
        unit: &'a Unit,
        group: &mut Group<'a>,
    ) -> Result<bool, PutError> {
        let first = soonest(unit.blobs.iter().flatten()).filter(|_| unit.may_be_shared());
        let Some(first) = first else { return Ok(false) };
        let frame = Frame { held: unit.own(), delta_depth: 0, ..first.frame };
        if self.base_of(&frame)?.is_some() {
            return Ok(false);
        }
        // Before its pages are read: putting others needs the same buffers.
        if !group.has_room_for(&frame) {
            self.put_together(group)?;
        }
        let Tools { pages, chunk: scratch, encoder, .. } = &mut self.tools;
        self.old.pages_of(frame.memory, frame.chunk(), frame.held, scratch, pages)?;
        if codec::is_zero(pages) || encoder.looks_numeric(pages)? {
            return Ok(false);
        }
        group.pages.extend_from_slice(pages);
        group.members.push(Member { unit, frame });
        Ok(true)
    }

    /// Puts what is in `group`: together, where that is shorter. It is empty then.
    pub(super) fn put_together(&mut self, group: &mut Group<'_>) -> Result<(), PutError> {
        let is_put = group.members.len() > 1 && self.put_solid(group)?;
        if !is_put {
            group.members.iter().try_for_each(|member| self.put_alone(member.unit))?;
        }
        group.members.clear();
        group.pages.clear();
        Ok(())
    }

    /// Puts the members of `group` as one, decoded again and compared; false when that is not
    /// shorter than what there is.
    fn put_solid(&mut self, group: &Group<'_>) -> Result<bool, PutError> {
        let counts: Vec<u8> = group.members.iter().map(|member| pages_in(&member.frame)).collect();
        let level = self.level();
        let Tools { solid_encoder, solid_decoder, solid, sealer, .. } = &mut self.tools;
        let Some(stored) = solid_encoder.encode(&counts, &group.pages, level)? else {
            return Ok(false);
        };
        let before: u64 = group.members.iter().map(|member| member.unit.stored_bytes()).sum();
        let is_shared = group.members.iter().any(|member| member.unit.is_shared());
        let stored_bytes = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        if !is_shared && u64::from(stored_bytes) >= before {
            return Ok(false);
        }
        solid_decoder.decode(stored, solid)?;
        let stored_crc32c = sealer.seal_encoded(Treatment::Solid, stored, &[]).stored_crc32c;
        let mut rest = &group.pages[..];
        let mut parts = Vec::with_capacity(group.members.len());
        for (number, Member { unit, frame }) in group.members.iter().enumerate() {
            let (pages, others) = rest.split_at(frame.held_bytes());
            rest = others;
            if solid.part(number) != Some(pages) {
                return Err(PutError::NotTheSame);
            }
            // Of what was encoded, not those that are known: the content hash compares them.
            let mut hashes = Vec::new();
            sealer.hash(pages, &mut hashes);
            let hash = FrameHash::of(&self.old.key, &hashes);
            let treatment = Treatment::Solid;
            // There are not more than have numbers.
            let slot = u8::try_from(number).unwrap_or(u8::MAX);
            let frame = Frame { treatment, slot, stored_bytes, hash, stored_crc32c, ..*frame };
            let runs: Vec<PageRange> = runs(unit.blobs.iter().flatten());
            parts.push(SolidPart { frame, runs, hashes: hashes.into() });
        }
        self.writer.put_solid(parts, stored)?;
        Ok(true)
    }
}

/// The pages that a frame holds, 16 at most.
fn pages_in(frame: &Frame) -> u8 {
    u8::try_from(frame.held.count()).unwrap_or(u8::MAX)
}
