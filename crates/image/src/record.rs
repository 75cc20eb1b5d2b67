//! One record of the extent index.

use mem::{MemoryId, PageRange};
use plan::{Tier, Treatment};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::convert::Invalid;
use crate::limits::PAGE_NUMBER_END;
use crate::{Frame, FrameHash, PageMask, TwinPlace};

/// Bytes in a record.
pub const RECORD_BYTES: usize = 64;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Record {
    first_page: U64,
    memory_number: U32,
    page_count: U32,
    memory_kind: u8,
    tier: u8,
    treatment: u8,
    depth_or_slot: u8,
    held: U16,
    file: U16,
    offset_bytes: U64,
    stored_bytes: U32,
    load_order: U32,
    hash: [u8; 16],
    stored_crc32c: U32,
    crc32c: U32,
}

const _: () = assert!(size_of::<Record>() == RECORD_BYTES);

impl Record {
    pub(crate) fn new(frame: &Frame) -> Result<Self, Invalid> {
        check(frame)?;
        let (memory_kind, memory_number) = memory_rank(frame.memory);
        let page_count = u32::try_from(frame.pages.count().0)
            .map_err(|_| Invalid::new("a frame has too many pages"))?;
        let mut record = Self {
            first_page: frame.pages.start.0.into(),
            memory_number: memory_number.into(),
            page_count: page_count.into(),
            memory_kind,
            tier: frame.tier.code(),
            treatment: frame.treatment.code(),
            // Only one of them is not 0.
            depth_or_slot: frame.delta_depth | frame.slot,
            held: frame.held.0.into(),
            file: frame.file.into(),
            offset_bytes: frame.offset_bytes.into(),
            stored_bytes: frame.stored_bytes.into(),
            load_order: frame.load_order.into(),
            hash: frame.hash.0,
            stored_crc32c: frame.stored_crc32c.into(),
            crc32c: 0.into(),
        };
        record.crc32c = record.checksum().into();
        Ok(record)
    }

    fn checksum(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..RECORD_BYTES - 4])
    }

    /// Kind and number of the memory, and the first page: what records are sorted by.
    pub(crate) fn place(&self) -> ((u8, u32), u64) {
        ((self.memory_kind, self.memory_number.get()), self.first_page.get())
    }

    /// The first page behind it.
    pub(crate) fn end(&self) -> u64 {
        self.first_page.get().saturating_add(self.page_count.get().into())
    }

    /// The frame, checked in every respect.
    pub(crate) fn frame(&self) -> Result<Frame, Invalid> {
        if self.crc32c.get() != self.checksum() {
            return Err(Invalid::new("does not match its checksum"));
        }
        self.frame_of_whole()
    }

    /// The same, of bytes that are known to be those that were written.
    pub(crate) fn frame_of_whole(&self) -> Result<Frame, Invalid> {
        let frame = self.checked_before()?;
        check(&frame)?;
        Ok(frame)
    }

    /// The frame of a record that was checked already: indexes are gone through again and again.
    pub(crate) fn checked_before(&self) -> Result<Frame, Invalid> {
        let number = self.memory_number.get();
        let memory = match self.memory_kind {
            1 => MemoryId::Private(number),
            2 => MemoryId::Shared(number),
            code => return Err(Invalid::new(format!("memory kind {code} is not known"))),
        };
        let treatment = Treatment::try_from(self.treatment)
            .map_err(|e| Invalid::new(format!("treatment: {e}")))?;
        let (delta_depth, slot) = match treatment {
            Treatment::Solid => (0, self.depth_or_slot),
            _ => (self.depth_or_slot, 0),
        };
        Ok(Frame {
            memory,
            pages: PageRange::new(self.first_page.get(), self.end()),
            tier: Tier::try_from(self.tier).map_err(|e| Invalid::new(format!("tier: {e}")))?,
            treatment,
            held: PageMask(self.held.get()),
            delta_depth,
            slot,
            file: self.file.get(),
            offset_bytes: self.offset_bytes.get(),
            stored_bytes: self.stored_bytes.get(),
            load_order: self.load_order.get(),
            hash: FrameHash(self.hash),
            stored_crc32c: self.stored_crc32c.get(),
        })
    }
}

const TWIN_PLACE_BYTES: u32 = 16;
const _: () = assert!(TwinPlace::BYTES == TWIN_PLACE_BYTES as usize);

/// Stored bytes of several chunks at most.
const SOLID_BYTES_MAX: u64 = 1 << 20;
const _: () = assert!(codec::SOLID_BYTES_MAX as u64 == SOLID_BYTES_MAX);

