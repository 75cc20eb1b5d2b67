//! What only the program itself can tell: system calls that read and change nothing, many to one
//! round trip.

use std::io;

use inject::{Answers, Arg, Batch, CallId, InjectError, Injection, Scratch, Undo};
use mem::PAGE_SIZE;
use process::{AlternateStack, IntervalTimer, SignalAction, SignalSet, TimerSetting};
use sys::proc::Status;

/// Numbers of prctl(2) and arch_prctl(2).
mod code {
    pub(super) const GET_PDEATHSIG: i32 = 2;
    pub(super) const GET_DUMPABLE: i32 = 3;
    pub(super) const GET_NAME: i32 = 16;
    pub(super) const GET_TSC: i32 = 25;
    pub(super) const GET_SECUREBITS: i32 = 27;
    pub(super) const GET_TIMERSLACK: i32 = 30;
    pub(super) const MCE_KILL_GET: i32 = 34;
    pub(super) const GET_CHILD_SUBREAPER: i32 = 37;
    pub(super) const GET_TID_ADDRESS: i32 = 40;
    pub(super) const GET_THP_DISABLE: i32 = 42;
    pub(super) const GET_IO_FLUSHER: i32 = 58;
    pub(super) const SCHED_CORE: i32 = 62;
    pub(super) const GET_MDWE: i32 = 66;
    pub(super) const GET_MEMORY_MERGE: i32 = 68;
    pub(super) const ARCH_GET_CPUID: i32 = 0x1011;
    pub(super) const MEMBARRIER_GET_REGISTRATIONS: i32 = 1 << 9;
}

/// What one thread tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadAnswers {
    pub(crate) name: Vec<u8>,
    pub(crate) alternate_stack: AlternateStack,
    pub(crate) clear_child_tid: u64,
    pub(crate) timer_slack_ns: u64,
    pub(crate) parent_death_signal: i32,
    pub(crate) securebits: u32,
    /// Names of settings that differ from what a new process has and are not carried over.
    pub(crate) unusual: Option<&'static str>,
    /// Memory policy of set_mempolicy(2); 0 is the default one.
    pub(crate) memory_policy: i32,
    /// Whether it has a keyring that only it, or only its process, can reach.
    pub(crate) has_own_keys: bool,
    /// Serial number of its session keyring.
    pub(crate) session_keyring: Option<i32>,
    /// Whether it may not look into a process of the same user (landlock(7)); `None`: that process
    /// is not there any more.
    pub(crate) is_restricted: Option<bool>,
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
    pub(crate) lock_future: Option<LockFuture>,
    /// What it registered for with membarrier(2); `None`: this kernel does not tell.
    pub(crate) membarrier: Option<u32>,
    /// Time left and interval, and overrun count, in the order of the ids asked for.
    pub(crate) timers: Vec<(TimerSetting, i32)>,
    /// Settings that are not carried over, as in [`ThreadAnswers`].
    pub(crate) unusual: Option<&'static str>,
}

/// How mlockall(2) locks mappings to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockFuture {
    /// `MCL_FUTURE`.
    AtOnce,
    /// `MCL_FUTURE | MCL_ONFAULT`.
    OnFault,
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

/// What is asked of one thread, and where the answers will be.
pub(crate) struct ThreadQuestions {
    stack: Scratch,
    words: Scratch,
    required: [CallId; 6],
    slack: CallId,
    securebits: CallId,
    tsc: CallId,
    mce: CallId,
    policy: CallId,
    cpuid: CallId,
    own_keyrings: [CallId; 2],
    session_keyring: CallId,
    look: CallId,
    io_flusher: CallId,
    core_cookie: CallId,
    all_ports: Option<CallId>,
}

