//! What the user may choose.

use std::path::PathBuf;

/// What to do about files that are no longer as the instance left them (`--files`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilesPolicy {
    /// A file that changed is a mismatch; files open for appending only may have grown.
    #[default]
    Strict,
    /// Files need only exist. Executables and other mapped files must still be the same bytes.
    Ignore,
}

/// What stands in for a descriptor whose other end is outside the instance
/// (`--external fd=N:POLICY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalPolicy {
    /// The caller's descriptor of the same number.
    Inherit,
    /// `/dev/null`.
    Null,
    /// A file, opened with the description's own access mode.
    Reopen(PathBuf),
    /// Nothing: the number is free.
    Close,
}

/// Which pid the process gets outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PidPolicy {
    /// The same pid in the same pid namespace when every id is free, else a pid namespace of
    /// its own.
    #[default]
    Auto,
    /// The same pid in the same namespace; a pid in use is a mismatch.
    Same,
    /// Always a pid namespace of its own.
    OwnNamespace,
}

/// What the user may choose about a resume.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// About changed files.
    pub files: FilesPolicy,
    /// About descriptors whose other end is outside, by descriptor number. Numbers 0, 1 and 2
    /// that are not named are inherited; any other is a mismatch.
    pub external: Vec<(i32, ExternalPolicy)>,
    /// Resume although the original may run, as a copy of it. Only for instances that hold no
    /// writable file.
    pub as_copy: bool,
    /// An instance that finds connections to outside closed does not fit.
    pub refuse_closed: bool,
    /// A session of its own (`setsid(2)`), nobody waits for it.
    pub detach: bool,
    /// Which pid it gets.
    pub pid: PidPolicy,
    /// Threads that load memory; 0 is one for each CPU we may use.
    pub workers: usize,
}
