//! The verb `profile`: watch a running instance for a while and keep what was seen as heat.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::report::HeatMap;
use heat::{Accumulator, Heat, Layout, Reading};
use profile::{Collector, Costs, End, Options, Profiler, Sink, Summary};
use store::Store;

use crate::events::{Observer, Silent};
use crate::heat_map::{HeatMapError, Learned, can_learn, learn, write_output};
use crate::host_costs;
use crate::phase::{Phase, Phases, Watch};
use crate::profile_error::ProfileVerbError;
use crate::profile_report::{BlockRow, CollectorRow, ProfileReport, ReferencedRow, TierPages};
use crate::registry::Registry;
use crate::report::{Outcome, TimeReport, micros};
use crate::settings::Settings;
use crate::target_name::{Found, find};

const LOOK: Phase = Phase { name: "look", limit: Duration::from_secs(30), undo: "none needed" };
const CALIBRATE: Phase = Phase {
    name: "calibrate",
    limit: Duration::from_secs(30),
    undo: "none needed: it is measured on ourselves",
};
const ATTACH: Phase = Phase {
    name: "attach",
    limit: Duration::from_secs(60),
    undo: "the program is let go; its memory is as it was",
};
const COLLECT: Phase = Phase {
    name: "collect",
    limit: Duration::from_secs(366 * 24 * 3600),
    undo: "collectors are let go of, also by our death",
};
const KEEP: Phase = Phase {
    name: "keep",
    limit: Duration::from_secs(120),
    undo: "the line's heat stays as it was",
};

/// What to profile and how.
#[derive(Clone, Debug)]
pub struct ProfileRequest {
    /// A pid or an instance id.
    pub target: String,
    /// How long.
    pub time: Duration,
    /// Where to write a copy of this profile's heat.
    pub output: Option<PathBuf>,
    /// The most that the program may be slowed down, in thousandths.
    pub slowdown_permille_max: u32,
    /// Track reads exactly, too.
    pub exact: bool,
    /// Turn collectors off and on again in blocks of this length, to measure what they cost.
    pub alternate: Option<Duration>,
}

/// Profiles an instance.
///
/// # Errors
/// Every error leaves the instance running, as it was.
pub fn profile(
    settings: &Settings,
    request: &ProfileRequest,
    registry: &Registry,
    observer: &dyn Observer,
) -> Result<ProfileReport, ProfileVerbError> {
    profile_with(settings, request, registry, observer, None)
}

/// A map of what was seen so far is handed out this often. A collector that goes round looks for new
/// mappings once a second, in each stretch anew.
const SHOWN_EVERY: Duration = Duration::from_secs(2);

/// Profiles an instance and hands `show` a map of what was seen so far, every two seconds. How much
/// was touched in all by the processor's own bits is not counted.
///
/// # Errors
/// As [`profile`].
pub fn heatmap_live(
    settings: &Settings,
    request: &ProfileRequest,
    registry: &Registry,
    show: &dyn Fn(HeatMap),
) -> Result<ProfileReport, ProfileVerbError> {
    profile_with(settings, request, registry, &Silent, Some(show))
}

