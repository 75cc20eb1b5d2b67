//! What only the program itself can tell: system calls that read and change nothing, many to one
//! round trip.

use inject::{Answers, Arg, Batch, CallId, InjectError, Injection, Scratch, Undo};
use mem::PAGE_SIZE;
use process::{AlternateStack, IntervalTimer, SignalAction, SignalSet, TimerSetting};

/// Numbers of prctl(2) and arch_prctl(2).
mod code {
    pub(super) const GET_PDEATHSIG: i32 = 2;
    pub(super) const GET_DUMPABLE: i32 = 3;
    pub(super) const GET_TSC: i32 = 25;
    pub(super) const GET_SECUREBITS: i32 = 27;
    pub(super) const GET_TIMERSLACK: i32 = 30;
    pub(super) const MCE_KILL_GET: i32 = 34;
    pub(super) const GET_CHILD_SUBREAPER: i32 = 37;
    pub(super) const GET_TID_ADDRESS: i32 = 40;
    pub(super) const GET_THP_DISABLE: i32 = 42;
    pub(super) const GET_MDWE: i32 = 66;
    pub(super) const GET_MEMORY_MERGE: i32 = 68;
    pub(super) const ARCH_GET_CPUID: i32 = 0x1011;
}

/// What one thread tells about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadAnswers {
    pub(crate) alternate_stack: AlternateStack,
    pub(crate) clear_child_tid: u64,
    pub(crate) timer_slack_ns: u64,
    pub(crate) parent_death_signal: i32,
    pub(crate) securebits: u32,
    /// Names of settings that differ from what a new process has and are not carried over.
    pub(crate) unusual: Option<&'static str>,
    /// Memory policy of set_mempolicy(2); 0 is the default one.
    pub(crate) memory_policy: i32,
}

/// What the process tells through its first thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupAnswers {
    pub(crate) signal_actions: Vec<SignalAction>,
    pub(crate) interval_timers: [IntervalTimer; 3],
    pub(crate) brk: u64,
    pub(crate) dumpable: u32,
    pub(crate) child_subreaper: bool,
    pub(crate) thp_disable: bool,
    pub(crate) lock_future: bool,
    /// Time left and interval, and overrun count, in the order of the ids asked for.
    pub(crate) timers: Vec<(TimerSetting, i32)>,
    /// Settings that are not carried over, as in [`ThreadAnswers`].
    pub(crate) unusual: Option<&'static str>,
}

/// Signals there are.
const SIGNALS: i32 = 64;
const ACTION_BYTES: u64 = 32;
const TIME_BYTES: u64 = 32;

/// Bytes of scratch memory that the questions about `timers` timers need at most.
pub(crate) fn scratch_bytes(timers: usize) -> u64 {
    // The tables of a batch count too: 64 bytes a call is plenty.
    let calls = 128 + 2 * timers as u64;
    16 * 1024 + 64 * (ACTION_BYTES + 64) + calls * (64 + TIME_BYTES)
}

