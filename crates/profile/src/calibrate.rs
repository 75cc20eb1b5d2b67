//! What collecting costs on this host, measured on ourselves in well under a second.
//!
//! Each figure is the lowest third of many short trials: what disturbs a trial makes it longer,
//! never shorter, and a host that is loaded now is not always.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use sys::pagemap::{Pagemap, PagemapError, ScanFilter};
use sys::perf::{EventGroup, EventKind, PerfError, Scope};
use sys::proc::{ProcDir, ProcError, parse_stat};
use sys::task::{Pid, Tid};
use sys::trial::TrialPages;
use sys::userfault::{Features, Kind, Modes, Userfault, UserfaultError};

use crate::Costs;

/// 64 MB: more than caches and the translation buffers hold.
const PAGES: usize = 16384;
/// Of them so many are written in a round.
const WRITTEN: usize = 1024;
const ROUNDS: usize = 21;
/// Clock samples a second while they are measured: enough for a difference that shows.
const CLOCK_HZ: u64 = 2000;
const SPIN: Duration = Duration::from_millis(12);

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// No memory to try on.
    #[error("measure costs: {0}")]
    Memory(#[from] io::Error),
    /// No write tracking.
    #[error("measure costs: {0}")]
    Userfault(#[from] UserfaultError),
    /// No page tables.
    #[error("measure costs: {0}")]
    Pagemap(#[from] PagemapError),
    /// No events.
    #[error("measure costs: {0}")]
    Perf(#[from] PerfError),
    /// No `/proc`.
    #[error("measure costs: {0}")]
    Proc(#[from] ProcError),
}

/// Measures what collectors cost here.
///
/// # Errors
/// When what is to be measured is not permitted or not there.
pub fn calibrate() -> Result<Costs, CalibrateError> {
    let dir = ProcDir::open(Pid::current().raw())?;
    let pagemap = Pagemap::open(&dir)?;
    let mut pages = TrialPages::new(PAGES)?;
    let (plain, scan) = write_faults(&mut pages, &pagemap, None)?;
    let mut faults = own_events(EventKind::PageFaults { period: 1 })?;
    let (recorded, _) = write_faults(&mut pages, &pagemap, Some(&mut faults))?;
    drop(faults);
    let clear = clear_references(&dir)?;
    let clock = clock_sample()?;
    let assumed = Costs::ASSUMED;
    Ok(Costs {
        write_fault_ns: plain.max(1),
        fault_event_ns: recorded.saturating_sub(plain).max(1),
        clock_sample_ns: clock.max(1),
        // The kernel does for a hint fault about what it does for one of ours.
        hint_fault_ns: plain.max(1),
        scan_page_ns: scan.max(1),
        clear_page_ns: clear.unwrap_or(assumed.clear_page_ns).max(1),
    })
}

fn own_events(kind: EventKind) -> Result<EventGroup, CalibrateError> {
    let (me, cpus) = (Tid::current(), sys::perf::online_cpus()?);
    let open = |scope| -> Result<EventGroup, PerfError> {
        let mut group = EventGroup::new(kind, scope, me, &cpus, 128)?;
        group.follow(me)?;
        Ok(group)
    };
    let mut group = match open(Scope::UserAndKernel) {
        Err(cause) if cause.is_denied() => open(Scope::UserOnly)?,
        opened => opened?,
    };
    group.set_enabled(true)?;
    Ok(group)
}

/// Nanoseconds for a write to an armed page, and for arming one.
fn write_faults(
    pages: &mut TrialPages,
    pagemap: &Pagemap,
    mut events: Option<&mut EventGroup>,
) -> Result<(u64, u64), CalibrateError> {
    let userfault = Userfault::of_ourselves(Kind::UserModeOnly)?;
    userfault.handshake(Features::TRACK_WRITES)?;
    userfault.register(pages.range(), Modes::WriteProtect)?;
    let (mut faults, mut scans) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        pagemap.scan_tracked(pages.range(), &ScanFilter::WRITTEN, true, |_| {})?;
        // The first time arms all, later ones only what was written.
        if round == 0 {
            scans.push(begun.elapsed());
        }
        let begun = Instant::now();
        pages.write_scattered(WRITTEN, round as u64);
        faults.push(begun.elapsed());
        if let Some(events) = events.as_deref_mut() {
            events.drain(|_| {});
        }
    }
    userfault.unregister(pages.range())?;
    Ok((low_third(faults, WRITTEN), low_third(scans, pages.count())))
}

/// Nanoseconds to clear one page's Referenced bit; none when it may not be done.
fn clear_references(dir: &ProcDir) -> Result<Option<u64>, CalibrateError> {
    let stat = dir.parse("stat", &mut Vec::new(), parse_stat)?;
    let resident = usize::try_from(stat.resident_pages).unwrap_or(usize::MAX);
    if resident == 0 {
        return Ok(None);
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        if dir.clear_referenced().is_err() {
            return Ok(None);
        }
        times.push(begun.elapsed());
    }
    Ok(Some(low_third(times, resident)))
}

/// Nanoseconds that a clock sample takes from the thread that is sampled.
fn clock_sample() -> Result<u64, CalibrateError> {
    let mut group = own_events(EventKind::CpuClock { hz: CLOCK_HZ })?;
    group.set_enabled(false)?;
    group.drain(|_| {});
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let quiet = spin();
        group.set_enabled(true)?;
        let sampled = spin();
        group.set_enabled(false)?;
        let samples = group.drain(|_| {}).samples;
        // Work lost, as time, for each sample; negative where the quiet spin was disturbed.
        if quiet > 0 && samples > 0 {
            let lost = quiet.saturating_sub(sampled);
            let spin_ns = u64::try_from(SPIN.as_nanos()).unwrap_or(u64::MAX);
            costs.push(Duration::from_nanos(lost * spin_ns / quiet / samples));
        }
    }
    costs.sort_unstable();
    // Disturbances go both ways here, so it is the median.
    let middle = costs.get(costs.len() / 2).copied().unwrap_or_default();
    Ok(u64::try_from(middle.as_nanos()).unwrap_or(u64::MAX))
}

/// How much work is done in a time of our own CPU.
fn spin() -> u64 {
    let cpu = || sys::clock::process_cpu_ns(Pid::current()).unwrap_or_default();
    let until = cpu() + u64::try_from(SPIN.as_nanos()).unwrap_or_default();
    let (mut work, mut number) = (0u64, 1u64);
    while cpu() < until {
        for _ in 0..2000 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        work += 1;
    }
    work
}

/// The lower third of times for `count` things, for one.
fn low_third(mut times: Vec<Duration>, count: usize) -> u64 {
    times.sort_unstable();
    let time = times.get(times.len() / 3).copied().unwrap_or_default();
    let count = u128::try_from(count.max(1)).unwrap_or(1);
    u64::try_from(time.as_nanos() / count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_costs_that_can_be() {
        let costs = calibrate().unwrap();
        println!("{costs:?}");
        assert!((100..1_000_000).contains(&costs.write_fault_ns), "{costs:?}");
        assert!(costs.fault_event_ns < 100_000 && costs.scan_page_ns < 10_000, "{costs:?}");
        assert!(costs.clock_sample_ns < 10_000_000, "{costs:?}");
    }
}
