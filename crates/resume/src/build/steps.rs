//! The phases, one function each.

use std::fs::File;
use std::io;

use inject::Arg;
use mem::{AddrRange, MemoryId, PageSet};
use process::{AddressSpace, Change, Credentials, Instance, SharedObjectKind, TaskGroup, Thread};
use sys::pin::Pinned;
use sys::proc::ProcDir;
use sys::ptrace::Regs;
use sys::remote::ProcMem;
use sys::userfault::{Features, Kind, Modes, Userfault};

use super::credentials::{self, Steps};
use super::descriptions::{self, Files};
use super::made::{Made, Place, Wanted, reserve_room};
use super::memory::{self, Targets};
use super::room::Room;
use super::script::{Hand, Script};
use super::slots::Slots;
use super::undo::Undo;
use super::{changes, finish, group, mappings, placement, takeover, threads, verify};
use crate::caller::Caller;
use crate::paths::ours_as_path;
use crate::phases::Phases;
use crate::{LazySession, Observer, Phase, Request, ResumeError, lazy};

/// Everything that stays the same while building.
pub(crate) struct Plan<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) group: &'a TaskGroup,
    pub(crate) space: &'a AddressSpace,
    pub(crate) wanted: &'a Credentials,
    pub(crate) caller: Caller,
    /// The pages of every memory that have content.
    pub(crate) sets: Vec<(MemoryId, PageSet)>,
}

/// A process being built, or built and not yet let go. Dropping it ends it; the fields are
/// dropped in this order, so that no thread is let go before the process is dead.
pub(crate) struct Half {
    pub(super) made: Made,
    /// One for each thread, the leader first.
    pub(super) hands: Vec<Hand>,
    pub(super) room: Room,
    pub(super) place: Place,
    /// The processor its threads are bound to while it is built.
    cpu: Option<u32>,
    /// The registers of each thread, once they are known.
    pub(super) registers: Vec<Regs>,
    pub(super) undo: Undo,
    pub(crate) changed: Vec<Change>,
    pub(crate) loaded_bytes: u64,
}

impl<'a> Plan<'a> {
    fn instance(&self) -> &'a Instance {
        self.request.instance
    }

    fn private(&self) -> PageSet {
        let id = MemoryId::Private(self.group.space.0);
        self.sets.iter().find(|(m, _)| *m == id).map(|(_, set)| set.clone()).unwrap_or_default()
    }

    pub(super) fn files<'f>(&'f self, slots: &'f Slots) -> Files<'f> {
        let (instance, group) = (self.request.instance, self.group);
        let takeover = self.request.takeover;
        Files { instance, group, options: self.request.options, slots, takeover }
    }
}

/// Builds the process at `place`.
pub(crate) fn build_at(
    plan: &Plan<'_>,
    place: Place,
    phases: &mut Phases<'_>,
) -> Result<Half, ResumeError> {
    let slots = Slots::new(plan.instance(), plan.group, plan.caller.highest_descriptor);
    // We and the new process take turns a thousand times: on one processor that is fast. Without
    // it is slower, not wrong.
    let pinned = Pinned::here().ok();
    let mut half = phases.run(Phase::Stub, |_| stub(plan, place))?;
    half.cpu = pinned.as_ref().map(Pinned::cpu);
    phases.run(Phase::Mappings, |_| half.map(plan, &slots))?;
    phases.run(Phase::Threads, |_| half.make_threads(plan))?;
    drop(pinned);
    phases.run(Phase::Memory, |observer| half.load(plan, &slots, observer))?;
    let _pinned = half.pin();
    phases.run(Phase::Process, |_| half.fill_in(plan, &slots))?;
    phases.run(Phase::Finish, |_| half.finish(plan))?;
    phases.run(Phase::Verify, |_| half.verify(plan, &slots))?;
    Ok(half)
}

