//! Profiles of a program whose accesses are known, page by page.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::{Pattern, Truth, profile};
use heat::{Certainty, Heat, Reading, Sample, Source};
use mem::VirtAddr;
use rekindle_profile::{End, Options};

/// A budget that does not bind: these tests are about what is found, on however slow a host.
const OPTIONS: Options =
    Options { slowdown_permille_max: 200, exact: false, gauge: true, writes_from: 0, window_id: 7 };
const LONG: Duration = Duration::from_secs(120);

fn pages<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> BTreeSet<u64> {
    samples.into_iter().map(|s| s.page.addr().0).collect()
}

/// Every sample of the arena is of a page that the program touches, as what it touches it as.
fn assert_true(samples: &[Sample], truth: &Truth) {
    for sample in samples {
        let kind = truth.kind_of(sample.page.addr().0);
        let kind = kind.unwrap_or_else(|| panic!("a page of the never set: {sample:x?}"));
        if sample.source != Source::WriteTracking && sample.operand.width_bytes > 0 {
            assert_eq!(sample.operand.class.name(), truth.sets[kind].0, "{sample:x?}");
        }
        assert!(!sample.kind.writes() || truth.stores.contains_key(kind), "{sample:x?}");
    }
}

#[test]
fn written_pages_are_found_with_their_instructions() {
    let (pattern, truth) = Pattern::start(&["mixed", "--mb", "128"]);
    let hot: usize = truth.stores.keys().map(|kind| truth.sets[kind].1.len()).sum();
    let exact = |s: &&Sample| s.source != Source::Clock && s.kind.writes();
    let enough = move |samples: &[Sample]| {
        samples.len() >= hot && pages(samples.iter().filter(exact)).len() >= hot
    };
    let (keep, summary, end) = profile(pattern.pid(), &truth, LONG, OPTIONS, enough);
    assert_eq!(end, End::Asked);
    assert_true(&keep.samples, &truth);
    let found = pages(keep.samples.iter().filter(exact)).len();
    assert!(found * 100 >= hot * 99, "{found} of {hot} written pages found: {summary:#?}");
    let faults = keep.samples.iter().filter(|s| s.source == Source::Fault && s.kind.writes());
    let instructions: BTreeSet<u64> = faults.filter_map(|s| Some(s.instruction?.0)).collect();
    let stores: BTreeSet<u64> = truth.stores.values().copied().collect();
    assert_eq!(instructions, stores, "the store instructions");
}

