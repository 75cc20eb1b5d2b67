//! `watch`: the program is never harmed, other verbs have it when they ask, and what the watch says
//! is so.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rekindle_system_tests::program::{Start, free_port};
use rekindle_system_tests::rekindle::{Rekindle, Running};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::wait::{self, PATIENCE};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{binaries, rounds};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(900);

fn watch(rekindle: &Rekindle, pid: i32, options: &[&str]) -> Running {
    let pid = pid.to_string();
    let words: Vec<&str> =
        ["watch", &pid, "--every", "1s"].iter().chain(options).copied().collect();
    rekindle.start(&words)
}

fn prepare(place: &Place) -> (Witness, Rekindle) {
    let witness = Witness::start(place, &["--mb", "32", "--stop-may-interrupt"]);
    witness.goes_on(1);
    (witness, Rekindle::new(&place.store(), place.dir()))
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_watch_makes_way_for_other_verbs_and_goes_on() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let port = free_port();
        let mut watch = watch(&rekindle, pid, &["--metrics", &format!("127.0.0.1:{port}")]);
        let period = watch.wait_for_event("period", 0);
        let tiers = ["critical_bytes", "warm_bytes", "cold_bytes"].map(|key| period[key].as_u64());
        assert!(tiers.iter().flatten().sum::<u64>() >= 32 << 20, "{period}");
        let metrics = scrape(port);
        assert!(metrics.contains("rekindle_watch_tier_bytes{tier=\"cold\"}"), "{metrics}");
        let status = rekindle.run(&["status", &pid.to_string()]);
        assert_eq!(status.json["watches"][0]["pid"].as_i64(), Some(i64::from(pid)), "{status}");
        // One watch for a program.
        let second = rekindle.run(&["watch", &pid.to_string()]);
        let _ = second.expect_failure(&[3], "refused", &["rekindle watch, pid"]);

        let taken = rekindle.checkpoint(pid, &[]);
        assert_eq!(taken.text("policy"), "watch", "{taken}");
        let lent = watch.wait_for_event("lent", 0);
        assert_eq!(lent["verb"], "checkpoint");
        watch.wait_for_event("returned", 0);
        rekindle.run(&["profile", &pid.to_string(), "--for", "200ms"]).expect_ok();
        witness.goes_on(1);
        // What runs on in another process is still the same instance.
        let seen = watch.events().len();
        let updated = rekindle.update(pid, &[]).pid("pid");
        wait::until("the new process to be watched", PATIENCE, || {
            let attached = watch.wait_for_event("attached", seen)["pid"].as_i64();
            let all = watch.events();
            let last = all.iter().rfind(|event| event["event"] == "attached").cloned();
            let last = last.and_then(|event| event["pid"].as_i64());
            match last == Some(i64::from(updated)) {
                true => Ok(()),
                false => Err(format!("{attached:?} {last:?} {updated}")),
            }
        });
        witness.goes_on(1);

        rekindle.stop(updated, &[]);
        let ended = watch.wait_for_event("ended", 0);
        assert_eq!(ended["outcome"], "stopped", "{ended}");
        watch.finish().expect_ok();
        rekindle.resume("latest", &[]);
        witness.goes_on(1);
    });
}

/// An update whose probe fails has the program until that is taken back: the watch does not see the
/// process that is ended.
#[test]
fn a_program_that_is_taken_back_is_watched_on() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "4", "--kinds", "heap,registers,ring"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid();
        let mut watch = watch(&rekindle, pid, &[]);
        let instance = rekindle.run(&["check", &pid.to_string()]);
        let instance = instance.json["target"]["instance"].as_str().unwrap();
        watch.wait_for_event("attached", 0);
        let words = ["update", instance, "--wait", "60s", "--probe", "exit 1"];
        let words = [&words[..], &["--probe-timeout", "1ms", "--on-probe-fail", "rewind"]].concat();
        let report = rekindle.run(&words).expect_failure(&[10], "resumed", &["taken back"]);
        watch.wait_for_event("returned", 0);
        let seen = watch.events().len();
        watch.wait_for_event("period", seen);
        let events = watch.events();
        let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!((count("lent"), count("returned"), count("ended")), (1, 1, 0), "{report}");
        let found = rekindle.run(&["check", instance]);
        let last = events.iter().rfind(|event| event["event"] == "attached").unwrap();
        assert_eq!(last["pid"], found.json["target"]["pid"], "{report} {found}");
        witness.goes_on(1);
        let again = i32::try_from(last["pid"].as_i64().unwrap()).unwrap();
        rekindle.stop(again, &[]);
        watch.finish().expect_ok();
    });
}

