//! `inspect` of a program that runs: true, and the program notices nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::Program;
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox;
use rekindle_system_tests::witness::Witness;
use std::collections::BTreeSet;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

fn rows<'a>(report: &'a Report, part: &str) -> &'a [serde_json::Value] {
    report.json[part].as_array().unwrap_or_else(|| panic!("no {part}: {report}"))
}

#[test]
fn a_running_program_is_shown_as_it_is() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let witness = Witness::start(place, &["--mb", "16"]);
        witness.goes_on(1);
        let pid = witness.program.pid().to_string();
        let show = |part: &str| {
            let report = rekindle.run(&["inspect", &pid, part]);
            report.expect_ok();
            assert_eq!(report.text("schema"), "rekindle.inspect.running/1");
            assert_eq!(report.number("pid").to_string(), pid);
            report
        };
        let switches = |program: &Program| {
            let status = program.proc_file("status");
            status.lines().find(|line| line.starts_with("TracerPid")).unwrap().to_owned()
        };
        let maps = show("maps");
        let now: BTreeSet<String> = witness
            .program
            .mappings()
            .iter()
            .map(|m| m.split(' ').next().unwrap().into())
            .collect();
        for row in rows(&maps, "maps") {
            let [start, end] =
                ["start", "end"].map(|key| row[key].as_str().unwrap()[2..].to_owned());
            let wide = |text: &str| format!("{:0>8}", text);
            let range = format!("{}-{}", wide(&start), wide(&end));
            assert!(now.contains(&range), "{range} is no mapping: {now:?}");
        }
        assert!(rows(&maps, "maps").len() > 10, "{maps}");
        let fds = show("fds");
        let shown: Vec<i64> =
            rows(&fds, "fds").iter().map(|row| row["fd"].as_i64().unwrap()).collect();
        let there: Vec<i64> =
            witness.program.descriptors().into_iter().map(|(fd, _)| fd.into()).collect();
        assert_eq!(shown, there);
        let threads = show("threads");
        let count = threads.number("thread_count");
        assert!(count > 1 && rows(&threads, "threads").len() as u64 == count, "{threads}");
        assert!(rows(&threads, "threads").iter().all(|row| row.get("rip").is_none()));
        let pages = show("pages");
        let bytes: u64 = rows(&pages, "pages")
            .iter()
            .map(|row| {
                let at =
                    |key: &str| u64::from_str_radix(&row[key].as_str().unwrap()[2..], 16).unwrap();
                at("end") - at("start")
            })
            .sum();
        assert!(bytes >= 16 << 20, "{bytes} of the witness's 16 MB");
        assert!(bytes <= pages.number("resident_bytes") * 2, "{bytes}: {pages}");
        let heat = show("heat");
        assert!(heat.json["heat"]["line"].is_null(), "{heat}");
        assert!(heat.json["heat"]["hit_rate_permille"].is_null(), "{heat}");
        assert_eq!(switches(&witness.program), "TracerPid:\t0");
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
        assert!(heat["hit_rate_permille"].is_null() && heat["wasted_bytes"].is_null(), "{report}");
    });
}
