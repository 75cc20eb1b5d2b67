//! What is read of a frozen program without a call in it.

use std::io;

use process::{Clocks, SeccompFilter, Thread};
use sys::proc::{ProcError, Status, parse_auxv, parse_status};
use sys::ptrace::StoppedThread;
use target::{Frozen, Process};

use super::{StateError, Steps, refuse};
use crate::findings::Findings;
use crate::inspect::{Inspection, inspect};
use crate::{Survey, host, thread};

/// What was read.
pub(super) struct Seen {
    pub(super) found: Inspection,
    pub(super) clocks: Clocks,
    pub(super) threads: Vec<Thread>,
    /// In the order of the threads.
    pub(super) statuses: Vec<Status>,
    pub(super) filters: Vec<SeccompFilter>,
    pub(super) auxv: Vec<u8>,
    pub(super) vdso_hash: [u8; 32],
}

/// Reads everything that can be read from outside.
pub(super) fn read(
    frozen: &Frozen<'_>,
    survey: &Survey,
    findings: &mut Findings,
    steps: &mut Steps,
) -> Result<Seen, StateError> {
    let process = frozen.process();
    let mut kept = survey.kept.clone();
    let clocks = host::clocks(process.dir())?;
    let statuses = statuses(frozen)?;
    steps.done("threads listed");
    let mut found = inspect(process, &survey.options, &statuses, true, &mut kept, findings)?;
    found.group.is_stopped = frozen.was_stopped();
    steps.done("inspected");
    let mut threads = Vec::new();
    for (stopped, status) in frozen.threads().iter().zip(&statuses) {
        threads.push(thread::read(stopped, status, findings)?);
    }
    refuse::unshared(frozen, findings);
    let filters = refuse::filters(frozen, &statuses, findings)?;
    let auxv = auxv(process)?;
    let vdso_hash = vdso_hash(process, &found)?;
    steps.done("threads read");
    Ok(Seen { found, clocks, threads, statuses, filters, auxv, vdso_hash })
}

/// The status of each thread, in their order.
fn statuses(frozen: &Frozen<'_>) -> Result<Vec<Status>, ProcError> {
    let mut buffer = Vec::new();
    let status = |stopped: &StoppedThread| {
        let name = format!("task/{}/status", stopped.tid());
        frozen.process().dir().parse(&name, &mut buffer, parse_status)
    };
    frozen.threads().iter().map(status).collect()
}

fn auxv(process: &Process) -> Result<Vec<u8>, ProcError> {
    let mut bytes = Vec::new();
    process.dir().parse("auxv", &mut bytes, parse_auxv)?;
    Ok(bytes)
}

/// blake3 of the vdso's image; zeros when there is none.
fn vdso_hash(process: &Process, found: &Inspection) -> Result<[u8; 32], StateError> {
    let Some(vdso) = found.space.vdso() else { return Ok([0; 32]) };
    let tid = process.pid().main_thread();
    let failed = |cause| StateError::Thread { tid: tid.raw(), cause };
    let length = usize::try_from(vdso.len()).map_err(|e| failed(io::Error::other(e)))?;
    let mut bytes = vec![0; length];
    sys::remote::read_exact(tid, vdso.start, &mut bytes).map_err(failed)?;
    Ok(*blake3::hash(inject::vdso_image(&bytes)).as_bytes())
}
