//! The last of the state: limits, signals, credentials, registers.

use std::io;

use inject::{Arg, regs_with_original_call, rseq_abort};
use mem::VirtAddr;
use process::{AddressSpace, TaskGroup, Thread};
use sys::ptrace::{Regs, StoppedThread};
use sys::remote;
use sys::task::Tid;

use super::script::Script;
use crate::{Phase, ResumeError};

/// The bytes of a `syscall` instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Everything of the process that needs our own privileges or must come late, but for
/// credentials.
pub(super) fn group(
    script: &mut Script<'_>,
    group: &TaskGroup,
    space: &AddressSpace,
) -> Result<(), ResumeError> {
    for signal in &group.pending_signals {
        let info = script.bytes(&signal.siginfo);
        let number = signal.signal();
        let args: [Arg; 3] = [group.pid.into(), number.into(), info.into()];
        script.call(format!("queue signal {number}"), libc::SYS_rt_sigqueueinfo, &args);
        script.flush()?;
    }
    let personality = u64::from(group.personality);
    script.call("set the personality", libc::SYS_personality, &[personality.into()]);
    switch(script, "child subreaper", libc::PR_SET_CHILD_SUBREAPER, group.child_subreaper);
    switch(script, "huge page", libc::PR_SET_THP_DISABLE, group.thp_disable);
    if space.lock_future {
        let on_fault = if space.lock_future_on_fault { libc::MCL_ONFAULT } else { 0 };
        let args: [Arg; 1] = [(libc::MCL_FUTURE | on_fault).into()];
        script.call("lock memory to come", libc::SYS_mlockall, &args);
    }
    for (resource, (soft, hard)) in (0_u64..).zip(&group.rlimits) {
        let limit = script.words(&[*soft, *hard]);
        let args: [Arg; 4] = [0_u64.into(), resource.into(), limit.into(), 0_u64.into()];
        let step = format!("set resource limit {resource} (CAP_SYS_RESOURCE)");
        script.call(step, libc::SYS_prlimit64, &args);
    }
    script.flush()
}

fn switch(script: &mut Script<'_>, name: &str, option: i32, on: bool) {
    let option = u64::from(option.unsigned_abs());
    let args: [Arg; 5] =
        [option.into(), u64::from(on).into(), 0_u64.into(), 0_u64.into(), 0_u64.into()];
    script.call(format!("set the {name} mode"), libc::SYS_prctl, &args);
}

/// What a change of credentials takes away, so that it comes after them.
pub(super) fn after_credentials(
    script: &mut Script<'_>,
    group: &TaskGroup,
    death_signal: i32,
) -> Result<(), ResumeError> {
    let option = u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs());
    let args: [Arg; 2] = [option.into(), death_signal.into()];
    script.call("set the parent death signal", libc::SYS_prctl, &args);
    if group.dumpable <= 1 {
        let option = u64::from(libc::PR_SET_DUMPABLE.unsigned_abs());
        let args: [Arg; 2] = [option.into(), u64::from(group.dumpable).into()];
        script.call("set dumpable", libc::SYS_prctl, &args);
    }
    script.flush()
}

/// The registers with which a new thread goes on, given what its memory says of rseq. To be
/// asked before rseq is registered, which forgets where the thread was.
pub(super) fn registers(thread: &Thread, tid: Tid) -> Result<Regs, ResumeError> {
    let then = Regs::from_words(thread.registers.to_words());
    let mut regs = regs_with_original_call(&then, |at, buffer| {
        remote::read_exact(tid, VirtAddr(at), buffer).is_ok()
    });
    if let Some(rseq) = thread.rseq {
        const RSEQ_CS_AT: u64 = 8;
        let read = |at: u64, buffer: &mut [u8]| {
            remote::read_exact(tid, VirtAddr(at), buffer).map_err(|cause| ResumeError::Step {
                phase: Phase::Finish,
                step: format!("read the rseq area of thread {}", thread.tid),
                cause,
            })
        };
        let mut pointer = [0; 8];
        read(rseq.address + RSEQ_CS_AT, &mut pointer)?;
        let at = u64::from_le_bytes(pointer);
        if at != 0 {
            let mut section = [0; 32];
            read(at, &mut section)?;
            if let Some(handler) = rseq_abort(regs.rip, &section) {
                regs.rip = handler;
            }
        }
    }
    Ok(regs)
}

/// Gives a stopped thread its extended state and signal mask, and looks whether the kernel took
/// everything.
pub(super) fn give_state(
    stopped: &StoppedThread,
    thread: &Thread,
    regs: &Regs,
) -> Result<(), ResumeError> {
    let failed = |step: &str, cause: io::Error| ResumeError::Step {
        phase: Phase::Start,
        step: format!("{step} of thread {}", thread.tid),
        cause,
    };
    let other = |step: &'static str| move |e| failed(step, io::Error::other(e));
    let length = stopped.xstate().map_err(other("read the vector state"))?.len();
    let mut area = thread.xstate.clone();
    // Components that only one of the two processors has are not in use: the check made sure.
    area.resize(length, 0);
    stopped.set_xstate(&area).map_err(other("set the vector state"))?;
    stopped.set_sigmask(thread.blocked_signals.0).map_err(other("set the signal mask"))?;
    let got = stopped.regs().map_err(other("read the registers"))?;
    if got != *regs {
        let cause = io::Error::other(format!("the kernel took {got:x?} for {regs:x?}"));
        return Err(failed("set the registers", cause));
    }
    let mask = stopped.sigmask().map_err(other("read the signal mask"))?;
    if mask != thread.blocked_signals.0 {
        let cause = io::Error::other(format!("{mask:#x} is not {:#x}", thread.blocked_signals.0));
        return Err(failed("set the signal mask", cause));
    }
    Ok(())
}

/// A `syscall` instruction in the new process's vdso.
pub(crate) fn syscall_instruction(space: &AddressSpace, tid: Tid) -> Result<u64, ResumeError> {
    let failed = |cause| ResumeError::Step {
        phase: Phase::Start,
        step: "find a system call instruction in the vdso".to_owned(),
        cause,
    };
    let vdso = space.vdso().ok_or_else(|| failed(io::Error::other("the instance has no vdso")))?;
    let mut bytes = vec![0; usize::try_from(vdso.len()).unwrap_or_default()];
    remote::read_exact(tid, vdso.start, &mut bytes).map_err(failed)?;
    let at = bytes.windows(2).position(|pair| pair == SYSCALL);
    let at = at.ok_or_else(|| failed(io::Error::other("there is none")))?;
    Ok(vdso.start.0 + at as u64)
}
