//! The verbs of this room.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mem::{MemoryId, PageCount, PageSource};
use process::{AddressSpace, Change, Credentials, Instance, TaskGroup};
use sys::proc::{ProcDir, parse_stat};

use crate::build::{Half, Place, Plan as BuildPlan, build_at, place, taken};
use crate::caller::Caller;
use crate::handover::HandOver;
use crate::phases::Phases;
use crate::{Observer, Options, Phase, PidPolicy, ResumeError, Resumed};

/// What to resume, from where, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The state.
    pub instance: &'a Instance,
    /// Where its pages come from.
    pub source: &'a dyn PageSource,
    /// In which order they are loaded; `None` is the source's own.
    pub order: Option<&'a plan::Plan>,
    /// Resume before everything is loaded; `None` loads it all first.
    pub lazy: Option<crate::Lazy<'a>>,
    /// The frozen process that the new one follows; `None` makes everything anew.
    pub takeover: Option<Takeover<'a>>,
    /// What the user chose.
    pub options: &'a Options,
}

/// A frozen process on this host whose open file descriptions and shared memory the new process
/// takes over, as they are.
#[derive(Clone, Copy, Debug)]
pub struct Takeover<'a> {
    /// The process. It stands still for as long as it is taken over from.
    pub old: &'a target::Process,
    /// The files of the instance's shared objects, by number, open for reading and writing.
    pub objects: &'a [OwnedFd],
}

/// The kernel takes an ended thread out of `/proc` before its id is free again, and that thread
/// does the rest itself: on a busy host it may wait for a processor in between.
const LEAVING_MAX: Duration = Duration::from_secs(1);
/// How often is tried meanwhile: nothing tells when an id is free.
const LOOK: Duration = Duration::from_millis(2);

/// Whether `id` is nobody's any more, though not free yet: neither a process nor a thread has it,
/// and it names no process group or session.
fn is_leaving(id: i32) -> bool {
    let names = |pid: &i32| {
        let stat =
            ProcDir::open(*pid).and_then(|dir| dir.parse("stat", &mut Vec::new(), parse_stat));
        stat.is_ok_and(|stat| stat.pgid == id || stat.sid == id)
    };
    !taken(id) && sys::proc::pids().is_ok_and(|pids| !pids.iter().any(names))
}

/// Builds a stopped process that equals the instance. The calling thread becomes its tracer: what
/// is returned stays on it.
///
/// # Errors
/// Every error leaves nothing behind.
pub fn build<'a>(
    request: Request<'a>,
    observer: &'a dyn Observer,
) -> Result<Built<'a>, ResumeError> {
    let mut phases = Phases::new(observer);
    let plan = phases.run(Phase::Check, |_| prepare(request))?;
    let first = place(request.instance, plan.group, request.options);
    let mut built = build_at(&plan, first, &mut phases);
    if first == Place::Here && request.options.pid == PidPolicy::Auto {
        let begun = Instant::now();
        while let Err(ResumeError::PidTaken { pid }) = built
            && begun.elapsed() < LEAVING_MAX
            && is_leaving(pid)
        {
            std::thread::sleep(LOOK);
            built = build_at(&plan, first, &mut phases);
        }
        if let Err(ResumeError::PidTaken { pid }) = built {
            // Somebody took an id since we looked; a namespace of its own has them all.
            tracing::info!("id {pid} is in use");
            built = build_at(&plan, Place::Own(None), &mut phases);
        }
    }
    let half = built?;
    Ok(Built { half, plan, phases })
}

/// Looks whether it can be done, and gathers what does not change while building.
fn prepare(request: Request<'_>) -> Result<BuildPlan<'_>, ResumeError> {
    let instance = request.instance;
    let mut sets = Vec::new();
    let taken_over =
        |memory: &MemoryId| request.takeover.is_some() && matches!(memory, MemoryId::Shared(_));
    for memory in memories(instance).filter(|memory| !taken_over(memory)) {
        sets.push((memory, request.source.pages(memory)?));
    }
    let pages = PageCount(sets.iter().map(|(_, set)| set.count().0).sum());
    // A process that is here fits this host.
    let mismatches = match request.takeover {
        Some(_) => Vec::new(),
        None => crate::check(instance, pages, request.options),
    };
    if !mismatches.is_empty() {
        return Err(ResumeError::Mismatches(mismatches));
    }
    let (group, space, wanted) = parts(instance).ok_or_else(|| broken("it has no process"))?;
    let caller = Caller::read().map_err(|cause| ResumeError::Step {
        phase: Phase::Check,
        step: "look at this process".to_owned(),
        cause,
    })?;
    Ok(BuildPlan { request, group, space, wanted, caller, sets })
}

/// Every memory of an instance.
pub(crate) fn memories(instance: &Instance) -> impl Iterator<Item = MemoryId> {
    let private = (0..).zip(&instance.spaces).map(|(n, _)| MemoryId::Private(n));
    let shared = (0..).zip(&instance.objects).map(|(n, _)| MemoryId::Shared(n));
    private.chain(shared)
}

/// The one process of an instance, with what it refers to.
pub(crate) fn parts(instance: &Instance) -> Option<(&TaskGroup, &AddressSpace, &Credentials)> {
    let group = instance.groups.first()?;
    let space = instance.spaces.get(group.space.0 as usize)?;
    let credentials = instance.credentials.get(group.credentials.0 as usize)?;
    Some((group, space, credentials))
}

fn broken(why: &str) -> ResumeError {
    ResumeError::Step {
        phase: Phase::Check,
        step: "read the instance".to_owned(),
        cause: std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned()),
    }
}

/// A process that equals the instance and has not run an instruction of it. Dropping it ends it.
pub struct Built<'a> {
    half: Half,
    plan: BuildPlan<'a>,
    phases: Phases<'a>,
}

impl Built<'_> {
    /// The pid in our namespace.
    pub fn pid(&self) -> i32 {
        self.half.pid()
    }

    /// What the program will be able to notice.
    pub fn changed(&self) -> &[Change] {
        &self.half.changed
    }

    /// Lets it run.
    ///
    /// # Errors
    /// When it could not be let go; it is ended then.
    pub fn start(self) -> Result<Resumed, ResumeError> {
        let Self { half, plan, mut phases } = self;
        let pid_inside = plan.group.pid;
        let started = phases.run(Phase::Start, |_| half.loosen(&plan)?.start(&plan))?;
        let at = Instant::now();
        Ok(Resumed::new(started, pid_inside, phases.into_times(), at))
    }
}

impl<'a> Built<'a> {
    /// Gives every thread its registers, so that nothing is left but to hand the program over from
    /// the process it was taken over from.
    ///
    /// # Errors
    /// When that cannot be done; it is ended then.
    pub fn loosen(self) -> Result<HandOver<'a>, ResumeError> {
        let Self { half, plan, mut phases } = self;
        let loose = phases.run(Phase::Start, |_| half.loosen(&plan))?;
        Ok(HandOver::new(loose, plan, phases))
    }
}

impl std::fmt::Debug for Built<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built").field("pid", &self.pid()).finish_non_exhaustive()
    }
}
