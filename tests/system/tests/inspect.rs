//! `inspect` of a program that runs: true, and the program notices nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, python};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox;
use rekindle_system_tests::wait::{self, PATIENCE};
use rekindle_system_tests::witness::Witness;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

fn rows<'a>(report: &'a Report, part: &str) -> &'a [serde_json::Value] {
    report.json[part].as_array().unwrap_or_else(|| panic!("no {part}: {report}"))
}

/// What `inspect PID PART` says.
fn shown(rekindle: &Rekindle, program: &Program, part: &str) -> Report {
    let report = rekindle.run(&["inspect", &program.pid().to_string(), part]);
    report.expect_ok();
    assert_eq!(report.text("schema"), "rekindle.inspect.running/1");
    assert_eq!(report.pid("pid"), program.pid());
    report
}

/// Of a program that sleeps nothing changes between two looks.
#[test]
fn a_program_is_shown_as_it_is() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let ready = place.path("ready");
        let script = "import sys, time\nopen(sys.argv[1], 'w').close()\ntime.sleep(1000)";
        let program = python(place, "sleeper", script, &[&ready]);
        wait::until_true("it to sleep", PATIENCE, || {
            ready.exists() && program.state() == Some('S')
        });
        let maps = shown(&rekindle, &program, "maps");
        let range = |row: &serde_json::Value| {
            let [start, end] =
                ["start", "end"].map(|key| row[key].as_str().unwrap()[2..].to_owned());
            format!("{start:0>8}-{end:0>8}")
        };
        let shown_maps: Vec<String> = rows(&maps, "maps").iter().map(range).collect();
        let there: Vec<String> = program
            .mappings()
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(shown_maps, there);
        let fds = shown(&rekindle, &program, "fds");
        let shown_fds: Vec<i64> =
            rows(&fds, "fds").iter().map(|row| row["fd"].as_i64().unwrap()).collect();
        let there: Vec<i64> = program.descriptors().into_iter().map(|(fd, _)| fd.into()).collect();
        assert_eq!(shown_fds, there);
        let threads = shown(&rekindle, &program, "threads");
        let [only] = rows(&threads, "threads") else { panic!("{threads}") };
        assert_eq!(only["tid"].as_i64(), Some(program.pid().into()), "{threads}");
        assert_eq!(only["state"], "sleeping", "{threads}");
        assert!(only.get("rip").is_none(), "{threads}");
        assert_eq!(program.state(), Some('S'));
        program.kill();
    });
}

#[test]
fn a_program_that_is_looked_at_notices_nothing() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let witness = Witness::start(place, &["--mb", "16"]);
        witness.goes_on(1);
        for part in ["maps", "fds"] {
            assert!(rows(&shown(&rekindle, &witness.program, part), part).len() > 3);
        }
        let threads = shown(&rekindle, &witness.program, "threads");
        let count = threads.number("thread_count");
        assert!(count > 1 && rows(&threads, "threads").len() as u64 == count, "{threads}");
        let pages = shown(&rekindle, &witness.program, "pages");
        let length = |row: &serde_json::Value| {
            let at = |key: &str| u64::from_str_radix(&row[key].as_str().unwrap()[2..], 16).unwrap();
            at("end") - at("start")
        };
        let bytes: u64 = rows(&pages, "pages").iter().map(length).sum();
        assert!(bytes >= 16 << 20, "{bytes} of the witness's 16 MB");
        let heat = shown(&rekindle, &witness.program, "heat");
        assert!(heat.json["heat"]["line"].is_null(), "{heat}");
        assert!(heat.json["heat"]["hit_rate_permille"].is_null(), "{heat}");
        assert!(witness.program.proc_file("status").contains("TracerPid:\t0"));
        assert!(!place.store().exists(), "a look leaves no store behind");
        witness.goes_on(1);
        witness.program.kill();
        witness.assert_content("after it was looked at");
    });
}

#[test]
fn what_resumes_waited_for_is_held_against_the_checkpoint() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut witness = Witness::start(place, &["--mb", "16"]);
        witness.goes_on(1);
        rekindle.run(&["profile", &witness.program.pid().to_string(), "--for", "1s"]).expect_ok();
        rekindle.stop(witness.program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        witness.program = Program::of_pid(resumed.pid("pid"));
        witness.goes_on(1);
        let stopped = rekindle.stop(witness.program.pid(), &[]);
        let report = rekindle.run(&["inspect", stopped.text("id"), "heat"]);
        report.expect_ok();
        let heat = &report.json["heat"];
        assert!(heat["line"]["windows"].as_u64() >= Some(1), "{report}");
        for row in heat["tiers"].as_array().unwrap() {
            let number = |key: &str| row[key].as_u64().unwrap();
            let known = number("accessed_pages") + number("untouched_pages");
            assert_eq!(known + number("unknown_pages"), number("pages"), "{report}");
        }
        let log = &heat["fault_logs"][0];
        let number = |key: &str| log[key].as_u64().unwrap_or_else(|| panic!("{report}"));
        assert!(number("pages") > 0, "{report}");
        let parts = number("ahead_pages") + number("cold_pages") + number("elsewhere_pages");
        assert_eq!(parts, number("pages"), "{report}");
        let told = heat["notes"][0].as_str().unwrap();
        let is_known = told.contains("were held back");
        assert_eq!(heat["wasted_bytes"].is_u64(), is_known, "{report}");
        assert!(is_known || heat["hit_rate_permille"].is_null(), "{report}");
    });
}
