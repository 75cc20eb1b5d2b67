//! The way into a thread of a running program.

use std::io;

use mem::{AddrRange, VirtAddr};
use sys::ptrace::{Options, PtraceError, Regs, Stop, StoppedThread};
use sys::remote;
use sys::task::Pid;

use crate::area::SCRATCH_BYTES_MIN;
use crate::blob::SlotData;
use crate::injection::Held;
use crate::restart::{WayBack, rseq_abort};
use crate::runner::Runner;
use crate::seccomp::{CallData, Filters};
use crate::slots::Tail;
use crate::status::{Status, bit, vdso};
use crate::{InjectError, Injection};

/// The 64-bit code segment of x86-64 Linux.
const CS_64: u64 = 0x33;
const TRAP_FLAG: u64 = 1 << 8;
/// `syscall`
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Injects into the threads of one process.
#[derive(Debug)]
pub struct Injector {
    pid: Pid,
    tail: Tail,
}

impl Injector {
    /// Looks for the room in process `pid`. Needs no stop.
    pub fn new(pid: Pid) -> Result<Self, InjectError> {
        let (tid, vdso) = vdso(pid)?;
        Ok(Self { pid, tail: Tail::find(pid, tid, vdso)? })
    }

    /// The same when it is known that the vdso of the process, whose first thread has not ended,
    /// is mapped at `vdso`.
    pub fn at(pid: Pid, vdso: AddrRange) -> Result<Self, InjectError> {
        Ok(Self { pid, tail: Tail::find(pid, pid.main_thread(), vdso)? })
    }

    /// How many threads may be injected into at the same time, at least one.
    pub fn threads_max(&self) -> usize {
        self.tail.slots_max()
    }