#[test]
fn checkpoints_are_taken_and_the_oldest_go_in_time() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let words = ["--checkpoint-every", "1s", "--keep", "2", "--on-term", "checkpoint"];
        let mut running = watch(&rekindle, pid, &words);
        let taken = |running: &Running| {
            let events = running.events();
            let ids = events.into_iter().filter(|event| event["event"] == "checkpointed");
            ids.map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let count = rounds(3, 12);
        wait::until_true("checkpoints", PATIENCE * 3, || taken(&running).len() >= count);
        let is_removal = |event: &serde_json::Value| {
            event["removed"].as_array().is_some_and(|removed| !removed.is_empty())
        };
        let are_old_gone = running.events().iter().any(is_removal);
        assert_eq!(are_old_gone, count > 10, "those that newer ones need stay for a while");
        let before = taken(&running).len();
        running.signal(Signal::TERM);
        let ended = running.wait_for_event("ended", 0);
        assert_eq!(ended["outcome"], "running", "{ended}");
        let ids = taken(&running);
        assert!(ids.len() > before, "no last checkpoint");
        running.finish().expect_ok();
        witness.goes_on(1);
        let listed = rekindle.verified();
        assert_eq!(listed[..2], [&*ids[ids.len() - 1], &*ids[ids.len() - 2]]);
        assert!(listed.len() <= 2 + 8, "{listed:?}");
        // Without it the end is the end.
        let mut running = watch(&rekindle, pid, &["--on-term", "checkpoint"]);
        running.wait_for_event("attached", 0);
        running.signal(Signal::INT);
        running.wait_for_event("ended", 0);
        assert_eq!(taken(&running).len(), 0);
        running.finish().expect_ok();
        witness.program.kill();
    });
}

/// Writes are tracked from one checkpoint to the next, and whoever borrows the program goes on with
/// that: what was not written since is not read again.
#[test]
fn a_borrower_goes_on_where_the_watch_left_off() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let mut pid = witness.program.pid();
        for _ in 0..rounds(2, 20) {
            let mut running = watch(&rekindle, pid, &["--checkpoint-every", "1s"]);
            let first = running.wait_for_event("checkpointed", 0)["id"].clone();
            wait::until_true("a second checkpoint", PATIENCE, || {
                let events = running.events();
                let taken = events.iter().filter(|event| event["event"] == "checkpointed");
                taken.count() >= 2
            });
            let events = running.events();
            let second = events.iter().filter(|event| event["event"] == "checkpointed").nth(1);
            assert_eq!(second.unwrap()["parent"], first);
            // While memory is being loaded writes are not tracked from one checkpoint to the next.
            wait::until_true("all memory to be there", PATIENCE, || {
                let state = &rekindle.run(&["status"]).json["instances"][0]["state"];
                state.is_null() || state == "complete"
            });
            let before = running.events().len();
            running.wait_for_event("checkpointed", before);
            let before = running.events().len();
            running.wait_for_event("checkpointed", before);
            let phases = |report: &rekindle_system_tests::rekindle::Report| {
                let phases = report.json["phases"].as_array().unwrap().clone();
                phases.iter().any(|phase| phase["name"] == "inherit")
            };
            let live = rekindle.checkpoint(pid, &[]);
            assert!(phases(&live), "{live}");
            rekindle.run(&["verify", live.text("id")]).expect_ok();
            running.wait_for_event("returned", 0);
            running.wait_for_event("checkpointed", running.events().len());
            let stopped = rekindle.stop(pid, &[]);
            assert!(phases(&stopped), "{stopped}");
            running.wait_for_event("ended", 0);
            running.finish().expect_ok();
            rekindle.run(&["verify", stopped.text("id")]).expect_ok();
            pid = rekindle.resume("latest", &[]).pid("pid");
            witness.goes_on(1);
        }
        witness.program.kill();
    });
}

