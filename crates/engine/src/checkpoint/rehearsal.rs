//! What a clone of the frozen instance shows, and what the checkpoint makes of it.

use std::sync::Arc;
use std::time::Duration;

use capture::Captured;
use heat::{AccessKind, Accumulator, Heat, Layout, Operand, Sample, Source, Start, Watched};
use mem::{MemoryId, PageRange, PageSet};
use plan::{Extent, Plan, Tier, Treatment};
use rehearse::{Bounds, Fork, Rehearsal, Touch};
use target::{Frozen, Process};

use super::recording::Recorded;
use super::shadow::fork_time;
use crate::host::memory_left_for;
use crate::phase::Watch;
use crate::plan_verb::seen_then;
use crate::report::{InputReport, RehearsalReport, micros};

/// Whether a clone of the frozen instance shows what the program touches first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rehearse {
    /// No.
    #[default]
    Off,
    /// Where it can pay.
    Auto,
    /// It does, and may use this much CPU time.
    For(Duration),
}

/// The CPU time of a rehearsal when nobody says.
const USUAL: Duration = Duration::from_millis(50);
/// What `auto` may make the pause longer by.
const AUTO_FORK_MAX: Duration = Duration::from_millis(10);
/// Fewer pages than these, seen before all threads wait, tell nothing: they are what any program
/// touches to wait again.
const USEFUL_PAGES_MIN: u64 = 64;
/// Of all pages a quarter, and at least these, may be critical because of a rehearsal.
const CRITICAL_PAGES_MIN: u64 = 2048;
const CRITICAL_SHARE: u64 = 4;
/// Pages touched together come in load order together.
const TOUCHES_TOGETHER: usize = 16;

const CRITICAL_REASON: &str = "among the first pages that the rehearsal touched";
const WARM_REASON: &str = "touched by the rehearsal";

/// A rehearsal that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    time: Duration,
    only_if_it_pays: bool,
}

impl Rehearse {
    pub(super) fn wanted(self) -> Option<Wanted> {
        match self {
            Self::Off => None,
            Self::Auto => Some(Wanted { time: USUAL, only_if_it_pays: true }),
            Self::For(time) => Some(Wanted { time, only_if_it_pays: false }),
        }
    }
}

/// A clone that has not run, or why there is none.
pub(super) struct Forked {
    fork: Result<Fork, String>,
    /// What the program received before.
    recorded: Option<Recorded>,
    bounds: Bounds,
}

/// What came of it.
pub(super) struct Rehearsed {
    seen: Option<Rehearsal>,
    /// The mappings at the fork.
    layout: Layout,
    report: RehearsalReport,
}

impl Wanted {
    /// Makes a clone. What stands in the way is told in the report.
    pub(super) fn fork(
        self,
        frozen: &mut Frozen<'_>,
        captured: &Captured,
        recorded: Option<Recorded>,
        is_served: bool,
    ) -> Forked {
        let bounds = Bounds::of(self.time);
        let against = if is_served {
            Some("its own memory is not all there yet".to_owned())
        } else if let Some(left) = lacks_room(captured, &bounds) {
            Some(format!("only {} MB of memory are free for it", left >> 20))
        } else if self.only_if_it_pays {
            let has_input = recorded.as_ref().is_some_and(Recorded::is_going);
            cannot_pay(captured, has_input)
        } else {
            None
        };
        let fork = match against {
            Some(why) => Err(why),
            None => Fork::take(frozen, &captured.instance).map_err(|error| error.to_string()),
        };
        Forked { fork, recorded, bounds }
    }
}

/// What memory there is, when it is too little for a clone that takes all it may, and as much
/// again that the program writes meanwhile.
fn lacks_room(captured: &Captured, bounds: &Bounds) -> Option<u64> {
    let cgroups = captured.instance.groups.first().map_or(&[][..], |group| &group.cgroups);
    let left = memory_left_for(cgroups)?;
    let touched = u64::try_from(bounds.pages).unwrap_or(u64::MAX).saturating_mul(mem::PAGE_SIZE);
    (left < (touched + bounds.added_bytes).saturating_mul(2)).then_some(left)
}

/// Why a rehearsal is not worth its fork.
fn cannot_pay(captured: &Captured, has_input: bool) -> Option<String> {
    if !has_input && rehearse::waits_for_others(&captured.instance) {
        return Some("every thread waits for something from outside".to_owned());
    }
    let memory = MemoryId::Private(0);
    let pages = mem::PageSource::pages(&captured.memory, memory).map_or(0, |set| set.count().0);
    let fork = fork_time(pages);
    (fork > AUTO_FORK_MAX)
        .then(|| format!("the fork alone would take about {} ms of the pause", fork.as_millis()))
}

