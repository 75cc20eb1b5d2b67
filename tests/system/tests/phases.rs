//! A failure where each phase of `checkpoint`, `resume` and `update` begins: the program goes on as it was,
//! nothing half-made is left, and the next try succeeds.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::time::Duration;

use rekindle_system_tests::program::Program;
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{sandbox, wait};

const LIMIT: Duration = Duration::from_secs(600);

/// The names of the phases in a report, each once.
fn phases(report: &Report) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in report.json["phases"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap().to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    assert!(names.len() > 3, "{report}");
    names
}

fn failing(place: &sandbox::Place, phase: &str) -> Rekindle {
    let setting = format!("REKINDLE_FAIL_PHASE={phase}");
    Rekindle::new(&place.store(), place.dir()).through(&["env", &setting])
}

fn listed(rekindle: &Rekindle) -> usize {
    let report = rekindle.run(&["list"]);
    report.expect_ok();
    report.json["checkpoints"].as_array().unwrap().len()
}

#[test]
fn every_phase_of_a_checkpoint_is_undone() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "16"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid();
        let rehearse = ["--rehearse", "2ms"];
        let names = phases(&rekindle.checkpoint(pid, &rehearse));
        let number = pid.to_string();
        let words: Vec<&str> = ["checkpoint", &number].into_iter().chain(rehearse).collect();
        for name in &names {
            let report = failing(place, name).run(&words);
            assert!(report.talk.contains("REKINDLE_FAIL_PHASE"), "{name}: {report}");
            let _ = report.expect_failure(&[7], "rolled_back", &[name]);
            witness.goes_on(1);
            assert_eq!(listed(&rekindle), 1, "after a failure of {name}");
        }
        for name in names.iter().filter(|name| !["thaw", "release"].contains(&name.as_str())) {
            let report = failing(place, name).run(&[&words[..], &["--stop"]].concat());
            let _ = report.expect_failure(&[7], "rolled_back", &[name]);
            witness.goes_on(1);
            assert_eq!(listed(&rekindle), 1, "after a failure of {name} with --stop");
        }
        // Published but not ended: that is said, and the program goes on.
        let report = failing(place, "end").run(&["checkpoint", &pid.to_string(), "--stop"]);
        let _ = report.expect_failure(&[10], "running", &["is safe"]);
        witness.goes_on(1);
        assert_eq!(listed(&rekindle), 2);
        witness.program.kill();
    });
}

#[test]
fn every_phase_of_a_resume_is_undone() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "16"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let id = rekindle.stop(witness.program.pid(), &[]).text("id").to_owned();
        witness.program.wait_gone();
        let names = ["open", "match", "build"].map(str::to_owned);
        let inner = ["stub", "mappings", "memory", "process", "threads", "finish", "verify"];
        let inner = inner.iter().map(|name| format!("build.{name}"));
        for name in names.into_iter().chain(inner) {
            let report = failing(place, &name).run(&["resume", &id, "--detach"]);
            let _ = report.expect_failure(&[7], "rolled_back", &[&name]);
        }
        let report = rekindle.resume(&id, &[]);
        assert!(phases(&report).iter().any(|name| name == "build.verify"), "{report}");
    });
}

/// Phases of an update in which the program stands still; the others are those of a checkpoint.
const STANDING: [&str; 9] = [
    "state",
    "copy",
    "publish",
    "build",
    "build.stub",
    "build.verify",
    "compare",
    "prepare-commit",
    "commit",
];

#[test]
fn every_phase_of_an_update_is_undone() {
    sandbox::run(LIMIT, |place| {
        let kinds = "heap,memfd,epoll,pipes,files,listeners,timer-fds,interval-timers,in-poll,ring";
        let witness = Witness::start(place, &["--mb", "2", "--kinds", kinds]);
        let pid = witness.program.pid();
        let words = ["update", &pid.to_string(), "--wait", "60s"].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for name in STANDING {
            let report = failing(place, name).run(&words);
            assert!(report.talk.contains("REKINDLE_FAIL_PHASE"), "{name}: {report}");
            let _ = report.expect_failure(&[7], "rolled_back", &[name]);
            witness.moves();
        }
        witness.goes_on(1);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let report = rekindle.update(pid, &["--wait", "60s"]);
        let names = phases(&report);
        for name in STANDING {
            assert!(names.iter().any(|found| found == name), "no {name}: {report}");
        }
        witness.goes_on(1);
        Program::of_pid(report.pid("pid")).kill();
    });
}

const HANGS_ON_ITS_PROCESS: &str = r#"
import ctypes, fcntl, os, select, socket, sys, time
file = open(sys.argv[1] + ".lock", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
left, right = socket.socketpair()
fcntl.fcntl(left, fcntl.F_SETOWN, os.getpid())
mask = (ctypes.c_ulong * 16)(1 << 9)
signals = ctypes.CDLL(None).signalfd(-1, mask, 0)
assert signals >= 0
epoll = select.epoll()
epoll.register(signals)
os.rename(sys.argv[1] + ".lock", sys.argv[1])
time.sleep(1000)
"#;

/// What hangs on the process and not on what it has open cannot go to another one: all of it is
/// named before anything is touched.
#[test]
fn an_update_names_what_cannot_travel() {
    sandbox::run(LIMIT, |place| {
        let ready = place.path("ready");
        let program =
            rekindle_system_tests::program::python(place, "hangs", HANGS_ON_ITS_PROCESS, &[&ready]);
        wait::until_true("the program to be ready", wait::PATIENCE, || ready.exists());
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = program.pid().to_string();
        let report = rekindle.run(&["update", &pid, "--wait", "0s"]);
        let mut kinds = report.blockers();
        kinds.sort_unstable();
        assert_eq!(kinds, ["file-lock", "signalfd", "unknown"], "{report}");
        let _ = report.expect_failure(&[3], "refused", &["F_SETOWN", "EPOLL_CTL_DEL"]);
        assert_eq!(program.state(), Some('S'));
        let report = rekindle.run(&["check", &pid, "--update"]);
        assert_eq!((report.code, report.blockers().len()), (Some(3), 3), "{report}");
        program.kill();
    });
}
