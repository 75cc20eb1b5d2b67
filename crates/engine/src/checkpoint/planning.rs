//! How a checkpoint's memory is divided: decided before the pause, from what is known by then.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use partition::{Budget, FaultLog, HostCosts, Input, policy};
use plan::{
    Extent, Grant, PLAN_FILE_BYTES_MAX, Plan, PlanFileError, Planned, Thresholds, Tier, Treatment,
};
use process::InstanceId;
use store::Store;
use target::Process;

use crate::events::Observer;
use crate::heat_map::HeatMapError;
use crate::plan_verb::{HeatChoice, PlanVerbError, look};

/// How memory is to be divided.
#[derive(Clone, Debug, Default)]
pub struct PlanChoice {
    /// A plan that `plan -o` wrote; nothing else counts then.
    pub file: Option<PathBuf>,
    /// The plan of a watch, for what it names. Without one that can be read, as if there were none.
    pub watched: Option<PathBuf>,
    /// What is known of accesses.
    pub heat: HeatChoice,
    /// Name of the policy; `None` is the default one where anything is known of accesses.
    pub policy: Option<String>,
    /// The thresholds of `threshold`.
    pub thresholds: Thresholds,
}

impl PlanChoice {
    /// Whether rekindle divides as it finds best: nobody named a plan or a rule.
    pub(super) fn is_free(&self) -> bool {
        self.file.is_none() && self.policy.as_deref().is_none_or(|policy| policy == DEFAULT)
    }
}

/// A plan, and who made it.
pub(super) struct Chosen {
    pub(super) plan: Plan,
    /// The policy.
    pub(super) by: String,
}

/// The policy where anything is known.
const DEFAULT: &str = "adaptive";
/// What is done where nothing is known of accesses: what every resume needs is critical, the rest
/// is loaded while the program runs.
const BOOTSTRAP: &str = "bootstrap";

/// What a plan is made from.
pub(super) struct Known<'a> {
    pub(super) process: &'a Process,
    pub(super) instance: &'a InstanceId,
    pub(super) store: &'a Store,
    /// The plan of the checkpoint before.
    pub(super) previous: Option<&'a Plan>,
    /// What earlier resumes missed, the newest first.
    pub(super) faults: &'a [FaultLog],
}

/// The plan that `choice` asks for, by place. The program is only looked at.
pub(super) fn choose(
    choice: &PlanChoice,
    known: &Known<'_>,
    observer: &dyn Observer,
) -> Result<Chosen, PlanVerbError> {
    let mut chosen = decide(choice, known, observer)?;
    // What is left to be done with it is done while the program stands still.
    chosen.plan.sort_by_place();
    Ok(chosen)
}

fn decide(
    choice: &PlanChoice,
    known: &Known<'_>,
    observer: &dyn Observer,
) -> Result<Chosen, PlanVerbError> {
    if let Some(path) = &choice.file {
        let planned = read(path)?;
        return Ok(Chosen { plan: planned.plan, by: planned.policy });
    }
    match choice.watched.as_deref().map(read).transpose() {
        Ok(Some(Planned { plan, policy, .. })) => {
            let plan = known.previous.map_or(plan.clone(), |previous| plan.beside(previous));
            return Ok(Chosen { plan, by: policy });
        }
        Ok(None) => {}
        Err(error) => observer.note(&format!("the plan of the watch is left out: {error}")),
    }
    let subject = look(known.process, known.instance, Some(known.store), &choice.heat)?;
    for note in &subject.notes {
        tracing::debug!("{note}");
    }
    let is_known = subject.heat.window_intervals() > 0 || !known.faults.is_empty();
    let name = match &choice.policy {
        Some(name) => name.as_str(),
        None if is_known => DEFAULT,
        None => {
            let plan = bootstrap(subject.inventory.seeds());
            return Ok(Chosen { plan, by: BOOTSTRAP.to_owned() });
        }
    };
    let policy = policy(name, choice.thresholds)
        .ok_or_else(|| PlanVerbError::NoSuchPolicy { name: name.to_owned() })?;
    if !is_known {
        observer.note("nothing is known of the program's accesses: kinds of memory alone decide");
    }
    let planned = policy.plan(&Input {
        inventory: &subject.inventory,
        heat: &*subject.heat,
        costs: &HostCosts::default(),
        budget: Budget::default(),
        previous: known.previous,
        faults: known.faults,
    });
    for note in &planned.notes {
        tracing::debug!("{note}");
    }
    // What is not there yet, or not any more, keeps the tier that it had.
    let plan = match known.previous {
        Some(previous) => planned.plan.beside(previous),
        None => planned.plan,
    };
    Ok(Chosen { plan, by: planned.policy })
}

/// What earlier resumes of `instance` had to wait for, the newest first. Logs are advice: one that
/// cannot be read is left out.
pub(crate) fn fault_logs(
    store: &Store,
    instance: &InstanceId,
    observer: &dyn Observer,
) -> Vec<FaultLog> {
    let logs = store.faults(instance).unwrap_or_else(|error| {
        observer.note(&format!("what earlier resumes missed is left out: {error}"));
        Vec::new()
    });
    let log = |(name, bytes): (String, Vec<u8>)| match FaultLog::from_text(&bytes) {
        Ok(log) => Some(log),
        Err(error) => {
            observer.note(&format!("the fault log {name} is left out: {error}"));
            None
        }
    };
    logs.into_iter().filter_map(log).filter(|log| !log.faults.is_empty()).collect()
}

/// Nothing is named but what is loaded before the start anyway.
fn bootstrap(seeds: &[partition::Stretch<Arc<str>>]) -> Plan {
    let extent = |(seed, load_order): (&partition::Stretch<Arc<str>>, u32)| Extent {
        memory: seed.memory,
        pages: seed.pages,
        tier: Tier::Critical,
        treatment: Treatment::Zstd,
        load_order,
        reason: Arc::clone(&seed.value),
    };
    Plan { extents: seeds.iter().zip(0..).map(extent).collect() }
}

/// The ranges in which the plan file that `choice` names allows a loss in `instance`.
pub(super) fn declared(
    choice: &PlanChoice,
    instance: &InstanceId,
) -> Result<Vec<String>, PlanVerbError> {
    let Some(path) = choice.file.as_deref() else { return Ok(Vec::new()) };
    match read(path)?.lossy {
        None => Ok(Vec::new()),
        Some(grant) if grant.instance == instance.to_string() => Ok(grant.ranges),
        Some(Grant { instance: of, .. }) => {
            let (path, this) = (path.to_owned(), instance.to_string());
            Err(PlanVerbError::OtherInstance { path, of, this })
        }
    }
}

/// Reads a plan file.
fn read(path: &Path) -> Result<Planned, PlanVerbError> {
    let failed = |cause| HeatMapError::File { action: "read", path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    // One more, so that a file that is too long is seen to be.
    file.take(PLAN_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let bad = |cause: PlanFileError| PlanVerbError::BadPlan { path: path.to_owned(), cause };
    Planned::from_file(&bytes).map_err(bad)
}
