//! The pattern program as a target, and what it says is true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heat::{Accumulator, Sample};
use rekindle_profile::{Costs, End, Options, Profiler, Sink, Summary};
use target::Process;

/// A running pattern program; ended when dropped.
pub(crate) struct Pattern {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Pattern {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program does, in pages.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Store instructions by kind.
    pub(crate) stores: BTreeMap<String, u64>,
    /// Class and pages (addresses) by kind.
    pub(crate) sets: BTreeMap<String, (String, BTreeSet<u64>)>,
}

/// `target/PROFILE/rekindle-pattern`: cargo built it beside this test.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let file = test.parent().unwrap().parent().unwrap().join("rekindle-pattern");
    assert!(file.is_file(), "no {}: run `cargo build --workspace --bins`", file.display());
    file
}

impl Pattern {
    pub(crate) fn start(words: &[&str]) -> (Self, Truth) {
        let dir = tempfile::tempdir().unwrap();
        let truth = dir.path().join("truth");
        let child = Command::new(binary())
            .args(words)
            .arg("--truth")
            .arg(&truth)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pattern = Self { child, dir };
        let begun = Instant::now();
        while !truth.exists() {
            assert!(begun.elapsed() < Duration::from_secs(120), "the program does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = std::fs::read_to_string(pattern.dir.path().join("truth")).unwrap();
        (pattern, Truth::parse(&text))
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

impl Truth {
    fn parse(text: &str) -> Self {
        let mut truth = Self::default();
        let mut open = String::new();
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words.as_slice() {
                ["arena", start, end] => (truth.start, truth.end) = (hex(start), hex(end)),
                ["store", kind, at] => {
                    truth.stores.insert((*kind).to_owned(), hex(at));
                }
                ["set", kind, class] => {
                    open = (*kind).to_owned();
                    truth.sets.insert(open.clone(), ((*class).to_owned(), BTreeSet::new()));
                }
                [page] => {
                    truth.sets.get_mut(&open).unwrap().1.insert(hex(page));
                }
                _ => panic!("{line}"),
            }
        }
        truth
    }

    /// The kind of the page at this address.
    pub(crate) fn kind_of(&self, page: u64) -> Option<&str> {
        self.sets.iter().find(|(_, (_, pages))| pages.contains(&page)).map(|(kind, _)| &**kind)
    }
}

/// Says whether what was seen is enough.
type Enough = Box<dyn FnMut(&[Sample]) -> bool>;

/// Keeps the samples of the arena.
pub(crate) struct Keep {
    pub(crate) samples: Vec<Sample>,
    pub(crate) windows: Vec<(Accumulator, u64)>,
    until: Instant,
    range: std::ops::Range<u64>,
    enough: Enough,
}

impl Sink for Keep {
    fn go_on(&mut self) -> bool {
        Instant::now() < self.until && !(self.enough)(&self.samples)
    }

    fn sample(&mut self, sample: &Sample) {
        if self.range.contains(&sample.page.addr().0) {
            self.samples.push(*sample);
        }
    }

    fn window(&mut self, window: Accumulator, end_ns: u64) {
        self.windows.push((window, end_ns));
    }
}

/// Profiles the program for a time, or until `enough` was seen of the arena.
pub(crate) fn profile(
    pid: i32,
    truth: &Truth,
    time: Duration,
    options: Options,
    enough: impl FnMut(&[Sample]) -> bool + 'static,
) -> (Keep, Summary, End) {
    let process = Process::open(pid).unwrap();
    let mut profiler = Profiler::new(&process, options, Costs::ASSUMED).unwrap();
    let until = Instant::now() + time;
    let range = truth.start..truth.end;
    let enough = Box::new(enough);
    let mut keep = Keep { samples: Vec::new(), windows: Vec::new(), until, range, enough };
    let end = profiler.run(until, &mut keep).unwrap();
    (keep, profiler.finish(), end)
}
