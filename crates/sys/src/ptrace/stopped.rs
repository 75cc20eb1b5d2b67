//! A thread in a ptrace stop: all that can be read and changed.

use std::time::Instant;

use mem::VirtAddr;

use super::{
    Options, PtraceError, Regs, Resume, SIGINFO_BYTES, SigInfo, SignalQueue, Stop, Traced, raw,
};
use crate::task::Tid;

const NT_X86_XSTATE: i32 = 0x202;
const NT_386_IOPERM: i32 = 0x201;
/// A bit for each of 65536 ports.
const IO_BITMAP_BYTES: usize = 8192;
/// Larger than any XSAVE area there is (AMX: 11 KB).
const XSTATE_BYTES_MAX: usize = 64 * 1024;
const XSTATE_BYTES_USUAL: usize = 4 * 1024;
const SIGINFO_BATCH: usize = 32;

/// A seized thread that is stopped. Dropping it lets it run on ([`Traced`]).
#[derive(Debug)]
pub struct StoppedThread {
    traced: Traced,
    stop: Stop,
}

/// A thread's restartable-sequence area (`PTRACE_GET_RSEQ_CONFIGURATION`, Linux 5.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RseqConfig {
    /// Address of its `struct rseq`.
    pub area: VirtAddr,
    /// Size it was registered with, in bytes.
    pub area_bytes: u32,
    /// The word before every abort handler.
    pub signature: u32,
    /// Flags of the registration.
    pub flags: u32,
}