impl ThreadQuestions {
    /// Adds the questions to `batch`, for a thread with this `status`. `bystander`: the pid, as the
    /// thread sees it, of a process of the same user that has no power.
    pub(crate) fn put(
        injection: &mut Injection<'_>,
        batch: &mut Batch,
        status: &Status,
        bystander: i32,
    ) -> Result<Self, InjectError> {
        let stack = injection.reserve(24)?;
        let words = injection.reserve(64)?;
        let stack_call = batch.call(libc::SYS_sigaltstack, &[0.into(), stack.into()]);
        let mut prctl = |option: i32, into: Option<Scratch>| {
            let into = into.map_or(Arg::Imm(0), Arg::Scratch);
            batch.call(libc::SYS_prctl, &[option.into(), into])
        };
        let tid_address = prctl(code::GET_TID_ADDRESS, words.part(0, 8));
        let death = prctl(code::GET_PDEATHSIG, words.part(8, 8));
        let tsc = prctl(code::GET_TSC, words.part(16, 8));
        let name = prctl(code::GET_NAME, words.part(32, NAME_BYTES as u64));
        let slack = prctl(code::GET_TIMERSLACK, None);
        let securebits = prctl(code::GET_SECUREBITS, None);
        let mce = prctl(code::MCE_KILL_GET, None);
        let io_flusher = prctl(code::GET_IO_FLUSHER, None);
        let cookie_at = words.part(48, 8).map_or(Arg::Imm(0), Arg::Scratch);
        let core = [code::SCHED_CORE.into(), 0.into(), 0.into(), 0.into(), cookie_at];
        let core_cookie = batch.call(libc::SYS_prctl, &core);
        let policy_at = words.part(24, 8).map_or(Arg::Imm(0), Arg::Scratch);
        let policy = batch.call(libc::SYS_get_mempolicy, &[policy_at, 0.into(), 0.into()]);
        let cpuid = batch.call(libc::SYS_arch_prctl, &[code::ARCH_GET_CPUID.into()]);
        // None is made. A task without a session keyring is given its user's, which is what the
        // kernel takes for it anyhow.
        let mut keyring = |special: i32| {
            batch.call(libc::SYS_keyctl, &[KEYCTL_GET_KEYRING_ID.into(), special.into(), 0.into()])
        };
        let own_keyrings = [keyring(KEY_SPEC_THREAD_KEYRING), keyring(KEY_SPEC_PROCESS_KEYRING)];
        let session_keyring = keyring(KEY_SPEC_SESSION_KEYRING);
        let compare = [bystander.into(), bystander.into(), KCMP_VM.into()];
        let look = batch.call(libc::SYS_kcmp, &compare);
        // Without the privilege only what is in force already is granted, and nothing changes.
        let may_take_ports = status.capabilities.effective & CAP_SYS_RAWIO != 0;
        let all_ports = (!may_take_ports).then(|| batch.call(libc::SYS_iopl, &[3.into()]));
        let required = [stack_call, tid_address, death, name, slack, securebits];
        Ok(Self {
            stack,
            words,
            required,
            slack,
            securebits,
            tsc,
            mce,
            policy,
            cpuid,
            own_keyrings,
            session_keyring,
            look,
            io_flusher,
            core_cookie,
            all_ports,
        })
    }

    /// Reads what the thread answered.
    pub(crate) fn answers(
        self,
        injection: &Injection<'_>,
        answers: &Answers,
    ) -> Result<ThreadAnswers, InjectError> {
        let stack = injection.read_scratch(self.stack)?;
        let words = injection.read_scratch(self.words)?;
        for call in self.required {
            answers.get(call)?;
        }
        let name = words.get(32..32 + NAME_BYTES).unwrap_or_default();
        // Both cannot fail on x86-64 but in a kernel that lacks them, where nothing is unusual.
        let faults_on_tsc = answers.get(self.tsc).is_ok() && int(&words, 16) != 1;
        let faults_on_cpuid = answers.get(self.cpuid).is_ok_and(|on| on == 0);
        let unusual = [
            (faults_on_tsc, "it faults when it reads the time stamp counter (PR_SET_TSC)"),
            (faults_on_cpuid, "it faults on CPUID (ARCH_SET_CPUID)"),
            (answers.get(self.mce).is_ok_and(|k| k != 2), "it has a policy for memory errors"),
            // Who may not be asked may not have become one either.
            (
                answers.get(self.io_flusher).is_ok_and(|on| on == 1),
                "it writes back for others (PR_SET_IO_FLUSHER)",
            ),
            // A kernel without core scheduling refuses.
            (
                answers.get(self.core_cookie).is_ok() && word(&words, 48) != 0,
                "it shares its core with nobody else (PR_SCHED_CORE)",
            ),
            (
                self.all_ports.is_some_and(|call| answers.get(call).is_ok()),
                "it may use all I/O ports (iopl(2))",
            ),
        ];
        let securebits = answers.get(self.securebits)?;
        let session = answers.get(self.session_keyring).ok();
        Ok(ThreadAnswers {
            name: name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            alternate_stack: AlternateStack {
                base: word(&stack, 0),
                flags: int(&stack, 8).cast_unsigned() & !ON_STACK,
                size_bytes: word(&stack, 16),
            },
            clear_child_tid: word(&words, 0),
            timer_slack_ns: answers.get(self.slack)?,
            parent_death_signal: int(&words, 8),
            securebits: u32::try_from(securebits).unwrap_or(u32::MAX),
            unusual: unusual.iter().find(|(is, _)| *is).map(|(_, what)| *what),
            memory_policy: if answers.get(self.policy).is_ok() { int(&words, 24) } else { 0 },
            has_own_keys: self.own_keyrings.iter().any(|call| answers.get(*call).is_ok()),
            session_keyring: session.and_then(|serial| i32::try_from(serial).ok()),
            is_restricted: match answers.get(self.look) {
                Ok(_) => Some(false),
                Err(InjectError::Call { source, .. }) if is_refusal(&source) => Some(true),
                Err(_) => None,
            },
        })
    }
}

