//! What a resume had to wait for, kept for the next plan of its line.

use std::collections::HashSet;

use ::resume::serve::{HeldBack, Ledger};
use mem::{MemoryId, PageIndex, PageRange};
use partition::{Fault, FaultLog, Held};
use plan::{ByPlace, Plan, Tier};
use process::InstanceId;
use store::Store;

use super::brief::Brief;

/// Later faults say nothing of how a program begins.
const HORIZON_US: u64 = 5_000_000;
/// Pages that come together: those of one tier in a chunk of so many, aligned.
const CHUNK_PAGES: u64 = 16;

/// Keeps the fault log of the resume that `ledger` is about, as far as it goes by now. `memory` was
/// loaded ahead as `plan` says, or not at all. Logs are advice: a failure is told and nothing
/// else.
pub(super) fn save(
    store: &Store,
    instance: &InstanceId,
    ledger: &Ledger,
    (memory, plan): (MemoryId, Option<&Plan>),
) {
    let begun = ledger.begun_ns();
    if begun == 0 {
        return;
    }
    let boot = crate::host::boot_id().unwrap_or_default();
    let name = format!("{}-{begun:x}", boot.get(..8).unwrap_or("boot"));
    let earlier = earlier(store, instance, &name);
    let mut log = log(ledger, memory);
    if let Some(plan) = plan {
        let status = ledger.status();
        let lasted = status.complete_after.unwrap_or(status.since);
        let lasted_us = crate::report::micros(lasted);
        let places = plan.by_place();
        let apart = Apart::of(ledger, memory);
        let held = apart.as_ref().and_then(|apart| apart.measure(&mut log.faults, &places, ledger));
        log.held = held.filter(|_| lasted_us >= HORIZON_US);
        log = complete(log, earlier, (&places, apart.as_ref()), lasted_us);
    }
    let kept = store.keep_faults(instance, &name, log.to_text().as_bytes());
    if let Err(error) = kept {
        tracing::warn!(%error, "the fault log is lost");
    }
}

/// What `ledger` has of the program's first seconds, each page once.
fn log(ledger: &Ledger, memory: MemoryId) -> FaultLog {
    let mut seen = HashSet::new();
    let faults = ledger.faults().into_iter().filter_map(|(page, thread, ns)| {
        let time_us = ns / 1000;
        let is_first = time_us <= HORIZON_US && seen.insert(page);
        is_first.then_some(Fault {
            memory,
            page,
            time_us,
            stall_us: 0,
            thread,
            instruction: 0,
            staged: false,
        })
    });
    FaultLog { faults: faults.collect(), ..FaultLog::default() }
}

/// What was held back of what the plan loads ahead.
struct Apart {
    held: HeldBack,
    memory: MemoryId,
    /// What came later at all.
    ranges: Vec<PageRange>,
}

impl Apart {
    /// As the brief says that the ledger has; `None` when nothing was held back.
    fn of(ledger: &Ledger, memory: MemoryId) -> Option<Self> {
        let brief = Brief::from_text(&ledger.note()).ok()?;
        let ranges = brief.session.as_ref()?.ranges();
        Some(Self { held: brief.held_back()?, memory, ranges })
    }

    /// Whether a page that is not cold could fault, because it was held back.
    fn has(&self, memory: MemoryId, page: PageIndex) -> bool {
        memory == self.memory
            && self.held.has(page)
            && self.ranges.iter().any(|range| range.contains(page))
    }

    /// Marks the faults on what was held back, and counts.
    fn measure(&self, faults: &mut [Fault], places: &ByPlace<'_>, ledger: &Ledger) -> Option<Held> {
        let (ahead_pages, held_pages) = ledger.held_back();
        let mut held = Held { ahead_pages, held_pages, used_pages: 0, missed_pages: 0 };
        for fault in faults {
            match places.at(fault.memory, fault.page).map(|extent| extent.tier) {
                // Nothing is said of it, and it comes after what is predicted.
                None => {}
                Some(Tier::Cold) => held.missed_pages += 1,
                Some(_) => fault.staged = self.has(fault.memory, fault.page),
            }
            held.used_pages += u64::from(fault.staged);
        }
        (held_pages > 0).then_some(held)
    }
}

