//! `inspect` of a checkpoint.

use mem::Mapping;
use plan::Tier;
use serde::Serialize;
use store::{Checkpoint, Found};

use super::Part;
use super::heat::{self, HeatReport};
use super::rows::{
    ExtentRow, FdRow, MapRow, ThreadRow, extent_rows, fd_rows, map_rows, text, thread_rows, words,
};
use crate::report::{LossRow, Untouched};

/// What `inspect` shows. Parts that were not asked for are absent.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// `rekindle.inspect/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Which checkpoint.
    pub id: String,
    /// The instance.
    pub instance: String,
    /// The pid as the program sees it.
    pub pid_inside: i32,
    /// When it was made, nanoseconds since the epoch.
    pub created_ns: u64,
    /// The command line.
    pub command: Vec<String>,
    /// The executable.
    pub exe: String,
    /// Whether the instance was ended after it.
    pub stopped: bool,
    /// The kernel it was made on.
    pub kernel: String,
    /// Its CPU.
    pub cpu: String,
    /// Bytes it takes in the store.
    pub stored_bytes: u64,
    /// The checkpoint that holds pages of it; null when it holds all itself.
    pub parent: Option<String>,
    /// How many checkpoints stand behind it.
    pub depth: u16,
    /// Bytes of pages that those hold.
    pub referenced_bytes: u64,
    /// What each tier holds: critical, warm, cold.
    pub tiers: Vec<StoredTierRow>,
    /// Ranges in which memory is only near to what the program had.
    pub loss: Vec<LossRow>,
    /// Measured figures.
    pub figures: std::collections::BTreeMap<String, u64>,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Vec<ThreadRow>>,
    /// Mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<Vec<MapRow>>,
    /// Descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fds: Option<Vec<FdRow>>,
    /// Extents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<Vec<ExtentRow>>,
    /// What is known of accesses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatReport>,
}

/// What a tier of a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredTierRow {
    /// Its name.
    pub tier: &'static str,
    /// Its pages.
    pub pages: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// What those that are stored in the checkpoint take.
    pub stored_bytes: u64,
    /// Bytes of those that earlier checkpoints hold.
    pub referenced_bytes: u64,
    /// Bytes of those that are stored nowhere, because they can be made again.
    pub not_stored_bytes: u64,
}

/// What `found`, which is opened, holds.
pub(super) fn report(found: &Found, checkpoint: &Checkpoint, part: Option<Part>) -> InspectReport {
    let instance = checkpoint.instance();
    let summary = checkpoint.summary();
    let group = instance.groups.first();
    let show = |wanted: Part| part == Some(wanted);
    InspectReport {
        schema: "rekindle.inspect/1",
        untouched: Untouched::default(),
        id: checkpoint.id().to_string(),
        instance: instance.line.instance.to_string(),
        pid_inside: group.map(|g| g.pid).unwrap_or_default(),
        created_ns: summary.created_ns,
        command: words(&summary.command),
        exe: group.map(|g| text(&g.exe)).unwrap_or_default(),
        stopped: summary.stopped,
        kernel: instance.host.kernel_release.clone(),
        cpu: instance.host.cpu_name.clone(),
        stored_bytes: checkpoint.stored_bytes(),
        parent: checkpoint.parent().map(|parent| parent.id().to_string()),
        depth: checkpoint.depth(),
        referenced_bytes: checkpoint.referenced_bytes(),
        tiers: tier_rows(checkpoint),
        loss: LossRow::of(checkpoint),
        figures: summary.figures.clone(),
        threads: show(Part::Threads).then(|| thread_rows(instance)),
        maps: show(Part::Maps).then(|| map_rows(instance)),
        fds: show(Part::Fds).then(|| fd_rows(instance)),
        pages: show(Part::Pages).then(|| extent_rows(checkpoint.plan())),
        heat: show(Part::Heat).then(|| {
            let mappings = instance.spaces.first().map_or(&[][..], |space| &space.mappings);
            heat_report(found, checkpoint, mappings)
        }),
    }
}

fn heat_report(found: &Found, checkpoint: &Checkpoint, mappings: &[Mapping]) -> HeatReport {
    let layout = ::heat::Layout::new(mappings.iter().map(crate::plan_verb::seen_then));
    let instance = &checkpoint.instance().line.instance;
    heat::report(Some(&found.store), instance, &layout, checkpoint.plan())
}

fn tier_rows(checkpoint: &Checkpoint) -> Vec<StoredTierRow> {
    let rows = checkpoint.tiers();
    let row = |(tier, sum): (&Tier, &store::TierSum)| StoredTierRow {
        tier: tier.name(),
        pages: sum.page_bytes / mem::PAGE_SIZE,
        bytes: sum.page_bytes,
        stored_bytes: sum.stored_bytes,
        referenced_bytes: sum.referenced_bytes,
        not_stored_bytes: sum.zero_bytes,
    };
    Tier::ALL.iter().zip(&rows).map(row).collect()
}