/// Commands and special keyrings of keyctl(2).
const KEYCTL_GET_KEYRING_ID: i32 = 0;
const KEY_SPEC_THREAD_KEYRING: i32 = -1;
const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
const KEY_SPEC_SESSION_KEYRING: i32 = -3;
const CAP_SYS_RAWIO: u64 = 1 << 17;
/// A comparison of kcmp(2), which needs the right to look into both processes.
const KCMP_VM: i32 = 1;

/// `TASK_COMM_LEN`.
const NAME_BYTES: usize = 16;

/// `SS_ONSTACK`: where the thread is now, which its stack pointer tells too.
const ON_STACK: u32 = 1;

/// What is asked of the process through its first thread, and where the answers will be.
pub(crate) struct GroupQuestions {
    actions: Scratch,
    interval_timers: Scratch,
    times: Scratch,
    words: Scratch,
    required: Vec<CallId>,
    brk: CallId,
    dumpable: CallId,
    thp: CallId,
    mdwe: CallId,
    merge: CallId,
    membarrier: CallId,
    descriptors: CallId,
    overruns: Vec<CallId>,
    new_page: NewPage,
}

impl GroupQuestions {
    /// Adds the questions to `batch`, also about the timers with these ids.
    pub(crate) fn put(
        injection: &mut Injection<'_>,
        batch: &mut Batch,
        timers: &[i32],
    ) -> Result<Self, InjectError> {
        let actions = injection.reserve(ACTION_BYTES * 64)?;
        let interval_timers = injection.reserve(TIME_BYTES * 3)?;
        let times = injection.reserve(TIME_BYTES * timers.len().max(1) as u64)?;
        let words = injection.reserve(24)?;
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
        let command = [code::MEMBARRIER_GET_REGISTRATIONS.into()];
        let membarrier = batch.call(libc::SYS_membarrier, &command);
        let place = words.part(16, 8).map_or(Arg::Imm(0), Arg::Scratch);
        let read = 0;
        let descriptors = batch.call(libc::SYS_modify_ldt, &[read.into(), place, 8.into()]);
        let mut overruns = Vec::new();
        for (id, at) in timers.iter().zip(parts(times, TIME_BYTES)) {
            required.push(batch.call(libc::SYS_timer_gettime, &[(*id).into(), at]));
            overruns.push(batch.call(libc::SYS_timer_getoverrun, &[(*id).into()]));
        }
        required.extend([brk, dumpable, subreaper, thp]);
        let resident = words.part(8, 8).map_or(Arg::Imm(0), Arg::Scratch);
        let new_page = NewPage::put(batch, resident);
        Ok(Self {
            actions,
            interval_timers,
            times,
            words,
            required,
            brk,
            dumpable,
            thp,
            mdwe,
            merge,
            membarrier,
            descriptors,
            overruns,
            new_page,
        })
    }

