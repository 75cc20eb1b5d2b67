//! What is read in the same way while the program runs and when it is frozen.

use std::io;
use std::sync::Arc;

use process::{AddressSpace, Instance, Namespaces, StateKind, TaskGroup};
use sys::clone::Bystander;
use sys::kcmp::{TaskObject, tasks_share};
use sys::proc::{ProcError, Stat, Status, parse_stat};
use sys::sysvipc::Operated;
use sys::task::Tid;
use target::Process;

use crate::credentials::Own;
use crate::descriptors::{self, DescriptorError, Descriptors, KnownDescriptors};
use crate::findings::{Findings, text};
use crate::flags::Lister;
use crate::group::{self, Ids};
use crate::objects::Objects;
use crate::outside::Outside;
use crate::space::{self, KnownFiles, Space};
use crate::{Options, credentials, parent};

/// Why a program could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// Something under `/proc`.
    #[error("look at the program: {0}")]
    Proc(#[from] ProcError),
    /// Its descriptors.
    #[error("look at the program: {0}")]
    Descriptors(#[from] DescriptorError),
    /// A kernel facility is missing.
    #[error("look at the program: {what}: {cause}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        cause: io::Error,
    },
}

/// Results that are kept from a look for the freeze, because they take too long there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) lister: Lister,
    pub(crate) files: KnownFiles,
    pub(crate) outside: Outside,
    pub(crate) descriptors: KnownDescriptors,
    /// What about ourselves the program is compared with.
    pub(crate) own: Option<Own>,
    /// Namespaces that were found to be no obstacle.
    pub(crate) namespaces: Option<Namespaces>,
    /// A process that the program may look into unless it is restricted.
    pub(crate) bystander: Option<Arc<Bystander>>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) stat: Stat,
    pub(crate) ids: Ids,
    pub(crate) space: Space,
    pub(crate) objects: Objects,
    pub(crate) descriptors: Descriptors,
    pub(crate) group: TaskGroup,
    pub(crate) namespaces: Namespaces,
}

impl Inspection {
    /// It as the graph that a checkpoint has: without what only a program that stands still tells.
    pub(crate) fn seen(self) -> Instance {
        let Self { space, objects, descriptors, group, namespaces, .. } = self;
        Instance {
            groups: vec![group],
            spaces: vec![AddressSpace { mappings: space.mappings, ..AddressSpace::default() }],
            objects: objects.into_parts().0,
            tables: vec![descriptors.table],
            descriptions: descriptors.descriptions,
            pipes: descriptors.pipes,
            sockets: descriptors.sockets,
            terminals: descriptors.terminals,
            namespaces: vec![namespaces],
            ..Instance::default()
        }
    }
}

