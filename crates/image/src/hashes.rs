//! The file with the hashes of the pages that a checkpoint stores, one by one, so that a child
//! finds out which of its pages are the same without reading or decoding any.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{CheckpointId, FormatError};

/// Bytes before the first hash.
pub const HASHES_HEADER_BYTES: u64 = 64;

const MAGIC: [u8; 8] = *b"\x89RKPH\r\n\x1a";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const WHAT: &str = "the file of page hashes";

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    header_bytes: U32,
    hash_bytes: U32,
    reserved_1: U32,
    hash_count: U64,
    id: U64,
    reserved_2: [u8; 20],
    crc32c: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// What stands before `hash_count` hashes in the file of them. The hashes follow, those of the
/// index's frames, frame by frame and page by page.
pub fn hashes_header(id: CheckpointId, hash_count: u64) -> Vec<u8> {
    let mut header = RawHeader {
        magic: MAGIC,
        version: VERSION.into(),
        header_bytes: 64.into(),
        hash_bytes: 16.into(),
        reserved_1: 0.into(),
        hash_count: hash_count.into(),
        id: id.0.into(),
        reserved_2: [0; 20],
        crc32c: 0.into(),
    };
    header.crc32c = crc32c::crc32c(&header.as_bytes()[..HEADER_BYTES - 4]).into();
    header.as_bytes().to_vec()
}

/// Checks the header at the start of a file of page hashes of `length_bytes`, which belongs to
/// checkpoint `id` with `hash_count` hashes. The hashes themselves are checked frame by frame:
/// the index has a hash of each frame's.
///
/// # Errors
/// When it is cut short, altered, of a newer program or another checkpoint.
pub fn check_hashes_header(
    bytes: &[u8],
    length_bytes: u64,
    id: CheckpointId,
    hash_count: u64,
) -> Result<(), FormatError> {
    if !bytes.starts_with(&MAGIC) && bytes.len() >= MAGIC.len() {
        return Err(FormatError::Magic { what: WHAT });
    }
    let Ok((header, _)) = RawHeader::ref_from_prefix(bytes) else {
        return Err(FormatError::Length { what: WHAT, expected: 64, found: length_bytes });
    };
    let version = header.version.get();
    if version > VERSION {
        return Err(FormatError::NewerVersion { what: WHAT, version, known: VERSION });
    }
    if header.crc32c.get() != crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) {
        return Err(FormatError::Checksum { what: WHAT.to_owned() });
    }
    let expected = hash_count.saturating_mul(16).saturating_add(HASHES_HEADER_BYTES);
    if length_bytes != expected {
        return Err(FormatError::Length { what: WHAT, expected, found: length_bytes });
    }
    let ours = version == VERSION
        && header.header_bytes.get() == 64
        && header.hash_bytes.get() == 16
        && header.hash_count.get() == hash_count
        && header.id.get() == id.0;
    if !ours {
        let detail = "belongs to another checkpoint".to_owned();
        return Err(FormatError::Invalid { what: WHAT, detail });
    }
    Ok(())
}