    /// Asks them alone.
    pub(crate) fn ask(
        injection: &mut Injection<'_>,
        timers: &[i32],
    ) -> Result<GroupAnswers, InjectError> {
        let mut batch = Batch::new();
        let questions = Self::put(injection, &mut batch, timers)?;
        let answers = injection.run(&batch)?;
        questions.answers(injection, &answers)
    }

    /// Reads what the process answered.
    pub(crate) fn answers(
        self,
        injection: &Injection<'_>,
        answers: &Answers,
    ) -> Result<GroupAnswers, InjectError> {
        for call in self.required {
            answers.get(call)?;
        }
        let actions = injection.read_scratch(self.actions)?;
        let interval_timers = injection.read_scratch(self.interval_timers)?;
        let times = injection.read_scratch(self.times)?;
        let words = injection.read_scratch(self.words)?;
        let is_set = |call: CallId| answers.get(call).is_ok_and(|value| value != 0);
        let unusual = [
            (is_set(self.mdwe), "it denies itself writable code (PR_SET_MDWE)"),
            (is_set(self.descriptors), "it has segments of its own (modify_ldt(2))"),
            (is_set(self.merge), "it lets its memory be merged (PR_SET_MEMORY_MERGE)"),
        ];
        let registrations = answers.get(self.membarrier).ok();
        Ok(GroupAnswers {
            signal_actions: actions.chunks_exact(32).map(action).collect(),
            interval_timers: std::array::from_fn(|n| interval_timer(&interval_timers, n)),
            brk: answers.get(self.brk)?,
            dumpable: u32::try_from(answers.get(self.dumpable)?).unwrap_or(0),
            child_subreaper: int(&words, 0) != 0,
            thp_disable: answers.get(self.thp)? != 0,
            lock_future: self.new_page.locked(answers, words.get(8).copied().unwrap_or(0))?,
            membarrier: registrations.and_then(|commands| u32::try_from(commands).ok()),
            timers: self
                .overruns
                .iter()
                .enumerate()
                .map(|(n, overrun)| (timer(&times, n), overrun_of(answers, *overrun)))
                .collect(),
            unusual: unusual.iter().find(|(is, _)| *is).map(|(_, what)| *what),
        })
    }
}

/// A page mapped to see whether `mlockall(MCL_FUTURE)` is in force: nothing else shows it. Advice
/// to drop such a page is refused exactly when it is locked, and without `MCL_ONFAULT` it is there
/// from the start.
struct NewPage {
    page: CallId,
    resident: CallId,
    dropped: CallId,
}

impl NewPage {
    /// `resident`: where a byte is free.
    fn put(batch: &mut Batch, resident: Arg) -> Self {
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let length = Arg::Imm(PAGE_SIZE);
        let unmap = Undo::munmap_result(PAGE_SIZE);
        let read = libc::PROT_READ;
        let args = [0.into(), length, read.into(), anonymous.into(), (-1).into(), 0.into()];
        let page = batch.call_with_undo(libc::SYS_mmap, &args, unmap);
        let resident = batch.call(libc::SYS_mincore, &[page.into(), length, resident]);
        let advice = [page.into(), length, libc::MADV_DONTNEED.into()];
        Self { page, resident, dropped: batch.call(libc::SYS_madvise, &advice) }
    }

    fn locked(&self, answers: &Answers, residence: u8) -> Result<Option<LockFuture>, InjectError> {
        match answers.get(self.page) {
            Ok(_) if answers.raw(self.dropped) != Some(-i64::from(libc::EINVAL)) => Ok(None),
            Ok(_) => {
                answers.get(self.resident)?;
                let is_there = residence & 1 != 0;
                Ok(Some(if is_there { LockFuture::AtOnce } else { LockFuture::OnFault }))
            }
            // A new page that may not be locked is refused as well.
            Err(InjectError::Call { source, .. }) if is_again(&source) => {
                Ok(Some(LockFuture::AtOnce))
            }
            Err(cause) => Err(cause),
        }
    }
}

fn is_refusal(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

fn is_again(cause: &io::Error) -> bool {
    cause.raw_os_error() == Some(libc::EAGAIN)
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
