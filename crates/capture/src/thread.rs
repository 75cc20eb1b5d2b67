//! One thread, as far as it can be read from outside.

use std::io;

use process::{
    ChangeKind, GeneralRegisters, QueuedSignal, RobustList, Rseq, Scheduling, SignalSet, StateKind,
    Thread,
};
use sys::proc::Status;
use sys::ptrace::{SigInfo, StoppedThread};
use sys::sched::{SchedAttr, affinity, io_priority, sched_attr};
use sys::task::robust_list;

use crate::StateError;
use crate::findings::Findings;

/// The 64-bit code segment.
const CS_64: u64 = 0x33;

/// Reads a stopped thread with this `status`. What only the thread itself can tell is added by
/// `injected`, its pending signals by `pending`.
pub(crate) fn read(
    thread: &StoppedThread,
    status: &Status,
    findings: &mut Findings,
) -> Result<Thread, StateError> {
    let tid = thread.tid();
    let failed = |cause: io::Error| StateError::Thread { tid: tid.raw(), cause };
    let registers = thread.regs()?;
    if registers.cs != CS_64 {
        let object = format!("thread {tid}, which runs 32-bit code");
        findings.block(StateKind::Process, object, "only 64-bit programs can be worked on");
    }
    if thread.syscall_user_dispatch().is_ok_and(|dispatch| dispatch.mode != 0) {
        let object = format!("thread {tid}, whose system calls are dispatched to user space");
        findings.block(StateKind::Unknown, object, "run the program without it (prctl(2))");
    }
    if thread.has_io_ports()? {
        let object = format!("thread {tid}, which may use I/O ports (ioperm(2))");
        findings.block(StateKind::Unknown, object, "the program has to give them up");
    }
    if limits_speculation(status) {
        let what = format!("thread {tid}: its speculation controls are the default (prctl(2))");
        findings.change(ChangeKind::Placement, what);
    }
    let robust = robust_list(tid).map_err(failed)?;
    Ok(Thread {
        tid: status.ns_tid.last().copied().unwrap_or(status.tid),
        tid_outside: tid.raw(),
        registers: GeneralRegisters::from_words(registers.to_words()),
        xstate: thread.xstate()?,
        blocked_signals: SignalSet(thread.sigmask()?),
        robust_list: RobustList { head: robust.head.0, size_bytes: robust.head_bytes },
        rseq: thread.rseq()?.map(|rseq| Rseq {
            address: rseq.area.0,
            size_bytes: rseq.area_bytes,
            signature: rseq.signature,
            flags: rseq.flags,
        }),
        scheduling: scheduling(thread, findings).map_err(failed)?,
        seccomp_mode: status.seccomp_mode,
        no_new_privs: status.no_new_privs,
        ..Thread::default()
    })
}

/// Signals with all that the kernel keeps of them.
pub(crate) fn queued(signals: Vec<SigInfo>) -> Vec<QueuedSignal> {
    signals.into_iter().map(|info| QueuedSignal { siginfo: info.0 }).collect()
}

/// Whether the thread has asked for less speculation (`PR_SET_SPECULATION_CTRL`).
fn limits_speculation(status: &Status) -> bool {
    let (store, branch) = (&status.speculation_store_bypass, &status.speculation_indirect_branch);
    matches!(store.as_slice(), b"thread mitigated" | b"thread force mitigated")
        || matches!(branch.as_slice(), b"conditional disabled" | b"conditional force disabled")
}

/// Whether somebody has clamped the thread's utilisation (`SCHED_FLAG_UTIL_CLAMP`).
fn is_clamped(attr: &SchedAttr) -> bool {
    /// `SCHED_CAPACITY_SCALE`: no upper clamp, and the lower one of real-time threads.
    const FULL: u32 = 1024;
    let is_real_time = matches!(attr.policy, 1 | 2);
    match (attr.util_min, attr.util_max) {
        // Both are 0 in a kernel without clamps.
        (0, 0 | FULL) => false,
        (FULL, FULL) => !is_real_time,
        _ => true,
    }
}

fn scheduling(thread: &StoppedThread, findings: &mut Findings) -> io::Result<Scheduling> {
    let tid = thread.tid();
    let attr = sched_attr(tid)?;
    if is_clamped(&attr) {
        let what = format!("thread {tid}: its utilisation clamps are the default");
        findings.change(ChangeKind::Placement, what);
    }
    Ok(Scheduling {
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime_ns: attr.runtime_ns,
        deadline_ns: attr.deadline_ns,
        period_ns: attr.period_ns,
        affinity: affinity(tid)?,
        io_priority: io_priority(tid)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_of_speculation_are_told_from_what_the_host_does() {
        let with = |store: &str, branch: &str| {
            limits_speculation(&Status {
                speculation_store_bypass: store.into(),
                speculation_indirect_branch: branch.into(),
                ..Status::default()
            })
        };
        assert!(!with("vulnerable", "always enabled"));
        assert!(!with("thread vulnerable", "conditional enabled"));
        assert!(!with("globally mitigated", "always disabled"));
        assert!(with("thread force mitigated", "conditional enabled"));
        assert!(with("thread vulnerable", "conditional disabled"));
    }

    #[test]
    fn clamps_are_told_from_defaults() {
        let with = |policy, util_min, util_max| {
            is_clamped(&SchedAttr { policy, util_min, util_max, ..SchedAttr::default() })
        };
        for (policy, low, high) in [(0, 0, 0), (0, 0, 1024), (1, 1024, 1024), (2, 0, 1024)] {
            assert!(!with(policy, low, high), "{policy} {low} {high}");
        }
        for (policy, low, high) in [(0, 512, 1024), (0, 0, 512), (0, 1024, 1024), (1, 1024, 2)] {
            assert!(with(policy, low, high), "{policy} {low} {high}");
        }
    }
}
