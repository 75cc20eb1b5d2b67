//! What of an ELF file's own tables lies in the program's memory: its build id, and where its
//! functions begin. See elf(5) and the LSB's description of `.eh_frame_hdr`.
//!
//! Bytes come through a reader, so that this works on a live program, stripped or not, without
//! opening any file in its mount namespace. Whatever does not have its documented form is as if
//! it were not there.

use mem::AddrRange;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PROGRAM_HEADERS_MAX: usize = 64;
const NOTES_BYTES_MAX: u64 = 64 << 10;
/// Entries of a table that are read: 2 million functions.
const FUNCTIONS_MAX: u32 = 2 << 20;
/// A function is taken to be no longer than this: what lies behind it is data or another one.
const FUNCTION_BYTES_MAX: u64 = 256 << 10;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const NT_GNU_BUILD_ID: u32 = 3;

/// Reads the program's memory: fills the whole buffer or says no.
pub(crate) type Read<'a> = dyn Fn(u64, &mut [u8]) -> bool + 'a;

/// An ELF file mapped into a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The GNU build id, empty when it has none.
    pub(crate) build_id: Vec<u8>,
    /// What is added to the file's own addresses.
    pub(crate) bias: u64,
    /// Sorted addresses at which functions begin, as the program has them mapped.
    starts: Vec<u64>,
}

impl Image {
    /// Reads the tables of the file whose first byte is mapped at `base`; none when no ELF file
    /// of 64 bits is there. The functions are left out unless `with_functions`.
    pub(crate) fn read(base: u64, read: &Read<'_>, with_functions: bool) -> Option<Self> {
        let headers = program_headers(base, read)?;
        // Where the file was linked to, against where it is.
        let first = headers.iter().find(|h| h.kind == PT_LOAD && h.offset == 0)?;
        let bias = base.wrapping_sub(first.address);
        let mut image = Self { bias, ..Self::default() };
        for header in headers.iter().filter(|h| h.kind == PT_NOTE) {
            let notes = bytes_at(read, bias.wrapping_add(header.address), header.bytes);
            image.build_id = notes.and_then(|n| build_id(&n)).unwrap_or(image.build_id);
        }
        let table = headers.iter().find(|h| h.kind == PT_GNU_EH_FRAME);
        if let Some(table) = table.filter(|_| with_functions) {
            image.starts =
                function_starts(bias.wrapping_add(table.address), read).unwrap_or_default();
        }
        Some(image)
    }

    /// The bounds of the function that holds `ip`: from its beginning to that of the next one.
    pub(crate) fn function(&self, ip: u64) -> Option<AddrRange> {
        let behind = self.starts.partition_point(|start| *start <= ip);
        let start = *self.starts.get(behind.checked_sub(1)?)?;
        let limit = start.checked_add(FUNCTION_BYTES_MAX)?;
        let end = self.starts.get(behind).map_or(limit, |next| limit.min(*next));
        (ip < end).then(|| AddrRange::new(start, end))
    }
}

