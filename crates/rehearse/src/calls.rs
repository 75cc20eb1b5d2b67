//! A call of the clone: made in it, or answered in its stead.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use inject::call_at;
use mem::{AddrRange, PAGE_SIZE, VirtAddr};
use process::{Instance, TaskGroup};
use sys::ptrace::{Regs, Resume, Stop, StoppedThread};
use sys::receive::Receipt;
use target::Process;

use crate::RehearseError;
use crate::descriptors::Descriptors;
use crate::fork::unfit;
use crate::input::{Input, steps};
use crate::names::name;
use crate::operate::Reply;
use crate::pages::Pages;
use crate::paths::Paths;
use crate::prepare::pages_around;
use crate::seen::Played;
use crate::table::{Decision, Identity, MapChange, Timeout, Touched, decide};

/// `AUDIT_ARCH_X86_64`
const ARCH: u32 = 0xc000_003e;
/// Bytes of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;
/// How long a call that is made may take. None of them waits.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// Pages that are put in place so that they can be moved, at most.
const MOVED_PAGES_MAX: u64 = 1024;

/// A thread that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleep {
    /// When its time is over.
    pub(crate) until_ns: Option<u64>,
    /// What it is told then.
    pub(crate) told: i64,
    /// What it waits for beside that.
    pub(crate) cause: Cause,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Time alone.
    Time,
    /// A word of memory, with the bits by which it may be woken.
    Word(u64, u32),
    /// A descriptor: its call is looked at again when something has come.
    Descriptors,
}

/// What became of a call.
pub(crate) enum Done {
    /// It has its answer.
    GoesOn,
    /// The thread waits.
    Sleeps(Sleep),
    /// Threads that wait for this word are to go on, and the caller is to be told how many.
    Wakes { at: u64, count: u64, bits: u32 },
    /// The thread is over.
    ThreadEnds,
    /// The rehearsal is.
    Over(String),
}

