//! Back to the moment of the update, when the program does not answer afterwards: the new process is
//! ended and the checkpoint that was made on the way is resumed.

use std::time::Instant;

use ::resume::MismatchKind;
use process::{DescriptorTable, Instance, LineIdentity};
use store::Store;
use target::FreezeOptions;

use super::END_LIMIT;
use super::replace::running;
use crate::ResumeOptions;
use crate::events::Observer;
use crate::phase::Phases;
use crate::registry::{InstanceLock, Registry};
use crate::resume::{Load, ResumeRequest, mismatches, resume_opened};
use crate::settings::{Settings, workers};

/// Why the program was not taken back.
#[derive(Debug)]
pub(super) enum NotRewound {
    /// It cannot be: the new process runs on.
    Impossible(String),
    /// The new process has ended, and the checkpoint could not be resumed.
    Lost(String),
}

/// Ends the process of `line`, unless it has ended by itself, and resumes checkpoint `id`, which it
/// was updated from, when nothing that both know has moved since. Gives the new pid.
pub(super) fn rewind(
    settings: &Settings,
    (line, id): (&LineIdentity, &str),
    lock: InstanceLock,
    registry: &Registry,
    observer: &dyn Observer,
) -> Result<i32, NotRewound> {
    let new = running(line).map_err(|error| NotRewound::Impossible(error.to_string()))?;
    let runs = || new.as_ref().is_some_and(|new| new.is_alive().unwrap_or(true));
    let failed = |why: &dyn std::fmt::Display| match runs() {
        true => NotRewound::Impossible(why.to_string()),
        false => NotRewound::Lost(why.to_string()),
    };
    let store = Store::open(&settings.store).map_err(|error| failed(&error))?;
    let found = store.resolve(id).map_err(|error| failed(&error))?;
    let checkpoint = found.open().map_err(|error| failed(&error))?;
    let options = ResumeOptions { detach: true, workers: workers(), ..ResumeOptions::default() };
    // Nothing moves any more while it is looked at.
    let freeze = FreezeOptions { deadline: Instant::now() + END_LIMIT, suspend_seccomp: false };
    let frozen = match new.as_ref().map(|new| new.freeze(freeze)) {
        Some(Err(error)) if runs() => return Err(failed(&error)),
        other => other.and_then(Result::ok),
    };
    let list = mismatches(&checkpoint, registry, &options).map_err(|error| failed(&error))?;
    // It is the new process itself that is alive, and has the pid, the addresses and the memory.
    let own = [
        MismatchKind::AlreadyRunning,
        MismatchKind::Pid,
        MismatchKind::Address,
        MismatchKind::Memory,
    ];
    let stays = list.iter().filter(|mismatch| !own.contains(&mismatch.kind));
    let mut reasons: Vec<String> =
        stays.map(|mismatch| format!("{}: {}", mismatch.object, mismatch.cause)).collect();
    reasons.extend(leads_outside(checkpoint.instance()));
    if !reasons.is_empty() {
        return Err(failed(&reasons.join("; ")));
    }
    // Once it has ended nothing is to keep it from being resumed.
    if let Some(signal) = sys::interrupt::interrupted_by()
        && runs()
    {
        return Err(failed(&format!("interrupted by signal {signal}")));
    }
    if let Some(Err(error)) = frozen.map(|frozen| frozen.end(Instant::now() + END_LIMIT))
        && runs()
    {
        return Err(failed(&error));
    }
    let request = ResumeRequest {
        reference: id.to_owned(),
        options,
        probe: None,
        probe_timeout: END_LIMIT,
        load: Load::Lazy,
    };
    let phases = Phases::new(observer, None);
    match resume_opened(settings, &request, (checkpoint, lock), registry, observer, phases) {
        Ok(revived) => {
            let pid = revived.and_then(|revived| revived.report.pid);
            pid.ok_or_else(|| NotRewound::Lost("nothing was resumed".to_owned()))
        }
        Err(error) => Err(NotRewound::Lost(error.to_string())),
    }
}

/// A descriptor whose other end is outside: nobody knows what went through it since, and a
/// resume would replace it.
fn leads_outside(instance: &Instance) -> Option<String> {
    let table = instance.tables.first().map(|table: &DescriptorTable| &table.descriptors)?;
    let outside = table.iter().find(|descriptor| {
        let description = instance.descriptions.get(descriptor.description.0 as usize);
        description.is_some_and(|description| description.external)
    })?;
    Some(format!("descriptor {} leads outside of the program", outside.fd))
}
