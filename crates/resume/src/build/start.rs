//! Letting the built process go.

use std::io;

use process::TaskGroup;
use sys::ptrace::{Options, PtraceError, Regs, StoppedThread};
use sys::task::send_signal_to_thread;

use super::flags::give_id;
use super::made::{LetGo, Made};
use super::script::{Script, failed};
use super::slots::Slots;
use super::steps::{Half, Plan, no_thread};
use super::undo::Undo;
use super::{descriptions, finish, group, place, placement, terminal};
use crate::{Phase, ResumeError};

const PHASE: Phase = Phase::Start;

impl Half {
    /// Arms the timers, gives every thread its registers, and removes our code. What is left is to
    /// let the threads go.
    pub(crate) fn loosen(mut self, plan: &Plan<'_>) -> Result<Loose, ResumeError> {
        let slots = Slots::new(plan.request.instance, plan.group, plan.caller.highest_descriptor);
        let _pinned = self.pin();
        self.arm(plan, &slots)?;
        let threads = match self.give_registers(plan) {
            Ok(threads) => threads,
            Err(error) => {
                self.made.kill();
                return Err(error);
            }
        };
        let ids = threads.iter().map(StoppedThread::tid).zip(&plan.group.threads);
        self.changed.extend(placement::processors(ids, &plan.caller.scheduling));
        let Self { made, undo, changed, loaded_bytes, .. } = self;
        Ok(Loose { made, threads, undo, changed, loaded_bytes })
    }

    fn arm(&mut self, plan: &Plan<'_>, slots: &Slots) -> Result<(), ResumeError> {
        let files = plan.files(slots);
        let leader = self.hands.first_mut().ok_or_else(|| no_thread(PHASE))?;
        let mut script = Script::new(leader, PHASE);
        group::arm_timers(&mut script, plan.group)?;
        if files.takeover.is_none() {
            descriptions::arm_timers(&mut script, files, place::realtime_ns())?;
        }
        script.run()?;
        Ok(())
    }

    /// The leader is the last to leave our code, since it removes it.
    fn give_registers(&mut self, plan: &Plan<'_>) -> Result<Vec<StoppedThread>, ResumeError> {
        let registers = std::mem::take(&mut self.registers);
        let mut hands = std::mem::take(&mut self.hands).into_iter();
        let leader = hands.next().ok_or_else(|| no_thread(PHASE))?;
        let regs = registers.first().ok_or_else(|| no_thread(PHASE))?;
        let (mut stub, mut threads) = (leader.stub, Vec::new());
        give_id(&mut stub, &leader.desk, &self.room, regs)?;
        for (mut hand, regs) in hands.zip(registers.iter().skip(1)) {
            give_id(&mut hand.stub, &hand.desk, &self.room, regs)?;
            let thread = hand.stub.into_thread(regs);
            threads.push(thread.map_err(|e| failed(PHASE, "set the registers of a thread", e))?);
        }
        let instruction = finish::syscall_instruction(plan.space, stub.thread().tid())?;
        let whole = self.room.whole;
        let args = [whole.start.0, whole.len(), 0, 0, 0, 0];
        let unmapped = stub
            .call_at(mem::VirtAddr(instruction), libc::SYS_munmap, args)
            .map_err(|e| failed(PHASE, "remove our code", e))?;
        if unmapped != 0 {
            let cause = i32::try_from(-unmapped).map_or_else(io::Error::other, from_errno);
            return Err(ResumeError::Step { phase: PHASE, step: "remove our code".into(), cause });
        }
        let thread = stub.into_thread(regs);
        threads.insert(0, thread.map_err(|e| failed(PHASE, "set the registers", e))?);
        give_states(&threads, plan.group, &registers)?;
        Ok(threads)
    }
}

/// A process whose threads only have to be let go. Dropping it ends it; the process is dropped
/// before its threads, so that none is let go before it is dead.
pub(crate) struct Loose {
    pub(crate) made: Made,
    /// The leader first.
    pub(crate) threads: Vec<StoppedThread>,
    undo: Undo,
    pub(crate) changed: Vec<process::Change>,
    pub(crate) loaded_bytes: u64,
}

impl Loose {
    /// From here on our death does not end it: the kernel then lets its threads go as we do. In a
    /// namespace of its own that begins when the init is let go.
    pub(crate) fn unguard(&mut self) -> Result<(), ResumeError> {
        let mut threads = self.threads.iter_mut();
        let unguarded = threads.try_for_each(|t| t.set_options(Options::default()));
        unguarded.map_err(|error| {
            self.made.kill();
            traced("stop guarding", error)
        })
    }

    /// Lets it run.
    pub(crate) fn start(mut self, plan: &Plan<'_>) -> Result<Started, ResumeError> {
        self.unguard()?;
        self.go(plan, &|| ())
    }

    /// Lets it run, once our death does not end it any more. `freed` is called when the init is on
    /// its own, and no thread runs yet.
    pub(crate) fn go(self, plan: &Plan<'_>, freed: &dyn Fn()) -> Result<Started, ResumeError> {
        let terminal = terminal::hand_over(plan.group, self.made.pid, plan.request.options.detach);
        let Self { made, threads, mut undo, changed, loaded_bytes } = self;
        if plan.group.is_stopped {
            // Each takes its own before its first instruction; `SIGCONT` removes what is left.
            for thread in &threads {
                send_signal_to_thread(made.pid, thread.tid(), libc::SIGSTOP).map_err(|cause| {
                    let step = "stop it again".into();
                    ResumeError::Step { phase: PHASE, step, cause }
                })?;
            }
        }
        let let_go = made.let_go()?;
        freed();
        for thread in threads {
            match thread.detach(0) {
                // The first ones run already, and may have ended the process.
                Ok(()) | Err(PtraceError::Gone { .. }) => {}
                Err(error) => return Err(traced("let go", error)),
            }
        }
        undo.keep();
        Ok(Started { let_go, terminal, changed, loaded_bytes })
    }
}

/// What is left of a build when the program runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) let_go: LetGo,
    pub(crate) terminal: Option<terminal::Terminal>,
    pub(crate) changed: Vec<process::Change>,
    pub(crate) loaded_bytes: u64,
}

fn give_states(
    threads: &[StoppedThread],
    group: &TaskGroup,
    registers: &[Regs],
) -> Result<(), ResumeError> {
    for ((stopped, thread), regs) in threads.iter().zip(&group.threads).zip(registers) {
        finish::give_state(stopped, thread, regs)?;
    }
    Ok(())
}

fn from_errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

pub(crate) fn traced(step: &str, error: PtraceError) -> ResumeError {
    ResumeError::Step {
        phase: PHASE,
        step: format!("{step} a thread of the new process"),
        cause: io::Error::other(error),
    }
}