    /// Makes `thread`, which belongs to the process and is stopped by an interrupt or a group
    /// stop, ready to run batches, with `scratch_bytes` of memory for tables, arguments and
    /// results (rounded up to whole pages, at least 16 KiB).
    ///
    /// A thread with seccomp filters gets
    /// [`suspend_seccomp`](sys::ptrace::Options::suspend_seccomp) added to its options, and is
    /// refused when they would not let it find its way back without us.
    pub fn open<'t>(
        &'t self,
        thread: &'t mut StoppedThread,
        scratch_bytes: u64,
    ) -> Result<Injection<'t>, InjectError> {
        let mut injection = self.start(thread, None, scratch_bytes)?;
        injection.complete_enter()?;
        Ok(injection)
    }

    /// [`open`](Self::open) of several threads at the same time, at most
    /// [`threads_max`](Self::threads_max), each with its `/proc/PID/task/TID/status` as it is
    /// since the thread stopped, and the scratch memory it is to have.
    ///
    /// # Errors
    /// When one of them is refused or fails; all are put back then.
    pub fn open_each<'t>(
        &'t self,
        threads: impl IntoIterator<Item = (&'t mut StoppedThread, &'t sys::proc::Status, u64)>,
    ) -> Result<Vec<Injection<'t>>, InjectError> {
        let mut opened = Vec::new();
        for (thread, status, bytes) in threads {
            opened.push(self.start(thread, Some(status), bytes)?);
        }
        opened.iter_mut().try_for_each(Injection::complete_enter)?;
        Ok(opened)
    }

    /// Lets `thread` enter our code without waiting for it.
    fn start<'t>(
        &'t self,
        thread: &'t mut StoppedThread,
        status: Option<&sys::proc::Status>,
        scratch_bytes: u64,
    ) -> Result<Injection<'t>, InjectError> {
        let status = match status {
            Some(status) => Status::from(status),
            None => Status::of(self.pid, thread.tid())?,
        };
        let options = thread.options();
        let in_group_stop = matches!(thread.stop(), Stop::Group(_));
        let (runner, held, mask_inside) = match self.prepare(thread, &status) {
            Ok(prepared) => prepared,
            Err(error) => {
                if thread.options() != options {
                    thread.set_options(options)?;
                }
                return Err(error);
            }
        };
        let held = Held { options, in_group_stop, ..held };
        let mut injection = Injection::new(self, thread, runner, held);
        injection.start_enter(mask_inside, scratch_bytes.max(SCRATCH_BYTES_MIN))?;
        Ok(injection)
    }

    /// Lays down in the program how `thread` finds its way back. Nothing in the program runs it
    /// yet. Gives also the signal mask to work under.
    fn prepare(
        &self,
        thread: &mut StoppedThread,
        status: &Status,
    ) -> Result<(Runner, Held, u64), InjectError> {
        let regs = thread.regs()?;
        let mask = thread.sigmask()?;
        let filters = self.check(thread, &regs, status)?;
        let mut way_back = WayBack::to(&regs);
        if way_back.restarts {
            self.check_restart(thread, regs.rip)?;
        }
        if let Some(rip) = self.rseq_abort(thread, regs.rip)? {
            way_back = way_back.going_on_at(rip);
        }
        let signal = self.signal(&regs, status, mask)?;
        let mask_inside = if signal == 0 { u64::MAX } else { !bit(signal) };
        self.check_way_back(thread, &filters, signal, way_back.handler_ends_call)?;
        let data = slot_data(thread.tid().raw(), &way_back, mask, mask_inside);
        let slot = self.tail.claim(thread, data)?;
        let place = (self.tail.code(), *self.tail.blob());
        let mut runner = Runner::new((self.pid, thread.tid()), place, slot, signal, &regs);
        runner.filters = filters;
        let options = thread.options();
        Ok((runner, Held { way_back, mask, slot, options, in_group_stop: false }, mask_inside))
    }

    /// The thread is back from `slot`, which is free again.
    pub(crate) fn release(&self, thread: &StoppedThread, slot: u64) -> Result<(), InjectError> {
        self.tail.release(thread, slot)
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

    /// Refuses states in which our code would do harm. Gives the thread's seccomp filters, which
    /// are suspended.
    fn check(
        &self,
        thread: &mut StoppedThread,
        regs: &Regs,
        status: &Status,
    ) -> Result<Filters, InjectError> {
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
            0 => return Ok(Filters::default()),
            1 => return refused("it is in seccomp strict mode, which would kill it should we die"),
            _ if thread.options().suspend_seccomp => {}
            _ => thread.set_options(Options { suspend_seccomp: true, ..thread.options() })?,
        }
        let filters: Result<Vec<_>, _> = (0..)
            .map_while(|index| sys::seccomp::filter(thread, index).transpose())
            .map(|filter| filter.map(|filter| filter.program))
            .collect();
        let filters = filters.map_err(|source| PtraceError::Call {
            action: "read the seccomp filters of",
            tid,
            source,
        })?;
        Ok(Filters::new(filters))
    }

    /// Refuses a thread whose filters, in force again should we die, would end or keep it on its
    /// way back.
    fn check_way_back(
        &self,
        thread: &StoppedThread,
        filters: &Filters,
        signal: i32,
        handler_ends_call: bool,
    ) -> Result<(), InjectError> {
        let ids =
            [self.pid.raw(), thread.tid().raw(), signal].map(|id| u64::from(id.unsigned_abs()));
        let memory = self.tail.code();
        let report: &[(u32, [u64; 6])] = match signal {
            0 => &[(24, [0; 6]), (228, [1, memory, 0, 0, 0, 0])],
            _ => &[(39, [0; 6]), (186, [0; 6]), (234, [ids[0], ids[1], ids[2], 0, 0, 0])],
        };
        let handlers: &[(u32, [u64; 6])] =
            if handler_ends_call { &[(271, [0, 0, memory, memory, 8, 0])] } else { &[] };
        let always = [
            (14, [2, memory, 0, 8, 0, 0]),
            (9, [0, SCRATCH_BYTES_MIN, 3, 0x22, u64::MAX, 0]),
            (11, [memory, SCRATCH_BYTES_MIN, 0, 0, 0, 0]),
        ];
        let allowed =
            always.iter().chain(report).chain(handlers).all(|&(number, args)| {
                filters.allow(&CallData { number, instruction: memory, args })
            });
        if allowed {
            return Ok(());
        }
        let why = "its seccomp filters forbid a call by which it would find its way back should \
                   we die (mmap, munmap, rt_sigprocmask, ppoll, tgkill, sched_yield)";
        Err(InjectError::Refused { tid: thread.tid(), why })
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

    pub(crate) fn memory(&self, action: &'static str, source: io::Error) -> InjectError {
        InjectError::Memory { action, pid: self.pid, source }
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