/// Makes the process and puts it into its session and cgroup.
fn stub(plan: &Plan<'_>, place: Place) -> Result<Half, ResumeError> {
    let group = plan.group;
    let (room, reserved) = reserve_room(&plan.space.mappings, group.threads.len())?;
    let options = plan.request.options;
    let wanted = Wanted {
        place,
        pid: group.pid,
        exit_signal: group.exit_signal,
        new_session: options.detach,
        suspend_seccomp: !plan.wanted.seccomp_filters.is_empty(),
    };
    let (made, stub) = Made::new(&wanted, &room, reserved)?;
    let taken_over = plan.request.takeover.is_some();
    let changed = changes::expected(plan.instance(), group, options, (place, taken_over));
    let hand = Hand { stub, desk: room.main };
    let mut half = Half {
        made,
        hands: vec![hand],
        room,
        place,
        cpu: None,
        registers: Vec::new(),
        undo: Undo::default(),
        changed,
        loaded_bytes: 0,
    };
    half.changed.extend(placement::enter_cgroups(half.made.pid, group));
    let mut script = half.leader(Phase::Stub)?;
    if group.session == group.pid || (options.detach && place == Place::Here) {
        script.call("make a session", libc::SYS_setsid, &[]);
    } else if group.process_group == group.pid {
        let args: [Arg; 2] = [0_u64.into(), 0_u64.into()];
        script.call("make a process group", libc::SYS_setpgid, &args);
    }
    script.run()?;
    Ok(half)
}

impl Half {
    /// The process's pid outside.
    pub(crate) fn pid(&self) -> i32 {
        self.made.pid.raw()
    }

    /// Binds us to the processor the new process is bound to.
    pub(super) fn pin(&self) -> Option<Pinned> {
        Pinned::to(self.cpu?).ok()
    }

