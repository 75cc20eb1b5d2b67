//! Who watches a resume.

use std::time::Duration;

/// The steps of a resume, in the order they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The host, the files and the clocks are compared with the instance.
    Check,
    /// An empty process with the right pid is made, in a pid namespace of its own when needed.
    Stub,
    /// Our own memory leaves it and the instance's mappings are made.
    Mappings,
    /// Threads are made.
    Threads,
    /// Pages are loaded.
    Memory,
    /// Descriptors are opened and what the threads share is set.
    Process,
    /// Credentials, filters, timers, signals and registers are set.
    Finish,
    /// The process is compared with the instance.
    Verify,
    /// It is let go.
    Start,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: &[Self] = &[
        Self::Check,
        Self::Stub,
        Self::Mappings,
        Self::Threads,
        Self::Memory,
        Self::Process,
        Self::Finish,
        Self::Verify,
        Self::Start,
    ];

    /// The stable name used in JSON and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Stub => "stub",
            Self::Mappings => "mappings",
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Threads => "threads",
            Self::Finish => "finish",
            Self::Verify => "verify",
            Self::Start => "start",
        }
    }
}

/// How long a phase took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTime {
    /// Which phase.
    pub phase: Phase,
    /// Its duration.
    pub took: Duration,
}

/// Hears of the progress of a resume, and may end it. Called from several threads.
pub trait Observer: Sync {
    /// A phase begins.
    fn phase_started(&self, _phase: Phase) {}

    /// A phase has ended well.
    fn phase_finished(&self, _time: PhaseTime) {}

    /// `done` of `total` bytes of memory are loaded.
    fn loaded(&self, _done_bytes: u64, _total_bytes: u64) {}

    /// A step of a hand-over was made; tests look at what is left of it from here on.
    fn reached(&self, _step: &'static str) {}

    /// Why the resume shall be given up now ("timed out after 5 s", "interrupted"), or `None`
    /// to go on. Asked between phases and between pieces of memory.
    fn cancelled(&self) -> Option<String> {
        None
    }
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