/// The newest log of another resume.
fn earlier(store: &Store, instance: &InstanceId, name: &str) -> Option<FaultLog> {
    let logs = store.faults(instance).ok()?;
    let (_, bytes) = logs.into_iter().find(|(other, _)| other != name)?;
    FaultLog::from_text(&bytes).ok()
}

/// Adds what could not fault, as long as nothing tells that it is not used any more: pages of the
/// `earlier` log that the plan had before the start or streamed, and cold ones that came along with
/// others, or would have been asked for only after the `lasted_us` for which there were faults. What
/// was held `apart` could fault.
fn complete(
    log: FaultLog,
    earlier: Option<FaultLog>,
    (places, apart): (&ByPlace<'_>, Option<&Apart>),
    lasted_us: u64,
) -> FaultLog {
    let chunk = |fault: &Fault| (fault.memory, fault.page.0 / CHUNK_PAGES);
    let faulted: HashSet<(MemoryId, PageIndex)> =
        log.faults.iter().map(|fault| (fault.memory, fault.page)).collect();
    let tier = |fault: &Fault| places.at(fault.memory, fault.page).map(|extent| extent.tier);
    let cold = log.faults.iter().filter(|fault| tier(fault) == Some(Tier::Cold));
    let with_others: HashSet<(MemoryId, u64)> = cold.map(chunk).collect();
    let ahead = earlier.into_iter().flat_map(|log| log.faults).filter(|fault| {
        let could_not = match tier(fault) {
            None => false,
            Some(Tier::Cold) => with_others.contains(&chunk(fault)) || fault.time_us > lasted_us,
            Some(_) => {
                let was_apart = apart.is_some_and(|apart| apart.has(fault.memory, fault.page));
                !was_apart || fault.time_us > lasted_us
            }
        };
        could_not && !faulted.contains(&(fault.memory, fault.page))
    });
    let mut faults: Vec<Fault> = ahead.collect();
    faults.extend(log.faults);
    faults.sort_by_key(|fault| fault.time_us);
    FaultLog { faults, ..log }
}

#[cfg(test)]
mod tests {
    use plan::{Extent, Treatment};

    use super::*;

    #[test]
    fn what_was_loaded_ahead_is_not_forgotten() {
        let memory = MemoryId::Private(0);
        let fault = |page, time_us| Fault {
            memory,
            page: PageIndex(page),
            time_us,
            stall_us: 0,
            thread: 1,
            instruction: 0,
            staged: false,
        };
        let extent = |start, end, tier| Extent {
            memory,
            pages: PageRange::new(start, end),
            tier,
            treatment: Treatment::Zstd,
            load_order: 0,
            reason: "".into(),
        };
        let plan =
            Plan { extents: vec![extent(0, 10, Tier::Critical), extent(10, 99, Tier::Cold)] };
        let earlier = FaultLog {
            answer_us: None,
            held: None,
            faults: vec![
                fault(3, 50),
                fault(15, 60),
                fault(100, 70),
                fault(4, 80),
                fault(41, 85),
                fault(70, 400),
            ],
        };
        let now = FaultLog { faults: vec![fault(4, 10), fault(40, 90)], ..FaultLog::default() };
        let log = complete(now.clone(), Some(earlier.clone()), (&plan.by_place(), None), 300);
        let found: Vec<_> = log.faults.iter().map(|f| (f.page.0, f.time_us)).collect();
        // 15 could have faulted, 41 came along with 40, nothing tells of 70 yet.
        assert_eq!(found, [(4, 10), (3, 50), (41, 85), (40, 90), (70, 400)]);
        // 3 was held back: it could have faulted, and would not have been wanted before its time.
        let all = HeldBack { seed: 1, one_in: 1 };
        let apart = Apart { held: all, memory, ranges: vec![PageRange::new(0, 5)] };
        let log = complete(now, Some(earlier), (&plan.by_place(), Some(&apart)), 300);
        let found: Vec<_> = log.faults.iter().map(|f| f.page.0).collect();
        assert_eq!(found, [4, 41, 40, 70]);
    }
}
