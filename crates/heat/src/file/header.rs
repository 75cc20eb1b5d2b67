//! The frame of the file: header, table of sections, checksums.

use super::{ALL, FILE_BYTES_MAX, Kind};
use crate::HeatError;

/// The format version this program writes, and the newest it reads.
pub const HEAT_FORMAT_VERSION: u32 = 1;

/// Bytes in a header.
pub const HEAT_HEADER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"\x89RKHT\r\n\x1a";
const ENTRY_BYTES: usize = 32;
const SECTIONS_MAX: u32 = 64;
const REQUIRED: u32 = 1;

/// The file that holds these sections, given in the order of [`ALL`].
pub(super) fn write(newest_ns: u64, sections: &[Vec<u8>; ALL.len()]) -> Vec<u8> {
    let table_bytes = ALL.len() * ENTRY_BYTES;
    let mut offset = (HEAT_HEADER_BYTES + table_bytes) as u64;
    let mut table = Vec::with_capacity(table_bytes);
    for (kind, bytes) in ALL.iter().zip(sections) {
        let length = bytes.len() as u64;
        table.extend_from_slice(&kind.code.to_le_bytes());
        table.extend_from_slice(&REQUIRED.to_le_bytes());
        table.extend_from_slice(&offset.to_le_bytes());
        table.extend_from_slice(&length.to_le_bytes());
        table.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        table.extend_from_slice(&[0; 4]);
        offset += length;
    }
    let mut file = Vec::with_capacity(usize::try_from(offset).unwrap_or(0));
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&HEAT_FORMAT_VERSION.to_le_bytes());
    file.extend_from_slice(&64_u32.to_le_bytes());
    file.extend_from_slice(&offset.to_le_bytes());
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(&newest_ns.to_le_bytes());
    file.extend_from_slice(&9_u32.to_le_bytes());
    file.extend_from_slice(&crc32c::crc32c(&table).to_le_bytes());
    file.extend_from_slice(&[0; 12]);
    file.extend_from_slice(&crc32c::crc32c(&file).to_le_bytes());
    file.extend_from_slice(&table);
    for bytes in sections {
        file.extend_from_slice(bytes);
    }
    file
}

/// The bytes of each section of [`ALL`], checked against their checksums.
pub(super) fn read(file: &[u8]) -> Result<[&[u8]; ALL.len()], HeatError> {
    if file.len() >= MAGIC.len() && !file.starts_with(&MAGIC) {
        return Err(HeatError::Magic);
    }
    let Some((header, _)) = file.split_first_chunk::<HEAT_HEADER_BYTES>() else {
        return Err(HeatError::Length { expected: 64, found: file.len() as u64 });
    };
    let version = number_u32(header, 8);
    if version > HEAT_FORMAT_VERSION {
        return Err(HeatError::NewerVersion { version, known: HEAT_FORMAT_VERSION });
    }
    if number_u32(header, 60) != crc32c::crc32c(&header[..60]) {
        return Err(HeatError::Checksum { what: "the header".to_owned() });
    }
    if version == 0 || number_u32(header, 12) != 64 {
        return Err(invalid("has a version or a length that no program wrote"));
    }
    let flags = number_u64(header, 24) & 0xffff_ffff;
    if flags != 0 {
        return Err(HeatError::Unknown { what: format!("a flag in {flags:#x}") });
    }
    let (expected, found) = (number_u64(header, 16), file.len() as u64);
    if expected > FILE_BYTES_MAX {
        let what = "the length of the file";
        return Err(HeatError::Limit { what, found: expected, max: FILE_BYTES_MAX });
    }
    if expected != found {
        return Err(HeatError::Length { expected, found });
    }
    let count = number_u32(header, 40);
    if count > SECTIONS_MAX {
        let (what, found) = ("the number of sections", u64::from(count));
        return Err(HeatError::Limit { what, found, max: u64::from(SECTIONS_MAX) });
    }
    sections(file, usize::try_from(count).unwrap_or(usize::MAX), number_u32(header, 44))
}

fn sections(file: &[u8], count: usize, crc: u32) -> Result<[&[u8]; ALL.len()], HeatError> {
    let start = HEAT_HEADER_BYTES + count * ENTRY_BYTES;
    let Some(table) = file.get(HEAT_HEADER_BYTES..start) else {
        return Err(invalid("has a table that is cut short"));
    };
    if crc32c::crc32c(table) != crc {
        return Err(HeatError::Checksum { what: "the table of sections".to_owned() });
    }
    let mut found: [Option<&[u8]>; ALL.len()] = [None; ALL.len()];
    let mut next = start as u64;
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let (code, flags) = (number_u32(entry, 0), number_u32(entry, 4));
        let (offset, length) = (number_u64(entry, 8), number_u64(entry, 16));
        let end = offset.checked_add(length).filter(|end| *end <= file.len() as u64);
        let (Some(end), true) = (end, offset == next) else {
            return Err(invalid("has sections that do not follow each other"));
        };
        next = end;
        let range = usize::try_from(offset).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        let bytes = file.get(range).unwrap_or_default();
        let at = ALL.iter().position(|kind| kind.code == code);
        let name = at.map_or_else(|| format!("section {code}"), |at| section_name(ALL[at]));
        if crc32c::crc32c(bytes) != number_u32(entry, 24) {
            return Err(HeatError::Checksum { what: name });
        }
        match at {
            Some(at) if found[at].is_none() => found[at] = Some(bytes),
            Some(_) => return Err(invalid("has a section twice")),
            None if flags & REQUIRED != 0 => return Err(HeatError::Unknown { what: name }),
            None => {}
        }
    }
    if next != file.len() as u64 {
        return Err(invalid("has sections that do not fill the file"));
    }
    if let Some(missing) = found.iter().position(Option::is_none) {
        let detail = "is missing".to_owned();
        return Err(HeatError::Invalid { section: ALL[missing].name, detail });
    }
    Ok(found.map(Option::unwrap_or_default))
}

fn section_name(kind: Kind) -> String {
    format!("section {:?}", kind.name)
}

fn invalid(detail: &str) -> HeatError {
    HeatError::Invalid { section: "header", detail: detail.to_owned() }
}

fn number_u32(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    u32::from_le_bytes(field.unwrap_or_default())
}

fn number_u64(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    u64::from_le_bytes(field.unwrap_or_default())
}
