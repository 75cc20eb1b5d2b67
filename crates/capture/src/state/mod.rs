//! Reading a frozen program completely.

mod ask;
mod assemble;
mod outside;
mod refuse;

use std::io;
use std::time::Instant;

use inject::InjectError;
use mem::AddrRange;
use process::{Blocker, Instance, LineIdentity};
use sys::proc::ProcError;
use sys::ptrace::PtraceError;
use target::{Frozen, Memory, MemoryError};

use crate::findings::Findings;
use crate::{LookError, Survey, group};
use ask::Told;

/// A program's state at the freeze.
#[derive(Debug)]
pub struct Captured {
    /// Everything but the bytes of its pages.
    pub instance: Instance,
    /// Its pages; to be read while it is frozen.
    pub memory: Memory,
    /// Mappings whose missing pages are served from outside, see [`crate::Options::served`].
    pub served: Vec<AddrRange>,
    /// What will be different although nothing blocked.
    pub changes: Vec<process::Change>,
}

/// Why the state could not be read. The program is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Things stand in the way that were not there, or could not be seen, before the freeze.
    #[error("capture the program: {}", in_the_way(.0))]
    Blocked(Vec<Blocker>),
    /// Something could not be looked at.
    #[error("capture the program: {0}")]
    Look(#[from] LookError),
    /// Something under `/proc`.
    #[error("capture the program: {0}")]
    Proc(#[from] ProcError),
    /// A thread could not be read.
    #[error("capture the program: {0}")]
    Ptrace(#[from] PtraceError),
    /// A thread could not be read.
    #[error("capture thread {tid}: {cause}")]
    Thread {
        /// The thread.
        tid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
    /// It has ended while it was being read.
    #[error("capture the program: it has no threads any more")]
    NoThreads,
    /// Its filters could not be read.
    #[error(
        "capture the seccomp filters of thread {tid}: {cause}; this needs CAP_SYS_ADMIN and no \
         filter on rekindle itself"
    )]
    Seccomp {
        /// The thread.
        tid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The survey was made of a program that stands in no state to be captured.
    #[error("capture the program: it was not looked at completely; look again")]
    NoBystander,
    /// The program could not be asked about itself.
    #[error("capture the program: {0}")]
    Inject(#[from] InjectError),
    /// Its memory could not be opened.
    #[error("capture the program: {0}")]
    Memory(#[from] MemoryError),
}

fn in_the_way(blockers: &[Blocker]) -> String {
    match blockers {
        [one] => format!("{} stands in the way", one.object),
        all => format!("{} things stand in the way", all.len()),
    }
}

/// Reads the frozen program completely. Nothing in it changes. `line` is who the instance is.
///
/// # Errors
/// Blockers that appeared since the survey, all of them at once, and any failure of the kernel.
pub fn state(
    frozen: &mut Frozen<'_>,
    survey: &Survey,
    line: &LineIdentity,
) -> Result<Captured, StateError> {
    let mut findings = Findings::default();
    let mut steps = Steps::start();
    let seen = outside::read(frozen, survey, &mut findings, &mut steps)?;
    // Nothing is called in a program that cannot be captured.
    refuse(&findings)?;
    let timers = group::posix_timers(frozen.process().dir())?;
    let ids: Vec<i32> = timers.iter().map(|timer| timer.id).collect();
    let answers = ask::ask(frozen, &seen, &ids, survey).map_err(|cause| match cause {
        StateError::Inject(cause) => refuse::to_be_asked(cause),
        other => other,
    })?;
    steps.done("threads asked");
    refuse::unusual(&answers, &seen.threads, &mut findings);
    refuse::restricted(&answers, &seen.threads, &seen.statuses, &mut findings);
    refuse::keyrings(&answers, &seen.threads, survey, &mut findings);
    refuse::memory_policies(&answers, &mut findings);
    refuse::mixed_credentials(&seen.statuses, &answers.threads, &mut findings);
    refuse(&findings)?;
    let served = seen.found.space.served.clone();
    let (mut instance, private, objects) = assemble::instance(seen, answers, &timers, survey);
    instance.line = line.clone();
    let memory = Memory::frozen(frozen.process(), private, objects)?;
    steps.done("memory opened");
    Ok(Captured { instance, memory, served, changes: findings.changes })
}

impl Captured {
    /// Fills in where guard pages lie (`MADV_GUARD_INSTALL`), by a walk over all page tables of
    /// the frozen program: some 5 ms per GB.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn find_guards(&mut self) -> Result<(), MemoryError> {
        for mapping in self.instance.spaces.iter_mut().flat_map(|space| &mut space.mappings) {
            if !matches!(mapping.backing, mem::Backing::Special(_)) {
                mapping.guards = self.memory.guards(mapping.range)?;
            }
        }
        Ok(())
    }

    /// The same when the guard pages in private memory are known already, `private`, ascending.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn set_guards(&mut self, private: &[AddrRange]) -> Result<(), MemoryError> {
        for mapping in self.instance.spaces.iter_mut().flat_map(|space| &mut space.mappings) {
            if mapping.holds_private_pages() {
                let whole = mapping.range.pages();
                let inside = private.iter().filter_map(|guard| guard.pages().intersect(whole));
                mapping.guards = inside.map(|pages| pages.addrs()).collect();
            } else if !matches!(mapping.backing, mem::Backing::Special(_)) {
                mapping.guards = self.memory.guards(mapping.range)?;
            }
        }
        Ok(())
    }
}

fn refuse(findings: &Findings) -> Result<(), StateError> {
    match findings.blockers.is_empty() {
        true => Ok(()),
        false => Err(StateError::Blocked(findings.blockers.clone())),
    }
}

/// How long each step of a capture takes, for `-v`: all of it is pause.
struct Steps(Instant);

impl Steps {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn done(&mut self, step: &str) {
        let now = Instant::now();
        tracing::debug!(step, us = (now - self.0).as_micros(), "captured");
        self.0 = now;
    }
}