fn profile_with(
    settings: &Settings,
    request: &ProfileRequest,
    registry: &Registry,
    observer: &dyn Observer,
    show: Option<&dyn Fn(HeatMap)>,
) -> Result<ProfileReport, ProfileVerbError> {
    // The time of the profile comes on top of what `--timeout` allows for everything else.
    let timeout = settings.timeout.map(|timeout| timeout.saturating_add(request.time));
    let mut phases = Phases::new(observer, timeout);
    let (found, _lock, store) = phases.run(LOOK, |_| {
        let found = find(&request.target, registry)?;
        let lock = registry.lock(&found.line.instance, "profile")?;
        check_output(request)?;
        let store = Store::create(&settings.store)?;
        can_learn(&store, &found.line.instance)?;
        Ok::<_, ProfileVerbError>((found, lock, store))
    })?;
    let measured = phases.run(CALIBRATE, |_| {
        Ok::<_, ProfileVerbError>(host_costs::read_or_measure(settings, &store))
    })?;
    let costs = measured.unwrap_or(Costs::ASSUMED);
    let options = Options {
        slowdown_permille_max: request.slowdown_permille_max,
        exact: request.exact,
        gauge: show.is_none(),
        writes_from: 0,
        window_id: window_id(&found),
    };
    let mut profiler = phases.run(ATTACH, |_| {
        Ok::<_, ProfileVerbError>(Profiler::new(&found.process, options, costs)?)
    })?;
    let mut gathered = phases.run(COLLECT, |watch| {
        let mut gather = Gather::new(request, observer, watch);
        let until = Instant::now() + request.time;
        let end = match show {
            None => profiler.run(until, &mut gather)?,
            Some(show) => run_shown(&mut profiler, until, &mut gather, show)?,
        };
        Ok::<_, ProfileVerbError>(gather.finish(end))
    })?;
    profiler.name(&mut gathered.heat);
    let layout = profiler.layout().clone();
    // None when the program is gone.
    let resident_pages = found.process.stat().map_or(0, |stat| stat.resident_pages);
    let summary = profiler.finish();
    gathered.costs_measured = measured.is_some();
    let keep = || keep(&store, &found, request, &gathered.heat);
    // What was seen until Ctrl-C is kept: there is nothing to undo.
    if sys::interrupt::interrupted_by().is_some() {
        keep()?;
    } else {
        phases.run(KEEP, |_| keep())?;
    }
    Ok(report(&found, request, &gathered, &summary, &layout, resident_pages, &phases))
}

/// Collects until `until`, in stretches after each of which what was seen is shown.
fn run_shown(
    profiler: &mut Profiler<'_>,
    until: Instant,
    gather: &mut Gather<'_>,
    show: &dyn Fn(HeatMap),
) -> Result<End, ProfileVerbError> {
    let title = format!("process {}", profiler.pid());
    loop {
        let end = profiler.run(until.min(Instant::now() + SHOWN_EVERY), gather)?;
        // Names stay: what has one is not looked up again in two seconds.
        profiler.name(&mut gather.heat);
        let reading = Reading::at(gather.heat.newest_ns());
        show(HeatMap::new(&title, &gather.heat, &reading, Some(profiler.layout())));
        if end != End::Asked || Instant::now() >= until || !gather.go_on() {
            return Ok(end);
        }
    }
}

/// Names the windows of this profile: nobody else profiles this instance at this moment.
pub(crate) fn window_id(found: &Found) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(found.line.instance.as_str().as_bytes());
    hasher.update(&sys::clock::read().realtime_ns.to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    let bytes = hasher.finalize();
    bytes.as_bytes().first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// Merges windows as they come.
struct Gather<'a> {
    observer: &'a dyn Observer,
    watch: &'a Watch,
    begun: Instant,
    time: Duration,
    alternate: Option<Duration>,
    heat: Heat,
    samples: u64,
    blocks: Vec<BlockRow>,
}

/// What came of it.
struct Gathered {
    heat: Heat,
    samples: u64,
    watched: Duration,
    blocks: Vec<BlockRow>,
    end: End,
    costs_measured: bool,
}

impl<'a> Gather<'a> {
    fn new(request: &ProfileRequest, observer: &'a dyn Observer, watch: &'a Watch) -> Self {
        Self {
            observer,
            watch,
            begun: Instant::now(),
            time: request.time,
            alternate: request.alternate,
            heat: Heat::default(),
            samples: 0,
            blocks: Vec::new(),
        }
    }

    fn finish(self, end: End) -> Gathered {
        Gathered {
            heat: self.heat,
            samples: self.samples,
            watched: self.begun.elapsed(),
            blocks: self.blocks,
            end,
            costs_measured: false,
        }
    }
}

