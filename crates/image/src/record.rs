//! One record of the extent index.

use mem::{MemoryId, PageIndex, PageRange};
use plan::{Tier, Treatment};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::convert::Invalid;
use crate::index::memory_rank;
use crate::limits::PAGE_NUMBER_END;
use crate::{Frame, FrameHash, FrameSource};

/// Bytes in a record.
pub(crate) const RECORD_BYTES: usize = 64;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Record {
    first_page: U64,
    memory_number: U32,
    memory_kind: u8,
    page_count: u8,
    tier: u8,
    treatment: u8,
    offset_bytes: U64,
    stored_bytes: U32,
    load_order: U32,
    hash: [u8; 16],
    source: U16,
    file: U16,
    stored_crc32c: U32,
    held_before: u8,
    held_behind: u8,
    reserved: U16,
    crc32c: U32,
}

const _: () = assert!(size_of::<Record>() == RECORD_BYTES);

impl Record {
    pub(crate) fn new(frame: &Frame) -> Result<Self, Invalid> {
        check(frame)?;
        let (memory_kind, memory_number) = memory_rank(frame.memory);
        let page_count = count(frame.pages.start, frame.pages.end)?;
        let source = match frame.source {
            FrameSource::Here => 0,
            FrameSource::Parent(n) => {
                n.checked_add(1).ok_or_else(|| Invalid::new("there are too many parents"))?
            }
        };
        let mut record = Self {
            first_page: frame.pages.start.0.into(),
            memory_number: memory_number.into(),
            memory_kind,
            page_count,
            tier: frame.tier.code(),
            treatment: frame.treatment.code(),
            offset_bytes: frame.offset_bytes.into(),
            stored_bytes: frame.stored_bytes.into(),
            load_order: frame.load_order.into(),
            hash: frame.hash.0,
            source: source.into(),
            file: frame.file.into(),
            stored_crc32c: frame.stored_crc32c.into(),
            held_before: count(frame.held.start, frame.pages.start)?,
            held_behind: count(frame.pages.end, frame.held.end)?,
            reserved: 0.into(),
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
        self.first_page.get().saturating_add(self.page_count.into())
    }

    pub(crate) fn frame(&self) -> Result<Frame, Invalid> {
        if self.crc32c.get() != self.checksum() {
            return Err(Invalid::new("does not match its checksum"));
        }
        let number = self.memory_number.get();
        let memory = match self.memory_kind {
            1 => MemoryId::Private(number),
            2 => MemoryId::Shared(number),
            code => return Err(Invalid::new(format!("memory kind {code} is not known"))),
        };
        let first = self.first_page.get();
        let held_first = first
            .checked_sub(self.held_before.into())
            .ok_or_else(|| Invalid::new("it holds pages before the first one"))?;
        let held_end = self.end().saturating_add(self.held_behind.into());
        let frame = Frame {
            memory,
            pages: PageRange::new(first, self.end()),
            held: PageRange::new(held_first, held_end),
            tier: Tier::try_from(self.tier).map_err(|e| Invalid::new(format!("tier: {e}")))?,
            treatment: Treatment::try_from(self.treatment)
                .map_err(|e| Invalid::new(format!("treatment: {e}")))?,
            source: match self.source.get() {
                0 => FrameSource::Here,
                n => FrameSource::Parent(n - 1),
            },
            file: self.file.get(),
            offset_bytes: self.offset_bytes.get(),
            stored_bytes: self.stored_bytes.get(),
            load_order: self.load_order.get(),
            hash: FrameHash(self.hash),
            stored_crc32c: self.stored_crc32c.get(),
        };
        check(&frame)?;
        Ok(frame)
    }
}

/// Pages from `start` to `end`, which is not before it.
fn count(start: PageIndex, end: PageIndex) -> Result<u8, Invalid> {
    let count = end.0.checked_sub(start.0).and_then(|count| u8::try_from(count).ok());
    count.ok_or_else(|| Invalid::new("a frame has too many pages or does not hold them"))
}

/// What must hold for every frame.
fn check(frame: &Frame) -> Result<(), Invalid> {
    let (start, end) = (frame.held.start.0, frame.held.end.0);
    let pages_max = codec::FRAME_PAGES_MAX;
    if frame.pages.is_empty() || frame.held.intersect(frame.pages) != Some(frame.pages) {
        let (first, last) = (frame.pages.start.0, frame.pages.end.0);
        return Err(Invalid::new(format!(
            "pages {first} to {last} are not among those held, {start} to {end}"
        )));
    }
    if start >= end || end > PAGE_NUMBER_END || start / pages_max != (end - 1) / pages_max {
        return Err(Invalid::new(format!(
            "pages {start} to {end} are not inside one chunk of {pages_max} pages"
        )));
    }
    let stored = u64::from(frame.stored_bytes);
    let fits = match frame.treatment {
        Treatment::Raw => stored == frame.held.bytes(),
        Treatment::Zero => {
            stored == 0
                && frame.held == frame.pages
                && frame.offset_bytes == 0
                && frame.file == 0
                && frame.hash == FrameHash::default()
                && frame.stored_crc32c == 0
        }
        _ => stored <= frame.held.bytes(),
    };
    if !fits {
        return Err(Invalid::new(format!(
            "{stored} stored bytes for {} pages of treatment {}",
            frame.held.count().0,
            frame.treatment.name()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fields that are often within their limits and sometimes far outside.
    fn record() -> impl Strategy<Value = Record> {
        let place = (any::<u64>(), any::<u32>(), 0..4u8, 0..20u8, 0..5u8, 0..18u8, 0..53u32);
        let rest = (any::<u64>(), 0..70_000u32, any::<u32>(), any::<[u8; 16]>(), any::<[u16; 2]>());
        let held = (0..3u8, 0..3u8);
        (place, rest, held).prop_map(|(place, rest, (held_before, held_behind))| {
            let (offset, stored, order, hash, [source, file]) = rest;
            let (page, memory_number, memory_kind, page_count, tier, treatment, shift) = place;
            let mut record = Record {
                first_page: (page >> shift).into(),
                memory_number: memory_number.into(),
                memory_kind,
                page_count,
                tier,
                treatment,
                offset_bytes: offset.into(),
                stored_bytes: match stored % 2 {
                    0 => u32::from(page_count + held_before + held_behind) * 4096,
                    _ => stored,
                }
                .into(),
                load_order: order.into(),
                hash,
                source: source.into(),
                file: file.into(),
                stored_crc32c: 0.into(),
                held_before,
                held_behind,
                reserved: 0.into(),
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
