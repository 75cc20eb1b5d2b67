//! Calls in a running program.

use std::io;
use std::time::{Duration, Instant};

use mem::AddrRange;
use sys::ptrace::{Options, Regs, Resume, StoppedThread};

use crate::restart::WayBack;
use crate::runner::Runner;
use crate::{Answers, Batch, InjectError, Injector, Scratch};

/// How long a thread may take to re-enter its group stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread made ready to run batches. While it lives, the thread is stopped in our code with its
/// signals blocked and has a scratch area mapped.
///
/// [`finish`](Self::finish) puts everything back; dropping it does the same as well as it can.
#[derive(Debug)]
pub struct Injection<'t> {
    injector: &'t Injector,
    thread: &'t mut StoppedThread,
    runner: Runner,
    held: Held,
    /// The thread's registers are not its own.
    inside: bool,
}

/// What the thread gets back.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) way_back: WayBack,
    pub(crate) mask: u64,
    pub(crate) slot: u64,
    /// How it was traced.
    pub(crate) options: Options,
    /// The whole process was stopped by a signal.
    pub(crate) in_group_stop: bool,
}

impl<'t> Injection<'t> {
    pub(crate) const fn new(
        injector: &'t Injector,
        thread: &'t mut StoppedThread,
        runner: Runner,
        held: Held,
    ) -> Self {
        Self { injector, thread, runner, held, inside: true }
    }

    /// Sends the thread into our code, which maps the scratch area.
    pub(crate) fn enter(
        &mut self,
        mask_inside: u64,
        scratch_bytes: u64,
    ) -> Result<(), InjectError> {
        let bytes = scratch_bytes.next_multiple_of(mem::PAGE_SIZE);
        let entry = self.runner.entry_regs(bytes);
        // From here to the end the thread finds its way back without us: its registers first,
        // then the mask, which the code sets as well.
        self.thread.set_regs(&entry)?;
        self.thread.set_sigmask(mask_inside)?;
        let regs = match self.runner.go(self.thread, &entry, 0) {
            Err(error @ InjectError::LeftByItself { .. }) => {
                self.inside = false;
                self.release()?;
                return Err(error);
            }
            // Somewhere between two calls of ours: let go, it ends them and goes back by itself.
            Err(error @ InjectError::Timeout { .. }) => {
                self.inside = false;
                return Err(error);
            }
            other => other?,
        };
        if regs.rbx == 0 {
            let code = i32::try_from(-regs.r13.cast_signed()).unwrap_or(0);
            let error = io::Error::from_raw_os_error(code);
            return Err(self.injector.memory("map a scratch area in the memory", error));
        }
        self.runner.area.range = AddrRange::new(regs.rbx, regs.rbx + bytes);
        Ok(())
    }

    /// The thread's own registers, as it was stopped with them.
    pub const fn regs(&self) -> &Regs {
        &self.held.way_back.by_kernel
    }

    /// The thread's own signal mask, bit `n - 1` for signal `n`.
    pub const fn sigmask(&self) -> u64 {
        self.held.mask
    }

    /// The thread, for what can be read of it meanwhile. Its registers and its signal mask are
    /// ours: see [`regs`](Self::regs) and [`sigmask`](Self::sigmask).
    pub const fn thread(&self) -> &StoppedThread {
        self.thread
    }

    /// How long a batch may take from now on (10 s at first).
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.runner.timeout = timeout;
    }

    /// The memory we have mapped in the program: not a part of its state. It may have been merged
    /// with a neighbouring mapping of the program.
    pub const fn scratch_range(&self) -> AddrRange {
        self.runner.area.range
    }

    /// Reserves `bytes` of the scratch area, 16-aligned, until
    /// [`reset_scratch`](Self::reset_scratch). Fresh places are zero, reused ones are not.
    pub fn reserve(&mut self, bytes: u64) -> Result<Scratch, InjectError> {
        self.runner.area.reserve(bytes)
    }

    /// Reserves room for `bytes` and writes them there.
    pub fn place(&mut self, bytes: &[u8]) -> Result<Scratch, InjectError> {
        let place = self.runner.area.reserve(bytes.len() as u64)?;
        self.runner.area.write(place, bytes)?;
        Ok(place)
    }

    /// Gives all reserved places back. Those that a registered undo refers to must not be reused.
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

    /// Runs `batch`. A failed required call is an error here, and so not what the others returned.
    pub fn run(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        let answers = self.run_to_failure(batch)?;
        match answers.failed() {
            Some(call) => answers.get(call).map(|_| answers),
            None => Ok(answers),
        }
    }

    /// Runs `batch`, and gives also the answers of a batch that a required call ended
    /// ([`Answers::failed`]).
    pub fn run_to_failure(&mut self, batch: &Batch) -> Result<Answers, InjectError> {
        let answers = self.runner.run(self.thread, batch);
        if let Err(InjectError::LeftByItself { .. }) = answers {
            self.inside = false;
            self.release()?;
        }
        answers
    }

    /// Forgets every registered [`Undo`](crate::Undo): what those calls made is to stay.
    pub fn forget_undos(&mut self) -> Result<(), InjectError> {
        self.runner.area.forget_undos()
    }

    /// Undoes what is registered, unmaps the scratch area and puts the thread back on its own
    /// registers and signal mask. It stays stopped, as it was before.
    pub fn finish(mut self) -> Result<(), InjectError> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), InjectError> {
        if !self.inside {
            return Ok(());
        }
        self.inside = false;
        let unmapped =
            if self.runner.area.range.is_empty() { Ok(0) } else { self.runner.clean(self.thread) };
        let unmapped = match unmapped {
            Ok(answer) => answer,
            Err(InjectError::LeftByItself { .. }) => return self.release(),
            Err(error) => {
                self.let_leave();
                return Err(error);
            }
        };
        // The mask first: in between, our code finds the way back with it just as well.
        self.thread.set_sigmask(self.held.mask)?;
        self.thread.set_regs(&self.held.way_back.by_kernel)?;
        self.release()?;
        if self.thread.options() != self.held.options {
            self.thread.set_options(self.held.options)?;
        }
        if self.held.in_group_stop {
            self.thread.interrupt()?;
            self.thread.resume_and_wait(Resume::Continue(0), Instant::now() + STOP_TIMEOUT)?;
        }
        if unmapped < 0 {
            let code = i32::try_from(-unmapped).unwrap_or(0);
            let source = io::Error::from_raw_os_error(code);
            return Err(InjectError::Leaked { tid: self.thread.tid(), source });
        }
        Ok(())
    }

    /// The thread is back: its slot is free again.
    fn release(&self) -> Result<(), InjectError> {
        self.injector.release(self.thread, self.held.slot)
    }

    /// A thread that is stopped in the middle of its undo table: when it goes on, it goes on to
    /// the end of that table and back by itself. Its slot stays in use.
    fn let_leave(&self) {
        if let Ok(mut regs) = self.thread.regs() {
            regs.r14 = crate::blob::Mode::Leave as u64;
            // Fails when the thread is gone, and then there is nothing to bring back.
            let _ = self.thread.set_regs(&regs);
        }
    }
}

impl Drop for Injection<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            let tid = self.thread.tid().raw();
            tracing::warn!(tid, %error, "the thread goes back by itself when it is let go");
        }
    }
}