/// What must hold for every frame.
fn check(frame: &Frame) -> Result<(), Invalid> {
    let (start, end) = (frame.pages.start.0, frame.pages.end.0);
    if start >= end || end > PAGE_NUMBER_END {
        return Err(Invalid::new(format!("pages {start} to {end} cannot be")));
    }
    // What has no bytes has none of what describes them.
    let like = Frame::without_bytes(frame.memory, frame.pages, frame.treatment);
    let like = Frame { tier: frame.tier, load_order: frame.load_order, ..like };
    let pages_max = codec::FRAME_PAGES_MAX;
    let in_one_chunk = start / pages_max == (end - 1) / pages_max;
    let held = u64::try_from(frame.held_bytes()).unwrap_or(u64::MAX);
    let stored = u64::from(frame.stored_bytes);
    let is_delta = frame.treatment == Treatment::Delta;
    let fits = match frame.treatment {
        Treatment::Parent => *frame == like,
        Treatment::Zero => in_one_chunk && *frame == like,
        Treatment::Raw if stored != held => false,
        Treatment::Twin if frame.stored_bytes != TWIN_PLACE_BYTES => false,
        Treatment::Solid => {
            in_one_chunk
                && !frame.own().is_empty()
                && (1..=SOLID_BYTES_MAX).contains(&stored)
                && frame.delta_depth == 0
        }
        _ => {
            in_one_chunk
                && !frame.own().is_empty()
                && stored <= held
                && is_delta == (frame.delta_depth > 0)
                && frame.slot == 0
        }
    };
    if !fits {
        return Err(Invalid::new(format!(
            "pages {start} to {end}, with {held} bytes held in {stored}, are no frame of \
             treatment {}",
            frame.treatment.name()
        )));
    }
    Ok(())
}

/// Kind and number of a memory as the records are sorted: the order of `MemoryId`.
pub(crate) fn memory_rank(memory: MemoryId) -> (u8, u32) {
    match memory {
        MemoryId::Private(number) => (1, number),
        MemoryId::Shared(number) => (2, number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fields that are often within their limits and sometimes far outside.
    fn record() -> impl Strategy<Value = Record> {
        let place = (any::<u64>(), any::<u32>(), 0..4u8, 0..20u32, 0..5u8, 0..18u8, 0..53u32);
        let rest = (any::<u64>(), 0..70_000u32, any::<u32>(), any::<[u8; 16]>(), any::<[u16; 2]>());
        (place, rest).prop_map(|(place, (offset, stored, order, hash, [mask, file]))| {
            let (page, memory_number, memory_kind, page_count, tier, treatment, shift) = place;
            // Often what has no bytes, which all else must agree with.
            let none = treatment == 2 || treatment == 14;
            let count = if treatment == 14 { page_count * stored } else { page_count };
            let page = page >> shift;
            let pages = PageRange::new(page, page.saturating_add(page_count.into()));
            let all = PageMask::of(pages, mem::PageIndex(page - page % 16)).0;
            let mask = match stored % 4 {
                _ if treatment == 14 => 0,
                0 => all,
                1 => 0,
                2 => mask & all,
                _ => mask,
            };
            let mut record = Record {
                first_page: page.into(),
                memory_number: memory_number.into(),
                page_count: count.into(),
                memory_kind,
                tier,
                treatment,
                depth_or_slot: if treatment == 16 {
                    mask.to_le_bytes()[0]
                } else {
                    u8::from(treatment == 5)
                },
                held: mask.into(),
                file: if none { 0 } else { file }.into(),
                offset_bytes: if none { 0 } else { offset }.into(),
                stored_bytes: match stored % 2 {
                    _ if none => 0,
                    0 => mask.count_ones() * 4096,
                    _ => stored,
                }
                .into(),
                load_order: order.into(),
                hash: if none { [0; 16] } else { hash },
                stored_crc32c: 0.into(),
                crc32c: 0.into(),
            };
            record.crc32c = record.checksum().into();
            record
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

        /// Whatever a record with a right checksum says, it is refused or means one frame, and
        /// that frame is written as the same record.
        #[test]
        fn records_are_refused_or_come_back(record in record()) {
            prop_assert!(record.end() >= record.place().1);
            if let Ok(frame) = record.frame() {
                let again = Record::new(&frame).unwrap();
                prop_assert_eq!(again.as_bytes(), record.as_bytes());
            }
        }
    }
}