    /// Calls in the leader.
    fn leader(&mut self, phase: Phase) -> Result<Script<'_>, ResumeError> {
        let hand = self.hands.first_mut().ok_or_else(|| no_thread(phase))?;
        Ok(Script::new(hand, phase))
    }

    fn map(&mut self, plan: &Plan<'_>, slots: &Slots) -> Result<(), ResumeError> {
        if plan.request.takeover.is_none() {
            self.undo_what_is_made(plan);
        }
        let files = plan.files(slots);
        let whole = self.room.clone();
        let leader = self.hands.first_mut().ok_or_else(|| no_thread(Phase::Mappings))?;
        let rseq = leader.stub.thread().rseq().map_err(|e| ResumeError::Step {
            phase: Phase::Mappings,
            step: "ask for our own rseq area".to_owned(),
            cause: io::Error::other(e),
        })?;
        let mut script = Script::new(leader, Phase::Mappings);
        group::prepare(&mut script, plan.caller.descriptors_max);
        match files.takeover {
            Some(takeover) => takeover::inherit(&mut script, files, takeover),
            None => descriptions::take_callers(&mut script, files),
        }
        group::open_proc(&mut script, slots);
        mappings::clear(&mut script, &whole, rseq);
        mappings::barriers(&mut script, plan.space);
        mappings::vdso(&mut script, plan.space);
        script.run()?;
        // Objects of one kind are made as mappings first, right behind the room.
        let hole = whole.whole.end.0 + mem::PAGE_SIZE;
        if files.takeover.is_none() {
            for (index, object) in (0..).zip(&plan.instance().objects) {
                mappings::object(&mut script, (slots, plan.group), index, object, hole);
                script.run()?;
            }
            descriptions::open_devices(&mut script, files)?;
        }
        group::root(&mut script, plan.group);
        let private = plan.private();
        for mapping in &plan.space.mappings {
            mappings::map(&mut script, slots, mapping, &private);
            script.flush()?;
        }
        script.run()?;
        Ok(())
    }

    /// Notes which paths will be created.
    fn undo_what_is_made(&mut self, plan: &Plan<'_>) {
        for object in &plan.instance().objects {
            if let SharedObjectKind::PosixShm { path, deleted: false, .. } = &object.kind {
                self.undo.creates(ours_as_path(plan.group, path));
            }
        }
        for socket in &plan.instance().sockets {
            if let Some(path) = socket.local.as_ref().and_then(super::unix_path) {
                self.undo.creates(ours_as_path(plan.group, path));
            }
        }
    }

    fn make_threads(&mut self, plan: &Plan<'_>) -> Result<(), ResumeError> {
        let room = self.room.clone();
        let leader = self.hands.first_mut().ok_or_else(|| no_thread(Phase::Threads))?;
        let others = threads::make(leader, &mut self.made, plan.group, &room)?;
        self.hands.extend(others);
        Ok(())
    }

    fn load(
        &mut self,
        plan: &Plan<'_>,
        slots: &Slots,
        observer: &dyn Observer,
    ) -> Result<(), ResumeError> {
        let failed = |step: &str, cause| ResumeError::Step {
            phase: Phase::Memory,
            step: step.to_owned(),
            cause,
        };
        let memory = ProcMem::open_writable(self.made.pid)
            .map_err(|e| failed("open the new process's memory", e))?;
        let mut objects = Vec::new();
        // Objects that are taken over have their content.
        let made = if plan.request.takeover.is_some() { 0 } else { plan.instance().objects.len() };
        for index in 0..u32::try_from(made).unwrap_or(u32::MAX) {
            let number = i32::try_from(slots.object(index)).unwrap_or(-1);
            let pidfd = self.made.pidfd();
            let file = pidfd.map(|pidfd| pidfd.descriptor(number)).transpose();
            let file = file.map_err(|e| failed("reach a shared object", e))?;
            objects.push(file.map(File::from));
        }
        let space = plan.group.space.0;
        let opened = self.open_session(plan)?;
        let (missing, ranges) = match opened {
            Some((userfault, ranges)) => {
                (Some((ranges.iter().map(|r| r.pages()).collect(), userfault)), ranges)
            }
            None => (None, Vec::new()),
        };
        let (sets, first) = before_start(plan, &ranges);
        let targets = Targets { memory, space, objects, missing };
        let pieces = memory::pieces(&sets, plan.request.order);
        let workers = plan.caller.workers(plan.request.options.workers);
        let source = plan.request.source;
        self.loaded_bytes = memory::load(source, &targets, &pieces, workers, observer)?;
        if let (Some((_, userfault)), Some(lazy)) = (targets.missing, plan.request.lazy) {
            let session = LazySession {
                userfault,
                memory: MemoryId::Private(space),
                ranges: ranges.iter().map(|r| r.pages()).collect(),
                loaded_pages: first,
                pid: self.pid(),
            };
            tracing::debug!(bytes = self.loaded_bytes, "loaded before the start");
            let taken = lazy.loader.take_over(session);
            taken.map_err(|e| failed("hand the missing pages over to the fault server", e))?;
        }
        Ok(())
    }

    /// Opens a userfaultfd in the new process and registers what may be loaded later; `None` when
    /// there is nothing of that kind.
    fn open_session(
        &mut self,
        plan: &Plan<'_>,
    ) -> Result<Option<(Userfault, Vec<AddrRange>)>, ResumeError> {
        if plan.request.lazy.is_none() {
            return Ok(None);
        }
        let ranges = lazy::ranges(&plan.space.mappings, &plan.private());
        if ranges.is_empty() {
            return Ok(None);
        }
        let failed = |step: &str, cause| ResumeError::Step {
            phase: Phase::Memory,
            step: step.to_owned(),
            cause,
        };
        let step = "open a userfaultfd";
        let mut script = self.leader(Phase::Memory)?;
        let opened = script.call(step, libc::SYS_userfaultfd, &[Kind::Full.flags().into()]);
        let answers = script.run()?;
        let number = answers.get(opened).map_err(|e| failed(step, io::Error::other(e)))?;
        let pidfd = self.made.pidfd().ok_or_else(|| no_thread(Phase::Memory))?;
        let number_inside = i32::try_from(number).unwrap_or(-1);
        let taken = pidfd.descriptor(number_inside).map_err(|e| failed("take it over", e))?;
        let mut script = self.leader(Phase::Memory)?;
        script.call("close our userfaultfd", libc::SYS_close, &[number.into()]);
        script.run()?;
        let userfault = Userfault::from_fd(taken);
        let other = |e| failed("register memory with a userfaultfd", io::Error::other(e));
        userfault.handshake(Features::SERVE).map_err(other)?;
        for range in &ranges {
            userfault.register(*range, Modes::MissingAndWriteProtect).map_err(other)?;
        }
        Ok(Some((userfault, ranges)))
    }

    fn fill_in(&mut self, plan: &Plan<'_>, slots: &Slots) -> Result<(), ResumeError> {
        let files = plan.files(slots);
        let private = plan.private();
        let mut script = self.leader(Phase::Process)?;
        group::layout(&mut script, plan.space, &plan.group.exe);
        group::settings(&mut script, plan.group)?;
        group::make_timers(&mut script, &plan.group.posix_timers)?;
        for mapping in &plan.space.mappings {
            mappings::finish(&mut script, mapping, &private)?;
        }
        if files.takeover.is_some() {
            takeover::place(&mut script, files)?;
        } else {
            descriptions::open_all(&mut script, files)?;
            for (index, object) in (0..).zip(&plan.instance().objects) {
                mappings::seal(&mut script, slots, index, object);
            }
            descriptions::finish_all(&mut script, files)?;
            descriptions::place(&mut script, files)?;
        }
        script.run()?;
        Ok(())
    }

    fn finish(&mut self, plan: &Plan<'_>) -> Result<(), ResumeError> {
        let own = &plan.caller.scheduling;
        for (hand, thread) in self.hands.iter_mut().zip(&plan.group.threads) {
            let tid = hand.stub.thread().tid();
            self.registers.push(finish::registers(thread, tid)?);
            placement::unbind_for_deadlines(tid, thread, own);
            let mut script = Script::new(hand, Phase::Finish);
            threads::settle(&mut script, plan.group, thread, own)?;
            script.run()?;
        }
        placement::oom_score(self.made.pid, plan.group).map_err(|cause| ResumeError::Step {
            phase: Phase::Finish,
            step: "set the OOM score (CAP_SYS_RESOURCE to lower it)".to_owned(),
            cause,
        })?;
        placement::coredump_filter(self.made.pid, plan.group).map_err(|cause| {
            ResumeError::Step {
                phase: Phase::Finish,
                step: "set the core dump filter".to_owned(),
                cause,
            }
        })?;
        let mut script = self.leader(Phase::Finish)?;
        finish::group(&mut script, plan.group, plan.space)?;
        credentials::filters(&mut script, plan.wanted)?;
        script.run()?;
        let steps = Steps { now: &plan.caller.credentials, wanted: plan.wanted };
        for (hand, thread) in self.hands.iter_mut().zip(&plan.group.threads).rev() {
            let mut script = Script::new(hand, Phase::Finish);
            take_credentials(&mut script, &steps, thread)?;
            script.run()?;
        }
        let ends_with_parent = plan.group.parent_death_signal != 0
            && !(plan.request.options.detach && self.place == Place::Here);
        let signal = if ends_with_parent { plan.group.parent_death_signal } else { 0 };
        let mut script = self.leader(Phase::Finish)?;
        finish::after_credentials(&mut script, plan.group, signal)?;
        script.run()?;
        Ok(())
    }

    fn verify(&mut self, plan: &Plan<'_>, slots: &Slots) -> Result<(), ResumeError> {
        let dir = ProcDir::open(self.made.pid.raw()).map_err(|e| ResumeError::Step {
            phase: Phase::Verify,
            step: "look at the new process".to_owned(),
            cause: io::Error::other(e),
        })?;
        let new = (&dir, self.made.pid);
        let different = verify::compare(new, plan.files(slots), plan.wanted, &self.room)?;
        if different.is_empty() { Ok(()) } else { Err(ResumeError::Differs(different)) }
    }
}

/// What is loaded before the start, and how many pages of it lie in `ranges`, whose other pages
/// come later.
fn before_start(plan: &Plan<'_>, ranges: &[AddrRange]) -> (Vec<(MemoryId, PageSet)>, u64) {
    let own = MemoryId::Private(plan.group.space.0);
    let mut sets = plan.sets.clone();
    let mut first_pages = 0;
    let Some(wanted) = plan.request.lazy else { return (sets, 0) };
    for (_, set) in sets.iter_mut().filter(|(memory, _)| *memory == own) {
        first_pages += lazy::leave_for_later(set, ranges, wanted.first);
    }
    (sets, first_pages)
}

fn take_credentials(
    script: &mut Script<'_>,
    steps: &Steps<'_>,
    thread: &Thread,
) -> Result<(), ResumeError> {
    steps.take(script)?;
    if thread.no_new_privs {
        credentials::no_new_privs(script);
    }
    Ok(())
}

pub(super) fn no_thread(phase: Phase) -> ResumeError {
    let cause = io::Error::other("it has none");
    ResumeError::Step { phase, step: "run calls in the process's first thread".into(), cause }
}