/// A thread's system-call dispatch to user space
/// (`PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`, Linux 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SyscallUserDispatch {
    /// 0: off, 1: on.
    pub mode: u64,
    /// Address of the selector byte.
    pub selector: u64,
    /// Start of the code that is exempt.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl StoppedThread {
    pub(super) const fn new(traced: Traced, stop: Stop) -> Self {
        Self { traced, stop }
    }

    /// The thread.
    pub const fn tid(&self) -> Tid {
        self.traced.tid()
    }

    /// The stop it is in: the last one reported.
    pub const fn stop(&self) -> Stop {
        self.stop
    }

    /// The general registers.
    pub fn regs(&self) -> Result<Regs, PtraceError> {
        self.traced.regs()
    }

    /// Sets all general registers, `orig_rax` and the segment bases included.
    pub fn set_regs(&self, regs: &Regs) -> Result<(), PtraceError> {
        self.traced.set_regs(regs)
    }

    /// The floating-point, vector and other extended state: the XSAVE area in standard format,
    /// as long as this processor makes it (832 bytes with AVX, 2.7 KB with AVX-512).
    pub fn xstate(&self) -> Result<Vec<u8>, PtraceError> {
        // Without AMX it is short; what fills the buffer may be longer.
        for room in [XSTATE_BYTES_USUAL, XSTATE_BYTES_MAX] {
            let mut bytes = vec![0; room];
            let action = "read vector state of";
            let got = raw::get_regset(action, self.tid(), NT_X86_XSTATE, &mut bytes)?;
            if got < room || room == XSTATE_BYTES_MAX {
                bytes.truncate(got);
                return Ok(bytes);
            }
        }
        Ok(Vec::new())
    }

    /// Whether it has permissions for I/O ports of its own (ioperm(2)); those of iopl(2) show
    /// nowhere.
    pub fn has_io_ports(&self) -> Result<bool, PtraceError> {
        let mut bitmap = vec![0; IO_BITMAP_BYTES];
        let action = "read I/O permissions of";
        match raw::get_regset(action, self.tid(), NT_386_IOPERM, &mut bitmap) {
            Ok(_) => Ok(true),
            // It has none, or the kernel knows of none.
            Err(error) if error.is_without_registers() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets the extended state from a whole XSAVE area of this processor's length.
    pub fn set_xstate(&self, area: &[u8]) -> Result<(), PtraceError> {
        raw::set_regset("set vector state of", self.tid(), NT_X86_XSTATE, area)
    }

    /// The thread's own signal mask, bit `n - 1` for signal `n`. Inside `sigsuspend`, `ppoll` and
    /// the like that is the mask to return to, not the temporary one (`SigBlk` in
    /// `/proc/PID/status` shows the latter).
    pub fn sigmask(&self) -> Result<u64, PtraceError> {
        let mut mask = 0_u64;
        // SAFETY: the kernel writes eight bytes, the size passed, to a live u64.
        unsafe {
            raw::request_at("read signal mask of", raw::GETSIGMASK, self.tid(), 8, &raw mut mask)?;
        }
        Ok(mask)
    }

    /// Sets the signal mask, and forgets a mask that was to be returned to.
    pub fn set_sigmask(&self, mask: u64) -> Result<(), PtraceError> {
        let mut mask = mask;
        // SAFETY: the kernel reads eight bytes, the size passed, from a live u64.
        unsafe {
            raw::request_at("set signal mask of", raw::SETSIGMASK, self.tid(), 8, &raw mut mask)?;
        }
        Ok(())
    }

    /// The signals pending in `queue`, oldest first, without taking them (`PTRACE_PEEKSIGINFO`).
    pub fn pending_signals(&self, queue: SignalQueue) -> Result<Vec<SigInfo>, PtraceError> {
        let flags = match queue {
            SignalQueue::Thread => 0,
            SignalQueue::Process => libc::PTRACE_PEEKSIGINFO_SHARED,
        };
        let mut all = Vec::new();
        loop {
            let mut batch = [[0_u8; SIGINFO_BYTES]; SIGINFO_BATCH];
            let mut args = PeekSigInfoArgs { offset: all.len() as u64, flags, count: 32 };
            let args_at = (&raw mut args).addr() as u64;
            // SAFETY: `args` (by address) lives across the call; the kernel writes at most
            // `args.count` siginfos of SIGINFO_BYTES to `batch`, which has room for as many.
            let got = unsafe {
                raw::request_at(
                    "read queued signals of",
                    libc::PTRACE_PEEKSIGINFO as libc::c_uint,
                    self.tid(),
                    args_at,
                    batch.as_mut_ptr(),
                )?
            };
            let got = usize::try_from(got).unwrap_or(0).min(SIGINFO_BATCH);
            all.extend(batch.iter().take(got).map(|info| SigInfo(*info)));
            if got < SIGINFO_BATCH {
                return Ok(all);
            }
        }
    }

    /// The thread's restartable-sequence area, or `None` when it registered none.
    pub fn rseq(&self) -> Result<Option<RseqConfig>, PtraceError> {
        let mut raw_config = RawRseqConfig::default();
        // SAFETY: the kernel writes at most the size passed to a live struct of that size.
        unsafe {
            raw::request_at(
                "read the rseq area of",
                raw::GET_RSEQ_CONFIGURATION,
                self.tid(),
                size_of::<RawRseqConfig>() as u64,
                &raw mut raw_config,
            )?;
        }
        Ok((raw_config.pointer != 0).then_some(RseqConfig {
            area: VirtAddr(raw_config.pointer),
            area_bytes: raw_config.size,
            signature: raw_config.signature,
            flags: raw_config.flags,
        }))
    }

    /// Whether and how the thread's system calls are dispatched to user space.
    pub fn syscall_user_dispatch(&self) -> Result<SyscallUserDispatch, PtraceError> {
        let mut config = SyscallUserDispatch::default();
        // SAFETY: the kernel writes the size passed, four words, to a live struct of that size.
        unsafe {
            raw::request_at(
                "read the system call dispatch of",
                raw::GET_SYSCALL_USER_DISPATCH,
                self.tid(),
                size_of::<SyscallUserDispatch>() as u64,
                &raw mut config,
            )?;
        }
        Ok(config)
    }

    /// Where the thread is in a system call, if it is stopped there
    /// (`PTRACE_GET_SYSCALL_INFO`, Linux 5.3).
    pub fn syscall_info(&self) -> Result<libc::ptrace_syscall_info, PtraceError> {
        // SAFETY: ptrace_syscall_info is plain integers in a union; all-zero is valid.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes at most the size passed to a live struct of that size.
        unsafe {
            raw::request_at(
                "read the system call of",
                libc::PTRACE_GET_SYSCALL_INFO,
                self.tid(),
                size_of::<libc::ptrace_syscall_info>() as u64,
                &raw mut info,
            )?;
        }
        Ok(info)
    }

    /// The siginfo of the signal it is about to receive.
    pub fn siginfo(&self) -> Result<SigInfo, PtraceError> {
        let mut info = SigInfo([0; SIGINFO_BYTES]);
        // SAFETY: the kernel writes one siginfo of SIGINFO_BYTES to a live array of that size.
        unsafe {
            raw::request_at(
                "read the signal of",
                libc::PTRACE_GETSIGINFO,
                self.tid(),
                0,
                info.0.as_mut_ptr(),
            )?;
        }
        Ok(info)
    }

    /// The message of the event it is stopped at: the new thread's number after
    /// [`Event::Clone`](super::Event::Clone), in the tracer's pid namespace.
    pub fn event_message(&self) -> Result<u64, PtraceError> {
        let mut message = 0_u64;
        // SAFETY: the kernel writes one word to a live u64.
        unsafe {
            raw::request_at(
                "read the event of",
                libc::PTRACE_GETEVENTMSG,
                self.tid(),
                0,
                &raw mut message,
            )?;
        }
        Ok(message)
    }

    /// The options in force.
    pub const fn options(&self) -> Options {
        self.traced.options()
    }

    /// Replaces the options.
    pub fn set_options(&mut self, options: Options) -> Result<(), PtraceError> {
        self.traced.set_options(options)
    }

    /// Writes one word to the thread's memory, whatever the protection of the mapping; a private
    /// mapping gets its own copy of the page (`PTRACE_POKEDATA`).
    pub fn poke(&self, addr: VirtAddr, word: u64) -> Result<(), PtraceError> {
        raw::request("write memory of", libc::PTRACE_POKEDATA, self.tid(), addr.0, word).map(drop)
    }

    /// Does not hand the thread the signal it is stopped for ([`Stop::Signal`]) when it is dropped.
    pub const fn discard_signal(&mut self) {
        self.traced.discard_signal();
    }

    /// Lets it go on as `how` says, and waits for the next stop, at most to `deadline`. When this
    /// fails the thread is running (or gone), and asking it anything fails.
    pub fn resume_and_wait(&mut self, how: Resume, deadline: Instant) -> Result<Stop, PtraceError> {
        self.resume(how)?;
        self.wait(deadline)
    }

    /// Lets it go on without waiting; until [`wait`](Self::wait) has returned a stop, asking it
    /// anything fails.
    pub fn resume(&mut self, how: Resume) -> Result<(), PtraceError> {
        self.traced.resume(how)
    }

    /// Asks it to stop again after [`resume`](Self::resume).
    pub fn interrupt(&self) -> Result<(), PtraceError> {
        self.traced.interrupt()
    }

    /// Waits for the next stop after [`resume`](Self::resume), at most to `deadline`. An end of
    /// the thread is an error here.
    pub fn wait(&mut self, deadline: Instant) -> Result<Stop, PtraceError> {
        let stop = self.traced.wait(deadline)?;
        self.stopped_by(stop)
    }

    /// The next stop after [`resume`](Self::resume) if it has happened already.
    pub fn try_wait(&mut self) -> Result<Option<Stop>, PtraceError> {
        match self.traced.try_wait()? {
            Some(stop) => self.stopped_by(stop).map(Some),
            None => Ok(None),
        }
    }

    /// Lets it go on as `how` says, still traced.
    pub fn into_running(mut self, how: Resume) -> Result<Traced, PtraceError> {
        self.traced.resume(how)?;
        Ok(self.traced)
    }

    /// Lets it go for good, receiving `signal` (0: none). A process that is stopped by a signal
    /// stays so.
    pub fn detach(mut self, signal: i32) -> Result<(), PtraceError> {
        self.traced.detach(signal)
    }

    fn stopped_by(&mut self, stop: Stop) -> Result<Stop, PtraceError> {
        self.stop = stop;
        if stop.is_end() {
            return Err(PtraceError::Ended { tid: self.tid(), how: stop });
        }
        Ok(stop)
    }
}

/// `struct ptrace_peeksiginfo_args`.
#[repr(C)]
struct PeekSigInfoArgs {
    offset: u64,
    flags: u32,
    count: i32,
}

/// `struct ptrace_rseq_configuration`.
#[derive(Default)]
#[repr(C)]
struct RawRseqConfig {
    pointer: u64,
    size: u32,
    signature: u32,
    flags: u32,
    padding: u32,
}
