//! The `.heat` file: `docs/HEAT-FORMAT.md` describes the bytes.

mod header;
mod parts;
mod read;
mod write;

pub use header::{HEAT_FORMAT_VERSION, HEAT_HEADER_BYTES};

/// Bytes in a file.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 30;

/// The kinds of section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) code: u32,
    pub(crate) name: &'static str,
}

pub(crate) const KEYS: Kind = Kind { code: 1, name: "keys" };
pub(crate) const WINDOWS: Kind = Kind { code: 2, name: "windows" };
pub(crate) const COUNTS: Kind = Kind { code: 3, name: "counts" };
pub(crate) const CODES: Kind = Kind { code: 4, name: "codes" };
pub(crate) const USES: Kind = Kind { code: 5, name: "uses" };
pub(crate) const LAYOUTS: Kind = Kind { code: 6, name: "layouts" };
pub(crate) const NAMES: Kind = Kind { code: 7, name: "names" };
pub(crate) const ORDER: Kind = Kind { code: 8, name: "order" };
pub(crate) const TIMELINE: Kind = Kind { code: 9, name: "timeline" };

/// Every kind that a file of this version has, in the order of writing.
pub(crate) const ALL: [Kind; 9] =
    [KEYS, WINDOWS, COUNTS, CODES, USES, LAYOUTS, NAMES, ORDER, TIMELINE];
