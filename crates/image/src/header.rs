//! The manifest's header: readable with no codec and no key.

use process::InstanceId;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{CHAIN_LENGTH_MAX, MANIFEST_BYTES_MAX, SECTIONS_MAX};
use crate::{CheckpointId, FormatError};

/// The format version this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes in a header.
pub const HEADER_BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"\x89RKDL\r\n\x1a";
const WHAT: &str = "the manifest's header";

/// Flags in the lower half must be understood, those in the upper half need not be.
const REQUIRED_FLAGS: u64 = 0xffff_ffff;

/// What a checkpoint says of itself before anything is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The checkpoint's id.
    pub id: CheckpointId,
    /// `CLOCK_REALTIME` at the freeze, nanoseconds since the epoch.
    pub created_ns: u64,
    /// The instance; its line has the key.
    pub instance: InstanceId,
    /// [`crate::LineKey::fingerprint`] of the key of all hashes.
    pub key_fingerprint: [u8; 16],
    /// Bytes of pages in the checkpoint.
    pub page_bytes: u64,
    /// Bytes of all its files.
    pub stored_bytes: u64,
    /// The checkpoint that holds the pages which are not stored here.
    pub parent: Option<CheckpointId>,
    /// How many checkpoints stood behind this one when it was made: its parent, the parent's
    /// parent, and so on. Fewer do when one of them was made independent since.
    pub depth: u16,
    /// Bytes of pages that are the parent's.
    pub referenced_bytes: u64,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// Sections in the manifest.
    pub(crate) section_count: u32,
    /// crc32c of the section table.
    pub(crate) table_crc32c: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format_version: U32,
    header_bytes: U32,
    manifest_bytes: U64,
    flags: U64,
    id: U64,
    created_ns: U64,
    instance: [u8; 16],
    key_fingerprint: [u8; 16],
    page_bytes: U64,
    stored_bytes: U64,
    section_count: U32,
    table_crc32c: U32,
    parent: U64,
    referenced_bytes: U64,
    depth: U16,
    reserved: [u8; 2],
    crc32c: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

impl Header {
    /// Reads the header at the start of a manifest; needs its first [`HEADER_BYTES`].
    ///
    /// # Errors
    /// When it is not a manifest, of a newer format, or damaged.
    pub fn read(manifest: &[u8]) -> Result<Self, FormatError> {
        if !manifest.starts_with(&MAGIC) && manifest.len() >= MAGIC.len() {
            return Err(FormatError::Magic { what: "the manifest" });
        }
        let Ok((raw, _)) = RawHeader::ref_from_prefix(manifest) else {
            let found = u64::try_from(manifest.len()).unwrap_or(u64::MAX);
            return Err(FormatError::Length { what: WHAT, expected: 128, found });
        };
        let version = raw.format_version.get();
        if version > FORMAT_VERSION {
            let known = FORMAT_VERSION;
            return Err(FormatError::NewerVersion { what: "the manifest", version, known });
        }
        if raw.crc32c.get() != crc32c::crc32c(&manifest[..HEADER_BYTES - 4]) {
            return Err(FormatError::Checksum { what: WHAT.to_owned() });
        }
        raw.check()?;
        Ok(Self {
            id: CheckpointId(raw.id.get()),
            created_ns: raw.created_ns.get(),
            instance: raw.instance_id()?,
            key_fingerprint: raw.key_fingerprint,
            page_bytes: raw.page_bytes.get(),
            stored_bytes: raw.stored_bytes.get(),
            parent: (raw.depth.get() > 0).then(|| CheckpointId(raw.parent.get())),
            depth: raw.depth.get(),
            referenced_bytes: raw.referenced_bytes.get(),
            manifest_bytes: raw.manifest_bytes.get(),
            section_count: raw.section_count.get(),
            table_crc32c: raw.table_crc32c.get(),
        })
    }

    /// The header's bytes.
    pub(crate) fn write(&self) -> [u8; HEADER_BYTES] {
        let mut instance = [0; 16];
        let digits = self.instance.as_str().as_bytes();
        instance[..digits.len()].copy_from_slice(digits);
        let mut raw = RawHeader {
            magic: MAGIC,
            format_version: FORMAT_VERSION.into(),
            header_bytes: 128.into(),
            manifest_bytes: self.manifest_bytes.into(),
            flags: 0.into(),
            id: self.id.0.into(),
            created_ns: self.created_ns.into(),
            instance,
            key_fingerprint: self.key_fingerprint,
            page_bytes: self.page_bytes.into(),
            stored_bytes: self.stored_bytes.into(),
            section_count: self.section_count.into(),
            table_crc32c: self.table_crc32c.into(),
            parent: self.parent.map_or(0, |parent| parent.0).into(),
            referenced_bytes: self.referenced_bytes.into(),
            depth: self.depth.into(),
            reserved: [0; 2],
            crc32c: 0.into(),
        };
        raw.crc32c = crc32c::crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]).into();
        zerocopy::transmute!(raw)
    }
}

impl RawHeader {
    /// What must hold in an intact header of a version we know.
    fn check(&self) -> Result<(), FormatError> {
        let invalid =
            |detail: &str| Err(FormatError::Invalid { what: WHAT, detail: detail.into() });
        if self.format_version.get() == 0 || self.header_bytes.get() != 128 {
            return invalid("has a version or a length that no program wrote");
        }
        if self.depth.get() == 0 && (self.parent.get() != 0 || self.referenced_bytes.get() != 0) {
            return invalid("refers to a parent that it does not have");
        }
        let flags = self.flags.get() & REQUIRED_FLAGS;
        if flags != 0 {
            return Err(FormatError::UnknownFlags { flags });
        }
        for (what, found, max) in [
            ("the manifest's length", self.manifest_bytes.get(), MANIFEST_BYTES_MAX),
            ("the number of parents", self.depth.get().into(), (CHAIN_LENGTH_MAX - 1).into()),
            ("the number of sections", self.section_count.get().into(), SECTIONS_MAX.into()),
        ] {
            if found > max {
                return Err(FormatError::Limit { what, found, max });
            }
        }
        Ok(())
    }

    fn instance_id(&self) -> Result<InstanceId, FormatError> {
        let (digits, rest) = self.instance.split_at(InstanceId::DIGITS);
        let all_zero = self.instance.iter().all(|b| *b == 0);
        let text = std::str::from_utf8(digits).unwrap_or_default();
        match text.parse() {
            Ok(id) if rest.iter().all(|b| *b == 0) => Ok(id),
            _ if all_zero => Ok(InstanceId::default()),
            _ => Err(FormatError::Invalid { what: WHAT, detail: "has no instance id".into() }),
        }
    }
}
