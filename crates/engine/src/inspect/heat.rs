//! `inspect ... heat`: what is known of accesses to the memory that a checkpoint has, or that a
//! program would have in one: by the heat of its line, and by the logs of what earlier resumes had to
//! wait for. What nobody saw is null here, and a note says why.

use heat::{Heat, Layout};
use partition::{FaultLog, HeatRuns, HeatView, Held, NoHeat};
use plan::{Plan, Tier};
use process::InstanceId;
use serde::Serialize;
use store::Store;

/// What is known of accesses.
#[derive(Clone, Debug, Serialize)]
pub struct HeatReport {
    /// Heat that the checkpoint itself carries: no version of the format does.
    pub embedded: Option<LineHeatRow>,
    /// The heat of the line; null when there is none.
    pub line: Option<LineHeatRow>,
    /// What the heat says of the pages of each tier.
    pub tiers: Vec<HeatTierRow>,
    /// What the last resumes of the line needed in their first seconds, the newest first, held
    /// against this division.
    pub fault_logs: Vec<FaultLogRow>,
    /// Of the pages that the newest resume of which that is known used in its first seconds, those
    /// that were loaded ahead, judged by those of them that were held back.
    pub hit_rate_permille: Option<u32>,
    /// Bytes that that resume loaded ahead and did not use.
    pub wasted_bytes: Option<u64>,
    /// Why something is null, and what was left out.
    pub notes: Vec<String>,
}

/// How much was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineHeatRow {
    /// How many windows of time went into it.
    pub windows: usize,
    /// When the newest ended, nanoseconds since the epoch.
    pub newest_ns: u64,
    /// How long all of them were together, in microseconds.
    pub looked_us: u64,
}

/// The pages of a tier, by what is known of accesses to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeatTierRow {
    /// Its name.
    pub tier: &'static str,
    /// Its pages.
    pub pages: u64,
    /// Those that were seen to be accessed.
    pub accessed_pages: u64,
    /// Those that were looked at and not seen to be accessed.
    pub untouched_pages: u64,
    /// Those of which nothing is known.
    pub unknown_pages: u64,
}

/// What one resume needed in its first seconds, as far as that is known: what it had to wait for, and
/// what an earlier one had, loaded ahead this time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultLogRow {
    /// Which resume: the beginning of the boot id, and when on the clock of that boot.
    pub name: String,
    /// From its first instruction to its first answer; null without a probe.
    pub answer_us: Option<u64>,
    /// Pages that it needed.
    pub pages: u64,
    /// Of those, what this division has loaded ahead: critical or warm.
    pub ahead_pages: u64,
    /// Of those, what it would be waited for: cold.
    pub cold_pages: u64,
    /// Of those, what is not in it.
    pub elsewhere_pages: u64,
}

const NOT_SEEN: &str = "hit rate and wasted bytes are not known: no resume of the line held back \
                        enough pages for five seconds to see whether they are used";
const NOTHING_EMBEDDED: &str =
    "checkpoints carry no heat: what is known of the line in this store is shown";

/// What is known of the pages of `plan`, which lie as `layout` says.
pub(super) fn report(
    store: Option<&Store>,
    instance: &InstanceId,
    layout: &Layout,
    plan: &Plan,
) -> HeatReport {
    let mut notes = vec![NOTHING_EMBEDDED.to_owned()];
    let heat = store.and_then(|store| line_heat(store, instance, &mut notes));
    let view: Box<dyn HeatView> = match &heat {
        Some(heat) => Box::new(HeatRuns::of_private(heat, layout)),
        None => Box::new(NoHeat),
    };
    if heat.is_none() {
        notes.push("nothing was learned of accesses: `rekindle profile` does that".to_owned());
    }
    let tiers = Tier::ALL.iter().map(|tier| tier_row(*tier, plan, &*view)).collect();
    let logs = store.map(|store| fault_logs(store, instance, plan, &mut notes)).unwrap_or_default();
    let known = logs.iter().find_map(|(row, held)| Some((row, held.as_ref()?)));
    notes.insert(0, known.map_or_else(|| NOT_SEEN.to_owned(), |(row, held)| told(row, held)));
    HeatReport {
        embedded: None,
        line: heat.as_ref().map(line_row),
        tiers,
        hit_rate_permille: known.and_then(|(_, held)| held.hit_rate_permille()),
        wasted_bytes: known.and_then(|(_, held)| held.wasted_bytes()),
        fault_logs: logs.into_iter().map(|(row, _)| row).collect(),
        notes,
    }
}

/// What hit rate and wasted bytes are made of.
fn told(row: &FaultLogRow, held: &Held) -> String {
    let Held { ahead_pages, held_pages, used_pages, missed_pages } = held;
    format!(
        "resume {}: {held_pages} of {ahead_pages} pages that it loaded ahead were held back, and \
         {used_pages} of those were used; it missed {missed_pages} others",
        row.name
    )
}

