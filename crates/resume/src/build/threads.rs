//! Threads, and what belongs to each of them.

use inject::Arg;
use process::{Scheduling, TaskGroup, Thread};
use sys::sched::SchedAttr;

use super::made::Made;
use super::room::Room;
use super::script::{Hand, Script, failed};
use crate::caller::OwnScheduling;
use crate::{Phase, ResumeError};

const PHASE: Phase = Phase::Threads;
/// Threads made in one run.
const THREADS_AT_ONCE: usize = 256;

/// Makes every thread but the leader under its own id; each is stopped in our code.
pub(super) fn make(
    leader: &mut Hand,
    made: &mut Made,
    group: &TaskGroup,
    room: &Room,
) -> Result<Vec<Hand>, ResumeError> {
    let mut hands = Vec::new();
    let wanted: Vec<_> = group.threads.iter().skip(1).zip(&room.others).collect();
    for some in wanted.chunks(THREADS_AT_ONCE) {
        let mut script = Script::new(leader, PHASE);
        for (thread, _) in some {
            clone(&mut script, thread.tid);
        }
        let result = script.run();
        let new = leader.stub.new_threads();
        made.tids.extend(new.iter().map(sys::ptrace::StoppedThread::tid));
        if let Err(error) = result {
            let missing = some.get(new.len()).map_or(0, |(thread, _)| thread.tid);
            return Err(taken(error, missing));
        }
        for (stopped, &(thread, desk)) in new.into_iter().zip(some) {
            let stub = leader
                .stub
                .open_sibling(stopped, desk.tables)
                .map_err(|e| failed(PHASE, &format!("take over thread {}", thread.tid), e))?;
            hands.push(Hand { stub, desk: *desk });
        }
    }
    if hands.len() + 1 != group.threads.len() {
        let cause = std::io::Error::other("the kernel reported too few new threads");
        return Err(ResumeError::Step { phase: PHASE, step: "make threads".into(), cause });
    }
    Ok(hands)
}

fn clone(script: &mut Script<'_>, tid: i32) {
    let set_tid = script.bytes(&tid.to_le_bytes());
    let mut words = [0; 11];
    words[0] = sys::clone::THREAD_FLAGS;
    (words[8], words[9]) = (set_tid, 1);
    let at = script.words(&words);
    let args: [Arg; 2] = [at.into(), (size_of_val(&words) as u64).into()];
    script.call(format!("make thread {tid}"), libc::SYS_clone3, &args);
}

fn taken(error: ResumeError, pid: i32) -> ResumeError {
    match error {
        ResumeError::Step { cause, .. } if cause.raw_os_error() == Some(libc::EEXIST) => {
            ResumeError::PidTaken { pid }
        }
        other => other,
    }
}

/// Everything of a thread that does not need its final memory map, registers or credentials.
/// Its memory must be loaded: the kernel writes to its rseq area.
pub(super) fn settle(
    script: &mut Script<'_>,
    group: &TaskGroup,
    thread: &Thread,
    own: &OwnScheduling,
) -> Result<(), ResumeError> {
    let tid = thread.tid;
    let at = thread.clear_child_tid;
    script.call(
        format!("set the tid address of thread {tid}"),
        libc::SYS_set_tid_address,
        &[at.into()],
    );
    if thread.robust_list.head != 0 {
        let list = thread.robust_list;
        let args: [Arg; 2] = [list.head.into(), list.size_bytes.into()];
        let step = format!("set the robust list of thread {tid}");
        script.call(step, libc::SYS_set_robust_list, &args);
    }
    if let Some(rseq) = thread.rseq {
        let args: [Arg; 4] = [
            rseq.address.into(),
            u64::from(rseq.size_bytes).into(),
            u64::from(rseq.flags).into(),
            u64::from(rseq.signature).into(),
        ];
        script.call(format!("register rseq of thread {tid}"), libc::SYS_rseq, &args);
    }
    alternate_stack(script, thread);
    let name = script.text(&thread.name);
    let option = u64::from(libc::PR_SET_NAME.unsigned_abs());
    let step = format!("name thread {tid}");
    script.call(step, libc::SYS_prctl, &[option.into(), name.into()]);
    if thread.timer_slack_ns != 0 {
        let option = u64::from(libc::PR_SET_TIMERSLACK.unsigned_abs());
        let step = format!("set the timer slack of thread {tid}");
        script.call(step, libc::SYS_prctl, &[option.into(), thread.timer_slack_ns.into()]);
    }
    schedule(script, tid, &thread.scheduling, own);
    for signal in &thread.pending_signals {
        let info = script.bytes(&signal.siginfo);
        let (pid, number) = (group.pid, signal.signal());
        let args: [Arg; 4] = [pid.into(), tid.into(), number.into(), info.into()];
        let step = format!("queue signal {number} for thread {tid}");
        script.call(step, libc::SYS_rt_tgsigqueueinfo, &args);
    }
    script.flush()
}