/// A watch that follows goes on with what a resume brings back, and keeps to its share of the disk.
#[test]
fn a_watch_follows_a_resume_and_keeps_to_its_room() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let first = rekindle.checkpoint(pid, &[]);
        // Room for the first checkpoint and a little more, so that older ones have to go.
        let room = (first.number("stored_bytes") + (1 << 20)).to_string();
        let follow = ["--follow", "--keep", "3", "--checkpoint-every", "1s", "--max-disk", &room];
        let mut running = watch(&rekindle, pid, &follow);
        running.wait_for_event("checkpointed", 0);
        let stopped = rekindle.stop(pid, &[]);
        let away = running.wait_for_event("away", 0);
        let text = away["text"].as_str().unwrap();
        assert!(text.contains("rekindle resume latest:"), "{away}");
        let seen = running.events().len();
        let resumed = rekindle.resume(stopped.text("id"), &["--lazy"]).pid("pid");
        let attached = running.wait_for_event("attached", seen);
        assert_eq!(attached["pid"].as_i64(), Some(i64::from(resumed)));
        running.wait_for_event("checkpointed", seen);
        running.wait_for_event("checkpointed", running.events().len());
        running.signal(Signal::TERM);
        running.wait_for_event("ended", seen);
        let events = running.events();
        running.finish().expect_ok();
        let taken = || events.iter().filter(|event| event["event"] == "checkpointed");
        assert!(taken().any(|event| event["removed"] != serde_json::json!([])), "{events:#?}");
        let kept = rekindle.run(&["list"]);
        let kept = kept.json["checkpoints"].as_array().unwrap();
        let bytes: u64 = kept.iter().filter_map(|row| row["stored_bytes"].as_u64()).sum();
        let over = events
            .iter()
            .any(|event| event["text"].as_str().is_some_and(|text| text.contains("--max-disk")));
        assert!(!kept.is_empty() && (bytes <= room.parse().unwrap() || over), "{kept:#?}");
        assert_eq!(rekindle.verified().len(), kept.len());
        witness.goes_on(1);
        witness.program.kill();
    });
}

#[test]
fn a_killed_watch_harms_nobody() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        rekindle.checkpoint(pid, &[]);
        let count = rounds(5, 100);
        for number in 0..count {
            let running = watch(&rekindle, pid, &["--checkpoint-every", "1s"]);
            let share = u32::try_from(number * 7 % count).unwrap();
            let delay = Duration::from_millis(2500) * share / u32::try_from(count).unwrap();
            std::thread::sleep(delay);
            running.kill();
            witness.moves();
            rekindle.run(&["list"]).expect_ok();
        }
        witness.goes_on(1);
        rekindle.run(&["prune"]).expect_ok();
        assert!(!rekindle.verified().is_empty());
        // The locks are free, and its socket is nobody's.
        rekindle.stop(pid, &[]);
        rekindle.resume("latest", &[]);
        witness.goes_on(1);
    });
}

/// Whoever of the two dies while the program is lent, with its tracking: it goes on, and so does the
/// other.
#[test]
fn a_loan_survives_the_death_of_either() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let words = ["checkpoint", &pid.to_string()];
        for number in 0..rounds(2, 30) {
            let mut running = watch(&rekindle, pid, &["--checkpoint-every", "1s"]);
            running.wait_for_event("checkpointed", 0);
            let seen = running.events().len();
            let borrower = rekindle.start(&words);
            running.wait_for_event("lent", seen);
            std::thread::sleep(Duration::from_millis(u64::try_from(number * 13 % 200).unwrap()));
            if number % 2 == 0 {
                borrower.kill();
                running.wait_for_event("returned", seen);
                let seen = running.events().len();
                running.wait_for_event("checkpointed", seen);
                running.kill();
            } else {
                running.kill();
                borrower.finish().expect_ok();
            }
            witness.moves();
        }
        witness.goes_on(1);
        rekindle.run(&["prune"]).expect_ok();
        assert!(!rekindle.verified().is_empty());
        rekindle.stop(pid, &[]);
        rekindle.resume("latest", &[]);
        witness.goes_on(1);
        witness.program.kill();
    });
}

