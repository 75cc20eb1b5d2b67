//! The manifest's table of sections.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FormatError;
use crate::limits::SECTION_BYTES_MAX;

/// Bytes in an entry of the table.
pub(crate) const ENTRY_BYTES: usize = 48;

/// The section must be understood.
const REQUIRED: u16 = 1;

/// A kind of section: its number, its name, the version we write and the newest we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) code: u32,
    pub(crate) name: &'static str,
    pub(crate) version: u16,
    pub(crate) required: bool,
}

pub(crate) const INSTANCE: Kind = Kind { code: 1, name: "instance", version: 1, required: true };
pub(crate) const PLAN: Kind = Kind { code: 2, name: "plan", version: 1, required: true };
pub(crate) const FILES: Kind = Kind { code: 3, name: "files", version: 1, required: true };
/// Only there when somebody allowed a loss. Required: whoever does not know it would take
/// approximated memory for what the program had.
pub(crate) const LOSS: Kind = Kind { code: 6, name: "loss", version: 1, required: true };
pub(crate) const SUMMARY: Kind = Kind { code: 4, name: "summary", version: 1, required: false };

/// A section: its kind and its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) code: u32,
    pub(crate) name: &'a str,
    pub(crate) version: u16,
    pub(crate) required: bool,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Section<'a> {
    pub(crate) fn new(kind: Kind, bytes: &'a [u8]) -> Self {
        let Kind { code, name, version, required } = kind;
        Self { code, name, version, required, bytes }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    code: U32,
    version: U16,
    flags: U16,
    offset_bytes: U64,
    length_bytes: U64,
    crc32c: U32,
    reserved: U32,
    name: [u8; 16],
}

const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

/// The table for `sections`, the first of which begins at `offset_bytes` of the manifest.
pub(crate) fn write_table(sections: &[Section<'_>], mut offset_bytes: u64) -> Vec<u8> {
    let mut table = Vec::with_capacity(sections.len() * ENTRY_BYTES);
    for section in sections {
        let length_bytes = u64::try_from(section.bytes.len()).unwrap_or(u64::MAX);
        let mut name = [0; 16];
        let short = &section.name.as_bytes()[..section.name.len().min(16)];
        name[..short.len()].copy_from_slice(short);
        let entry = Entry {
            code: section.code.into(),
            version: section.version.into(),
            flags: if section.required { REQUIRED } else { 0 }.into(),
            offset_bytes: offset_bytes.into(),
            length_bytes: length_bytes.into(),
            crc32c: crc32c::crc32c(section.bytes).into(),
            reserved: 0.into(),
            name,
        };
        table.extend_from_slice(entry.as_bytes());
        offset_bytes += length_bytes;
    }
    table
}

/// The sections that `table` lists; together they fill `manifest` from `start` to `end`.
pub(crate) fn read_table<'a>(
    manifest: &'a [u8],
    table: &'a [u8],
    start: usize,
    end: usize,
) -> Result<Vec<Section<'a>>, FormatError> {
    let mut sections = Vec::new();
    let mut next = start;
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let section = read_entry(manifest, entry, next, end)?;
        next += section.bytes.len();
        sections.push(section);
    }
    if next != end {
        return Err(invalid("the sections do not fill the manifest".into()));
    }
    Ok(sections)
}

fn read_entry<'a>(
    manifest: &'a [u8],
    entry: &'a [u8],
    next: usize,
    end: usize,
) -> Result<Section<'a>, FormatError> {
    let Ok(entry) = Entry::ref_from_bytes(entry) else {
        return Err(invalid("an entry is cut short".into()));
    };
    let text = entry.name.split(|b| *b == 0).next().unwrap_or_default();
    let name = match std::str::from_utf8(text) {
        Ok(name) if name.bytes().all(|b| b.is_ascii_graphic()) => name,
        _ => return Err(invalid("a section's name is not ASCII".into())),
    };
    let length = entry.length_bytes.get();
    if length > SECTION_BYTES_MAX {
        let what = "the length of a section";
        return Err(FormatError::Limit { what, found: length, max: SECTION_BYTES_MAX });
    }
    let begins = usize::try_from(entry.offset_bytes.get()).unwrap_or(usize::MAX);
    let ends = usize::try_from(length).ok().and_then(|length| begins.checked_add(length));
    let Some(ends) = ends.filter(|&ends| begins == next && ends <= end) else {
        return Err(invalid(format!("section {name:?} does not follow the one before it")));
    };
    let bytes = &manifest[begins..ends];
    if crc32c::crc32c(bytes) != entry.crc32c.get() {
        return Err(FormatError::Checksum { what: format!("section {name:?}") });
    }
    Ok(Section {
        code: entry.code.get(),
        name,
        version: entry.version.get(),
        required: entry.flags.get() & REQUIRED != 0,
        bytes,
    })
}

fn invalid(detail: String) -> FormatError {
    FormatError::Invalid { what: "the manifest's section table", detail }
}