/// The share of pairs of a hot and another region in which the hot one has more samples.
fn auc(truth: &Truth, samples: &[Sample]) -> f64 {
    const REGION: u64 = 2 << 20;
    let hot: BTreeSet<u64> = truth.sets["hot"].1.iter().map(|page| page / REGION).collect();
    let mut counts: BTreeMap<u64, u64> =
        (truth.start / REGION..truth.end / REGION).map(|region| (region, 0)).collect();
    for sample in samples {
        *counts.entry(sample.page.addr().0 / REGION).or_default() += 1;
    }
    let mut won = 0.0;
    let mut pairs = 0.0;
    for (_, mine) in counts.iter().filter(|(region, _)| hot.contains(region)) {
        for (_, other) in counts.iter().filter(|(region, _)| !hot.contains(region)) {
            pairs += 1.0;
            won += match mine.cmp(other) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    won / pairs
}

#[test]
fn regions_that_are_only_read_are_ranked() {
    let (pattern, truth) = Pattern::start(&["model", "--mb", "256"]);
    let enough = |samples: &[Sample]| samples.len() >= 1500;
    let (keep, summary, _) = profile(pattern.pid(), &truth, LONG, OPTIONS, enough);
    assert_true(&keep.samples, &truth);
    let auc = auc(&truth, &keep.samples);
    assert!(auc >= 0.95, "AUC {auc} of {} samples: {summary:#?}", keep.samples.len());
}

#[test]
fn the_exact_mode_finds_every_page_that_is_read_and_no_other() {
    const SWITCH: &str = "/proc/sys/kernel/numa_balancing";
    let setting = || std::fs::read_to_string(SWITCH).unwrap();
    let before = setting();
    let (pattern, truth) = Pattern::start(&["mixed", "--mb", "64"]);
    let touched: usize = truth.sets.values().map(|(_, pages)| pages.len()).sum();
    let enough =
        move |samples: &[Sample]| samples.len() >= touched && pages(samples).len() >= touched;
    let options = Options { exact: true, ..OPTIONS };
    let (keep, summary, _) = profile(pattern.pid(), &truth, LONG, options, enough);
    assert_eq!(setting(), before, "the host's setting is as it was");
    assert!(summary.missing.is_empty(), "{:?}", summary.missing);
    assert_true(&keep.samples, &truth);
    let found = pages(&keep.samples).len();
    assert!(found * 100 >= touched * 99, "{found} of {touched} pages found: {summary:#?}");
}

/// What the processor counts is what is true, whatever the other collectors saw.
#[test]
fn what_was_touched_is_counted_independently() {
    let (pattern, truth) = Pattern::start(&["mixed", "--mb", "64"]);
    let touched: usize = truth.sets.values().map(|(_, pages)| pages.len()).sum();
    // Until all of it has been touched for sure: writes go round with the reads.
    let enough = |samples: &[Sample]| samples.len() >= 3000;
    let (_, summary, _) = profile(pattern.pid(), &truth, LONG, OPTIONS, enough);
    let arena = summary.referenced.iter().find(|of| of.range.start.0 == truth.start);
    let counted = arena.expect("the arena is counted").referenced_bytes / mem::PAGE_SIZE;
    let touched = touched as u64;
    assert!(counted <= touched, "{counted} of {touched} pages touched were counted");
    assert!(counted * 100 >= touched * 95, "{counted} of {touched} pages touched were counted");
}

#[test]
fn the_asked_slowdown_is_kept_by_its_own_account() {
    let (pattern, truth) = Pattern::start(&["mixed", "--mb", "64"]);
    let options = Options { slowdown_permille_max: 10, ..OPTIONS };
    let time = Duration::from_secs(5);
    let (keep, summary, _) = profile(pattern.pid(), &truth, time, options, |_| false);
    // What the program earned, also where it got no processor for a while, and one step of what
    // may be saved up: how many pages of the last slice are written nobody knows before.
    let idle_ns = summary.counts.active_ns / 20;
    let asked_ns = (summary.cpu_ns + idle_ns + 500_000_000) / 100;
    assert!(summary.spent.total_ns() <= asked_ns, "of {asked_ns} ns asked: {summary:#?}");
    assert!(summary.spent.gauge_ns > 0, "{summary:#?}");
    assert!(summary.spent.writes_ns > 0 && summary.spent.clock_ns > 0, "{summary:#?}");
    assert_true(&keep.samples, &truth);
}

/// What `look` sees when it has been the same for a while: the program starts threads at first.
fn settled(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let mut seen = look();
    let (mut since, give_up) = (Instant::now(), Instant::now() + Duration::from_secs(20));
    while since.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < give_up, "its mappings never settle");
        std::thread::sleep(Duration::from_millis(20));
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

#[test]
fn a_window_becomes_heat_of_the_program() {
    let (pattern, truth) = Pattern::start(&["mixed", "--mb", "96"]);
    let maps = || std::fs::read_to_string(format!("/proc/{}/smaps", pattern.pid())).unwrap();
    let flags = |text: &str| -> Vec<String> {
        let line = |l: &&str| l.starts_with("VmFlags") || l.contains("00:00") || l.contains('/');
        text.lines().filter(line).map(str::to_owned).collect()
    };
    let before = settled(|| flags(&maps()));
    let time = Duration::from_secs(4);
    let (keep, ..) = profile(pattern.pid(), &truth, time, OPTIONS, |_| false);
    assert_eq!(flags(&maps()), before, "mappings and their flags after a profile");
    let mut heat = Heat::default();
    for (window, end_ns) in keep.windows {
        heat = heat.merged(&window.finish(end_ns));
    }
    let layout = heat.layouts()[0].clone();
    let (mut hot, mut wrong) = (0, 0);
    let reading = Reading::at(heat.newest_ns());
    heat.for_each_mapped(&layout, &reading, |_, run, known| {
        for page in run.start.0..run.end.0 {
            let addr = VirtAddr(page * 4096).0;
            let count = known.and_then(|k| k.access_count()).unwrap_or(0);
            let written = truth.kind_of(addr).is_some_and(|k| truth.stores.contains_key(k));
            if written && known.is_some_and(|k| k.certainty() >= Certainty::Sampled) && count > 0 {
                hot += 1;
            }
            let inside = (truth.start..truth.end).contains(&addr);
            wrong += usize::from(inside && truth.kind_of(addr).is_none() && count > 0);
        }
    });
    let all: usize = truth.stores.keys().map(|kind| truth.sets[kind].1.len()).sum();
    assert!(hot * 10 >= all * 9 && wrong == 0, "{hot} of {all} pages hot, {wrong} wrong");
}

#[test]
fn a_program_that_ends_or_executes_another_ends_the_profile() {
    let (pattern, truth) = Pattern::start(&["mixed", "--mb", "16"]);
    let pid = pattern.pid();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        drop(pattern);
    });
    let begun = Instant::now();
    let (_, _, end) = profile(pid, &truth, LONG, OPTIONS, |_| false);
    assert_eq!(end, End::Ended);
    assert!(begun.elapsed() < Duration::from_secs(30));
    killer.join().unwrap();

    let script = "sleep 0.7; exec sleep 1000";
    let mut child = std::process::Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let (_, _, end) = profile(pid, &Truth::default(), LONG, OPTIONS, |_| false);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(end, End::Executed);
}
