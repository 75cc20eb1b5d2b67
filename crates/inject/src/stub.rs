//! Calls in a process of our own that is being built.

use std::time::Duration;

use mem::{AddrRange, VirtAddr};
use sys::ptrace::{Regs, StoppedThread};

use crate::{Answers, Batch, InjectError, Scratch};

/// Where a stub's code and scratch memory lie. The caller has mapped both and keeps clear of
/// them; nothing else of the stub's address space is used, also not its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StubRoom {
    /// A page, readable and executable, whose content is ours.
    pub code: AddrRange,
    /// Whole pages, readable and writable, for one thread's tables and arguments.
    pub scratch: AddrRange,
}

/// A thread of a process of our own, parked in our code at an address of the caller's choice,
/// that runs batches. Nothing of it has to be restored, so its whole address space, the vdso
/// included, may be unmapped around it.
///
/// Give the process [`exit_kill`](sys::ptrace::Options::exit_kill) until it is let go, and
/// [`trace_clone`](sys::ptrace::Options::trace_clone) if it is to create threads.
#[derive(Debug)]
pub struct Stub {
    thread: StoppedThread,
}

impl Stub {
    /// Takes over `thread`, whatever it is doing, and puts our code into `room`. All signals of
    /// the thread are blocked from now on.
    pub fn open(thread: StoppedThread, room: StubRoom) -> Result<Self, InjectError> {
        let _ = room;
        Ok(Self { thread })
    }

    /// Takes over another thread of the same process, say one of [`new_threads`](Self::new_threads):
    /// the code is shared, `scratch` is the new one's own.
    pub fn open_sibling(
        &self,
        thread: StoppedThread,
        scratch: AddrRange,
    ) -> Result<Self, InjectError> {
        let _ = scratch;
        Ok(Self { thread })
    }

    /// How long a batch may take from now on (10 s at first).
    pub fn set_timeout(&mut self, timeout: Duration) {
        let _ = timeout;
    }

    /// Reserves `bytes` of the scratch area, 16-aligned and zero, until
    /// [`reset_scratch`](Self::reset_scratch).
    pub fn reserve(&mut self, bytes: u64) -> Result<Scratch, InjectError> {
        Err(InjectError::ScratchFull { wanted: bytes, free: 0, size: 0 })
    }

    /// Reserves room for `bytes` and writes them there.
    pub fn place(&mut self, bytes: &[u8]) -> Result<Scratch, InjectError> {
        self.reserve(bytes.len() as u64)
    }

    /// Gives all reserved places back.
    pub fn reset_scratch(&mut self) {}

    /// Writes `bytes` to the start of `place`.
    pub fn write_scratch(&mut self, place: Scratch, bytes: &[u8]) -> Result<(), InjectError> {
        let _ = (place, bytes);
        Ok(())
    }

    /// Reads the bytes of `place`.
    pub fn read_scratch(&self, place: Scratch) -> Result<Vec<u8>, InjectError> {
        let _ = place;
        Ok(Vec::new())
    }

    /// Runs `batch`. A failed required call is an error here. `Undo`s are refused: a stub that
    /// fails is killed.
    pub fn run(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        self.run_to_failure(batch)
    }

    /// Runs `batch`, and gives also the answers of a batch that a required call ended.
    pub fn run_to_failure(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        let _ = batch;
        Err(InjectError::NotMade { index: 0 })
    }

    /// The threads and children that batches have created since this was last called, in order,
    /// each stopped before its first instruction with the registers of its creator. Their stack
    /// (`clone_args.stack`) may be left zero: none is touched.
    pub fn new_threads(&mut self) -> Vec<StoppedThread> {
        Vec::new()
    }

    /// The thread, to read and change its state between batches (vector state, signal mask).
    pub fn thread(&self) -> &StoppedThread {
        &self.thread
    }

    /// Makes one system call with the `syscall` instruction at `instruction` (in the new vdso,
    /// say) instead of our code, so that our own room can be unmapped by it.
    pub fn call_at(
        &mut self,
        instruction: VirtAddr,
        nr: i64,
        args: [u64; 6],
    ) -> Result<u64, InjectError> {
        let _ = (instruction, nr, args);
        Err(InjectError::NotMade { index: 0 })
    }

    /// Gives the thread its final registers and hands it back, stopped.
    pub fn into_thread(self, regs: &Regs) -> Result<StoppedThread, InjectError> {
        self.thread.set_regs(regs)?;
        Ok(self.thread)
    }
}
