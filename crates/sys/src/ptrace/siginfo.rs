//! Queued signals.

/// Bytes in a `siginfo_t`.
pub const SIGINFO_BYTES: usize = 128;

/// A queued signal with all it carries: a whole `siginfo_t`, kept as bytes so that nothing the
/// kernel put there is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SigInfo(pub [u8; SIGINFO_BYTES]);

/// Which queue of pending signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalQueue {
    /// Signals sent to the thread.
    Thread,
    /// Signals sent to the process, for whichever thread takes them first.
    Process,
}

impl SigInfo {
    /// `si_signo`: the signal's number.
    pub fn signal(&self) -> i32 {
        self.word(0)
    }

    /// `si_code`: where it comes from.
    pub fn code(&self) -> i32 {
        self.word(8)
    }

    fn word(&self, at: usize) -> i32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        i32::from_ne_bytes(bytes)
    }
}

impl std::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigInfo")
            .field("signal", &self.signal())
            .field("code", &self.code())
            .finish_non_exhaustive()
    }
}
