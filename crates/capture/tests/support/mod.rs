//! Children to capture, and a sink that keeps what it is given.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::print_stderr, reason = "a skipped part of a test says so")]

pub(crate) mod swap;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mem::{MemoryId, PageRange, PageSink, PageSinkError};
use process::{Blocker, Instance, LineIdentity, StateKind};
use rekindle_capture::{self as capture, Captured, Options, Survey};
use target::{FreezeOptions, Frozen, Process};

/// A child that is killed when the test ends, however it ends.
pub(crate) struct Guarded {
    pub(crate) child: Child,
    /// Where it makes temporary files, removed with it.
    folder: tempfile::TempDir,
    /// What it told before it was ready, line by line.
    pub(crate) told: Vec<String>,
}

impl Guarded {
    pub(crate) fn new(child: Child) -> Self {
        Self { child, folder: tempfile::tempdir().unwrap(), told: Vec::new() }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn process(&self) -> Process {
        Process::open(self.pid()).unwrap()
    }

    /// A word it told, as a number; `0x` marks hexadecimal ones.
    pub(crate) fn number(&self, line: usize, word: usize) -> u64 {
        let word = self.told[line].split_whitespace().nth(word).unwrap();
        match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
            None => word.parse().unwrap(),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs `program` without the descriptors that whoever runs the tests left open.
pub(crate) fn without_strays(program: &str) -> Command {
    const CLOSE: &str = "for fd in /proc/self/fd/*; do n=${fd##*/}; \
                         if [ $n -gt 2 ]; then eval \"exec $n>&-\"; fi; done; exec \"$@\"";
    let mut command = Command::new("/bin/bash");
    command.args(["-c", CLOSE, "sh", program]);
    command
}

/// Starts python with `script` behind `script.py`, and waits until it has called `ready`.
/// `None`, with a line on stderr, when it says that this host lacks what it needs.
pub(crate) fn python(script: &str) -> Option<Guarded> {
    let script = format!("{}\n{script}\nready()\n", include_str!("script.py"));
    let mut command = without_strays("/usr/bin/python3");
    command
        .args(["-s", "-S", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let folder = tempfile::tempdir().unwrap();
    command.env("TMPDIR", folder.path());
    let mut child = Guarded::new(command.spawn().unwrap());
    child.folder = folder;
    let mut out = BufReader::new(child.child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended");
        if let Some(what) = line.strip_prefix("unavailable: ") {
            skip(what.trim());
            return None;
        }
        if line == "ready\n" {
            break;
        }
        child.told.push(line.trim().to_owned());
    }
    // Its standard output stays connected to us: an external pipe.
    child.child.stdout = Some(out.into_inner());
    Some(child)
}

/// Says what is not tested, and why. Under `CI=true` only what `tests/unavailable.toml` names.
pub(crate) fn skip(what: &str) {
    eprintln!("SKIP {what}");
    let listed = include_str!("../../../../tests/unavailable.toml");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci || listed.contains(what), "not in tests/unavailable.toml: {what}");
}

pub(crate) fn freeze(process: &Process) -> Frozen<'_> {
    let deadline = Instant::now() + Duration::from_secs(10);
    process.freeze(FreezeOptions { deadline, suspend_seccomp: false }).unwrap()
}

pub(crate) fn look(process: &Process) -> Survey {
    let survey = look_awake(process, &Options::default());
    assert!(survey.blockers().is_empty(), "{:#?}", survey.blockers());
    survey
}

/// Looks, freezes, captures and thaws.
pub(crate) fn instance(child: &Guarded) -> Instance {
    let process = child.process();
    let survey = look(&process);
    let mut frozen = freeze(&process);
    let mut captured = capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap();
    captured.find_guards().unwrap();
    captured.instance
}

/// Looks, freezes, captures, copies every page and thaws.
pub(crate) fn whole(child: &Guarded) -> (Captured, Pages) {
    let process = child.process();
    let survey = look(&process);
    let mut frozen = freeze(&process);
    let mut captured = capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap();
    captured.find_guards().unwrap();
    let list = capture::pages(&captured.memory).unwrap();
    let pages = Pages::default();
    capture::copy(&captured.memory, &list, &pages, 2, &|_| None).unwrap();
    (captured, pages)
}

/// The blockers that a look finds.
pub(crate) fn blockers(process: &Process, options: &Options) -> Vec<Blocker> {
    look_awake(process, options).blockers().to_vec()
}

/// A look. A program that reads a page from the disk at that moment is waited for, as a checkpoint
/// does: none of these programs stays in uninterruptible sleep.
fn look_awake(process: &Process, options: &Options) -> Survey {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let survey = capture::look(process, options).unwrap();
        let reads = survey.blockers().iter().any(|b| b.kind == StateKind::UninterruptibleSleep);
        if !reads || Instant::now() >= until {
            return survey;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Keeps every page.
#[derive(Default)]
pub(crate) struct Pages(pub(crate) Mutex<BTreeMap<(MemoryId, u64), Vec<u8>>>);

impl Pages {
    pub(crate) fn page(&self, id: MemoryId, number: u64) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(&(id, number)).cloned()
    }
}

impl PageSink for Pages {
    fn put(&self, id: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        let mut map = self.0.lock().unwrap();
        for (number, page) in (pages.start.0..).zip(bytes.chunks_exact(4096)) {
            assert!(map.insert((id, number), page.to_vec()).is_none());
        }
        Ok(())
    }
}
