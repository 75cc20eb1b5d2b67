//! The verbs of this room.

use std::io;
use std::time::Duration;

use mem::{PageCount, PageSource};
use plan::Plan;
use process::{Change, Instance};

use crate::{Exit, Mismatch, Observer, Options, Phase, PhaseTime, ResumeError};

/// What to resume, from where, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The state.
    pub instance: &'a Instance,
    /// Where its pages come from.
    pub source: &'a dyn PageSource,
    /// In which order they are loaded; `None` is the source's own.
    pub order: Option<&'a Plan>,
    /// What the user chose.
    pub options: &'a Options,
}

/// Compares `instance`, whose pages with content are `memory` many, with this host. Starts and
/// changes nothing; every mismatch is listed, an empty list means [`build`] may be tried.
pub fn check(_instance: &Instance, _memory: PageCount, _options: &Options) -> Vec<Mismatch> {
    Vec::new()
}

/// Builds a stopped process that equals the instance. The calling thread becomes its tracer and
/// must be the one that calls [`Built::start`] or drops what is returned.
///
/// # Errors
/// Every error leaves nothing behind.
pub fn build(_request: Request<'_>, _observer: &dyn Observer) -> Result<Built, ResumeError> {
    Err(ResumeError::Step {
        phase: Phase::Stub,
        step: "make a process".to_owned(),
        cause: io::Error::from(io::ErrorKind::Unsupported),
    })
}

/// A process that equals the instance and has not run an instruction of it. Dropping it ends it.
#[derive(Debug)]
pub struct Built {
    resumed: Resumed,
}

impl Built {
    /// The pid in our namespace.
    pub fn pid(&self) -> i32 {
        self.resumed.pid
    }

    /// Lets it run.
    ///
    /// # Errors
    /// When a thread could not be let go; the process is ended then.
    pub fn start(self) -> Result<Resumed, ResumeError> {
        Ok(self.resumed)
    }
}

/// A running process that was an instance.
#[derive(Debug)]
pub struct Resumed {
    /// The pid in our namespace.
    pub pid: i32,
    /// The pid as the program sees it.
    pub pid_inside: i32,
    /// What the program could notice.
    pub changed: Vec<Change>,
    /// What each phase took.
    pub phases: Vec<PhaseTime>,
    /// Bytes of memory loaded before the first instruction.
    pub loaded_bytes: u64,
    /// From the call of [`build`] to the first instruction, without the time the caller took
    /// between [`build`] and [`Built::start`].
    pub first_instruction: Duration,
}

impl Resumed {
    /// Waits for its end, for a resume in the foreground: signals that come in meanwhile are
    /// passed on to it, and the terminal follows it. Nobody else may wait for children.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(self) -> io::Result<Exit> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