/// Answers calls.
pub(crate) struct Caller<'a> {
    pub(crate) pages: &'a Pages,
    pub(crate) process: &'a Process,
    pub(crate) descriptors: Descriptors<'a>,
    pub(crate) paths: Paths<'a>,
    instance: &'a Instance,
    group: &'a TaskGroup,
    /// Memory that the clone may still add.
    left_bytes: u64,
    /// Memory that it has added, by where it begins: so many bytes.
    added: BTreeMap<u64, u64>,
    /// What has been made of a seed.
    random: u64,
    /// Where the program's break is, as far as is known.
    brk: u64,
    last_wait: String,
    /// What is still to come from outside.
    input: Input,
    pub(crate) played: Played,
    /// The clone's threads as they are numbered outside, in the order of the group's.
    tids: Vec<i32>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        pages: &'a Pages,
        process: &'a Process,
        instance: &'a Instance,
        group: &'a TaskGroup,
        left_bytes: u64,
    ) -> Self {
        let space = usize::try_from(group.space.0).ok().and_then(|at| instance.spaces.get(at));
        let brk = space.map_or(0, |space| space.layout.brk);
        let random = instance.host.clocks.realtime_ns.unsigned_abs();
        let random = u64::try_from(random & u128::from(u64::MAX)).unwrap_or(1) | 1;
        let (last_wait, tids) = (String::new(), Vec::new());
        let descriptors = Descriptors::new(process, instance, group);
        let credentials = usize::try_from(group.credentials.0).ok();
        let credentials = credentials.and_then(|at| instance.credentials.get(at));
        let paths = Paths::new(process, group, credentials);
        Self {
            pages,
            process,
            descriptors,
            paths,
            instance,
            group,
            left_bytes,
            added: BTreeMap::new(),
            random,
            brk,
            last_wait,
            input: Input::default(),
            played: Played::default(),
            tids,
        }
    }

    /// Takes what was recorded, to be played.
    pub(crate) fn hear(&mut self, receipts: &[Receipt]) {
        let (steps, unknown) = steps(receipts, &self.descriptors);
        self.played.unknown = unknown;
        self.input = Input::new(steps, self.descriptors.connected());
    }

    /// Plays the next piece of what was recorded; whether there was one.
    pub(crate) fn play(&mut self) -> bool {
        while let Some(step) = self.input.next(&self.descriptors) {
            if self.descriptors.play(&step) {
                let first = self.pages.count();
                self.played.touched_before.get_or_insert(first);
                self.played.pieces += u64::from(!step.ends);
                return true;
            }
            self.played.unknown += u64::from(!step.ends);
        }
        false
    }

    /// Tells which threads there are, in the order of the group's.
    pub(crate) fn number(&mut self, tids: Vec<i32>) {
        self.tids = tids;
    }

    /// The call in which a thread waited last.
    pub(crate) fn last_wait(&self) -> &str {
        &self.last_wait
    }

    /// Deals with the call before which `thread` stands, which has not been made. `is_late`: it has
    /// waited, and its time is over.
    pub(crate) fn call(
        &mut self,
        thread: &mut StoppedThread,
        now_ns: u64,
        is_late: bool,
    ) -> Result<Done, RehearseError> {
        let regs = thread.regs()?;
        if thread.syscall_info()?.arch != ARCH {
            return Ok(Done::Over(format!("a 32-bit call, number {}", regs.orig_rax)));
        }
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let nr = regs.orig_rax;
        match self.decided(thread, &regs, (nr, args), (now_ns, is_late)) {
            // A bad address is the program's own business, and hardly what it does.
            Err(RehearseError::Io { .. }) => Ok(Done::Over(format!("{} (bad address)", name(nr)))),
            other => other,
        }
    }

    fn decided(
        &mut self,
        thread: &mut StoppedThread,
        regs: &Regs,
        (nr, args): (u64, [u64; 6]),
        (now_ns, is_late): (u64, bool),
    ) -> Result<Done, RehearseError> {
        let answer = |value: i64| {
            thread.set_regs(&Regs { rax: value.cast_unsigned(), ..*regs })?;
            Ok(Done::GoesOn)
        };
        let over = || Ok(Done::Over(name(nr)));
        match decide(nr, args) {
            Decision::Run(touched, change) => self.make(thread, regs, (nr, args), touched, change),
            Decision::Answer(value) => answer(value),
            Decision::Identity(who) => answer(self.identity(who, thread.tid().raw())),
            Decision::Operate(operation) => match self.operate(operation, is_late)? {
                Reply::Value(value) => answer(value),
                Reply::Unknown => over(),
                Reply::Waits { told, .. } if is_late => answer(told),
                Reply::Waits { timeout, told } => {
                    let until_ns = self.until(timeout, now_ns)?;
                    self.last_wait = name(nr);
                    Ok(Done::Sleeps(Sleep { until_ns, told, cause: Cause::Descriptors }))
                }
            },
            Decision::Wait { timeout, told } => {
                let until_ns = self.until(timeout, now_ns)?;
                self.last_wait = name(nr);
                Ok(Done::Sleeps(Sleep { until_ns, told, cause: Cause::Time }))
            }
            Decision::FutexWait { at, value, timeout, bits } => {
                let mut word = [0; 4];
                self.pages.read(at, &mut word)?;
                if u32::from_ne_bytes(word) != value {
                    return answer(-i64::from(libc::EAGAIN));
                }
                let until_ns = self.until(timeout, now_ns)?;
                self.last_wait = name(nr);
                let told = -i64::from(libc::ETIMEDOUT);
                Ok(Done::Sleeps(Sleep { until_ns, told, cause: Cause::Word(at, bits) }))
            }
            Decision::FutexWake { at, count, bits } => Ok(Done::Wakes { at, count, bits }),
            Decision::Clock { clock, to } => {
                let Some(time_ns) = clock_ns(clock, now_ns) else { return over() };
                let mut time = Vec::from((time_ns / 1_000_000_000).to_ne_bytes());
                time.extend((time_ns % 1_000_000_000).to_ne_bytes());
                self.pages.write(to, &time)?;
                answer(0)
            }
            Decision::Random { to, length } => {
                let bytes = self.random(length);
                self.pages.write(to, &bytes)?;
                answer(i64::try_from(length).unwrap_or(0))
            }
            Decision::ThreadEnds => Ok(Done::ThreadEnds),
            Decision::End => over(),
        }
    }

    /// Has the clone make a call itself.
    fn make(
        &mut self,
        thread: &mut StoppedThread,
        regs: &Regs,
        (nr, args): (u64, [u64; 6]),
        touched: &[Touched],
        change: MapChange,
    ) -> Result<Done, RehearseError> {
        for Touched(argument, bytes) in touched {
            if args[*argument] != 0 {
                self.pages.touch(args[*argument], *bytes, true)?;
            }
        }
        if let Some(why) = self.before(change)? {
            return Ok(Done::Over(format!("{} ({why})", name(nr))));
        }
        let returned = made(thread, regs, nr, args)?;
        if !(-4095..0).contains(&returned) {
            self.after(nr, change, returned.cast_unsigned());
        }
        Ok(Done::GoesOn)
    }

    /// Whether a change of the memory map has to be the end.
    fn before(&mut self, change: MapChange) -> Result<Option<&'static str>, RehearseError> {
        const MORE: &str = "more memory than a rehearsal may add";
        let added = match change {
            MapChange::None | MapChange::Drops(..) => 0,
            MapChange::Adds(bytes) => bytes,
            MapChange::Break(to) => to.saturating_sub(self.brk),
            MapChange::Moves(start, old, new) => {
                let range = pages_around(start, old);
                if !self.pages.complete(range, MOVED_PAGES_MAX)? {
                    return Ok(Some("more memory than is moved"));
                }
                new.saturating_sub(old)
            }
        };
        match self.left_bytes.checked_sub(added) {
            Some(left) => self.left_bytes = left,
            None => return Ok(Some(MORE)),
        }
        Ok(None)
    }

    /// The memory map has changed.
    fn after(&mut self, nr: u64, change: MapChange, returned: u64) {
        match change {
            MapChange::None => {}
            MapChange::Adds(bytes) => {
                self.added.insert(returned, bytes);
            }
            MapChange::Drops(start, bytes) => {
                self.pages.drop_content(pages_around(start, bytes));
                // What was added and is given back whole may be added again.
                if nr == libc::SYS_munmap.cast_unsigned() && self.added.get(&start) == Some(&bytes)
                {
                    self.added.remove(&start);
                    self.left_bytes += bytes;
                }
            }
            MapChange::Break(_) => {
                if returned < self.brk {
                    let start = returned.next_multiple_of(PAGE_SIZE);
                    let end = self.brk.next_multiple_of(PAGE_SIZE);
                    self.pages.drop_content(AddrRange::new(start, end));
                }
                self.brk = returned;
            }
            MapChange::Moves(start, old, _) => {
                self.pages.drop_content(pages_around(start, old));
            }
        }
    }

    /// What the program would be told.
    fn identity(&self, who: Identity, tid: i32) -> i64 {
        let credentials = usize::try_from(self.group.credentials.0).unwrap_or(usize::MAX);
        let ids = self.instance.credentials.get(credentials);
        let ids = ids.map_or(([0; 4], [0; 4]), |c| (c.uids, c.gids));
        let place = self.tids.iter().position(|other| *other == tid);
        let own = place.and_then(|place| self.group.threads.get(place));
        match who {
            Identity::Pid => self.group.pid.into(),
            Identity::Tid => own.map_or(self.group.pid, |thread| thread.tid).into(),
            Identity::Parent => self.group.parent_pid.into(),
            Identity::Group => self.group.process_group.into(),
            Identity::Session => self.group.session.into(),
            Identity::User => ids.0[0].into(),
            Identity::EffectiveUser => ids.0[1].into(),
            Identity::Gid => ids.1[0].into(),
            Identity::EffectiveGid => ids.1[1].into(),
        }
    }

    /// The clone's own time at which a timeout is over; `None`: never.
    fn until(&self, timeout: Timeout, now_ns: u64) -> Result<Option<u64>, RehearseError> {
        let read = |at: u64, unit_ns: u64| {
            if at == 0 {
                return Ok::<_, RehearseError>(None);
            }
            let mut bytes = [0; 16];
            self.pages.read(at, &mut bytes)?;
            let (seconds, rest) = halves(&bytes);
            Ok(Some(
                seconds.saturating_mul(1_000_000_000).saturating_add(rest.saturating_mul(unit_ns)),
            ))
        };
        Ok(match timeout {
            Timeout::Never => None,
            Timeout::Millis(ms) => {
                u64::try_from(ms).ok().map(|ms| now_ns.saturating_add(ms * 1_000_000))
            }
            Timeout::Timespec(at) => read(at, 1)?.map(|wait| now_ns.saturating_add(wait)),
            Timeout::Timeval(at) => read(at, 1000)?.map(|wait| now_ns.saturating_add(wait)),
            // Which clock it is of need not be told: what is far off on one is over on the other.
            Timeout::Until(at) => read(at, 1)?.map(|until| {
                let now = sys::clock::read();
                let left = |clock: i128| i128::from(until) - clock;
                let (monotonic, realtime) = (left(now.monotonic_ns), left(now.realtime_ns));
                let left = if monotonic.abs() < realtime.abs() { monotonic } else { realtime };
                now_ns.saturating_add(u64::try_from(left).unwrap_or(0))
            }),
        })
    }

    /// Bytes that look random (a xorshift): nothing that comes of them leaves the clone.
    fn random(&mut self, length: u64) -> Vec<u8> {
        let next = |_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random.to_ne_bytes()[3]
        };
        (0..length).map(next).collect()
    }
}

