//! What every verb takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What every verb takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory that holds the checkpoints.
    pub store: PathBuf,
    /// Longest the whole verb may take.
    pub timeout: Option<Duration>,
    /// How long to wait for blockers that pass by themselves.
    pub wait: Duration,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Folder around the store that is removed when nobody needs it any more; `None` keeps the store.
    pub passing: Option<PathBuf>,
    /// When the command began, for clocks that count from there.
    pub started: Instant,
}

/// The store of whoever runs this: `$XDG_STATE_HOME/rekindle`, or `~/.local/state/rekindle`, or
/// for users without a home `/var/lib/rekindle`.
pub fn default_store() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    state.filter(|p| p.is_absolute()).unwrap_or_else(|| PathBuf::from("/var/lib")).join("rekindle")
}

/// How many threads work at once: one for each CPU we may use.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