struct ProgramHeader {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

fn program_headers(base: u64, read: &Read<'_>) -> Option<Vec<ProgramHeader>> {
    let mut header = [0u8; HEADER_BYTES];
    // 64-bit, little-endian.
    if !read(base, &mut header) || header[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let offset = word(&header, 32)?;
    let size = usize::from(half(&header, 54)?);
    let count = usize::from(half(&header, 56)?);
    if size != PROGRAM_HEADER_BYTES || count > PROGRAM_HEADERS_MAX {
        return None;
    }
    let mut table = vec![0u8; size * count];
    if !read(base.checked_add(offset)?, &mut table) {
        return None;
    }
    table
        .chunks_exact(size)
        .map(|entry| {
            Some(ProgramHeader {
                kind: int(entry, 0)?,
                offset: word(entry, 8)?,
                address: word(entry, 16)?,
                bytes: word(entry, 32)?,
            })
        })
        .collect()
}

fn bytes_at(read: &Read<'_>, addr: u64, bytes: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0u8; usize::try_from(bytes.min(NOTES_BYTES_MAX)).ok()?];
    read(addr, &mut buffer).then_some(buffer)
}

/// The build id among notes.
fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let name_bytes = usize::try_from(int(notes, 0)?).ok()?;
        let bytes = usize::try_from(int(notes, 4)?).ok()?;
        let kind = int(notes, 8)?;
        let name_end = 12usize.checked_add(name_bytes)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(bytes)?;
        let id = notes.get(start..end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..name_end)? == b"GNU\0" && !id.is_empty() {
            return Some(id.to_vec());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

/// The beginnings of functions in the binary search table at `table`.
fn function_starts(table: u64, read: &Read<'_>) -> Option<Vec<u64>> {
    // Version 1; addresses as 4-byte offsets from here, the count as 4 bytes, the table as pairs
    // of 4-byte offsets from its own start. Everybody writes it so.
    let mut header = [0u8; 12];
    if !read(table, &mut header) || header[..4] != [1, 0x1b, 0x03, 0x3b] {
        return None;
    }
    let count = int(&header, 8)?;
    if count > FUNCTIONS_MAX {
        return None;
    }
    let mut entries = vec![0u8; usize::try_from(count).ok()? * 8];
    if !read(table.checked_add(12)?, &mut entries) {
        return None;
    }
    let start = |entry: &[u8]| -> Option<u64> {
        let offset = i64::from(int(entry, 0)?.cast_signed());
        table.checked_add_signed(offset)
    };
    let mut starts: Vec<u64> = entries.chunks_exact(8).filter_map(start).collect();
    if !starts.is_sorted() {
        starts.sort_unstable();
    }
    starts.dedup();
    Some(starts)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader(bytes: &[u8]) -> impl Fn(u64, &mut [u8]) -> bool + '_ {
        |addr, buffer| {
            let start = usize::try_from(addr).unwrap_or(usize::MAX);
            let end = start.saturating_add(buffer.len());
            bytes.get(start..end).map(|from| buffer.copy_from_slice(from)).is_some()
        }
    }

    /// A file linked to 0x1000 and mapped at 0: one note, three functions.
    fn sample() -> Vec<u8> {
        let mut file = vec![0u8; 0x400];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&3u16.to_le_bytes());
        let headers = [
            (PT_LOAD, 0u64, 0x1000u64, 0x400u64),
            (PT_NOTE, 0x200, 0x1200, 24),
            (PT_GNU_EH_FRAME, 0x300, 0x1300, 36),
        ];
        for (n, (kind, offset, address, bytes)) in headers.into_iter().enumerate() {
            let at = 64 + n * 56;
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            file[at + 16..at + 24].copy_from_slice(&address.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&bytes.to_le_bytes());
        }
        let note = [4u32.to_le_bytes(), 8u32.to_le_bytes(), 3u32.to_le_bytes(), *b"GNU\0"];
        file[0x200..0x210].copy_from_slice(&note.concat());
        file[0x210..0x218].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        file[0x300..0x304].copy_from_slice(&[1, 0x1b, 0x03, 0x3b]);
        file[0x308..0x30c].copy_from_slice(&3u32.to_le_bytes());
        for (n, start) in [-0x200i32, -0x180, 0x40].into_iter().enumerate() {
            let at = 0x30c + n * 8;
            file[at..at + 4].copy_from_slice(&start.to_le_bytes());
        }
        file
    }

    #[test]
    fn build_id_and_functions_are_found() {
        let file = sample();
        let image = Image::read(0, &reader(&file), true).unwrap();
        assert_eq!(image.build_id, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(image.function(0x110), Some(AddrRange::new(0x100, 0x180)));
        assert_eq!(image.function(0x180), Some(AddrRange::new(0x180, 0x340)));
        assert_eq!(image.function(0xff), None);
        assert_eq!(image.function(0x340).unwrap().start.0, 0x340);
        assert_eq!(image.function(0x340 + FUNCTION_BYTES_MAX), None);
        assert_eq!(Image::read(0, &reader(&file), false).unwrap().function(0x110), None);
    }

    proptest! {
        #[test]
        fn damaged_files_are_no_danger(at in 0usize..0x400, byte: u8, cut in 0usize..0x400) {
            let mut file = sample();
            file[at] = byte;
            let _ = Image::read(0, &reader(&file), true);
            file.truncate(cut);
            let _ = Image::read(0, &reader(&file), true);
        }
    }
}
