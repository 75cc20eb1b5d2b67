//! `plan`: how a program's memory would be divided, without doing anything to it.

mod error;
mod report;
mod subject;

use std::path::PathBuf;

use partition::{Budget, HostCosts, Input, Policy, policy};
use plan::{Grant, Planned, Thresholds, Tier};

pub use error::PlanVerbError;
pub use report::{ExpensiveRow, PlanReport, TierRow};
pub use subject::HeatChoice;
pub(crate) use subject::{inventory, look, seen_then, with_heat};

use crate::checkpoint::lossy;
use crate::heat_map::write_output;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::target_name;

/// What `plan` is asked.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// A `.heat` file, a running program, or a checkpoint.
    pub subject: String,
    /// Name of the policy.
    pub policy: String,
    /// The thresholds of `threshold`.
    pub thresholds: Thresholds,
    /// Ranges of a running program in which a loss is allowed, as in a checkpoint's request.
    pub lossy: Vec<String>,
    /// File that gets the plan, for `--plan`.
    pub output: Option<PathBuf>,
}

/// `plan`: divides the memory of what the request names, and writes the plan file if asked to.
/// Nothing is done to the program.
///
/// # Errors
/// When it names nothing, or that cannot be read.
pub fn plan(
    settings: &Settings,
    registry: &Registry,
    request: &PlanRequest,
) -> Result<PlanReport, PlanVerbError> {
    let policy = policy(&request.policy, request.thresholds)
        .ok_or_else(|| PlanVerbError::NoSuchPolicy { name: request.policy.clone() })?;
    let subject = subject::find(settings, registry, &request.subject)?;
    let mut planned = divide(&*policy, &subject);
    planned.notes.extend(subject.notes);
    if !request.lossy.is_empty() {
        declare(&mut planned, request, registry)?;
    }
    let mut written = None;
    if let Some(path) = request.output.as_deref().filter(|_| !settings.dry_run) {
        write_output(path, &planned.to_file()?)?;
        written = Some(path.display().to_string());
    }
    Ok(report::report(&request.subject, &planned, written))
}

/// Writes down where a loss is allowed, and has pages warm all of which it is.
fn declare(
    planned: &mut Planned,
    request: &PlanRequest,
    registry: &Registry,
) -> Result<(), PlanVerbError> {
    let found = target_name::find(&request.subject, registry)?;
    let named = lossy::find(&found.process, &request.lossy);
    let named = named.map_err(|error| PlanVerbError::Lossy(Box::new(error)))?;
    if request.policy == partition::Adaptive.name() {
        let before = planned.plan.tier_bytes(Tier::Critical);
        planned.plan = lossy::warmed(std::mem::take(&mut planned.plan), &named);
        let moved = before - planned.plan.tier_bytes(Tier::Critical);
        planned.predictions.critical_bytes -= moved;
        planned.predictions.warm_bytes += moved;
    }
    let bytes: u64 = named.iter().map(|named| named.range.len()).sum();
    planned.notes.push(format!(
        "a loss is allowed in {bytes} bytes; what is stored is predicted as if nothing were lost"
    ));
    let (instance, ranges) = (found.line.instance.to_string(), request.lossy.clone());
    planned.lossy = Some(Grant { instance, ranges });
    Ok(())
}

/// How the policy that is taken by default divides `subject`.
pub(crate) fn divided(subject: &subject::Subject) -> Planned {
    divide(&partition::Adaptive, subject)
}

fn divide(policy: &dyn Policy, subject: &subject::Subject) -> Planned {
    policy.plan(&Input {
        inventory: &subject.inventory,
        heat: &*subject.heat,
        costs: &HostCosts::default(),
        budget: Budget::default(),
        previous: None,
        faults: &[],
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::failure::{ExitClass, VerbError};

    fn ask(
        subject: &str,
        policy: &str,
        output: Option<PathBuf>,
    ) -> Result<PlanReport, PlanVerbError> {
        let settings = Settings {
            passing: None,
            store: PathBuf::from("/nonexistent"),
            timeout: None,
            wait: std::time::Duration::ZERO,
            dry_run: false,
            started: Instant::now(),
        };
        let request = PlanRequest {
            subject: subject.to_owned(),
            policy: policy.to_owned(),
            thresholds: Thresholds::default(),
            lossy: Vec::new(),
            output,
        };
        plan(&settings, &Registry::of_this_user(), &request)
    }

    #[test]
    fn a_running_program_is_planned_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program.plan");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let report = ask(&child.id().to_string(), "adaptive", Some(file.clone()));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let report = report.unwrap();
        assert!(ended.is_none(), "it runs on");
        let bytes: u64 = report.tiers.iter().map(|row| row.bytes).sum();
        assert!(bytes > 0);
        let planned = Planned::from_file(&std::fs::read(&file).unwrap()).unwrap();
        let of_plan: u64 = Tier::ALL.iter().map(|tier| planned.plan.tier_bytes(*tier)).sum();
        assert_eq!(of_plan, bytes);
    }

    #[test]
    fn what_cannot_be_planned_is_named() {
        for (subject, policy, word) in [
            ("1", "best", "the policies are adaptive"),
            ("/no/such.heat", "adaptive", "/no/such.heat"),
            ("no-such-checkpoint", "adaptive", "a reference is an id"),
            ("0123456789abcdef", "adaptive", "/nonexistent"),
        ] {
            let refused = ask(subject, policy, None).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
            assert_eq!(refused.class(), ExitClass::Usage, "{refused}");
        }
    }
}
