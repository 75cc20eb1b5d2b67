//! The witness through checkpoints: it knows every byte of its own state and complains about any
//! that is off.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::swap::Swap;
use rekindle_system_tests::witness::{self, Witness};
use rekindle_system_tests::{rounds, skips, wait};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);
const USER: u32 = 23_456;

fn rekindle(place: &Place) -> Rekindle {
    Rekindle::new(&place.store(), place.dir())
}

/// The witness runs in the sandbox and goes on by itself: proves the harness, not rekindle.
#[test]
fn the_witness_itself_goes_on() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        witness.goes_on(2);
        witness.program.kill();
        witness.assert_content("at the end");
    });
}

#[test]
fn cycles_of_stop_and_resume() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "64"]);
        witness.goes_on(1);
        for _ in 0..rounds(10, 100) {
            witness.cycle(&rekindle(place));
        }
        witness.program.kill();
        witness.assert_content("after all cycles");
    });
}

/// Each kind of state alone, all findings at once: which kinds are right, and which are not.
#[test]
fn each_kind_alone() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        witness::each_kind(|kind| one_kind(place, &rekindle, kind));
    });
}

fn one_kind(place: &Place, rekindle: &Rekindle, kind: &str) {
    let options = ["--mb", "4", "--kinds", kind];
    let witness = Witness::start_with(place, kind, &options, |start| start);
    witness.goes_on(1);
    rekindle.checkpoint(witness.program.pid(), &[]);
    witness.goes_on(1);
    for _ in 0..2 {
        witness.cycle(rekindle);
    }
    witness.program.kill();
    witness.assert_content("at the end");
}

/// A wait that is stopped again before it ended: after the first stop the kernel goes on with it
/// by `restart_syscall`, which means nothing in another process.
#[test]
fn waits_that_are_stopped_again_and_again() {
    sandbox::run(LIMIT, |place| {
        let kinds = "in-nanosleep,in-nanosleep-until,in-futex,in-futex-bitset,in-poll,in-ppoll,\
                     in-select,in-epoll-wait,in-recv-timed,in-sigtimedwait,ring,churn";
        let witness = Witness::start(place, &["--mb", "1", "--kinds", kinds]);
        let rekindle = rekindle(place);
        let pid = witness.program.pid();
        for _ in 0..rounds(6, 60) {
            // All within one wait of 1.3 s, more or less.
            for _ in 0..3 {
                rekindle.checkpoint(pid, &[]);
            }
            let stopped = rekindle.stop(pid, &[]);
            witness.program.wait_gone();
            rekindle.resume(stopped.text("id"), &[]);
            witness.moves();
        }
        witness.goes_on(2);
        witness.program.kill();
    });
}

/// Kinds that are off by default, each of which is carried or refused by name, never lost.
#[test]
fn rarer_kinds_are_carried_or_refused() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let mut findings = Vec::new();
        for (kind, _) in witness::kinds().into_iter().filter(|(_, by_default)| !by_default) {
            let options = ["--mb", "4", "--kinds", &kind];
            let witness = Witness::start_with(place, &kind, &options, |start| start);
            let report = rekindle.run(&["checkpoint", &witness.program.pid().to_string()]);
            if report.code == Some(3) {
                assert!(!report.blockers().is_empty(), "{report}");
                witness.goes_on(1);
                witness.program.kill();
                continue;
            }
            let cycle = || _ = witness.cycle(&rekindle);
            let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(cycle)).is_err();
            findings.extend(lost.then(|| format!("{kind}: {:?}", witness.complaint())));
        }
        assert!(findings.is_empty(), "{findings:#?}");
    });
}

/// Threads that never sleep: the freeze finds them in user code, in loops over their registers.
#[test]
fn cycles_with_busy_threads() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "16", "--busy"]);
        witness.goes_on(1);
        for _ in 0..rounds(5, 50) {
            witness.cycle(&rekindle(place));
        }
        witness.program.kill();
    });
}

#[test]
fn cycles_of_another_user() {
    sandbox::run(LIMIT, |place| {
        let user = USER.to_string();
        let witness = Witness::start(place, &["--mb", "8", "--drop-to", &user]);
        witness.goes_on(1);
        for _ in 0..rounds(3, 20) {
            witness.cycle(&rekindle(place));
        }
        witness.program.kill();
    });
}

