//! Running batches in a thread that is parked in our code.

use std::time::{Duration, Instant};

use mem::AddrRange;
use sys::ptrace::{Event, PtraceError, Regs, Resume, Stop, StoppedThread, Traced};
use sys::task::{Pid, Tid};

use crate::area::Area;
use crate::blob::{Blob, ENTRY_BYTES, Mode};
use crate::seccomp::Filters;
use crate::table::Table;
use crate::{Answers, Batch, CallId, InjectError};

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a thread that does not return from a call is waited for after it was interrupted.
const HALT_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that is, or is about to be, parked in our code.
#[derive(Debug)]
pub(crate) struct Runner {
    /// Address of the code.
    code: u64,
    blob: Blob,
    /// Address of the thread's slot; 0 in a stub.
    slot: u64,
    /// The signal it reports by; 0: it waits to be interrupted.
    signal: i32,
    pub(crate) area: Area,
    /// All registers as the thread has them while in the code, but for those the code uses.
    template: Regs,
    pub(crate) timeout: Duration,
    pub(crate) new_threads: Vec<StoppedThread>,
    /// In force when the thread undoes calls without us.
    pub(crate) filters: Filters,
}

/// A thread that was let run our code and has not reported back yet.
#[derive(Debug)]
pub(crate) struct Going {
    started: Instant,
    /// Address of the table it runs; 0: none.
    table: u64,
}

impl Runner {
    /// For a thread stopped with `regs`, with `blob` lying at `code`.
    pub(crate) fn new(
        (pid, tid): (Pid, Tid),
        (code, blob): (u64, Blob),
        slot: u64,
        signal: i32,
        regs: &Regs,
    ) -> Self {
        const DIRECTION: u64 = 1 << 10;
        let template = Regs {
            orig_rax: u64::MAX,
            eflags: regs.eflags & !DIRECTION,
            rbp: slot,
            r15: u64::from(signal.unsigned_abs()),
            ..*regs
        };
        Self {
            code,
            blob,
            slot,
            signal,
            area: Area::new(pid, tid, AddrRange::default()),
            template,
            timeout: TIMEOUT,
            new_threads: Vec::new(),
            filters: Filters::default(),
        }
    }

    /// The registers with which a thread enters that has to map its scratch area itself.
    pub(crate) fn entry_regs(&self, scratch_bytes: u64) -> Regs {
        Regs { rip: self.code + self.blob.entry, r12: scratch_bytes, r14: 0, ..self.template }
    }

    /// The registers with which it undoes and unmaps, and comes back.
    fn clean_regs(&self) -> Regs {
        Regs {
            rip: self.code + self.blob.clean,
            rbx: self.area.range.start.0,
            r14: Mode::Clean as u64,
            ..self.template
        }
    }

    /// Lets `thread` undo, unmap and park; what `munmap` returned is in `r13` then.
    pub(crate) fn start_clean(&mut self, thread: &mut StoppedThread) -> Result<Going, InjectError> {
        let regs = self.clean_regs();
        self.area.range = AddrRange::default();
        Self::start(thread, &regs, 0)
    }

    /// Whether `rip` is where a thread reports and waits.
    fn is_parked(&self, rip: u64) -> bool {
        (self.blob.park..=self.blob.park_end).contains(&rip.wrapping_sub(self.code))
    }

    fn is_inside(&self, rip: u64) -> bool {
        let code = rip.wrapping_sub(self.code) < self.blob.code.len() as u64;
        code || (self.slot != 0 && rip.wrapping_sub(self.slot) < self.blob.slot.len() as u64)
    }

    /// Runs `batch` in `thread`, which is parked.
    pub(crate) fn run(
        &mut self,
        thread: &mut StoppedThread,
        batch: &Batch,
    ) -> Result<Answers, InjectError> {
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let table = self.prepare(batch)?;
        let going = self.start_table(thread, &table)?;
        self.complete(thread, &going)?;
        self.answers(batch, &table)
    }

    /// Lays `batch` down in the scratch area.
    pub(crate) fn prepare(&mut self, batch: &Batch) -> Result<Table, InjectError> {
        let table = Table::encode(batch, &self.area, &self.filters)?;
        self.area.load(&table)?;
        Ok(table)
    }

    /// Lets `thread`, which is parked, run `table`.
    pub(crate) fn start_table(
        &self,
        thread: &mut StoppedThread,
        table: &Table,
    ) -> Result<Going, InjectError> {
        let regs = Regs {
            rip: self.code + self.blob.run,
            rbx: self.area.range.start.0,
            r12: table.start,
            r13: table.end,
            r14: Mode::Batch as u64,
            ..self.template
        };
        Self::start(thread, &regs, table.start)
    }

    /// What the calls of `batch` returned, once its `table` has been run.
    pub(crate) fn answers(&self, batch: &Batch, table: &Table) -> Result<Answers, InjectError> {
        let mut answers = Answers::default();
        let ended_at = self.area.ended_at()?.unwrap_or(table.end);
        let made = match usize::try_from(ended_at.wrapping_sub(table.start) / ENTRY_BYTES) {
            Ok(index) if index < batch.len() => {
                answers.failed = Some(CallId(index));
                index + 1
            }
            _ => batch.len(),
        };
        answers.values = self.area.answers(&table.answers[..made])?;
        answers.numbers = batch.calls[..made].iter().map(|call| call.nr).collect();
        Ok(answers)
    }

