//! What the caller allows.

/// What happens to established TCP connections (`--tcp`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpPolicy {
    /// They are a blocker.
    #[default]
    Refuse,
    /// They come back as closed by the peer; the program takes its normal path for that.
    Close,
}

/// What the caller allows a capture to do and leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The program will end after the capture (`--stop`, `update`): whoever acts on its exit is
    /// a blocker.
    pub stop: bool,
    /// What happens to established TCP connections.
    pub tcp: TcpPolicy,
    /// Descriptors whose other end is outside and for which a stand-in is named at resume
    /// (`--external fd=N:POLICY`). 0, 1 and 2 always count as named: they default to the
    /// caller's.
    pub external: Vec<i32>,
    /// Another process on this host takes the descriptors over as they are, and shared memory with
    /// them (`update`): what only cannot be made anew is in nobody's way, and what hangs on the
    /// process itself is.
    pub takeover: bool,
    /// Missing pages of the program are served by rekindle itself: memory registered for that is
    /// no blocker, but listed in [`Captured::served`](crate::Captured::served).
    pub served: bool,
}

impl Options {
    /// Whether descriptor `fd` may have its other end outside.
    pub(crate) fn is_external(&self, fd: i32) -> bool {
        self.takeover || (0..=2).contains(&fd) || self.external.contains(&fd)
    }
}