/// Also for a thread without one: our own, which it was born with, is not mapped any more.
fn alternate_stack(script: &mut Script<'_>, thread: &Thread) {
    const SS_ONSTACK: u32 = 1;
    const SS_DISABLE: u32 = 2;
    let stack = thread.alternate_stack;
    let at = if stack.flags & SS_DISABLE == 0 {
        script.words(&[stack.base, u64::from(stack.flags & !SS_ONSTACK), stack.size_bytes])
    } else {
        script.words(&[0, u64::from(SS_DISABLE), 0])
    };
    let step = format!("set the alternate stack of thread {}", thread.tid);
    script.call(step, libc::SYS_sigaltstack, &[at.into(), 0_u64.into()]);
}

fn schedule(script: &mut Script<'_>, tid: i32, wanted: &Scheduling, own: &OwnScheduling) {
    let attr = attr_of(wanted, &own.attr);
    if attr != attr_of(&of_attr(&own.attr), &own.attr) {
        let at = script.bytes(&attr);
        let args: [Arg; 3] = [0_u64.into(), at.into(), 0_u64.into()];
        let step = format!("set the scheduling of thread {tid} (CAP_SYS_NICE)");
        script.call(step, libc::SYS_sched_setattr, &args);
    }
    if wanted.io_priority != own.io_priority {
        const IOPRIO_WHO_PROCESS: u64 = 1;
        let args: [Arg; 3] =
            [IOPRIO_WHO_PROCESS.into(), 0_u64.into(), u64::from(wanted.io_priority).into()];
        let step = format!("set the IO priority of thread {tid}");
        script.call(step, libc::SYS_ioprio_set, &args);
    }
}

fn of_attr(attr: &SchedAttr) -> Scheduling {
    Scheduling {
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime_ns: attr.runtime_ns,
        deadline_ns: attr.deadline_ns,
        period_ns: attr.period_ns,
        affinity: Vec::new(),
        io_priority: 0,
    }
}

/// `struct sched_attr` in its first version, 48 bytes.
fn attr_of(wanted: &Scheduling, own: &SchedAttr) -> Vec<u8> {
    const BYTES: u32 = 48;
    const SCHED_DEADLINE: u32 = 6;
    const RESET_ON_FORK: u64 = 1;
    // The kernel reports the default slice of an ordinary thread here, too; asking for it would
    // make it a choice.
    let default = wanted.policy != SCHED_DEADLINE && wanted.runtime_ns == own.runtime_ns;
    let runtime = if default { 0 } else { wanted.runtime_ns };
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&BYTES.to_le_bytes());
    bytes.extend_from_slice(&wanted.policy.to_le_bytes());
    bytes.extend_from_slice(&(wanted.flags & RESET_ON_FORK).to_le_bytes());
    bytes.extend_from_slice(&wanted.nice.to_le_bytes());
    bytes.extend_from_slice(&wanted.priority.to_le_bytes());
    bytes.extend_from_slice(&runtime.to_le_bytes());
    bytes.extend_from_slice(&wanted.deadline_ns.to_le_bytes());
    bytes.extend_from_slice(&wanted.period_ns.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduling_attributes_have_the_kernels_layout() {
        let wanted = Scheduling { policy: 1, priority: 9, nice: -5, ..Scheduling::default() };
        let bytes = attr_of(&wanted, &SchedAttr::default());
        assert_eq!(bytes.len(), 48);
        assert_eq!((bytes[0], bytes[4], bytes[20]), (48, 1, 9));
        assert_eq!(bytes[16..20], (-5_i32).to_le_bytes());
    }
}