/// In the session of a shell that is gone: its session cannot be made again, which is reported.
#[test]
fn a_session_from_outside_is_reported() {
    sandbox::run(LIMIT, |place| {
        let plain = Start::in_the_shells_session;
        let witness = Witness::start_with(place, "witness", &["--mb", "8"], plain);
        let rekindle = rekindle(place);
        let stopped = rekindle.stop(witness.program.pid(), &[]);
        witness.program.wait_gone();
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        let changed = resumed.json["changed"].to_string();
        assert!(changed.contains("session"), "no word of the session: {resumed}");
        witness.goes_on(1);
        witness.program.kill();
    });
}

/// The descriptors that the witness keeps, without files that it has open for a moment: those
/// that are in every one of several listings.
fn lasting_descriptors(witness: &Witness) -> Vec<(i32, String)> {
    let mut lasting = witness.program.descriptors();
    for _ in 0..5 {
        witness.goes_on(1);
        let now = witness.program.descriptors();
        lasting.retain(|descriptor| now.contains(descriptor));
    }
    lasting
}

/// Live checkpoints change nothing, and each of them is whole.
#[test]
fn live_checkpoints() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "64"]);
        let rekindle = rekindle(place);
        let pid = witness.program.pid();
        witness.goes_on(1);
        let (descriptors, tracer) = (lasting_descriptors(&witness), tracer(&witness));
        for number in 0..rounds(10, 500) {
            // Every other one is forked.
            let shadow = ["off", "on"][number % 2];
            let report = rekindle.checkpoint(pid, &["--shadow", shadow]);
            assert_eq!(report.json["shadow"].is_null(), shadow == "off", "{report}");
            assert_eq!(report.pid("pid"), pid, "{report}");
            rekindle.run(&["verify", report.text("id")]).expect_ok();
            witness.moves();
        }
        witness.goes_on(1);
        assert_eq!(tracer, "TracerPid:\t0", "traced before any checkpoint");
        assert_eq!(self::tracer(&witness), tracer, "a tracer was left");
        // The listing may catch files that the witness has open for a moment.
        wait::until_true("the descriptors as before", wait::PATIENCE, || {
            witness.program.descriptors() == descriptors
        });
        witness.program.kill();
    });
}

fn tracer(witness: &Witness) -> String {
    let status = witness.program.proc_file("status");
    status.lines().find(|line| line.starts_with("TracerPid")).unwrap_or_default().to_owned()
}

/// A live checkpoint of a program whose files did not change since is resumed after the program
/// was killed: time goes back to the checkpoint, and nothing is off. Copied from a fork or not.
#[test]
fn a_live_checkpoint_is_resumed_after_a_kill() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "32", "--still-files"]);
        let rekindle = rekindle(place);
        for shadow in ["off", "on"] {
            witness.goes_on(1);
            let pid = witness.program.pid();
            let checkpoint = rekindle.checkpoint(pid, &["--shadow", shadow]);
            let before = witness.number("generation");
            witness.goes_on(1);
            let later = witness.number("generation");
            witness.program.kill();
            let again = rekindle.resume(checkpoint.text("id"), &[]);
            assert_eq!(again.pid("pid"), pid, "{again}");
            let resumed = witness.number("generation");
            assert!(resumed < later, "generation {resumed} after {before} and {later}");
            witness.goes_on(2);
        }
        // And its descendant can be checkpointed in turn.
        witness.cycle(&rekindle);
        witness.program.kill();
    });
}

/// The pid is taken: the program keeps its pid in a pid namespace of its own.
#[test]
fn a_taken_pid_is_kept_inside() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        let rekindle = rekindle(place);
        let pid = witness.program.pid();
        let stopped = rekindle.stop(pid, &[]);
        witness.program.wait_gone();
        // The shell gets the pid before, what it starts gets this one.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 2).to_string()).unwrap();
        let taker = Start::new(place.dir(), "taker", &["sleep", "1000"]).start();
        assert_eq!(taker.pid(), pid, "the pid could not be taken");
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        assert_eq!(resumed.pid("pid_inside"), pid, "{resumed}");
        assert_ne!(resumed.pid("pid"), pid, "{resumed}");
        assert!(resumed.json["changed"].to_string().contains("pid"), "{resumed}");
        witness.goes_on(2);
        taker.kill();
    });
}

