//! The clone comes into being: what the pause knows of a rehearsal.

use std::time::{Duration, Instant};

use inject::{Arg, Batch, CallId, Injection, Injector, Undo, call_at};
use mem::VirtAddr;
use process::{Instance, TaskGroup};
use sys::ptrace::{Options, Resume, Stop, StoppedThread};
use sys::remote;
use target::Frozen;

use crate::RehearseError;
use crate::life::Life;

const SCRATCH_BYTES: u64 = 16 * 1024;
/// How long a thread may take for the step from one stop to the next.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// `syscall`
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A clone of a frozen instance, stopped: its memory, copied as it is written, and one thread.
/// Nothing of it has run. It is a child of the host's (or container's) first process, not of the
/// instance, so that nobody of the instance's ever sees or has to wait for it.
///
/// It ends when this is dropped, and when we end.
#[derive(Debug)]
pub struct Fork {
    pub(crate) life: Life,
    pub(crate) thread: StoppedThread,
    /// Where a `syscall` instruction stands in its memory.
    pub(crate) instruction: VirtAddr,
    took: Duration,
}

impl Fork {
    /// Forks the `frozen` instance. It stays frozen, and is as it was.
    ///
    /// The instance forks a child, which is without the memory that our code works in (a child
    /// that is let go by our death ends at its first instruction); the child closes all of its
    /// descriptors, makes a second process that shares its memory, and ends; the instance takes
    /// its end. What is left is the second process, which the first process of the namespace
    /// adopts.
    ///
    /// # Errors
    /// When the instance is of a kind that cannot be forked so, or the kernel refuses.
    pub fn take(frozen: &mut Frozen<'_>, instance: &Instance) -> Result<Self, RehearseError> {
        let begun = Instant::now();
        let group = fit(instance)?;
        let vdso = vdso(instance, group).ok_or_else(|| unfit("it has no vdso"))?;
        let injector = Injector::at(frozen.process().pid(), vdso)?;
        let leader = frozen.leader_mut();
        let options = leader.options();
        leader.set_options(Options { trace_clone: true, ..options })?;
        let forked = fork(&injector, leader, group.child_subreaper);
        let restored = leader.set_options(options);
        let mut forked = forked?;
        restored?;
        forked.took = begun.elapsed();
        Ok(forked)
    }

    /// Its number in our pid namespace, which stays its own while this lives: its memory is that of the
    /// instance at the fork.
    pub fn pid(&self) -> i32 {
        self.life.pid.raw()
    }

    /// How long it took: what the pause is longer by.
    pub fn took(&self) -> Duration {
        self.took
    }
}

/// The one task group of an instance that can be rehearsed.
pub(crate) fn fit(instance: &Instance) -> Result<&TaskGroup, RehearseError> {
    let [group] = instance.groups.as_slice() else {
        return Err(unfit("it is more than one process"));
    };
    if group.pid == 1 {
        return Err(unfit("it is the first process of its pid namespace, which adopts orphans"));
    }
    Ok(group)
}

pub(crate) fn unfit(why: &str) -> RehearseError {
    RehearseError::Unfit(why.to_owned())
}

fn vdso(instance: &Instance, group: &TaskGroup) -> Option<mem::AddrRange> {
    let space = instance.spaces.get(usize::try_from(group.space.0).ok()?)?;
    space.vdso()
}

/// `leader` may be injected into and reports children. They are gone when this fails.
fn fork(
    injector: &Injector,
    leader: &mut StoppedThread,
    adopts: bool,
) -> Result<Fork, RehearseError> {
    stop_again(leader)?;
    let mut injection = injector.open(leader, SCRATCH_BYTES)?;
    injection.keep_from_children()?;
    if adopts {
        // Not this orphan. It has no children, or there would be no freeze, and it gets none
        // before it adopts again.
        let mut batch = Batch::new();
        let adopt = |on: u64| [libc::PR_SET_CHILD_SUBREAPER.into(), on.into()];
        let again = Undo::new(libc::SYS_prctl, &adopt(1));
        batch.require_with_undo(libc::SYS_prctl, &adopt(0), again);
        injection.run(&batch)?;
    }
    // The first child ends before the injection does: the instance takes its end, which nobody
    // else is told of (no signal), when the injection is finished, by whomever.
    let made = first_child(&mut injection);
    let made = made.and_then(|(life, mut child)| {
        let orphan = orphan(&mut child);
        let ended = life.end(&mut child);
        let orphan = orphan?;
        ended.map(|()| orphan)
    });
    injection.finish()?;
    made
}

/// A thread that has been injected into in the same freeze stands where it reported, on the way out
/// of the kernel. It takes one more step there, and stands as it was first stopped.
fn stop_again(leader: &mut StoppedThread) -> Result<(), RehearseError> {
    if !matches!(leader.stop(), Stop::Interrupt | Stop::Group(_)) {
        leader.interrupt()?;
        leader.resume_and_wait(Resume::Continue(0), Instant::now() + STOP_LIMIT)?;
    }
    Ok(())
}

/// The instance's child, stopped at its first instruction.
fn first_child(injection: &mut Injection<'_>) -> Result<(Life, StoppedThread), RehearseError> {
    let mut batch = Batch::new();
    let take_its_end = Undo::new(
        libc::SYS_wait4,
        &[Arg::Result(CallId::OWN), 0_u64.into(), libc::__WALL.into(), 0_u64.into()],
    );
    // Without a signal at its end and without anything shared.
    batch.require_with_undo(libc::SYS_clone, &[], take_its_end);
    let run = injection.run(&batch);
    let mut child = injection.new_children().pop();
    let held = child.as_ref().map(Life::of).transpose();
    run?;
    match (held?, child.take()) {
        (Some(life), Some(mut child)) => {
            let options = Options { exit_kill: true, ..child.options() };
            if let Err(error) = child.set_options(options) {
                let _ = life.end(&mut child);
                return Err(error.into());
            }
            Ok((life, child))
        }
        _ => Err(unfit("the kernel did not report its child")),
    }
}

/// The second process, which has the memory and the (empty) descriptor table of `child`.
fn orphan(child: &mut StoppedThread) -> Result<Fork, RehearseError> {
    let regs = child.regs()?;
    let instruction = VirtAddr(regs.rip.wrapping_sub(2));
    let mut code = [0; 2];
    remote::read_exact(child.tid(), instruction, &mut code)
        .map_err(RehearseError::io("read the clone's code"))?;
    if code != SYSCALL {
        return Err(unfit("its clone does not stand behind a system call"));
    }
    let all = u64::from(u32::MAX);
    let (closed, _) =
        call_at(child, &regs, instruction, libc::SYS_close_range, [0, all, 0, 0, 0, 0])?;
    RehearseError::check("close the clone's descriptors", closed)?;
    let flags = u64::from((libc::CLONE_VM | libc::CLONE_FILES).unsigned_abs());
    let (made, new) = call_at(child, &regs, instruction, libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    let Some(thread) = new else {
        RehearseError::check("make the clone", made)?;
        return Err(unfit("the kernel did not report its clone"));
    };
    let life = Life::of(&thread)?;
    // Best before all others when memory runs out. Its memory is not the instance's.
    let path = format!("/proc/{}/oom_score_adj", life.pid);
    std::fs::write(path, "1000").map_err(RehearseError::io("make the clone expendable"))?;
    Ok(Fork { life, thread, instruction, took: Duration::ZERO })
}