impl Forked {
    /// Has the clone run to its end.
    pub(super) fn rehearse(
        self,
        process: &Process,
        captured: &Captured,
        watch: &Watch,
    ) -> Rehearsed {
        let mut report = RehearsalReport::default();
        // Whatever becomes of the clone, it costs the host nothing more from here on.
        let input = match self.recorded.map(Recorded::end) {
            Some(Ok(input)) => {
                report.input = Some(InputReport {
                    recorded_reads: input.all.iter().filter(|r| !r.bytes.is_empty()).count() as u64,
                    recorded_bytes: input.all.iter().map(|r| r.bytes.len() as u64).sum(),
                    lost_reads: input.lost,
                    ..InputReport::default()
                });
                input.all
            }
            _ => Vec::new(),
        };
        let spaces = captured.instance.spaces.iter().take(1);
        let layout = Layout::new(spaces.flat_map(|space| space.mappings.iter().map(seen_then)));
        let fork = match self.fork {
            Ok(fork) => fork,
            Err(why) => {
                report.ended = why;
                return Rehearsed { seen: None, layout, report };
            }
        };
        report.fork_us = micros(fork.took());
        let may_go_on = || watch.check().is_ok();
        match fork.rehearse(process, &captured.instance, &self.bounds, &input, &may_go_on) {
            Ok(seen) => {
                report.ran = true;
                report.ended.clone_from(&seen.ended);
                report.prepare_us = micros(seen.prepared);
                report.run_us = micros(seen.ran);
                report.cpu_us = micros(seen.cpu);
                report.threads = seen.threads;
                report.calls = seen.calls;
                report.touched_pages = seen.touches.len() as u64;
                if let Some(input) = &mut report.input {
                    let before = seen.played.touched_before.unwrap_or(seen.touches.len());
                    input.played_reads = seen.played.pieces;
                    input.unknown_reads = seen.played.unknown;
                    input.touched_pages = seen.touches.len().saturating_sub(before) as u64;
                }
                Rehearsed { seen: Some(seen), layout, report }
            }
            Err(error) => {
                report.ended = error.to_string();
                Rehearsed { seen: None, layout, report }
            }
        }
    }
}

impl Rehearsed {
    /// What the report says.
    pub(super) fn report(&self) -> RehearsalReport {
        self.report.clone()
    }

    /// `plan` with the pages that were touched first in front, as far as they are in `memories`.
    pub(super) fn plan(&mut self, plan: Plan, memories: &[(MemoryId, PageSet)]) -> Plan {
        let Some(seen) = &self.seen else { return plan };
        let memory = MemoryId::Private(0);
        let Some((_, there)) = memories.iter().find(|(m, _)| *m == memory) else { return plan };
        let touched: Vec<&Touch> =
            seen.touches.iter().filter(|touch| there.contains(touch.page)).collect();
        if (touched.len() as u64) < USEFUL_PAGES_MIN {
            return plan;
        }
        let critical = (there.count().0 / CRITICAL_SHARE).max(CRITICAL_PAGES_MIN);
        let critical = usize::try_from(critical).unwrap_or(usize::MAX).min(touched.len());
        let reasons: [Arc<str>; 2] = [CRITICAL_REASON.into(), WARM_REASON.into()];
        let extent = |(place, touch): (usize, &&Touch)| Extent {
            memory,
            pages: PageRange { start: touch.page, end: touch.page.offset(1) },
            tier: if place < critical { Tier::Critical } else { Tier::Warm },
            treatment: Treatment::Zstd,
            load_order: u32::try_from(place / TOUCHES_TOGETHER).unwrap_or(u32::MAX - 1),
            reason: Arc::clone(&reasons[usize::from(place >= critical)]),
        };
        self.report.useful = true;
        self.report.planned_pages = touched.len() as u64;
        self.report.critical_pages = critical as u64;
        Plan { extents: touched.iter().enumerate().map(extent).collect() }.beside(&plan)
    }

    /// What was seen as heat, in a window of its own named `id` that ended at `realtime_ns`.
    pub(super) fn heat(&self, id: u64, realtime_ns: u64) -> Option<Heat> {
        let seen = self.seen.as_ref().filter(|_| self.report.useful)?;
        let ran_ns = u64::try_from(seen.ran.as_nanos()).unwrap_or(u64::MAX);
        let start = Start {
            id,
            clock_ns: 0,
            realtime_ns: realtime_ns.saturating_sub(ran_ns),
            ordered: true,
        };
        let mut window = Accumulator::new(start, self.layout.clone());
        for touch in &seen.touches {
            let kind = if touch.write { AccessKind::Write } else { AccessKind::Read };
            let pages = PageRange { start: touch.page, end: touch.page.offset(1) };
            // A page is watched until it is touched. What follows is not seen.
            let kinds = Watched { reads: true, writes: touch.write };
            window.watched(pages, kinds, 0, touch.time_ns.saturating_add(1));
            window.add(&Sample {
                page: touch.page,
                kind,
                weight: 1,
                instruction: None,
                operand: Operand::UNKNOWN,
                thread: 0,
                time_ns: touch.time_ns,
                source: Source::Rehearsal,
            });
        }
        Some(window.finish(ran_ns))
    }
}