/// Pages in swap are as good as pages in memory.
#[test]
fn swapped_out_memory() {
    sandbox::run(LIMIT, |place| {
        let Some(_swap) = Swap::on(place) else {
            skips::skip("swapped-out memory", "swap that can be turned on");
            return;
        };
        let sabotage = ["--mb", "1", "--kinds", "paged-out", "--sabotage", "paged-out"];
        let spoilt = Witness::start_with(place, "spoilt", &sabotage, |start| start);
        wait::until_true("the sabotage to be noticed", wait::PATIENCE, || {
            spoilt.complaint().is_some_and(|text| text.contains("witness: paged-out: page"))
        });
        let witness = Witness::start(place, &["--mb", "8", "--kinds", "+paged-out"]);
        assert!(witness.first["passes"]["paged-out"].is_u64(), "{}", witness.first);
        wait::until_true("pages in swap", wait::PATIENCE, || {
            let status = witness.program.proc_file("status");
            status.lines().any(|l| l.starts_with("VmSwap:") && !l.ends_with("\t       0 kB"))
        });
        for _ in 0..3 {
            witness.cycle(&rekindle(place));
            rekindle(place).checkpoint(witness.program.pid(), &[]);
        }
        witness.program.kill();
    });
}

/// A stopped program (SIGSTOP) stays stopped through a checkpoint and can be continued.
#[test]
fn a_stopped_program_stays_stopped() {
    use rustix::process::Signal;
    sandbox::run(LIMIT, |place| {
        // The kernel ends some calls with EINTR at every stop by a signal.
        let witness = Witness::start(place, &["--mb", "8", "--stop-may-interrupt"]);
        let rekindle = rekindle(place);
        witness.program.signal(Signal::STOP);
        wait::until_true("the stop", wait::PATIENCE, || witness.program.state() == Some('T'));
        rekindle.checkpoint(witness.program.pid(), &[]);
        assert_eq!(witness.program.state(), Some('T'), "the checkpoint continued it");
        witness.program.signal(Signal::CONT);
        witness.goes_on(1);
        witness.program.kill();
    });
}

/// Each kind of state alone goes to another process and another: which kinds are right, and which
/// are not. All of them at once are tested below; the short run takes every eighth.
#[test]
fn each_kind_updated() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let n = 9 - rounds(1, 8);
        witness::every_nth_kind(n, |kind| one_kind_updated(place, &rekindle, kind));
    });
}

fn one_kind_updated(place: &Place, rekindle: &Rekindle, kind: &str) {
    let options = ["--mb", "4", "--kinds", kind];
    let witness = Witness::start_with(place, kind, &options, |start| start);
    witness.goes_on(1);
    let inside = witness.program.pid();
    let mut outside = inside;
    for _ in 0..2 {
        let report = rekindle.run(&["update", &outside.to_string(), "--wait", "60s"]);
        let report = report.expect("updated");
        assert_eq!(report.pid("pid_inside"), inside, "{report}");
        outside = report.pid("pid");
        witness.goes_on(1);
    }
    Program::of_pid(outside).kill();
    witness.assert_content("at the end");
}

/// All kinds at once go to another process. A dry run before changes nothing.
#[test]
fn updates_of_everything_at_once() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "16"]);
        witness.goes_on(1);
        let rekindle = rekindle(place);
        let inside = witness.program.pid();
        let mut outside = inside;
        for round in 0..rounds(2, 30) {
            let words = ["update", &outside.to_string(), "--dry-run", "--wait", "60s"];
            let report = rekindle.run(&words).expect("rolled_back");
            assert_eq!(report.pid("pid"), outside, "{report}");
            witness.moves();
            let eager: &[&str] = if round % 2 == 0 { &["--eager"] } else { &[] };
            let report = rekindle.update(outside, &[&["--wait", "60s"], eager].concat());
            assert_eq!(report.pid("pid_inside"), inside, "{report}");
            outside = report.pid("pid");
            witness.goes_on(1);
        }
        let list = rekindle.run(&["list"]);
        let kept = list.json["checkpoints"].as_array().map_or(0, Vec::len);
        assert_eq!(kept, rounds(2, 30), "a dry run left its checkpoint: {list}");
        Program::of_pid(outside).kill();
        witness.assert_content("at the end");
    });
}
