//! Asking the frozen program about itself, through its threads.

use inject::{Batch, Injection, Injector};
use mem::VirtAddr;
use process::QueuedSignal;
use sys::proc::Status;
use sys::ptrace::{SignalQueue, StoppedThread};
use target::Frozen;

use super::StateError;
use super::outside::Seen;
use crate::Survey;
use crate::injected::{self, GroupAnswers, GroupQuestions, ThreadAnswers, ThreadQuestions};
use crate::policies;
use crate::thread::queued;

/// What the program told about itself.
pub(super) struct Told {
    pub(super) group: GroupAnswers,
    /// In the order of the threads.
    pub(super) threads: Vec<ThreadAnswers>,
    pub(super) pending: Pending,
    /// Mappings with a NUMA policy of their own.
    pub(super) placed: Vec<VirtAddr>,
}

/// The signals that wait for the process and for each of its threads.
#[derive(PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) process: Vec<QueuedSignal>,
    /// In the order of the threads.
    pub(super) threads: Vec<Vec<QueuedSignal>>,
}

impl Pending {
    fn read(leader: &StoppedThread, others: &[StoppedThread]) -> Result<Self, StateError> {
        let of = |thread: &StoppedThread| thread.pending_signals(SignalQueue::Thread).map(queued);
        Ok(Self {
            process: queued(leader.pending_signals(SignalQueue::Process)?),
            threads: std::iter::once(leader).chain(others).map(of).collect::<Result<_, _>>()?,
        })
    }
}

/// Asks every thread, several at a time, and the process through its first one.
pub(super) fn ask(
    frozen: &mut Frozen<'_>,
    seen: &Seen,
    timers: &[i32],
    survey: &Survey,
) -> Result<Told, StateError> {
    let pid = frozen.process().pid();
    // Without one the survey has blockers, and nothing is asked.
    let bystander = survey.kept.bystander.as_ref().ok_or(StateError::NoBystander)?.pid_inside();
    let injector = match seen.found.space.vdso() {
        Some(vdso) => Injector::at(pid, vdso)?,
        None => Injector::new(pid)?,
    };
    let statuses = seen.statuses.split_first();
    // `freeze` gives no value without threads.
    let (Some((leader, others)), Some((status, statuses))) =
        (frozen.threads_mut().split_first_mut(), statuses)
    else {
        return Err(StateError::NoThreads);
    };
    let mut threads = Vec::with_capacity(others.len() + 1);
    let at_once = injector.threads_max();
    for (chunk, statuses) in others.chunks_mut(at_once).zip(statuses.chunks(at_once)) {
        let each = chunk.iter_mut().zip(statuses).map(|(thread, status)| (thread, status, 0));
        let mut injections = injector.open_each(each)?;
        let mut batches = Vec::with_capacity(injections.len());
        let mut questions = Vec::with_capacity(injections.len());
        for (injection, status) in injections.iter_mut().zip(statuses) {
            let mut batch = Batch::new();
            questions.push(ThreadQuestions::put(injection, &mut batch, status, bystander)?);
            batches.push(batch);
        }
        let answers = Injection::run_each(&mut injections, &batches)?;
        for ((injection, answers), questions) in injections.iter().zip(&answers).zip(questions) {
            threads.push(questions.answers(injection, answers)?);
        }
        Injection::finish_each(injections)?;
    }
    let asked = policies::asked(&seen.found.space.mappings);
    let first = First { leader, status, bystander, mappings: &asked };
    let (first, told) = ask_first(&injector, first, others, timers)?;
    threads.insert(0, first);
    Ok(Told { threads, ..told })
}

/// The first thread, and what it is asked about.
struct First<'a> {
    leader: &'a mut StoppedThread,
    status: &'a Status,
    bystander: i32,
    /// An address in each mapping.
    mappings: &'a [VirtAddr],
}

/// Asks the first thread, also about the process, and reads which signals wait.
///
/// Timers go on while the program stands still, and one that fires leaves a signal. Timers and
/// pending signals are of one time only when no signal came while the timers were read.
fn ask_first(
    injector: &Injector,
    first: First<'_>,
    others: &[StoppedThread],
    timers: &[i32],
) -> Result<(ThreadAnswers, Told), StateError> {
    /// Each timer can add one signal, until the program takes it. With somebody who sends signals
    /// without end, whatever was first is as good as any other.
    const ROUNDS_MAX: usize = 32;
    let First { leader, status, bystander, mappings } = first;
    let bytes = injected::scratch_bytes(timers.len()).max(policies::scratch_bytes(mappings.len()));
    let mut pending = Pending::read(leader, others)?;
    let mut injections = injector.open_each([(leader, status, bytes)])?;
    let Some(injection) = injections.first_mut() else { return Err(StateError::NoThreads) };
    let mut batch = Batch::new();
    let about_thread = ThreadQuestions::put(injection, &mut batch, status, bystander)?;
    let about_group = GroupQuestions::put(injection, &mut batch, timers)?;
    let answers = injection.run(&batch)?;
    let first = about_thread.answers(injection, &answers)?;
    let mut group = about_group.answers(injection, &answers)?;
    for _ in 0..ROUNDS_MAX {
        let now = Pending::read(injection.thread(), others)?;
        if now == pending {
            break;
        }
        pending = now;
        injection.reset_scratch();
        group = GroupQuestions::ask(injection, timers)?;
    }
    let placed = policies::of_mappings(injection, mappings)?;
    Injection::finish_each(injections)?;
    Ok((first, Told { group, threads: Vec::new(), pending, placed }))
}
