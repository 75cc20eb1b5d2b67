//! Threads.

use crate::{QueuedSignal, SignalSet};

/// One thread, as it stood at the freeze.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// The thread id as the instance sees it.
    pub tid: i32,
    /// The thread id in the namespace of whoever captured it.
    pub tid_outside: i32,
    /// The name (`comm`), at most 15 bytes.
    pub name: Vec<u8>,
    /// The general registers, exactly as `PTRACE_GETREGSET`/`NT_PRSTATUS` gave them, before any
    /// adjustment for system call restart.
    pub registers: GeneralRegisters,
    /// The extended state, exactly as `PTRACE_GETREGSET`/`NT_X86_XSTATE` gave it (the
    /// non-compacted XSAVE layout; its length depends on the CPU).
    pub xstate: Vec<u8>,
    /// Blocked signals (`PTRACE_GETSIGMASK`; inside sigsuspend and its kin the mask that the
    /// call will put back).
    pub blocked_signals: SignalSet,
    /// Signals that wait for this thread, oldest first.
    pub pending_signals: Vec<QueuedSignal>,
    /// sigaltstack(2).
    pub alternate_stack: AlternateStack,
    /// get_robust_list(2).
    pub robust_list: RobustList,
    /// The rseq registration, or `None`.
    pub rseq: Option<Rseq>,
    /// What `PR_GET_TID_ADDRESS` gave: where the kernel clears and wakes at thread exit.
    pub clear_child_tid: u64,
    /// Policy, priority, affinity.
    pub scheduling: Scheduling,
    /// Timer slack in nanoseconds (`PR_GET_TIMERSLACK`).
    pub timer_slack_ns: u64,
    /// Seccomp mode: 0 none, 2 filter; strict mode is a blocker.
    pub seccomp_mode: u32,
    /// `no_new_privs` of this thread.
    pub no_new_privs: bool,
}

/// `struct user_regs_struct` of x86-64.
#[expect(missing_docs, reason = "the names are the registers' own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeneralRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl GeneralRegisters {
    /// The registers in the order of `struct user_regs_struct`.
    pub fn to_words(self) -> [u64; 27] {
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            self.cs,
            self.eflags,
            self.rsp,
            self.ss,
            self.fs_base,
            self.gs_base,
            self.ds,
            self.es,
            self.fs,
            self.gs,
        ]
    }

    /// The registers from words in the order of `struct user_regs_struct`.
    pub fn from_words(words: [u64; 27]) -> Self {
        let [
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        ] = words;
        Self {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        }
    }
}

/// sigaltstack(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    /// `ss_sp`.
    pub base: u64,
    /// `ss_flags` (`SS_DISABLE` is 2, `SS_AUTODISARM` is 1 << 31). `SS_ONSTACK` is a state, not
    /// a setting, and follows from the stack pointer.
    pub flags: u32,
    /// `ss_size` in bytes.
    pub size_bytes: u64,
}

/// get_robust_list(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RobustList {
    /// Address of the list head; 0 is none.
    pub head: u64,
    /// Size of the head in bytes; 24 on x86-64.
    pub size_bytes: u64,
}

/// The rseq registration, `PTRACE_GET_RSEQ_CONFIGURATION` (Linux >= 5.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rseq {
    /// Address of `struct rseq`.
    pub address: u64,
    /// Its registered size in bytes.
    pub size_bytes: u32,
    /// The signature that stands before abort handlers.
    pub signature: u32,
    /// Flags of the registration.
    pub flags: u32,
}

/// Scheduling of a thread: sched_getattr(2), sched_getaffinity(2), ioprio_get(2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_OTHER` 0, `SCHED_FIFO` 1, `SCHED_RR` 2, `SCHED_BATCH` 3, `SCHED_IDLE` 5,
    /// `SCHED_DEADLINE` 6.
    pub policy: u32,
    /// `sched_flags`, `SCHED_FLAG_RESET_ON_FORK` is 1.
    pub flags: u64,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Static priority, 1 to 99 for the real-time policies.
    pub priority: u32,
    /// `SCHED_DEADLINE` runtime in nanoseconds; also the slice of `SCHED_OTHER` where set.
    pub runtime_ns: u64,
    /// `SCHED_DEADLINE` deadline in nanoseconds.
    pub deadline_ns: u64,
    /// `SCHED_DEADLINE` period in nanoseconds.
    pub period_ns: u64,
    /// The CPUs allowed, one bit each, 64 to a word.
    pub affinity: Vec<u64>,
    /// ioprio_get(2) as one word; 0 is none.
    pub io_priority: u32,
}