#[test]
fn what_does_not_work_is_said_and_tried_again() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let mut running = watch(&rekindle, pid, &["--checkpoint-every", "1s"]);
        running.wait_for_event("checkpointed", 0);
        // The store is gone for a while.
        let (store, aside) = (place.store(), place.path("aside"));
        std::fs::rename(&store, &aside).unwrap();
        std::fs::write(&store, "not a folder").unwrap();
        let seen = running.events().len();
        wait::until("that the failure is said", PATIENCE, || {
            let events = running.events();
            let is_failure = |event: &&serde_json::Value| {
                let text = event["text"].as_str().unwrap_or_default();
                event["event"] == "trouble" && text.starts_with("failed to ")
            };
            let found = events.iter().skip(seen).find(is_failure).map(|_| ());
            found.ok_or_else(|| format!("{events:?}"))
        });
        std::fs::remove_file(&store).unwrap();
        std::fs::rename(&aside, &store).unwrap();
        let seen = running.events().len();
        running.wait_for_event("checkpointed", seen);
        // A wait with a timeout begins anew after each stop: it would not come to its end here.
        witness.moves();
        witness.program.kill();
        let ended = running.wait_for_event("ended", 0);
        assert_eq!(ended["outcome"], "stopped", "{ended}");
        running.finish().expect_ok();
    });
}

/// Page numbers of the pattern's sets.
fn sets(truth: &str) -> Vec<Vec<u64>> {
    let mut sets = Vec::new();
    for line in truth.lines() {
        if line.starts_with("set ") {
            sets.push(Vec::new());
        } else if let (Some(set), Ok(address)) = (sets.last_mut(), u64::from_str_radix(line, 16)) {
            set.push(address / 4096);
        }
    }
    sets
}

/// Each set in turn is hot for a while: it is kept while it is, and let go afterwards.
#[test]
fn a_hot_set_that_moves_is_followed() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let (truth, counter) = (place.path("truth"), place.path("counter"));
        let words = [
            binaries::pattern().display().to_string(),
            "moving".to_owned(),
            "--truth".to_owned(),
            truth.display().to_string(),
            "--counter".to_owned(),
            counter.display().to_string(),
            "--mb".to_owned(),
            "16".to_owned(),
            "--phase-ms".to_owned(),
            "0".to_owned(),
        ];
        let program = Start::new(place.dir(), "pattern", &words).start();
        wait::until_true("the pattern", PATIENCE, || truth.exists());
        let sets = sets(&std::fs::read_to_string(&truth).unwrap());
        let mut running = watch(&rekindle, program.pid(), &["--max-slowdown", "50%"]);
        let instance = running.wait_for_event("period", 0)["instance"].clone();
        let folder = std::path::Path::new("/run/rekindle").join(instance.as_str().unwrap());
        // The share of a set that is not cold in the plan that is lent.
        let kept = || {
            let mut asking =
                std::os::unix::net::UnixStream::connect(folder.join("watch.sock")).unwrap();
            asking.write_all(b"lend test\n").unwrap();
            let mut answer = [0; 5];
            asking.read_exact(&mut answer).unwrap();
            let plan = std::fs::read(folder.join("watch.plan")).unwrap();
            drop(asking);
            let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
            let mut kept = std::collections::BTreeSet::new();
            for extent in plan["extents"].as_array().unwrap() {
                let number = |at: usize| extent[at].as_u64().unwrap();
                if number(3) < 3 {
                    kept.extend(number(1)..number(1) + number(2));
                }
            }
            let share = |set: &Vec<u64>| {
                set.iter().filter(|page| kept.contains(*page)).count() as f64 / set.len() as f64
            };
            sets.iter().map(share).collect::<Vec<f64>>()
        };
        let mut periods = 0;
        for hot in 0..3 {
            let told = u64::try_from(hot).unwrap().to_ne_bytes();
            let file = std::fs::File::options().write(true).open(&counter).unwrap();
            file.write_all_at(&told, 16).unwrap();
            wait::until(&format!("set {hot} alone to be kept"), PATIENCE * 2, || {
                // The watch watches when it is not asked.
                let events = running.events();
                let now = events.iter().filter(|event| event["event"] == "period").count();
                if std::mem::replace(&mut periods, now) == now {
                    return Err("no new period".to_owned());
                }
                let kept = kept();
                let is_right = kept
                    .iter()
                    .enumerate()
                    .all(|(set, share)| if set == hot { *share >= 0.95 } else { *share <= 0.05 });
                if is_right { Ok(()) } else { Err(format!("{kept:?}")) }
            });
        }
        let moved = running.wait_for_event("moved", 0);
        assert!(moved["reason"].as_str().unwrap().starts_with("used in "), "{moved}");
        running.signal(Signal::TERM);
        running.finish().expect_ok();
        assert!(program.exists());
    });
}
