//! What a profile has to find, as lines of text.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::arena::{Arena, PAGE};
use crate::touch::Kind;

/// Pages and how they are touched.
#[derive(Clone, Debug)]
pub struct Set {
    /// How.
    pub kind: Kind,
    /// Which, by number.
    pub pages: Vec<u64>,
}

/// Writes `arena START END`, `store KIND ADDRESS`, `set KIND CLASS` and behind it one `ADDRESS`
/// for each of its pages; renamed into place when whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, arena: &Arena, sets: &[Set]) -> io::Result<()> {
    let start = arena.start();
    let mut text = String::new();
    let failed = |_| io::Error::other("a line does not fit");
    writeln!(text, "arena {start:x} {:x}", start + arena.pages * PAGE).map_err(failed)?;
    for store in sets.iter().filter_map(|set| Some((set.kind.name, set.kind.store?))) {
        writeln!(text, "store {} {:x}", store.0, store.1).map_err(failed)?;
    }
    for set in sets {
        writeln!(text, "set {} {}", set.kind.name, set.kind.class).map_err(failed)?;
        for page in &set.pages {
            writeln!(text, "{:x}", start + page * PAGE).map_err(failed)?;
        }
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(&partial, path)
}
