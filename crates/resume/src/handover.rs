//! Handing a program over from one process to the other, so that at every instant exactly one of
//! them will run it, whoever of us is killed. Why it works: docs/decisions/0014-update.md.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mem::VirtAddr;
use process::{Change, TaskGroup};
use sys::clone::Arbiter;
use sys::ptrace::{Options, PtraceError, Resume, Stop, StoppedThread};
use target::Frozen;

use crate::Resumed;
use crate::build::{Loose, Plan, syscall_instruction};
use crate::phases::Phases;

/// How long a thread may take to meet the signal that waits for it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A process that is ready to take a program over from another one. Dropping it ends it, and
/// whatever was done to the old one is undone, unless it was [decided](Self::decide).
pub struct HandOver<'a> {
    /// Dropped first: told to do nothing.
    arbiter: Dismissed,
    loose: Loose,
    plan: Plan<'a>,
    phases: Phases<'a>,
    /// Files of the old process about which it gets signals, and who is to get them.
    owners: Vec<(OwnedFd, (i32, i32))>,
}

/// Why a program was not handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// It was not decided: the old process is as it was.
    #[error("hand the program over: {step}: {cause}")]
    Undecided {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// It was decided, and the new process is gone.
    #[error("let the new process go: {cause}; it was killed by somebody after it was decided on")]
    Lost {
        /// What the kernel said.
        cause: io::Error,
    },
}

impl<'a> HandOver<'a> {
    pub(crate) fn new(loose: Loose, plan: Plan<'a>, phases: Phases<'a>) -> Self {
        Self { arbiter: Dismissed::default(), loose, plan, phases, owners: Vec::new() }
    }

    /// The new process's pid in our namespace.
    pub fn pid(&self) -> i32 {
        self.loose.made.pid.raw()
    }

    /// What the program will be able to notice.
    pub fn changed(&self) -> &[Change] {
        &self.loose.changed
    }

    /// Has the new process outlive us without running: whoever lets its threads go, a `SIGSTOP`
    /// waits for them. An arbiter takes our part should we be killed.
    ///
    /// # Errors
    /// When that cannot be arranged. Nothing was done to `old`.
    pub fn prepare(&mut self, old: &Frozen<'_>) -> Result<(), HandOverError> {
        let failed = |step| move |cause| HandOverError::Undecided { step, cause };
        self.owners = self.owners(old).map_err(failed("see who gets signals"))?;
        let made = &mut self.loose.made;
        let init = made.init_mut().ok_or_else(|| {
            failed("find its init")(io::Error::other("it has no pid namespace of its own"))
        })?;
        let arbiter = Arbiter::spawn(old.process().pidfd(), init, &self.owners);
        self.arbiter.0 = Some(arbiter.map_err(failed("make an arbiter"))?);
        init.main_pidfd().send_signal(libc::SIGSTOP).map_err(failed("hold the new process"))?;
        init.outlive_us().map_err(|error| failed("free the init")(error.cause))?;
        let unguarded = self.loose.unguard();
        unguarded.map_err(|error| failed("free the new process")(io::Error::other(error)))
    }

    /// The files about which a thread, the process or its group gets signals, with the ids that these
    /// have in the new process. They are descriptions that both processes have, and the owner is
    /// a part of them: it can be told only when it is decided.
    fn owners(&self, old: &Frozen<'_>) -> io::Result<Vec<(OwnedFd, (i32, i32))>> {
        let (instance, group) = (self.plan.request.instance, self.plan.group);
        let table = instance.tables.get(group.table.0 as usize);
        let (mut owners, mut seen) = (Vec::new(), BTreeSet::new());
        for descriptor in table.iter().flat_map(|table| &table.descriptors) {
            let id = descriptor.description;
            let description = instance.descriptions.get(id.0 as usize);
            let Some((kind, inside)) = description.and_then(|d| d.owner) else { continue };
            if !seen.insert(id) {
                continue;
            }
            let thread = group.threads.iter().position(|thread| thread.tid == inside);
            let outside = match thread.and_then(|thread| self.loose.threads.get(thread)) {
                Some(thread) => thread.tid().raw(),
                None => {
                    let why = format!("there is no thread {inside} to get signals");
                    return Err(io::Error::other(why));
                }
            };
            owners.push((old.process().pidfd().descriptor(descriptor.fd)?, (kind, outside)));
        }
        Ok(owners)
    }

