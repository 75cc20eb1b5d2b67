//! How a process ended.

/// How a process ended, see wait(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// exit(3) with this status, 0 to 255.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell reports: the status, or 128 + signal.
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}
