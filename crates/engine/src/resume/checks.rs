//! What has to fit before anything is started.

use ::resume::{Mismatch, MismatchKind, Options};
use mem::PageSource;
use process::LineIdentity;
use store::Checkpoint;

use crate::registry::Registry;
use crate::report::BlockerReport;

/// A mismatch as a row of `blockers[]`.
pub(crate) fn mismatch_row(mismatch: &Mismatch) -> BlockerReport {
    BlockerReport {
        kind: mismatch.kind.name(),
        object: mismatch.object.clone(),
        holder: mismatch.cause.clone(),
        lift: mismatch.lift.clone(),
        transient: false,
    }
}

/// Everything that does not fit, in the engine's and the builder's eyes.
pub(crate) fn mismatches(
    checkpoint: &Checkpoint,
    registry: &Registry,
    options: &Options,
) -> Result<Vec<Mismatch>, mem::PageSourceError> {
    let mut pages = 0;
    for memory in checkpoint.memories() {
        pages += checkpoint.pages(memory)?.count().0;
    }
    let instance = checkpoint.instance();
    let mut list = ::resume::check(instance, mem::PageCount(pages), options);
    list.extend(checkpoint.check_twins().into_iter().map(|twin| Mismatch {
        kind: MismatchKind::File,
        object: twin.path.display().to_string(),
        cause: format!("pages of the program are read from it: {}", twin.cause),
        lift: "put the file back as it was".to_owned(),
    }));
    if !options.as_copy {
        list.extend(alive_run(&instance.line, registry));
    }
    Ok(list)
}

/// Another resume of this line that is still alive.
fn alive_run(line: &LineIdentity, registry: &Registry) -> Option<Mismatch> {
    let run = registry.run_of(&line.instance)?;
    let alive = sys::proc::running_since(run.pid) == Some(run.start_time_ticks)
        && crate::host::boot_id().is_some_and(|boot| boot == run.boot_id);
    alive.then(|| Mismatch {
        kind: MismatchKind::AlreadyRunning,
        object: format!("instance {}", line.instance),
        cause: format!("it runs as pid {}, resumed from checkpoint {}", run.pid, run.checkpoint),
        lift: "end it first, or resume a copy that holds no writable file with --as-copy"
            .to_owned(),
    })
}