fn line_heat(store: &Store, instance: &InstanceId, notes: &mut Vec<String>) -> Option<Heat> {
    let path = store.heat_path(instance);
    let found = match store.heat(instance) {
        Ok(bytes) => Heat::decode(&bytes?).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let left_out =
        |error| notes.push(format!("the heat in {} is left out: {error}", path.display()));
    found.map_err(left_out).ok()
}

fn line_row(heat: &Heat) -> LineHeatRow {
    LineHeatRow {
        windows: heat.windows().count(),
        newest_ns: heat.newest_ns(),
        looked_us: heat.windows().map(|window| window.length_ns / 1000).sum(),
    }
}

fn tier_row(tier: Tier, plan: &Plan, view: &dyn HeatView) -> HeatTierRow {
    let mut row = HeatTierRow {
        tier: tier.name(),
        pages: 0,
        accessed_pages: 0,
        untouched_pages: 0,
        unknown_pages: 0,
    };
    for extent in plan.extents.iter().filter(|extent| extent.tier == tier) {
        row.pages += extent.pages.count().0;
        view.visit(extent.memory, extent.pages, &mut |pages, known| match known.access_count {
            Some(0) => row.untouched_pages += pages.count().0,
            Some(_) => row.accessed_pages += pages.count().0,
            None => {}
        });
    }
    row.unknown_pages = row.pages.saturating_sub(row.accessed_pages + row.untouched_pages);
    row
}

fn fault_logs(
    store: &Store,
    instance: &InstanceId,
    plan: &Plan,
    notes: &mut Vec<String>,
) -> Vec<(FaultLogRow, Option<Held>)> {
    let logs = match store.faults(instance) {
        Ok(logs) => logs,
        Err(error) => {
            notes.push(format!("the fault logs of the line are left out: {error}"));
            return Vec::new();
        }
    };
    let mut rows = Vec::new();
    for (name, bytes) in logs {
        match FaultLog::from_text(&bytes) {
            Ok(log) => {
                let held = log.held.filter(|held| held.wasted_bytes().is_some());
                rows.push((fault_row(name, &log, plan), held));
            }
            Err(error) => notes.push(format!("the fault log {name} is left out: {error}")),
        }
    }
    rows
}

fn fault_row(name: String, log: &FaultLog, plan: &Plan) -> FaultLogRow {
    let places = plan.by_place();
    let mut row = FaultLogRow {
        name,
        answer_us: log.answer_us,
        pages: 0,
        ahead_pages: 0,
        cold_pages: 0,
        elsewhere_pages: 0,
    };
    for fault in &log.faults {
        row.pages += 1;
        match places.at(fault.memory, fault.page).map(|extent| extent.tier) {
            Some(Tier::Cold) => row.cold_pages += 1,
            Some(_) => row.ahead_pages += 1,
            None => row.elsewhere_pages += 1,
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use mem::{MemoryId, PageIndex, PageRange};
    use partition::{Fault, PageHeat, Stretch};
    use plan::{Extent, Treatment};

    use super::*;

    const MEMORY: MemoryId = MemoryId::Private(0);

    fn plan() -> Plan {
        let extent = |start, end, tier| Extent {
            memory: MEMORY,
            pages: PageRange::new(start, end),
            tier,
            treatment: Treatment::Zstd,
            load_order: 0,
            reason: "".into(),
        };
        let tiers = [(0, 10, Tier::Critical), (10, 30, Tier::Warm), (30, 100, Tier::Cold)];
        Plan { extents: tiers.map(|(start, end, tier)| extent(start, end, tier)).into() }
    }

    #[test]
    fn pages_are_counted_by_what_is_known_of_them() {
        let run = |start, end, access_count| Stretch {
            memory: MEMORY,
            pages: PageRange::new(start, end),
            value: PageHeat { access_count, ..PageHeat::default() },
        };
        let runs = vec![run(0, 5, Some(7)), run(5, 12, Some(0)), run(12, 40, None)];
        let view = HeatRuns::new(10, runs);
        let tiers = [Tier::Critical, Tier::Warm, Tier::Cold];
        let rows = tiers.map(|tier| tier_row(tier, &plan(), &view));
        let counts = rows.map(|row| {
            (row.tier, row.pages, row.accessed_pages, row.untouched_pages, row.unknown_pages)
        });
        let expected = [("critical", 10, 5, 5, 0), ("warm", 20, 0, 2, 18), ("cold", 70, 0, 0, 70)];
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_fault_log_is_held_against_the_division() {
        let fault = |page| Fault {
            memory: MEMORY,
            page: PageIndex(page),
            time_us: 1,
            stall_us: 0,
            thread: 0,
            instruction: 0,
            staged: false,
        };
        let faults = [3, 29, 30, 99, 100, 5000].map(fault).into();
        let log = FaultLog { answer_us: Some(9), held: None, faults };
        let row = fault_row("one".to_owned(), &log, &plan());
        let expected = FaultLogRow {
            name: "one".to_owned(),
            answer_us: Some(9),
            pages: 6,
            ahead_pages: 2,
            cold_pages: 2,
            elsewhere_pages: 2,
        };
        assert_eq!(row, expected);
    }
}