    /// Sets `regs` and lets `thread` run; [`complete`](Self::complete) waits for it. `table` tells
    /// in which call it was when it does not come back.
    pub(crate) fn start(
        thread: &mut StoppedThread,
        regs: &Regs,
        table: u64,
    ) -> Result<Going, InjectError> {
        thread.set_regs(regs)?;
        thread.resume(Resume::Continue(0))?;
        Ok(Going { started: Instant::now(), table })
    }

    /// Waits until `thread` is parked again; gives its registers there.
    pub(crate) fn complete(
        &mut self,
        thread: &mut StoppedThread,
        &Going { started, table }: &Going,
    ) -> Result<Regs, InjectError> {
        let deadline = started + self.timeout;
        let result = if self.signal == 0 {
            self.until_seen_parked(thread, deadline)
        } else {
            self.until_reported(thread, deadline)
        };
        match result {
            Err(InjectError::Ptrace(PtraceError::Timeout { tid, .. })) => {
                let regs = self.halt(thread)?;
                let index = regs.r12.wrapping_sub(table) / ENTRY_BYTES;
                Err(InjectError::Timeout {
                    tid,
                    waited: started.elapsed(),
                    index: usize::try_from(index).unwrap_or(usize::MAX),
                })
            }
            other => other,
        }
    }

    fn until_reported(
        &mut self,
        thread: &mut StoppedThread,
        deadline: Instant,
    ) -> Result<Regs, InjectError> {
        loop {
            let stop = thread.wait(deadline)?;
            if stop == Stop::Signal(self.signal) {
                let regs = thread.regs()?;
                if self.is_parked(regs.rip) {
                    thread.discard_signal();
                    return Ok(regs);
                }
            }
            let signal = self.pass(thread, stop, deadline)?;
            thread.resume(Resume::Continue(signal))?;
        }
    }

    /// As [`until_reported`](Self::until_reported) for a program that handles all signals by which
    /// it could report: the end of a table is seen in the scratch area, and the thread stopped in
    /// its waiting loop.
    fn until_seen_parked(
        &mut self,
        thread: &mut StoppedThread,
        deadline: Instant,
    ) -> Result<Regs, InjectError> {
        loop {
            let stop = match self.until_ended(thread, deadline)? {
                Some(stop) => stop,
                None => {
                    thread.interrupt()?;
                    thread.wait(deadline)?
                }
            };
            let regs = thread.regs()?;
            if !self.is_inside(regs.rip) {
                return Err(InjectError::LeftByItself { tid: thread.tid() });
            }
            let ended = self.area.range.is_empty() || self.area.ended_at()?.is_some();
            if self.is_parked(regs.rip) && regs.r14 != Mode::Leave as u64 && ended {
                return Ok(regs);
            }
            let signal = self.pass(thread, stop, deadline)?;
            thread.resume(Resume::Continue(signal))?;
        }
    }

    /// Waits for the end of the running table, which is `None`, or a stop before it.
    fn until_ended(
        &self,
        thread: &mut StoppedThread,
        deadline: Instant,
    ) -> Result<Option<Stop>, InjectError> {
        const LOOKS_WITHOUT_SCRATCH: u32 = 20;
        let mut looks = 0;
        while Instant::now() < deadline {
            if let Some(stop) = thread.try_wait()? {
                return Ok(Some(stop));
            }
            looks += 1;
            let ended = if self.area.range.is_empty() {
                looks > LOOKS_WITHOUT_SCRATCH
            } else {
                self.area.ended_at().is_ok_and(|at| at.is_some())
            };
            if ended {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        Ok(None)
    }

    /// Deals with a stop that is not the end of a table; says which signal to go on with. Signals
    /// are handed on, except our own, which the program ignores anyway.
    fn pass(
        &mut self,
        thread: &StoppedThread,
        stop: Stop,
        deadline: Instant,
    ) -> Result<i32, InjectError> {
        match stop {
            Stop::Signal(signal) if signal == self.signal => Ok(0),
            Stop::Signal(signal) => Ok(signal),
            Stop::Event(Event::Clone | Event::Fork | Event::Vfork) => {
                let number = thread.event_message()?;
                if let Some(tid) = i32::try_from(number).ok().and_then(Tid::new) {
                    let child = Traced::adopt(tid, thread.options());
                    self.new_threads.push(child.into_next_stop(deadline)?);
                }
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    /// Stops a thread that is running our code, wherever it is.
    fn halt(&self, thread: &mut StoppedThread) -> Result<Regs, InjectError> {
        let tid = thread.tid();
        let deadline = Instant::now() + HALT_TIMEOUT;
        thread.interrupt()?;
        thread.wait(deadline)?;
        let regs = thread.regs()?;
        if self.is_inside(regs.rip) { Ok(regs) } else { Err(InjectError::LeftByItself { tid }) }
    }
}
