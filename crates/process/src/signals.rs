//! Signals.

/// A set of signals; bit `n - 1` is signal `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Whether `signal` (1 to 64) is inside.
    pub fn contains(self, signal: i32) -> bool {
        (1..=64).contains(&signal) && self.0 >> (signal - 1) & 1 == 1
    }
}

/// What a signal does: the kernel's `struct sigaction` of rt_sigaction(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalAction {
    /// `SIG_DFL` 0, `SIG_IGN` 1, or the handler's address.
    pub handler: u64,
    /// `SA_*` flags, `SA_RESTORER` (0x0400_0000) included.
    pub flags: u64,
    /// Address of the restorer.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: SignalSet,
}

/// A queued signal with all the kernel knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedSignal {
    /// `siginfo_t` of sigaction(2), 128 bytes as the kernel gives them.
    pub siginfo: [u8; 128],
}

impl QueuedSignal {
    /// The signal's number, the first field of `siginfo_t`.
    pub fn signal(&self) -> i32 {
        i32::from_le_bytes([self.siginfo[0], self.siginfo[1], self.siginfo[2], self.siginfo[3]])
    }

    /// `si_code`, the third field of `siginfo_t`: who sent it.
    pub fn code(&self) -> i32 {
        i32::from_le_bytes([self.siginfo[8], self.siginfo[9], self.siginfo[10], self.siginfo[11]])
    }
}