impl Sink for Gather<'_> {
    fn go_on(&mut self) -> bool {
        self.observer.time(self.begun.elapsed(), self.time);
        self.watch.check().is_ok()
    }

    fn sample(&mut self, _sample: &heat::Sample) {
        self.samples += 1;
    }

    fn active(&mut self, now_ns: u64) -> bool {
        let Some(block) = self.alternate else { return true };
        let passed = self.begun.elapsed().as_nanos() / block.as_nanos().max(1);
        let on = passed.is_multiple_of(2);
        match self.blocks.last_mut() {
            Some(last) if last.on == on => last.until_ns = now_ns,
            _ => {
                if let Some(last) = self.blocks.last_mut() {
                    last.until_ns = now_ns;
                }
                self.blocks.push(BlockRow { from_ns: now_ns, until_ns: now_ns, on });
            }
        }
        on
    }

    fn window(&mut self, window: Accumulator, end_ns: u64) {
        self.heat = self.heat.merged(&window.finish(end_ns));
    }
}

/// The line learns first: a copy that cannot be written must not cost it what was seen.
fn keep(
    store: &Store,
    found: &Found,
    request: &ProfileRequest,
    heat: &Heat,
) -> Result<(), ProfileVerbError> {
    if let Learned::Replaced(aside) = learn(store, &found.line.instance, heat)? {
        tracing::warn!("the heat of this line was damaged and is kept as {}", aside.display());
    }
    if let Some(path) = &request.output {
        write_output(path, &heat.encode())?;
    }
    Ok(())
}

/// Fails when the copy has no place, before anybody waits for what would go there.
fn check_output(request: &ProfileRequest) -> Result<(), ProfileVerbError> {
    let Some(path) = &request.output else { return Ok(()) };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match std::fs::metadata(parent.unwrap_or(Path::new("."))) {
        Ok(found) if found.is_dir() => Ok(()),
        found => {
            let cause = found.err().unwrap_or_else(|| ErrorKind::NotADirectory.into());
            Err(HeatMapError::File { action: "write", path: path.clone(), cause }.into())
        }
    }
}

fn report(
    found: &Found,
    request: &ProfileRequest,
    gathered: &Gathered,
    summary: &Summary,
    layout: &Layout,
    resident_pages: u64,
    phases: &Phases<'_>,
) -> ProfileReport {
    let (pages, pages_seen) = tiers(&gathered.heat, layout, resident_pages);
    let counts = &summary.counts;
    let referenced = referenced(summary);
    ProfileReport {
        schema: "rekindle.profile/1",
        outcome: if gathered.end == End::Ended { Outcome::Lost } else { Outcome::Running },
        blockers: Vec::new(),
        changed: Vec::new(),
        instance: found.line.instance.to_string(),
        pid: found.line.pid,
        seconds: gathered.watched.as_secs(),
        watched_us: micros(gathered.watched),
        end: match gathered.end {
            End::Asked => "asked",
            End::Ended => "program ended",
            End::Executed => "program executed another",
        },
        samples: gathered.samples,
        pages_seen,
        faults: counts.own_faults + counts.armed_faults,
        overhead_estimate_permille: summary.overhead_permille,
        overhead_asked_permille: u64::from(request.slowdown_permille_max),
        costs_measured: gathered.costs_measured,
        program_cpu_us: summary.cpu_ns / 1000,
        stop_us: micros(summary.stop),
        later_stops_us: micros(summary.later_stops),
        lock_max_us: micros(summary.lock_max),
        pages,
        resident_pages,
        referenced_pages: (!referenced.is_empty())
            .then(|| referenced.iter().map(|row| row.referenced_pages).sum()),
        referenced,
        write_passes: summary.write_passes,
        untracked_bytes: summary.untracked_bytes,
        huge_bytes: summary.huge_bytes,
        collectors: collectors(summary),
        blocks: gathered.blocks.clone(),
        output: request.output.as_ref().map(|path| path.display().to_string()),
        phases: phases.times().iter().map(TimeReport::from).collect(),
    }
}