    /// **Decides** that the new process runs the program from now on, and the old one never again.
    /// `last` looks whether anything has come to `old` that the new one does not know of.
    ///
    /// # Errors
    /// When it was not decided. `old` is as it was.
    pub fn decide(
        &mut self,
        old: &Frozen<'_>,
        last: impl FnOnce(&Frozen<'_>) -> io::Result<()>,
    ) -> Result<(), HandOverError> {
        let failed = |step| move |cause| HandOverError::Undecided { step, cause };
        let observer = self.phases.observer();
        observer.reached("prepared");
        let Some(arbiter) = &mut self.arbiter.0 else {
            return Err(failed("find the arbiter")(io::Error::other("there is none")));
        };
        stand_still(old.threads()).map_err(failed("look at the old process"))?;
        stand_still(&self.loose.threads).map_err(failed("look at the new process"))?;
        last(old).map_err(failed("look what came meanwhile"))?;
        let pidfd = old.process().pidfd();
        arbiter.brake().map_err(failed("tell the arbiter"))?;
        observer.reached("braked");
        // From here to the decision the old process would stop if we were killed, and be let go on
        // by the arbiter.
        pidfd.send_signal(libc::SIGSTOP).map_err(failed("hold the old process"))?;
        observer.reached("held");
        arbiter.commit().map_err(|cause| {
            // Takes the waiting SIGSTOP away.
            let _ = pidfd.send_signal(libc::SIGCONT);
            failed("tell the arbiter")(cause)
        })
    }

    /// Has the old process close its descriptors, lets the new one run, and waits until the old one
    /// has ended. Only after [`decide`](Self::decide): from there it only goes forward.
    ///
    /// # Errors
    /// When somebody killed the new process.
    pub fn let_go(self, old: Frozen<'_>, deadline: Instant) -> Result<Resumed, HandOverError> {
        let Self { arbiter, mut loose, plan, phases, owners } = self;
        let observer = phases.observer();
        observer.reached("committed");
        for (file, owner) in owners {
            if let Err(error) = sys::file::set_signal_owner(file, owner) {
                tracing::warn!(%error, "a descriptor's signals go to nobody");
            }
        }
        let mut old = Some(old);
        let closed = old.as_mut().map_or(Ok(()), |old| close_descriptors(old, &plan));
        observer.reached("closed");
        if let Err(error) = closed {
            tracing::warn!(%error, "the old process closes its descriptors when it has ended");
            end(old.take(), deadline);
        } else if let Some(old) = &old {
            // It takes its memory apart while the new one runs already. It has ended if this fails.
            let _ = old.process().pidfd().send_signal(libc::SIGKILL);
        }
        if let Some(leader) = loose.threads.first_mut()
            && let Err(error) = meet_stop(leader)
        {
            // As the arbiter would: that takes the waiting SIGSTOP away as well.
            tracing::debug!(%error, "the new process is let go by a signal");
            let _ = loose.made.pidfd().map(|pidfd| pidfd.send_signal(libc::SIGCONT));
        }
        if waits_for_cont(plan.group) {
            // The SIGSTOP took it away.
            let _ = loose.made.pidfd().map(|pidfd| pidfd.send_signal(libc::SIGCONT));
        }
        observer.reached("met");
        let started = loose.go(&plan, &|| observer.reached("freed"));
        let at = Instant::now();
        drop(arbiter);
        end(old, deadline);
        let started =
            started.map_err(|error| HandOverError::Lost { cause: io::Error::other(error) })?;
        Ok(Resumed::new(started, plan.group.pid, phases.into_times(), at))
    }
}

/// Waits for the end of the old process. It never runs again, whatever comes of this.
fn end(old: Option<Frozen<'_>>, deadline: Instant) {
    if let Some(Err(error)) = old.map(|old| old.end(deadline)) {
        tracing::warn!(%error, "the old process takes its time to end");
    }
}

/// Has the old process, which will never run its program again, close everything it has open: at its
/// end the kernel takes its memory apart first, 100 ms for each GB.
fn close_descriptors(old: &mut Frozen<'_>, plan: &Plan<'_>) -> io::Result<()> {
    let other = |error: PtraceError| io::Error::other(error);
    // Our death ends it from here on, so that it needs its SIGSTOP no longer.
    for thread in old.threads_mut() {
        let options = Options { exit_kill: true, ..thread.options() };
        thread.set_options(options).map_err(other)?;
    }
    let leader = old.leader_mut();
    let instruction = syscall_instruction(plan.space, leader.tid()).map_err(io::Error::other)?;
    let instruction = VirtAddr(instruction);
    meet_stop(leader).map_err(other)?;
    leader.set_sigmask(u64::MAX).map_err(other)?;
    let regs = leader.regs().map_err(other)?;
    let all = [0, u64::from(u32::MAX), 0, 0, 0, 0];
    let made = inject::call_at(leader, &regs, instruction, libc::SYS_close_range, all);
    match made.map_err(io::Error::other)?.0 {
        0 => Ok(()),
        error => {
            let code = i32::try_from(-error).unwrap_or(libc::EIO);
            Err(io::Error::from_raw_os_error(code))
        }
    }
}

/// An arbiter that is told to do nothing when this is dropped: what it would do when we die is
/// done by values here. The new process is ended by its own, the old one let go by the other.
#[derive(Default)]
struct Dismissed(Option<Arbiter>);

impl Drop for Dismissed {
    fn drop(&mut self) {
        if let Some(arbiter) = self.0.take() {
            arbiter.dismiss();
        }
    }
}

impl std::fmt::Debug for HandOver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandOver").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// Whether a `SIGCONT` was waiting in the program, which blocks it.
fn waits_for_cont(group: &TaskGroup) -> bool {
    let of_threads = group.threads.iter().flat_map(|thread| &thread.pending_signals);
    group.pending_signals.iter().chain(of_threads).any(|signal| signal.signal() == libc::SIGCONT)
}

/// Fails when one of the threads is not stopped any more, which only a `SIGKILL` does.
fn stand_still(threads: &[StoppedThread]) -> io::Result<()> {
    threads.iter().try_for_each(|thread| thread.regs().map(drop)).map_err(io::Error::other)
}

/// Lets the thread meet the `SIGSTOP` that waits for its process, which ends there. Signals that
/// come before it are handed on; nothing of the program runs in between.
fn meet_stop(thread: &mut StoppedThread) -> Result<(), PtraceError> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut how = Resume::Continue(0);
    loop {
        how = match thread.resume_and_wait(how, deadline)? {
            Stop::Signal(libc::SIGSTOP) => {
                thread.discard_signal();
                return Ok(());
            }
            Stop::Signal(signal) => Resume::Continue(signal),
            _ => Resume::Continue(0),
        };
    }
}
