//! `plan`: how a program's memory would be divided, without doing anything to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use heat::{Heat, HeatError};
use image::Frame;
use mem::{AddrRange, Mapping, MemoryId, PageSet, Sharing};
use partition::{
    Budget, HeatPages, HeatView, HostCosts, Input, Inventory, InventoryError, Kind, NoHeat,
    Provenance, Region, Stretch, policy,
};
use plan::{PlanFileError, Planned, Thresholds, Tier, Treatment};
use process::InstanceId;
use serde::Serialize;
use store::{Checkpoint, ReadError, ResolveError, Store, StoreError};
use sys::pagemap::{Pagemap, PagemapError, ScanFilter};
use sys::proc::{MapsEntry, ProcError, maps_entries};

use crate::classes::{read_class, resolve_class, store_class};
use crate::failure::{ExitClass, VerbError};
use crate::registry::Registry;
use crate::report::Outcome;
use crate::settings::Settings;
use crate::target_name::{self, TargetError};

/// What `plan` is asked.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// A `.heat` file, a running program, or a checkpoint.
    pub subject: String,
    /// Name of the policy.
    pub policy: String,
    /// The thresholds of `threshold`.
    pub thresholds: Thresholds,
    /// File that gets the plan, for `--plan`.
    pub output: Option<PathBuf>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanVerbError {
    /// No such policy.
    #[error("plan with `{name}`: the policies are {}", partition::POLICY_NAMES.join(", "))]
    NoSuchPolicy {
        /// What was asked for.
        name: String,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no such process.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The process may not be looked into, or is gone.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// Its page tables cannot be read.
    #[error(transparent)]
    Pagemap(#[from] PagemapError),
    /// A file cannot be read or written.
    #[error("{action} {}: {cause}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The bytes are not heat.
    #[error("read heat {}: {cause}", path.display())]
    Heat {
        /// Where they came from.
        path: PathBuf,
        /// What is wrong with them.
        cause: HeatError,
    },
    /// There is nothing in it.
    #[error("plan from {}: it knows no page of any program; profile one while it works", .0.display())]
    Empty(PathBuf),
    /// The memory cannot be divided.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The plan does not fit into a file.
    #[error(transparent)]
    PlanFile(#[from] PlanFileError),
}

impl VerbError for PlanVerbError {
    fn class(&self) -> ExitClass {
        match self {
            Self::NoSuchPolicy { .. } | Self::Target(_) | Self::Empty(_) => ExitClass::Usage,
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Proc(_) | Self::Pagemap(_) => ExitClass::NotPermitted,
            Self::File { cause, .. } => match cause.kind() {
                io::ErrorKind::NotFound => ExitClass::Usage,
                io::ErrorKind::PermissionDenied => ExitClass::NotPermitted,
                _ => ExitClass::Unexpected,
            },
            Self::Heat { cause, .. } => match cause {
                HeatError::Magic => ExitClass::Usage,
                HeatError::NewerVersion { .. } | HeatError::Unknown { .. } => {
                    ExitClass::Incompatible
                }
                _ => ExitClass::Damaged,
            },
            Self::Inventory(_) => ExitClass::Damaged,
            Self::PlanFile(_) => ExitClass::Unexpected,
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A plan as a report.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// The version of this object's shape.
    pub schema: &'static str,
    /// What was planned for.
    pub subject: String,
    /// Which policy.
    pub policy: String,
    /// `threshold_warm` and `threshold_critical`, given or chosen.
    pub threshold_warm: u32,
    /// See `threshold_warm`.
    pub threshold_critical: u32,
    /// Intervals of 100 ms that the counts were taken over; 0: nothing is known of accesses.
    pub window_intervals: u32,
    /// The tiers.
    pub tiers: Vec<TierRow>,
    /// Bytes that would be stored nowhere.
    pub not_stored_bytes: u64,
    /// Bytes that would be stored.
    pub stored_bytes: u64,
    /// How long a checkpoint would stop the program.
    pub pause_us: u64,
    /// Bytes copied meanwhile.
    pub copied_in_pause_bytes: u64,
    /// From the start of a resume to its first answer.
    pub first_answer_us: u64,
    /// Faults on the way to it.
    pub faults_before_answer: u64,
    /// Waiting for pages in the first seconds.
    pub stall_us: u64,
    /// Extents of the plan.
    pub extents: u64,
    /// The most expensive extents.
    pub expensive: Vec<ExpensiveRow>,
    /// What one should know.
    pub notes: Vec<String>,
    /// The plan file, when one was written.
    pub written: Option<String>,
}

/// One tier.
#[derive(Clone, Debug, Serialize)]
pub struct TierRow {
    /// Its name.
    pub tier: &'static str,
    /// Its size.
    pub bytes: u64,
    /// The same as stored.
    pub stored_bytes: u64,
}

/// One extent and what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct ExpensiveRow {
    /// Which memory.
    pub memory: String,
    /// Address, or offset in an object, of its first byte.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
    /// Its tier.
    pub tier: &'static str,
    /// Its treatment.
    pub treatment: &'static str,
    /// Time it adds before the start.
    pub load_us: u64,
    /// Time it is expected to cost in faults.
    pub stall_us: u64,
    /// Why it is as it is.
    pub reason: String,
}

/// What there is to plan for.
struct Subject {
    inventory: Inventory,
    heat: Box<dyn HeatView>,
    notes: Vec<String>,
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
    let subject = find(settings, registry, &request.subject)?;
    let costs = HostCosts::default();
    let input = Input {
        inventory: &subject.inventory,
        heat: &*subject.heat,
        costs: &costs,
        budget: Budget::default(),
        previous: None,
        faults: &[],
    };
    let mut planned = policy.plan(&input);
    planned.notes.extend(subject.notes);
    let mut written = None;
    if let Some(path) = request.output.as_deref().filter(|_| !settings.dry_run) {
        fs::write(path, planned.to_file()?).map_err(on("write", path))?;
        written = Some(path.display().to_string());
    }
    Ok(report(&request.subject, &planned, written))
}

fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlanVerbError {
    let path = path.to_owned();
    move |cause| PlanVerbError::File { action, path, cause }
}

fn find(settings: &Settings, registry: &Registry, subject: &str) -> Result<Subject, PlanVerbError> {
    let path = Path::new(subject);
    let is_heat_file = path.extension().is_some_and(|e| e == "heat");
    if is_heat_file || (subject.contains('/') && path.is_file()) {
        return of_heat_file(path);
    }
    // As everywhere: 12 hex digits are an instance, fewer decimal ones a pid.
    let is_pid = subject.len() < 12 && subject.parse::<u32>().is_ok();
    if is_pid || subject.parse::<InstanceId>().is_ok() {
        return of_process(subject, registry);
    }
    of_checkpoint(&Store::open(&settings.store)?.resolve(subject)?.open()?)
}

fn of_heat_file(path: &Path) -> Result<Subject, PlanVerbError> {
    let bytes = fs::read(path).map_err(on("read", path))?;
    let heat = Heat::decode(&bytes)
        .map_err(|cause| PlanVerbError::Heat { path: path.to_owned(), cause })?;
    let pages = HeatPages::new(&heat).ok_or_else(|| PlanVerbError::Empty(path.to_owned()))?;
    let mut notes =
        vec!["planned from heat alone: pages of which nothing is known are left out".to_owned()];
    if pages.unknown_pages > 0 {
        notes.push(format!("nothing is known of {} mapped pages", pages.unknown_pages));
    }
    Ok(Subject { inventory: pages.inventory, heat: Box::new(pages.heat), notes })
}

const NOTHING_KNOWN: &str =
    "nothing is known of accesses: kinds of memory alone decide; `rekindle profile` learns more";

/// The private memory of a running program. It is only looked at; it runs on meanwhile.
fn of_process(subject: &str, registry: &Registry) -> Result<Subject, PlanVerbError> {
    let found = target_name::find(subject, registry)?;
    let dir = found.process.dir();
    let pagemap = Pagemap::open(dir)?;
    let mut text = Vec::new();
    let regions = dir.parse("maps", &mut text, |text| {
        maps_entries(text)
            .filter_map(|entry| entry.map(|entry| private_region(&entry)).transpose())
            .collect::<Result<Vec<_>, _>>()
    })?;
    let mut set = PageSet::new();
    for region in &regions {
        let range: AddrRange = region.pages.addrs();
        pagemap.scan(range, &ScanFilter::PRIVATE_CONTENT, |run| set.insert(run.range.pages()))?;
    }
    let inventory = Inventory::new(vec![(MemoryId::Private(0), set)], regions)?;
    let notes = vec![
        NOTHING_KNOWN.to_owned(),
        "private memory only: shared objects are seen when a checkpoint is taken".to_owned(),
    ];
    Ok(Subject { inventory, heat: Box::new(NoHeat), notes })
}

/// The region of a line of maps, unless it holds no private pages.
fn private_region(entry: &MapsEntry<'_>) -> Option<Stretch<Region>> {
    let name = entry.name();
    let kind = match name.as_slice() {
        b"[heap]" => Kind::Heap,
        b"[stack]" => Kind::Stack,
        b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" | b"[vsyscall]" | b"[uprobes]" => return None,
        _ if entry.sharing == Sharing::Shared => return None,
        _ if entry.has_inode() => Kind::FileData,
        _ => Kind::of_anonymous(entry.range.pages().count().0),
    };
    let value = Region {
        kind,
        writable: entry.protection.write,
        passing: false,
        name: String::from_utf8_lossy(&name).into(),
    };
    Some(Stretch { memory: MemoryId::Private(0), pages: entry.range.pages(), value })
}

/// The pages of a checkpoint.
fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Subject, PlanVerbError> {
    let instance = checkpoint.instance();
    let mut regions = Vec::new();
    for (space, number) in instance.spaces.iter().zip(0u32..) {
        let private = |mapping: &Mapping| Stretch::of_mapping(number, mapping);
        regions.extend(space.mappings.iter().filter_map(private));
    }
    for (object, number) in instance.objects.iter().zip(0u32..) {
        regions.push(Stretch::of_object(number, object.size_bytes));
    }
    let mut sets = std::collections::BTreeMap::<MemoryId, PageSet>::new();
    let mut provenance = Vec::new();
    let mut frames = checkpoint.frames_in_load_order();
    frames.sort_unstable_by_key(|frame| (frame.memory, frame.pages.start));
    for frame in frames {
        sets.entry(frame.memory).or_default().insert(frame.pages);
        if frame.treatment == Treatment::Zero {
            let Frame { memory, pages, .. } = frame;
            provenance.push(Stretch { memory, pages, value: Provenance::Zero });
        }
    }
    let inventory =
        Inventory::new(sets.into_iter().collect(), regions)?.with_provenance(provenance);
    Ok(Subject { inventory, heat: Box::new(NoHeat), notes: vec![NOTHING_KNOWN.to_owned()] })
}

fn report(subject: &str, planned: &Planned, written: Option<String>) -> PlanReport {
    let sums = &planned.predictions;
    let row = |tier: Tier, bytes, stored_bytes| TierRow { tier: tier.name(), bytes, stored_bytes };
    let expensive = sums.expensive.iter().map(|e| ExpensiveRow {
        memory: e.memory.to_string(),
        start: e.pages.addrs().start.0,
        bytes: e.pages.bytes(),
        tier: e.tier.name(),
        treatment: e.treatment.name(),
        load_us: e.load_us,
        stall_us: e.stall_us,
        reason: e.reason.as_ref().to_owned(),
    });
    PlanReport {
        schema: "rekindle.plan_report/1",
        subject: subject.to_owned(),
        policy: planned.policy.clone(),
        threshold_warm: planned.thresholds.warm,
        threshold_critical: planned.thresholds.critical,
        window_intervals: planned.window_intervals,
        tiers: vec![
            row(Tier::Critical, sums.critical_bytes, sums.critical_stored_bytes),
            row(Tier::Warm, sums.warm_bytes, sums.warm_stored_bytes),
            row(Tier::Cold, sums.cold_bytes, sums.cold_stored_bytes),
        ],
        not_stored_bytes: sums.not_stored_bytes,
        stored_bytes: sums.stored_bytes(),
        pause_us: sums.pause_us,
        copied_in_pause_bytes: sums.copied_in_pause_bytes,
        first_answer_us: sums.first_answer_us,
        faults_before_answer: sums.faults_before_answer,
        stall_us: sums.stall_us,
        extents: u64::try_from(planned.plan.extents.len()).unwrap_or(u64::MAX),
        expensive: expensive.collect(),
        notes: planned.notes.clone(),
        written,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn ask(
        subject: &str,
        policy: &str,
        output: Option<PathBuf>,
    ) -> Result<PlanReport, PlanVerbError> {
        let settings = Settings {
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
        let planned = Planned::from_file(&fs::read(&file).unwrap()).unwrap();
        let of_plan: u64 = Tier::ALL.iter().map(|tier| planned.plan.tier_bytes(*tier)).sum();
        assert_eq!(of_plan, bytes);
    }

    #[test]
    fn what_cannot_be_planned_is_named() {
        for (subject, policy, word) in [
            ("1", "best", "the policies are adaptive"),
            ("/no/such.heat", "adaptive", "/no/such.heat"),
            ("no-such-checkpoint", "adaptive", "/nonexistent"),
        ] {
            let refused = ask(subject, policy, None).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
            assert_eq!(refused.class(), ExitClass::Usage, "{refused}");
        }
    }
}