fn referenced(summary: &Summary) -> Vec<ReferencedRow> {
    let pages = |bytes: u64| bytes / mem::PAGE_SIZE;
    let row = |of: &profile::Referenced| ReferencedRow {
        start: of.range.start.0,
        end: of.range.end.0,
        name: String::from_utf8_lossy(&of.name).into_owned(),
        resident_pages: pages(of.resident_bytes),
        referenced_pages: pages(of.referenced_bytes),
    };
    summary.referenced.iter().map(row).collect()
}

fn tiers(heat: &Heat, layout: &Layout, resident_pages: u64) -> (TierPages, u64) {
    let mut pages = TierPages::default();
    let mut seen = 0;
    let reading = Reading::at(heat.newest_ns());
    heat.for_each_mapped(layout, &reading, |_, range, known| {
        let Some(known) = known else { return };
        let count = range.count().0;
        match known.access_count() {
            Some(0) => pages.cold += count,
            Some(times) if times * 2 >= known.intervals => pages.critical += count,
            Some(_) => pages.warm += count,
            None => {
                if known.all.sampled > 0 {
                    pages.warm += count;
                }
            }
        }
        seen += if known.was_seen() { count } else { 0 };
    });
    let known = pages.critical + pages.warm + pages.cold;
    pages.unknown = resident_pages.saturating_sub(known);
    (pages, seen)
}

fn collectors(summary: &Summary) -> Vec<CollectorRow> {
    let counts = &summary.counts;
    let spent = &summary.spent;
    let row = |collector: Collector, seen, lost, cost_ns: u64, detail: String| {
        let missing = summary.missing.iter().find(|m| m.collector == collector);
        CollectorRow {
            name: collector.name(),
            available: missing.is_none(),
            detail: match missing {
                Some(missing) => format!("{}; {}", missing.reason, collector.loss()),
                None => detail,
            },
            seen,
            lost,
            cost_us: cost_ns / 1000,
        }
    };
    let mut writes = format!("{} passes over memory", summary.write_passes);
    if summary.untracked_bytes > 0 {
        let bytes = summary.untracked_bytes;
        writes.push_str(&format!("; {bytes} bytes of private memory were not tracked at the end"));
    }
    if summary.huge_bytes > 0 {
        writes.push_str(&format!("; {} bytes in huge pages were left alone", summary.huge_bytes));
    }
    let faults = match counts.fault_period_max {
        0 | 1 => "every fault with its instruction".to_owned(),
        period => format!("at the busiest one of {period} faults"),
    };
    let mut clock = format!(
        "{} a second of CPU time; {} of {} told what they touched",
        summary.clock_hz, counts.clock_useful, counts.clock_samples
    );
    if counts.throttled > 0 {
        clock.push_str(&format!("; held back {} times by the kernel", counts.throttled));
    }
    let mut rows = vec![
        row(Collector::Writes, counts.written, 0, spent.writes_ns, writes),
        row(Collector::Faults, counts.faults, counts.faults_lost, spent.faults_ns, faults),
        row(Collector::Clock, counts.clock_samples, counts.clock_lost, spent.clock_ns, clock),
    ];
    if let Some(rounds) = summary.hint_rounds {
        let detail = format!("{rounds} rounds over memory");
        rows.push(row(Collector::Hints, counts.own_faults, 0, spent.hints_ns, detail));
    } else if summary.missing.iter().any(|m| m.collector == Collector::Hints) {
        rows.push(row(Collector::Hints, 0, 0, 0, String::new()));
    }
    let touched: u64 = summary.referenced.iter().map(|of| of.referenced_bytes).sum();
    let detail = match summary.referenced.is_empty() {
        true => "not counted: the program went away",
        false => "pages touched, by the processor's own bits",
    };
    let detail = detail.to_owned();
    rows.push(row(Collector::Gauge, touched / mem::PAGE_SIZE, 0, spent.gauge_ns, detail));
    if summary.missing.iter().any(|m| m.collector == Collector::KernelFaults) {
        rows.push(row(Collector::KernelFaults, 0, 0, 0, String::new()));
    }
    rows
}
