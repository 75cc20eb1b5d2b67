//! A failure where each phase of `checkpoint` and `resume` begins: the program goes on as it was,
//! nothing half-made is left, and the next try succeeds.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::time::Duration;

use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox;
use rekindle_system_tests::witness::Witness;

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
