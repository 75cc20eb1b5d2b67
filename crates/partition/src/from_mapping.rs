//! Mappings as regions.

use mem::{Backing, Mapping, MemoryId, PageRange, Sharing};

use crate::{Kind, Region, Stretch};

impl Stretch<Region> {
    /// The private memory that a mapping of address space `space` shows; `None` for mappings
    /// that have none.
    pub fn of_mapping(space: u32, mapping: &Mapping) -> Option<Self> {
        if !mapping.holds_private_pages() || mapping.sharing != Sharing::Private {
            return None;
        }
        let kind = match (&mapping.backing, mapping.name.as_slice()) {
            (_, b"[heap]") => Kind::Heap,
            (_, b"[stack]") => Kind::Stack,
            (Backing::File { .. }, _) => Kind::FileData,
            _ => Kind::of_anonymous(mapping.range.pages().count().0),
        };
        let name = match &mapping.backing {
            Backing::File { file, .. } => &file.path,
            _ => &mapping.name,
        };
        let value = Region {
            kind,
            writable: mapping.protection.write,
            passing: mapping.has_flag(b"sr") || mapping.has_flag(b"dd"),
            name: String::from_utf8_lossy(name).into(),
        };
        Some(Self { memory: MemoryId::Private(space), pages: mapping.range.pages(), value })
    }

    /// All of shared object `object`.
    pub fn of_object(object: u32, size_bytes: u64) -> Self {
        let pages = PageRange::new(0, size_bytes.div_ceil(mem::PAGE_SIZE));
        let name = "shared object".into();
        let value = Region { kind: Kind::Shared, writable: true, passing: false, name };
        Self { memory: MemoryId::Shared(object), pages, value }
    }
}