/// Asks one thread.
pub(crate) fn ask_thread(injection: &mut Injection<'_>) -> Result<ThreadAnswers, InjectError> {
    injection.reset_scratch();
    let mut batch = Batch::new();
    let stack = injection.reserve(24)?;
    let words = injection.reserve(64)?;
    let stack_call = batch.require(libc::SYS_sigaltstack, &[0.into(), stack.into()]);
    let mut prctl = |option: i32, into: Option<Scratch>| {
        let into = into.map_or(Arg::Imm(0), Arg::Scratch);
        batch.call(libc::SYS_prctl, &[option.into(), into])
    };
    let tid_address = prctl(code::GET_TID_ADDRESS, words.part(0, 8));
    let death = prctl(code::GET_PDEATHSIG, words.part(8, 8));
    let tsc = prctl(code::GET_TSC, words.part(16, 8));
    let slack = prctl(code::GET_TIMERSLACK, None);
    let securebits = prctl(code::GET_SECUREBITS, None);
    let mce = prctl(code::MCE_KILL_GET, None);
    let policy_at = words.part(24, 8).map_or(Arg::Imm(0), Arg::Scratch);
    let policy = batch.call(libc::SYS_get_mempolicy, &[policy_at, 0.into(), 0.into()]);
    let cpuid = batch.call(libc::SYS_arch_prctl, &[code::ARCH_GET_CPUID.into()]);
    let answers = injection.run(&batch)?;
    let (stack, words) = (injection.read_scratch(stack)?, injection.read_scratch(words)?);
    for call in [stack_call, tid_address, death, slack, securebits] {
        answers.get(call)?;
    }
    // Both cannot fail on x86-64 but in a kernel that lacks them, where nothing is unusual.
    let faults_on_tsc = answers.get(tsc).is_ok() && int(&words, 16) != 1;
    let unusual = [
        (faults_on_tsc, "it faults when it reads the time stamp counter (PR_SET_TSC)"),
        (answers.get(cpuid).is_ok_and(|on| on == 0), "it faults on CPUID (ARCH_SET_CPUID)"),
        (answers.get(mce).is_ok_and(|kind| kind != 2), "it has a policy for memory errors"),
    ];
    Ok(ThreadAnswers {
        alternate_stack: AlternateStack {
            base: word(&stack, 0),
            flags: int(&stack, 8).cast_unsigned() & !ON_STACK,
            size_bytes: word(&stack, 16),
        },
        clear_child_tid: word(&words, 0),
        timer_slack_ns: answers.get(slack)?,
        parent_death_signal: int(&words, 8),
        securebits: u32::try_from(answers.get(securebits)?).unwrap_or(u32::MAX),
        unusual: unusual.iter().find(|(is, _)| *is).map(|(_, what)| *what),
        memory_policy: if answers.get(policy).is_ok() { int(&words, 24) } else { 0 },
    })
}

/// `SS_ONSTACK`: where the thread is now, which its stack pointer tells too.
const ON_STACK: u32 = 1;

/// Asks the process, in its first thread, also about the timers with these ids.
pub(crate) fn ask_group(
    injection: &mut Injection<'_>,
    timers: &[i32],
) -> Result<GroupAnswers, InjectError> {
    injection.reset_scratch();
    let mut batch = Batch::new();
    let actions = injection.reserve(ACTION_BYTES * 64)?;
    let interval_timers = injection.reserve(TIME_BYTES * 3)?;
    let times = injection.reserve(TIME_BYTES * timers.len().max(1) as u64)?;
    let words = injection.reserve(16)?;
    let mut required = Vec::new();
    for (signal, at) in (1..=SIGNALS).zip(parts(actions, ACTION_BYTES)) {
        let args = [signal.into(), 0.into(), at, 8.into()];
        required.push(batch.call(libc::SYS_rt_sigaction, &args));
    }
    for (timer, at) in (0..3).zip(parts(interval_timers, TIME_BYTES)) {
        required.push(batch.call(libc::SYS_getitimer, &[timer.into(), at]));
    }
    let brk = batch.call(libc::SYS_brk, &[0.into()]);
    let mut prctl = |option: i32, into: Option<Scratch>| {
        let into = into.map_or(Arg::Imm(0), Arg::Scratch);
        batch.call(libc::SYS_prctl, &[option.into(), into])
    };
    let dumpable = prctl(code::GET_DUMPABLE, None);
    let subreaper = prctl(code::GET_CHILD_SUBREAPER, words.part(0, 8));
    let thp = prctl(code::GET_THP_DISABLE, None);
    let mdwe = prctl(code::GET_MDWE, None);
    let merge = prctl(code::GET_MEMORY_MERGE, None);
    let mut overruns = Vec::new();
    for (id, at) in timers.iter().zip(parts(times, TIME_BYTES)) {
        required.push(batch.call(libc::SYS_timer_gettime, &[(*id).into(), at]));
        overruns.push(batch.call(libc::SYS_timer_getoverrun, &[(*id).into()]));
    }
    required.extend([brk, dumpable, subreaper, thp]);
    let answers = injection.run(&batch)?;
    for call in required {
        answers.get(call)?;
    }
    let actions = injection.read_scratch(actions)?;
    let interval_timers = injection.read_scratch(interval_timers)?;
    let times = injection.read_scratch(times)?;
    let words = injection.read_scratch(words)?;
    let is_set = |call: CallId| answers.get(call).is_ok_and(|value| value != 0);
    let unusual = [
        (is_set(mdwe), "it denies itself writable code (PR_SET_MDWE)"),
        (is_set(merge), "it lets its memory be merged (PR_SET_MEMORY_MERGE)"),
    ];
    Ok(GroupAnswers {
        signal_actions: actions.chunks_exact(32).map(action).collect(),
        interval_timers: std::array::from_fn(|n| interval_timer(&interval_timers, n)),
        brk: answers.get(brk)?,
        dumpable: u32::try_from(answers.get(dumpable)?).unwrap_or(0),
        child_subreaper: int(&words, 0) != 0,
        thp_disable: answers.get(thp)? != 0,
        lock_future: locks_future_mappings(injection)?,
        timers: overruns
            .iter()
            .enumerate()
            .map(|(n, overrun)| (timer(&times, n), overrun_of(&answers, *overrun)))
            .collect(),
        unusual: unusual.iter().find(|(is, _)| *is).map(|(_, what)| *what),
    })
}