/// Has `thread`, which stands before a call that is not made, make call `nr` instead, from the same place. Gives
/// what it returned.
fn made(
    thread: &mut StoppedThread,
    regs: &Regs,
    nr: u64,
    args: [u64; 6],
) -> Result<i64, RehearseError> {
    // The kernel tells of the end of the call that was not made, before it begins another.
    let deadline = Instant::now() + CALL_LIMIT;
    while thread.resume_and_wait(Resume::Syscall(0), deadline)? != Stop::Syscall {}
    if thread.syscall_info()?.op != libc::PTRACE_SYSCALL_INFO_EXIT {
        return Err(unfit("the kernel does not tell of calls as it should"));
    }
    let instruction = VirtAddr(regs.rip.wrapping_sub(SYSCALL_BYTES));
    let nr = i64::try_from(nr).unwrap_or(-1);
    Ok(call_at(thread, regs, instruction, nr, args)?.0)
}

/// Two words.
pub(crate) fn halves(bytes: &[u8; 16]) -> (u64, u64) {
    let word =
        |at: usize| bytes[at..at + 8].iter().rev().fold(0, |all, b| all << 8 | u64::from(*b));
    (word(0), word(8))
}

/// What a clock shows; `None` for one that is not kept.
fn clock_ns(clock: u64, now_ns: u64) -> Option<u64> {
    let now = sys::clock::read();
    let time = match clock {
        0 | 5 | 11 => now.realtime_ns,
        1 | 4 | 6 => now.monotonic_ns,
        7 => now.boottime_ns,
        // The CPU time of the process and the thread: as if it had run all the time.
        2 | 3 => i128::from(now_ns),
        _ => return None,
    };
    u64::try_from(time).ok()
}
