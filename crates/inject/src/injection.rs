//! Calls in a running program.

use std::marker::PhantomData;
use std::time::Duration;

use mem::AddrRange;
use sys::ptrace::StoppedThread;
use sys::task::Pid;

use crate::{Answers, Batch, InjectError, Scratch};

/// Injects into the threads of one process, one thread after the other.
#[derive(Debug)]
pub struct Injector {
    pid: Pid,
}

/// A thread made ready to run batches. While it lives, the thread is stopped in our code with all
/// its signals blocked and has a scratch area mapped.
///
/// [`finish`](Self::finish) puts everything back; dropping it does the same as well as it can.
#[derive(Debug)]
pub struct Injection<'t> {
    thread: &'t mut StoppedThread,
    _injector: PhantomData<&'t mut Injector>,
}

impl Injector {
    /// Looks at process `pid` (its vdso, its seccomp mode). Needs no stop.
    pub fn new(pid: Pid) -> Result<Self, InjectError> {
        Ok(Self { pid })
    }

    /// Makes `thread`, which belongs to the process and is stopped by an interrupt or a group
    /// stop, ready to run batches, with `scratch_bytes` of memory for arguments and results
    /// (rounded up to whole pages). With seccomp filters on, seize the thread with
    /// [`suspend_seccomp`](sys::ptrace::Options::suspend_seccomp).
    pub fn open<'t>(
        &'t mut self,
        thread: &'t mut StoppedThread,
        scratch_bytes: u64,
    ) -> Result<Injection<'t>, InjectError> {
        let _ = (scratch_bytes, thread);
        Err(InjectError::NoRoom { pid: self.pid, why: "not built" })
    }
}

impl Injection<'_> {
    /// How long a batch may take from now on (10 s at first).
    pub fn set_timeout(&mut self, timeout: Duration) {
        let _ = timeout;
    }

    /// The memory we have mapped in the program: not a part of its state.
    pub fn scratch_range(&self) -> AddrRange {
        AddrRange::default()
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

    /// Runs `batch`. A failed required call is an error here, and so not what the others returned.
    pub fn run(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        self.run_to_failure(batch)
    }

    /// Runs `batch`, and gives also the answers of a batch that a required call ended
    /// ([`Answers::failed`]).
    pub fn run_to_failure(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        let _ = batch;
        Err(InjectError::NotMade { index: 0 })
    }

    /// Undoes what is registered, unmaps the scratch area and puts the thread back on its own
    /// registers and signal mask. It stays stopped, as it was before.
    pub fn finish(self) -> Result<(), InjectError> {
        let _ = self.thread;
        Ok(())
    }
}