/// Whether `mlockall(MCL_FUTURE)` is in force. Nothing shows it but a new mapping: advice to
/// drop its page is refused exactly when it is locked.
fn locks_future_mappings(injection: &mut Injection<'_>) -> Result<bool, InjectError> {
    const PROT_READ: i32 = libc::PROT_READ;
    let mut batch = Batch::new();
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let length = Arg::Imm(PAGE_SIZE);
    let unmap = Undo::munmap_result(PAGE_SIZE);
    let args = [0.into(), length, PROT_READ.into(), anonymous.into(), (-1).into(), 0.into()];
    let page = batch.require_with_undo(libc::SYS_mmap, &args, unmap);
    let advice = [page.into(), length, libc::MADV_DONTNEED.into()];
    let dropped = batch.call(libc::SYS_madvise, &advice);
    let answers = injection.run_to_failure(&batch)?;
    match answers.get(page) {
        Ok(_) => Ok(answers.raw(dropped) == Some(-i64::from(libc::EINVAL))),
        // A new page that may not be locked is refused as well.
        Err(InjectError::Call { source, .. }) if source.raw_os_error() == Some(libc::EAGAIN) => {
            Ok(true)
        }
        Err(cause) => Err(cause),
    }
}

/// The addresses of consecutive pieces of `bytes` in `place`.
fn parts(place: Scratch, bytes: u64) -> impl Iterator<Item = Arg> {
    (0..place.len() / bytes).filter_map(move |n| place.part(n * bytes, bytes)).map(Arg::Scratch)
}

fn action(bytes: &[u8]) -> SignalAction {
    SignalAction {
        handler: word(bytes, 0),
        flags: word(bytes, 8),
        restorer: word(bytes, 16),
        mask: SignalSet(word(bytes, 24)),
    }
}

/// `struct itimerval`: interval first, microseconds.
fn interval_timer(bytes: &[u8], number: usize) -> IntervalTimer {
    let at = number * 32;
    let time = |at: usize| nanoseconds(word(bytes, at), word(bytes, at + 8).saturating_mul(1000));
    IntervalTimer { setting: TimerSetting { value_ns: time(at + 16), interval_ns: time(at) } }
}

/// `struct itimerspec`: interval first, nanoseconds.
fn timer(bytes: &[u8], number: usize) -> TimerSetting {
    let at = number * 32;
    let time = |at: usize| nanoseconds(word(bytes, at), word(bytes, at + 8));
    TimerSetting { value_ns: time(at + 16), interval_ns: time(at) }
}

fn nanoseconds(seconds: u64, nanoseconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn overrun_of(answers: &Answers, call: CallId) -> i32 {
    answers.get(call).ok().and_then(|count| i32::try_from(count).ok()).unwrap_or(0)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn int(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_apart() {
        let words = [1u64, 500, 2, 7];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let setting = timer(&bytes, 0);
        assert_eq!((setting.interval_ns, setting.value_ns), (1_000_000_500, 2_000_000_007));
        let setting = interval_timer(&bytes, 0).setting;
        assert_eq!((setting.interval_ns, setting.value_ns), (1_000_500_000, 2_000_007_000));
        assert_eq!(timer(&bytes, 3), TimerSetting::default());
    }
}
