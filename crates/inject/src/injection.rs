//! Calls in a running program.

use std::io;
use std::time::{Duration, Instant};

use mem::{AddrRange, VirtAddr};
use sys::ptrace::{Options, Regs, Resume, Stop, StoppedThread};
use sys::remote;
use sys::task::Pid;

use crate::blob::SlotData;
use crate::restart::{WayBack, rseq_abort};
use crate::runner::{Runner, SCRATCH_BYTES_MIN};
use crate::slots::Tail;
use crate::status::{Status, bit};
use crate::{Answers, Batch, InjectError, Scratch};

/// The 64-bit code segment of x86-64 Linux.
const CS_64: u64 = 0x33;
const TRAP_FLAG: u64 = 1 << 8;
/// `syscall`
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// How long a thread may take to re-enter its group stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Injects into the threads of one process.
#[derive(Debug)]
pub struct Injector {
    pid: Pid,
    tail: Tail,
}

/// A thread made ready to run batches. While it lives, the thread is stopped in our code with its
/// signals blocked and has a scratch area mapped.
///
/// [`finish`](Self::finish) puts everything back; dropping it does the same as well as it can.
#[derive(Debug)]
pub struct Injection<'t> {
    injector: &'t Injector,
    thread: &'t mut StoppedThread,
    runner: Runner,
    way_back: WayBack,
    mask: u64,
    slot: u64,
    /// The whole process was stopped by a signal.
    in_group_stop: bool,
    /// The thread's registers are not its own.
    inside: bool,
}

impl Injector {
    /// Looks for the room in process `pid`. Needs no stop.
    pub fn new(pid: Pid) -> Result<Self, InjectError> {
        Ok(Self { pid, tail: Tail::find(pid)? })
    }

    /// Makes `thread`, which belongs to the process and is stopped by an interrupt or a group
    /// stop, ready to run batches, with `scratch_bytes` of memory for tables, arguments and
    /// results (rounded up to whole pages, at least 16 KiB).
    ///
    /// A thread with seccomp filters gets
    /// [`suspend_seccomp`](sys::ptrace::Options::suspend_seccomp) added to its options.
    pub fn open<'t>(
        &'t self,
        thread: &'t mut StoppedThread,
        scratch_bytes: u64,
    ) -> Result<Injection<'t>, InjectError> {
        let regs = thread.regs()?;
        let mask = thread.sigmask()?;
        let status = Status::of(self.pid, thread.tid())?;
        self.check(thread, &regs, &status)?;
        let mut way_back = WayBack::to(&regs);
        if way_back.restarts {
            self.check_restart(thread, regs.rip)?;
        }
        if let Some(rip) = self.rseq_abort(thread, regs.rip)? {
            way_back = way_back.going_on_at(rip);
        }
        let signal = self.signal(&regs, &status, mask)?;
        let mask_inside = if signal == 0 { u64::MAX } else { !bit(signal) };
        let data = slot_data(thread.tid().raw(), &way_back, mask, mask_inside);
        let slot = self.tail.claim(thread, data)?;
        let place = (self.tail.code(), *self.tail.blob());
        let runner = Runner::new((self.pid, thread.tid()), place, slot, signal, &regs);
        let mut injection = Injection {
            injector: self,
            in_group_stop: matches!(thread.stop(), Stop::Group(_)),
            thread,
            runner,
            way_back,
            mask,
            slot,
            inside: true,
        };
        injection.enter(mask_inside, scratch_bytes.max(SCRATCH_BYTES_MIN))?;
        Ok(injection)
    }

    /// The signal by which the thread is to report, or 0.
    fn signal(&self, regs: &Regs, status: &Status, mask: u64) -> Result<i32, InjectError> {
        const SIGTIMEDWAIT: u64 = 128;
        if let Some(signal) = status.silent_signal(mask) {
            return Ok(signal);
        }
        if regs.syscall() == Some(SIGTIMEDWAIT) {
            return Ok(0);
        }
        let first = Status::of(self.pid, self.pid.main_thread())?;
        Ok(status.silent_blocked_signal(&first).unwrap_or(0))
    }

    /// Refuses states in which our code would do harm.
    fn check(
        &self,
        thread: &mut StoppedThread,
        regs: &Regs,
        status: &Status,
    ) -> Result<(), InjectError> {
        let tid = thread.tid();
        let refused = |why| Err(InjectError::Refused { tid, why });
        if !matches!(thread.stop(), Stop::Interrupt | Stop::Group(_)) {
            return refused("it is not stopped by an interrupt or a group stop");
        }
        if regs.cs != CS_64 {
            return refused("it runs 32-bit code, which is not supported");
        }
        if regs.eflags & TRAP_FLAG != 0 {
            return refused("it single-steps itself");
        }
        if self.tail.contains(regs.rip) {
            return Err(InjectError::Busy { pid: self.pid });
        }
        // Older kernels do not tell; then nothing is dispatched that we could know of.
        if thread.syscall_user_dispatch().is_ok_and(|dispatch| dispatch.mode != 0) {
            return refused("its system calls are dispatched to user space (prctl(2))");
        }
        match status.seccomp {
            0 => Ok(()),
            1 => refused("it is in seccomp strict mode, which would kill it should we die"),
            _ if thread.options().suspend_seccomp => Ok(()),
            _ => {
                let options = Options { suspend_seccomp: true, ..thread.options() };
                Ok(thread.set_options(options)?)
            }
        }
    }

    /// The call to make again must have been made by `syscall`: the other ways into the kernel
    /// have other numbers.
    fn check_restart(&self, thread: &StoppedThread, rip: u64) -> Result<(), InjectError> {
        let mut instruction = [0; 2];
        let at = VirtAddr(rip.wrapping_sub(2));
        remote::read_exact(thread.tid(), at, &mut instruction)
            .map_err(|source| self.memory("read the code", source))?;
        if instruction == SYSCALL {
            return Ok(());
        }
        let why = "it is in a system call made by int 0x80 or sysenter, which is not supported";
        Err(InjectError::Refused { tid: thread.tid(), why })
    }

    /// Where the thread goes on when it is stopped inside a restartable sequence.
    fn rseq_abort(&self, thread: &StoppedThread, rip: u64) -> Result<Option<u64>, InjectError> {
        const CRITICAL_SECTION: u64 = 8;
        let Some(rseq) = thread.rseq()? else { return Ok(None) };
        let read = |at, bytes: &mut [u8]| {
            remote::read_exact(thread.tid(), VirtAddr(at), bytes)
                .map_err(|source| self.memory("read a restartable sequence", source))
        };
        let mut pointer = [0; 8];
        read(rseq.area.0 + CRITICAL_SECTION, &mut pointer)?;
        let pointer = u64::from_ne_bytes(pointer);
        if pointer == 0 {
            return Ok(None);
        }
        let mut section = [0; 32];
        read(pointer, &mut section)?;
        Ok(rseq_abort(rip, &section))
    }

    fn memory(&self, action: &'static str, source: io::Error) -> InjectError {
        InjectError::Memory { action, pid: self.pid, source }
    }
}

