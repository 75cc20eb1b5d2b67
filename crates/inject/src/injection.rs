//! Calls in a running program.

use std::io;
use std::time::{Duration, Instant};

use mem::AddrRange;
use sys::ptrace::{Options, Regs, Resume, StoppedThread};

use crate::restart::WayBack;
use crate::runner::{Going, Runner};
use crate::table::Table;
use crate::{Answers, Batch, InjectError, Injector, Scratch};

const MADVISE: i64 = 28;
const DONTFORK: u64 = 10;
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
    /// It was let run our code and has not been waited for.
    going: Option<Going>,
    /// Bytes of scratch it maps while it is on its way in.
    entering: Option<u64>,
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
        Self { injector, thread, runner, held, inside: true, going: None, entering: None }
    }

    /// Sends the thread into our code, which maps the scratch area.
    pub(crate) fn start_enter(
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
        self.going = Some(Runner::start(self.thread, &entry, 0)?);
        self.entering = Some(bytes);
        Ok(())
    }

    /// Waits until the thread has entered.
    pub(crate) fn complete_enter(&mut self) -> Result<(), InjectError> {
        let bytes = self.entering.take().unwrap_or(0);
        let regs = self.complete()?;
        if regs.rbx == 0 {
            let code = i32::try_from(-regs.r13.cast_signed()).unwrap_or(0);
            let error = io::Error::from_raw_os_error(code);
            return Err(self.injector.memory("map a scratch area in the memory", error));
        }
        self.runner.area.range = AddrRange::new(regs.rbx, regs.rbx + bytes);
        Ok(())
    }

    /// Waits for the thread, which was let run our code.
    fn complete(&mut self) -> Result<Regs, InjectError> {
        let Some(going) = self.going.take() else { return Ok(self.thread.regs()?) };
        match self.runner.complete(self.thread, &going) {
            Err(error @ InjectError::LeftByItself { .. }) => {
                self.inside = false;
                self.release()?;
                Err(error)
            }
            // Somewhere between two calls of ours: let go, it ends them and goes back by itself.
            Err(error @ InjectError::Timeout { .. }) if self.runner.area.range.is_empty() => {
                self.inside = false;
                Err(error)
            }
            other => other,
        }
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
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let table = self.start_batch(batch)?;
        self.complete()?;
        self.runner.answers(batch, &table)
    }

    /// Lets the thread run `batch` without waiting for it.
    fn start_batch(&mut self, batch: &Batch) -> Result<Table, InjectError> {
        let table = self.runner.prepare(batch)?;
        self.going = Some(self.runner.start_table(self.thread, &table)?);
        Ok(table)
    }

    /// Runs one batch in each of several threads at the same time, `batches[n]` in
    /// `injections[n]`: it takes little longer than one alone. As [`run`](Self::run), a failed
    /// required call is an error.
    ///
    /// # Errors
    /// The first there was; every thread is waited for also then.
    pub fn run_each(
        injections: &mut [Self],
        batches: &[Batch],
    ) -> Result<Vec<Answers>, InjectError> {
        let pairs = || injections.len().min(batches.len());
        let mut tables = Vec::with_capacity(pairs());
        for (injection, batch) in injections.iter_mut().zip(batches) {
            tables.push(injection.start_batch(batch));
            if tables.last().is_some_and(Result::is_err) {
                break;
            }
        }
        let results: Vec<_> = injections
            .iter_mut()
            .zip(batches)
            .zip(tables)
            .map(|((injection, batch), table)| {
                let table = table?;
                injection.complete()?;
                let answers = injection.runner.answers(batch, &table)?;
                match answers.failed() {
                    Some(call) => answers.get(call).map(|_| answers),
                    None => Ok(answers),
                }
            })
            .collect();
        results.into_iter().collect()
    }

    /// The children that batches have created since this was last called, each stopped before its
    /// first instruction with the registers of the thread: in the middle of our code, with the
    /// thread's options. Given to a thread whose options have
    /// [`trace_clone`](sys::ptrace::Options::trace_clone) or
    /// [`trace_fork`](sys::ptrace::Options::trace_fork).
    ///
    /// A child that is let go (also by our death) goes on as the thread would: it finds its way
    /// back into the program, which then runs twice. See [`keep_from_children`] for what prevents
    /// it.
    ///
    /// [`keep_from_children`]: Self::keep_from_children
    pub fn new_children(&mut self) -> Vec<StoppedThread> {
        std::mem::take(&mut self.runner.new_threads)
    }

    /// Has every child that a later call creates be without the scratch area
    /// (`MADV_DONTFORK`): our code keeps everything there, so that a child that is let go ends of
    /// `SIGSEGV` at its first instruction, with all signals blocked, before it is the program.
    pub fn keep_from_children(&mut self) -> Result<(), InjectError> {
        let AddrRange { start, .. } = self.runner.area.range;
        let bytes = self.runner.area.range.len();
        let mut batch = Batch::new();
        batch.require(MADVISE, &[start.0.into(), bytes.into(), DONTFORK.into()]);
        self.run(&batch).map(drop)
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

    /// [`finish`](Self::finish) of several threads at the same time.
    ///
    /// # Errors
    /// The first there was; every thread is put back as well as it can be also then.
    pub fn finish_each(mut injections: Vec<Self>) -> Result<(), InjectError> {
        let started: Vec<_> = injections.iter_mut().map(Self::start_put_back).collect();
        let results: Vec<_> = injections
            .iter_mut()
            .zip(started)
            .map(|(injection, started)| started.and_then(|()| injection.complete_put_back()))
            .collect();
        results.into_iter().collect()
    }

    fn put_back(&mut self) -> Result<(), InjectError> {
        self.start_put_back()?;
        self.complete_put_back()
    }

    /// Lets the thread undo and unmap.
    fn start_put_back(&mut self) -> Result<(), InjectError> {
        // Whatever it was to tell, nobody asks any more.
        if self.entering.is_some() {
            let _ = self.complete_enter();
        } else if self.going.is_some() {
            let _ = self.complete();
        }
        if !self.inside || self.runner.area.range.is_empty() {
            return Ok(());
        }
        match self.runner.start_clean(self.thread) {
            Ok(going) => self.going = Some(going),
            Err(error) => {
                self.inside = false;
                self.let_leave();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for that, and gives the thread its own registers.
    fn complete_put_back(&mut self) -> Result<(), InjectError> {
        if !self.inside {
            return Ok(());
        }
        self.inside = false;
        let unmapped = match self.going.take() {
            Some(going) => match self.runner.complete(self.thread, &going) {
                Ok(regs) => regs.r13.cast_signed(),
                Err(InjectError::LeftByItself { .. }) => return self.release(),
                Err(error) => {
                    self.let_leave();
                    return Err(error);
                }
            },
            None => 0,
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
