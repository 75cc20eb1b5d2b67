//! What an agent has to know, as text, so that another one can go on.

use std::io;
use std::path::PathBuf;

use ::resume::serve::HeldBack;
use mem::{MemoryId, PageRange};
use serde::{Deserialize, Serialize};

/// What an agent has to know of the program it stays with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Brief {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Folder around the store, to be held, and removed at the end.
    #[serde(default)]
    pub(crate) passing: Option<PathBuf>,
    /// The checkpoint the pages come from. `None`: it is not there yet, and another brief follows
    /// when it is.
    pub(crate) checkpoint: Option<String>,
    /// What that will build on.
    #[serde(default)]
    pub(crate) parent: Option<String>,
    /// The instance.
    pub(crate) instance: String,
    /// Directory of the registry.
    pub(crate) registry: PathBuf,
    /// Load everything, not only what is asked for.
    pub(crate) fill: bool,
    /// What of that is held back to learn whether it is used: the seed, and one page in how many.
    #[serde(default)]
    pub(crate) held: Option<(u64, u64)>,
    /// The session, once there is one.
    pub(crate) session: Option<Session>,
}

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The program's pid in our namespace.
    pub(crate) pid: i32,
    /// When it was started, in clock ticks since boot.
    pub(crate) start_time_ticks: u64,
    /// Number of the address space in the checkpoint.
    pub(crate) space: u32,
    /// First and last page (exclusive) of what was registered.
    pub(crate) ranges: Vec<(u64, u64)>,
    /// Pages in them that were loaded before the start.
    pub(crate) loaded_pages: u64,
}

impl Brief {
    /// What is held back.
    pub(crate) fn held_back(&self) -> Option<HeldBack> {
        self.held.map(|(seed, one_in)| HeldBack { seed, one_in })
    }

    pub(crate) fn to_text(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::from)
    }

    pub(crate) fn from_text(text: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(text).map_err(io::Error::from)
    }

    /// The instance's folder in the registry.
    pub(crate) fn folder(&self) -> PathBuf {
        self.registry.join(&self.instance)
    }
}

impl Session {
    pub(crate) fn memory(&self) -> MemoryId {
        MemoryId::Private(self.space)
    }

    pub(crate) fn ranges(&self) -> Vec<PageRange> {
        self.ranges.iter().map(|(start, end)| PageRange::new(*start, *end)).collect()
    }
}