impl Injection<'_> {
    /// Sends the thread into our code, which maps the scratch area.
    fn enter(&mut self, mask_inside: u64, scratch_bytes: u64) -> Result<(), InjectError> {
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
        self.runner.scratch = AddrRange::new(regs.rbx, regs.rbx + bytes);
        Ok(())
    }

    /// The thread's own registers, as it was stopped with them.
    pub const fn regs(&self) -> &Regs {
        &self.way_back.by_kernel
    }

    /// The thread's own signal mask, bit `n - 1` for signal `n`.
    pub const fn sigmask(&self) -> u64 {
        self.mask
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
        self.runner.scratch
    }

    /// Reserves `bytes` of the scratch area, 16-aligned, until
    /// [`reset_scratch`](Self::reset_scratch). Fresh places are zero, reused ones are not.
    pub fn reserve(&mut self, bytes: u64) -> Result<Scratch, InjectError> {
        self.runner.reserve(bytes)
    }

    /// Reserves room for `bytes` and writes them there.
    pub fn place(&mut self, bytes: &[u8]) -> Result<Scratch, InjectError> {
        let place = self.runner.reserve(bytes.len() as u64)?;
        self.runner.write(place, bytes)?;
        Ok(place)
    }

    /// Gives all reserved places back. Those that a registered undo refers to must not be reused.
    pub fn reset_scratch(&mut self) {
        self.runner.reset_places();
    }

    /// Writes `bytes` to the start of `place`.
    pub fn write_scratch(&mut self, place: Scratch, bytes: &[u8]) -> Result<(), InjectError> {
        self.runner.write(place, bytes)
    }

    /// Reads the bytes of `place`.
    pub fn read_scratch(&self, place: Scratch) -> Result<Vec<u8>, InjectError> {
        self.runner.read(place)
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
        self.runner.forget_undos()
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
            if self.runner.scratch.is_empty() { Ok(0) } else { self.runner.clean(self.thread) };
        let unmapped = match unmapped {
            Ok(answer) => answer,
            Err(InjectError::LeftByItself { .. }) => return self.release(),
            Err(error) => {
                self.let_leave();
                return Err(error);
            }
        };
        // The mask first: in between, our code finds the way back with it just as well.
        self.thread.set_sigmask(self.mask)?;
        self.thread.set_regs(&self.way_back.by_kernel)?;
        self.release()?;
        if self.in_group_stop {
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
        self.injector.tail.release(self.thread, self.slot)
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
        // Whatever fails here, the thread goes back by itself when it is let go.
        let _ = self.put_back();
    }
}

/// What the thread needs to find its way back.
fn slot_data(tid: i32, way_back: &WayBack, mask: u64, mask_inside: u64) -> SlotData {
    const DIRECTION: u64 = 1 << 10;
    let regs = &way_back.by_itself;
    let overflow = regs.eflags >> 11 & 1;
    SlotData {
        owner: u64::from(tid.unsigned_abs()),
        mask,
        mask_inside,
        handler_ends_call: u64::from(way_back.handler_ends_call),
        zero: [0; 2],
        general: [
            regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.r8, regs.r9, regs.r10, regs.r11,
            regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        direction: regs.eflags & DIRECTION,
        rbp: regs.rbp,
        rax: regs.rax,
        rip: regs.rip,
        rip_after: way_back.by_kernel.rip,
        flags: overflow | (regs.eflags & 0xff) << 8,
    }
}