/// Reads everything that needs no stop. At the freeze (`frozen`) it is exact; before it is good
/// enough to find what stands in the way. `statuses` are those of the threads, the first thread
/// first.
pub(crate) fn inspect(
    process: &Process,
    options: &Options,
    statuses: &[Status],
    frozen: bool,
    kept: &mut Kept,
    findings: &mut Findings,
) -> Result<Inspection, LookError> {
    let dir = process.dir();
    let stat = dir.parse("stat", &mut Vec::new(), parse_stat)?;
    let gone = || ProcError::Gone { path: process.pid().to_string() };
    let status = statuses.first().ok_or_else(gone)?;
    parent::look(process, &stat, statuses, options, findings)?;
    refuse_status(status, findings);
    refuse_semaphores(process, statuses, kept.bystander.as_deref(), findings)?;
    let mut ids = Ids::new(&stat, status);
    let inside = |status: &Status| status.ns_tid.last().copied().unwrap_or(status.tid);
    ids.pairs.extend(statuses.iter().map(|status| (status.tid, inside(status))));
    let own = match kept.own.take() {
        Some(own) => own,
        None => Own::read()?,
    };
    let namespaces = credentials::namespaces(dir, &own)?;
    if kept.namespaces.as_ref() != Some(&namespaces) {
        let before = findings.blockers.len();
        credentials::refuse_namespaces(dir, &namespaces, findings)?;
        kept.namespaces = (findings.blockers.len() == before).then(|| namespaces.clone());
    }
    let group = group::read(process, &stat, status, &ids, &own, findings)?;
    kept.own = Some(own);
    let mut objects = Objects::new().map_err(|cause| LookError::Kernel {
        what: "make a memfd to know the kernel's tmpfs by",
        cause,
    })?;
    if !frozen {
        kept.lister = Lister::new(process.pid().main_thread());
    }
    let entries = kept.lister.list(dir)?;
    let allow = options.served;
    let space = space::read(dir, &entries, &mut objects, &mut kept.files, allow, findings)?;
    let descriptors = descriptors::read(descriptors::Context {
        process,
        options,
        frozen,
        ids: &ids.pairs,
        objects: &mut objects,
        outside: &mut kept.outside,
        known: &mut kept.descriptors,
        findings,
    })?;
    objects.refuse(&kept.outside, options.takeover, findings);
    for sharer in kept.outside.sharers() {
        let object = "address space or descriptor table shared with another process";
        let lift = "end the other process, or wait until it has executed another program";
        findings.block_by(StateKind::Unknown, object, sharer.clone(), lift);
    }
    for tracee in kept.outside.tracees() {
        let lift = "the program has to let go of what it traces";
        findings.block(StateKind::Tracer, format!("its hold on {tracee}"), lift);
    }
    Ok(Inspection { stat, ids, space, objects, descriptors, group, namespaces })
}

fn refuse_status(status: &Status, findings: &mut Findings) {
    if status.thread_features.split(|b| *b == b' ').any(|word| word == b"shstk") {
        let lift = "start it without user shadow stacks (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)";
        findings.block(StateKind::ShadowStack, "the process", lift);
    }
    if status.untag_mask != u64::MAX {
        let lift = "run the program without address tagging (LAM)";
        findings.block(StateKind::Unknown, "tagged addresses", lift);
    }
    if status.pinned_bytes != 0 {
        let object = format!("{} bytes of memory pinned for a device", status.pinned_bytes);
        let lift = "the program has to unregister the memory (RDMA, vfio, io_uring)";
        findings.block(StateKind::DeviceMapping, object, lift);
    }
    if status.core_dumping {
        let lift = "it is ending; wait for its core dump";
        findings.block(StateKind::Process, format!("{} dumps core", text(&status.name)), lift);
    }
    if status.seccomp_mode == 1 {
        let lift = "strict mode cannot be worked on; run the program without it";
        findings.block(StateKind::Seccomp, "seccomp strict mode", lift);
    }
}

/// Refuses System V semaphore adjustments, which the end of the process would carry out. Only who
/// made one, or a thread, has a list of them (`copy_semundo`, kernel/sem.c); nobody may read it.
fn refuse_semaphores(
    process: &Process,
    statuses: &[Status],
    bystander: Option<&Bystander>,
    findings: &mut Findings,
) -> Result<(), LookError> {
    // Threads that were made without `CLONE_SYSVSEM` have lists of their own.
    let has_none = |one: &Bystander, status: &Status| {
        let (ours, theirs) = (one.pid().main_thread(), Tid::new(status.tid));
        theirs.is_some_and(|tid| tasks_share(tid, ours, TaskObject::SysvSem).unwrap_or(false))
    };
    if bystander.is_some_and(|one| statuses.iter().all(|status| has_none(one, status))) {
        return Ok(());
    }
    let operated = sys::sysvipc::operated(process.pid())
        .map_err(|cause| LookError::Kernel { what: "list System V semaphores", cause })?;
    let adjusts = match operated {
        Operated::Never => false,
        Operated::ByOthers => statuses.len() == 1 && bystander.is_some(),
        Operated::ByIt => true,
    };
    if adjusts {
        let lift = "the program has to remove its System V semaphores, or use POSIX ones";
        findings.block(StateKind::SysvIpc, "System V semaphores it operates on", lift);
    }
    Ok(())
}
