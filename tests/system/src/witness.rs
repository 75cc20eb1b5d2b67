//! The witness as an instance under test.

use crate::program::{Program, Start};
use crate::rekindle::{Rekindle, Report};
use crate::sandbox::Place;
use crate::wait::{self, PATIENCE};
use crate::{binaries, skips};
use serde_json::Value;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::panic::RefUnwindSafe;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A kind of state by name, and whether it is on by default.
pub fn kinds() -> Vec<(String, bool)> {
    let list = Command::new(binaries::witness()).arg("--list").output();
    let list = list.unwrap_or_else(|error| panic!("the witness does not start: {error}"));
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    let parse = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.next()? == "on"))
    };
    text.lines().filter_map(parse).collect()
}

/// Does `test` for each kind that is on by default, alone, two at a time, and fails with all
/// findings at once. Memory in swap has a test of its own.
///
/// # Panics
/// When any of them does.
pub fn each_kind(test: impl Fn(&str) + RefUnwindSafe + Sync) {
    every_nth_kind(1, test);
}

/// The same for every `n`th kind only.
///
/// # Panics
/// When any of them does.
pub fn every_nth_kind(n: usize, test: impl Fn(&str) + RefUnwindSafe + Sync) {
    let is_wanted = |(kind, by_default): &(String, bool)| *by_default && kind != "paged-out";
    let left = Mutex::new(kinds().into_iter().filter(is_wanted).step_by(n));
    let findings = Mutex::new(Vec::new());
    let next = || locked(&left).next();
    let work = || {
        while let Some((kind, _)) = next() {
            let found = std::panic::catch_unwind(|| test(&kind));
            let text = |panic: &dyn std::any::Any| {
                panic.downcast_ref::<String>().cloned().unwrap_or_default()
            };
            let found = found.err().map(|panic| format!("{kind}: {}", text(&*panic)));
            locked(&findings).extend(found);
        }
    };
    // Each of them waits for most of its time.
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let findings = locked(&findings);
    assert!(findings.is_empty(), "{} kinds:\n{}", findings.len(), findings.join("\n"));
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running witness.
#[derive(Debug)]
pub struct Witness {
    /// The process.
    pub program: Program,
    report: PathBuf,
    address: SocketAddr,
    /// What it said when it was ready.
    pub first: Value,
}

impl Witness {
    /// Starts one with these options and waits until it is ready. Memory in swap is the subject
    /// of a test of its own: ask for it with `--kinds +paged-out`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(place: &Place, options: &[&str]) -> Self {
        Self::start_with(place, "witness", options, |start| start)
    }

    /// The same, with a folder name of its own and a say in how it is started.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_with<'a>(
        place: &'a Place,
        label: &'a str,
        options: &[&str],
        how: impl FnOnce(Start<'a>) -> Start<'a>,
    ) -> Self {
        let dir = place.path(label);
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{error}"));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&dir, open).unwrap_or_else(|error| panic!("{error}"));
        let (ready, report) = (dir.join("ready"), dir.join("report"));
        let mut words = vec![binaries::witness().display().to_string()];
        for (flag, path) in
            [("--dir", dir.join("files")), ("--ready", ready.clone()), ("--report", report.clone())]
        {
            words.extend([flag.to_owned(), path.display().to_string()]);
        }
        words.extend(["--pause-ms", "50", "--kinds", "-paged-out"].map(str::to_owned));
        words.extend(options.iter().map(|option| (*option).to_owned()));
        let program = how(Start::new(place.dir(), label, &words)).start();
        let text = wait::until("readiness of the witness", PATIENCE, || {
            let complaint = std::fs::read_to_string(&report).unwrap_or_default();
            assert!(program.exists(), "the witness ended: {complaint}");
            std::fs::read_to_string(&ready)
        });
        let first: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        for (kind, reason) in first["absent"].as_object().into_iter().flatten() {
            let reason = reason.as_str().unwrap_or_default();
            skips::skip(&format!("witness: {kind}"), reason);
        }
        let address = first["listeners"][0]["address"].as_str().and_then(|a| a.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no TCP listener in {text}"));
        Self { program, report, address, first }
    }

    /// What it complained about, if it did.
    pub fn complaint(&self) -> Option<String> {
        std::fs::read_to_string(&self.report).ok()
    }

    /// # Panics
    /// When it complained.
    pub fn assert_content(&self, when: &str) {
        if let Some(complaint) = self.complaint() {
            panic!("{when}: {complaint}");
        }
    }

    /// Asks for the status over a fresh connection.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn status(&self) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        serde_json::from_str(&text).map_err(std::io::Error::from)
    }

    /// A number of the status.
    ///
    /// # Panics
    /// When nobody answers in time, or it complained.
    pub fn number(&self, key: &str) -> u64 {
        wait::until(&format!("`{key}` of the witness"), PATIENCE, || {
            self.assert_content("asked for its status");
            let status = self.status().map_err(|error| error.to_string())?;
            status[key].as_u64().ok_or_else(|| format!("no {key} in {status}"))
        })
    }

    /// Waits until everything it holds was found right `count` times more.
    pub fn goes_on(&self, count: u64) {
        self.reaches("whole_passes", count);
    }

    /// Waits until it made a few passes more: it runs and has not complained yet.
    pub fn moves(&self) {
        self.reaches("generation", 3);
    }

    fn reaches(&self, key: &str, count: u64) {
        let goal = self.number(key) + count;
        wait::until_true(&format!("{key} {goal} of the witness"), PATIENCE, || {
            self.number(key) >= goal
        });
    }

    /// Ends it by a checkpoint and brings it back, with the same pid, and waits until everything
    /// was found right.
    ///
    /// # Panics
    /// When any of it fails.
    pub fn cycle(&self, rekindle: &Rekindle) -> Report {
        let pid = self.program.pid();
        let stopped = rekindle.run(&["checkpoint", &pid.to_string(), "--stop"]);
        // A witness that ended by itself says more than a verb that does not find it.
        self.assert_content("before a checkpoint");
        let stopped = stopped.expect("stopped");
        self.program.wait_gone();
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        assert_eq!(resumed.pid("pid_inside"), pid, "another pid inside: {resumed}");
        self.goes_on(1);
        stopped
    }
}
