//! Calls in a process of our own that is being built.

use std::time::Duration;

use mem::{AddrRange, VirtAddr};
use sys::ptrace::{Regs, StoppedThread};
use sys::task::Pid;

use crate::area::SCRATCH_BYTES_MIN;
use crate::blob::blob;
use crate::call::call_at;
use crate::runner::Runner;
use crate::status::libc_signal;
use crate::{Answers, Batch, InjectError, Scratch};

/// Where a stub's code and scratch memory lie. The caller has mapped both and keeps clear of
/// them; nothing else of the stub's address space is used, also not its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StubRoom {
    /// A page of a private mapping, readable and executable, whose content is ours.
    pub code: AddrRange,
    /// Whole pages, readable and writable, for one thread's tables and arguments: 16 KiB or more.
    pub scratch: AddrRange,
}

/// A thread of a process of our own, parked in our code at an address of the caller's choice,
/// that runs batches. Nothing of it has to be restored, so its whole address space, the vdso
/// included, may be unmapped around it (its rseq area first unregistered).
///
/// Give the process [`exit_kill`](sys::ptrace::Options::exit_kill) until it is let go, and
/// [`trace_clone`](sys::ptrace::Options::trace_clone) if it is to create threads.
#[derive(Debug)]
pub struct Stub {
    pid: Pid,
    code: AddrRange,
    thread: StoppedThread,
    runner: Runner,
    regs: Regs,
}

impl Stub {
    /// Takes over `thread` of process `pid`, whatever it is doing, and puts our code into `room`.
    /// All signals of the thread are blocked from now on.
    pub fn open(pid: Pid, thread: StoppedThread, room: StubRoom) -> Result<Self, InjectError> {
        let code = blob().code;
        let tid = thread.tid();
        if room.code.len() < code.len() as u64 {
            return Err(InjectError::Refused { tid, why: "its room for code is too small" });
        }
        for (at, word) in (room.code.start.0..).step_by(8).zip(code.as_chunks::<8>().0) {
            thread.poke(VirtAddr(at), u64::from_ne_bytes(*word))?;
        }
        Self::park(pid, thread, room)
    }

    /// Takes over another thread of the same process, say one of
    /// [`new_threads`](Self::new_threads): the code is shared, `scratch` is the new one's own.
    pub fn open_sibling(
        &self,
        thread: StoppedThread,
        scratch: AddrRange,
    ) -> Result<Self, InjectError> {
        Self::park(self.pid, thread, StubRoom { code: self.code, scratch })
    }

    fn park(pid: Pid, thread: StoppedThread, room: StubRoom) -> Result<Self, InjectError> {
        let tid = thread.tid();
        if room.scratch.len() < SCRATCH_BYTES_MIN {
            return Err(InjectError::Refused { tid, why: "its scratch area is too small" });
        }
        thread.set_sigmask(u64::MAX)?;
        let regs = thread.regs()?;
        let place = (room.code.start.0, blob());
        let mut runner = Runner::new((pid, tid), place, 0, libc_signal::STOP, &regs);
        runner.area.range = room.scratch;
        Ok(Self { pid, code: room.code, thread, runner, regs })
    }

    /// How long a batch may take from now on (10 s at first).
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.runner.timeout = timeout;
    }

    /// Reserves `bytes` of the scratch area, 16-aligned, until
    /// [`reset_scratch`](Self::reset_scratch). Its content is whatever lies there.
    pub fn reserve(&mut self, bytes: u64) -> Result<Scratch, InjectError> {
        self.runner.area.reserve(bytes)
    }

    /// Reserves room for `bytes` and writes them there.
    pub fn place(&mut self, bytes: &[u8]) -> Result<Scratch, InjectError> {
        let place = self.runner.area.reserve(bytes.len() as u64)?;
        self.runner.area.write(place, bytes)?;
        Ok(place)
    }

    /// Gives all reserved places back.
    pub fn reset_scratch(&mut self) {
        self.runner.area.reset_places();
    }

    /// Writes `bytes` to the start of `place`.
    pub fn write_scratch(&mut self, place: Scratch, bytes: &[u8]) -> Result<(), InjectError> {
        self.runner.area.write(place, bytes)
    }

    /// Reads the bytes of `place`.
    pub fn read_scratch(&self, place: Scratch) -> Result<Vec<u8>, InjectError> {
        self.runner.area.read(place)
    }

    /// Runs `batch`. A failed required call is an error here. [`Undo`](crate::Undo)s are never
    /// run: a stub that fails is killed.
    pub fn run(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        let answers = self.run_to_failure(batch)?;
        match answers.failed() {
            Some(call) => answers.get(call).map(|_| answers),
            None => Ok(answers),
        }
    }

    /// Runs `batch`, and gives also the answers of a batch that a required call ended.
    pub fn run_to_failure(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        self.runner.run(&mut self.thread, batch)
    }

    /// The threads and children that batches have created since this was last called, in order,
    /// each stopped before its first instruction with the registers of its creator. Their stack
    /// (`clone_args.stack`) may be left zero: none is touched.
    pub fn new_threads(&mut self) -> Vec<StoppedThread> {
        std::mem::take(&mut self.runner.new_threads)
    }

    /// The thread, to read and change its state between batches (vector state, options). Its
    /// registers and signal mask are ours until [`into_thread`](Self::into_thread).
    pub const fn thread(&self) -> &StoppedThread {
        &self.thread
    }

    /// Makes one system call with the `syscall` instruction at `instruction` (in the new vdso,
    /// say) instead of our code, so that our own room can be unmapped by it. Returns what the
    /// call returned, negative error numbers included.
    pub fn call_at(
        &mut self,
        instruction: VirtAddr,
        nr: i64,
        args: [u64; 6],
    ) -> Result<i64, InjectError> {
        let made = call_at(&mut self.thread, &self.regs, instruction, nr, args)?;
        self.runner.new_threads.extend(made.1);
        Ok(made.0)
    }

    /// Gives the thread its final registers and hands it back, stopped. Its signal mask (all
    /// blocked) is the caller's to set.
    pub fn into_thread(self, regs: &Regs) -> Result<StoppedThread, InjectError> {
        self.thread.set_regs(regs)?;
        Ok(self.thread)
    }
}
