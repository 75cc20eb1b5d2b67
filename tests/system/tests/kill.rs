//! SIGKILL of rekindle at random instants of `checkpoint` and `resume`: the program goes on, or is
//! in a published checkpoint from which it goes on, and nothing half-made is left.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, state_of};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{rounds, wait};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(3600);
/// How much longer than a whole run the latest kill may come.
const BEYOND: f64 = 1.05;

/// Instants spread over `whole`: each half, then each quarter, and so on, so that few of them
/// already cover it.
fn instants(whole: Duration, count: usize) -> impl Iterator<Item = Duration> {
    (1..=count).map(move |number| {
        let (mut fraction, mut digit, mut rest) = (0.0, 0.5, number);
        while rest > 0 {
            fraction += digit * f64::from(u8::from(rest % 2 == 1));
            (digit, rest) = (digit / 2.0, rest / 2);
        }
        whole.mul_f64(fraction * BEYOND)
    })
}

fn sleep_until(instant: Instant) {
    if let Some(rest) = instant.checked_duration_since(Instant::now()) {
        std::thread::sleep(rest);
    }
}

/// Starts a verb and kills it after `delay`. Says whether it was at work.
fn kill_after(rekindle: &Rekindle, words: &[&str], delay: Duration) -> bool {
    let begin = Instant::now();
    let running = rekindle.start(words);
    sleep_until(begin + delay);
    running.kill()
}

/// Ids of all published checkpoints; the list must always be readable.
fn published(rekindle: &Rekindle) -> BTreeSet<String> {
    let report = rekindle.run(&["list"]);
    report.expect_ok();
    let mut ids = BTreeSet::new();
    collect_ids(&report.json, &mut ids);
    ids
}

fn collect_ids(json: &serde_json::Value, ids: &mut BTreeSet<String>) {
    if let Some(id) = json["id"].as_str() {
        ids.insert(id.to_owned());
    }
    let inner = json.as_array().into_iter().flatten();
    let fields = json.as_object().into_iter().flat_map(|object| object.values());
    inner.chain(fields).for_each(|value| collect_ids(value, ids));
}

/// What became visible since `known` is whole.
fn verify_new(rekindle: &Rekindle, known: &mut BTreeSet<String>) {
    let now = published(rekindle);
    for id in now.difference(known) {
        rekindle.run(&["verify", id]).expect_ok();
    }
    *known = now;
}

/// Processes of the witness's name, zombies aside.
fn witnesses() -> Vec<i32> {
    named("rekindle-witnes")
}

/// Processes of this name, zombies aside.
fn named(name: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_named = |pid: &i32| {
        let found = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        found.trim() == name && state_of(*pid) != Some('Z')
    };
    pids.filter(is_named).collect()
}

fn prepare(place: &Place) -> (Witness, Rekindle) {
    // A few calls (epoll_wait, sigtimedwait, recv with a timeout) return EINTR after any stop:
    // signal(7). A tracer has to mend that after each stop, and one that is killed between the
    // stop and the mending cannot. Every other call must not notice.
    let witness = Witness::start(place, &["--mb", "48", "--stop-may-interrupt"]);
    witness.goes_on(1);
    (witness, Rekindle::new(&place.store(), place.dir()))
}

/// Unpublished leftovers are removed by a bare `prune`, and then all there is can be verified.
fn clean_up(rekindle: &Rekindle) {
    let report = rekindle.run(&["prune"]);
    report.expect_ok();
    let mut known = BTreeSet::new();
    verify_new(rekindle, &mut known);
}

/// A wait with a timeout begins anew after each stop: now and then it must come to its end.
const UNDISTURBED_AFTER: usize = 10;

/// The witness moves after kill `number`; now and then everything it holds is found right.
fn goes_on_after(witness: &Witness, number: usize) {
    if number % UNDISTURBED_AFTER == UNDISTURBED_AFTER - 1 {
        witness.goes_on(1);
    } else {
        witness.moves();
    }
}

#[test]
fn killed_during_rehearsals() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let words = ["checkpoint", &pid.to_string(), "--rehearse", "10ms"];
        rekindle.run(&words).expect_ok();
        let begin = Instant::now();
        let report = rekindle.run(&words);
        assert_eq!(report.json["rehearsal"]["ran"].as_bool(), Some(true), "{report}");
        let whole = begin.elapsed();
        for (number, delay) in instants(whole, rounds(4, 500)).enumerate() {
            kill_after(&rekindle, &words, delay);
            goes_on_after(&witness, number);
            // The clone ends with its tracer, and an init takes its end.
            wait::until_true("no clone to be left", wait::PATIENCE, || witnesses() == [pid]);
        }
        witness.goes_on(1);
        let report = rekindle.run(&words);
        assert_eq!(report.json["rehearsal"]["ran"].as_bool(), Some(true), "{report}");
        clean_up(&rekindle);
        witness.program.kill();
    });
}

#[test]
fn killed_during_live_checkpoints() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid().to_string();
        // The first one touches memory and files that later ones find warm: it would tell too
        // long a time.
        rekindle.checkpoint(witness.program.pid(), &[]);
        let begin = Instant::now();
        rekindle.checkpoint(witness.program.pid(), &[]);
        let whole = begin.elapsed();
        let mut known = published(&rekindle);
        let count = rounds(8, 500);
        let at_work = instants(whole, count).enumerate().filter(|(number, delay)| {
            // Every other one is forked.
            let shadow = ["off", "on"][number % 2];
            let words = ["checkpoint", &pid, "--shadow", shadow];
            let at_work = kill_after(&rekindle, &words, *delay);
            goes_on_after(&witness, *number);
            verify_new(&rekindle, &mut known);
            // The fork ends with its tracer, and an init takes its end.
            let pid = witness.program.pid();
            wait::until_true("no fork to be left", wait::PATIENCE, || witnesses() == [pid]);
            at_work
        });
        let at_work = at_work.count();
        assert!(at_work * 2 > count, "only {at_work} of {count} were killed at work");
        witness.goes_on(1);
        clean_up(&rekindle);
        // And it can still be checkpointed.
        witness.cycle(&rekindle);
        witness.program.kill();
    });
}

/// Either the program runs, or it is gone and a published checkpoint has it.
fn runs_or_is_saved(witness: &Witness, rekindle: &Rekindle, number: usize) {
    let before = witness.status().ok().and_then(|status| status["generation"].as_u64());
    let runs = wait::until("running or gone", wait::PATIENCE, || {
        witness.assert_content("after a kill");
        if !witness.program.exists() {
            return Ok(false);
        }
        let now = witness.status().map_err(|error| error.to_string())?;
        let now = now["generation"].as_u64();
        if now > before { Ok(true) } else { Err("neither running nor gone".to_owned()) }
    });
    if !runs {
        rekindle.resume("latest", &[]);
    }
    goes_on_after(witness, number);
}

#[test]
fn killed_during_checkpoints_that_stop() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let begin = Instant::now();
        let stopped = rekindle.stop(pid, &[]);
        let whole = begin.elapsed();
        witness.program.wait_gone();
        rekindle.resume(stopped.text("id"), &[]);
        witness.goes_on(1);
        let mut known = published(&rekindle);
        let count = rounds(8, 70);
        for (number, delay) in instants(whole, count).enumerate() {
            kill_after(&rekindle, &["checkpoint", &pid.to_string(), "--stop"], delay);
            runs_or_is_saved(&witness, &rekindle, number);
            verify_new(&rekindle, &mut known);
        }
        witness.goes_on(1);
        clean_up(&rekindle);
        witness.program.kill();
    });
}

#[test]
fn killed_during_resumes() {
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid();
        let stopped = rekindle.stop(pid, &[]);
        witness.program.wait_gone();
        let begin = Instant::now();
        rekindle.resume(stopped.text("id"), &[]);
        let whole = begin.elapsed();
        witness.goes_on(1);
        let mut outer = pid;
        for (number, delay) in instants(whole, rounds(8, 70)).enumerate() {
            let stopped = rekindle.run(&["checkpoint", &outer.to_string(), "--stop"]);
            assert!(stopped.code == Some(0), "{stopped}: {:?}", witness.complaint());
            Program::of_pid(outer).wait_gone();
            let id = stopped.text("id");
            kill_after(&rekindle, &["resume", id, "--detach"], delay);
            // The killed one was either too early, and what it had built ends by itself, or the
            // program runs.
            wait::until("a second resume", wait::PATIENCE, || {
                let again = rekindle.run(&["resume", id, "--detach"]);
                match again.code {
                    Some(0) => Ok(()),
                    Some(3) if again.blockers().contains(&"already-running") => Ok(()),
                    _ => Err(format!("after a kill at {delay:?}: {again}")),
                }
            });
            goes_on_after(&witness, number);
            // Its pid may have been taken still by what the killed one had built: then it is in a
            // pid namespace of its own, and has another pid here.
            outer =
                wait::until("a single witness", wait::PATIENCE, || match witnesses().as_slice() {
                    [one] => Ok(*one),
                    several => Err(format!("{several:?} after a kill at {delay:?}")),
                });
            assert_eq!(witness.number("pid"), u64::try_from(pid).unwrap(), "another pid inside");
        }
        witness.goes_on(1);
        clean_up(&rekindle);
    });
}

/// SIGINT and SIGTERM end a verb in an orderly way: an undo, a message, a documented code.
#[test]
fn interrupted_checkpoints_undo_themselves() {
    use rustix::process::{Pid, Signal, kill_process};
    sandbox::run(LIMIT, |place| {
        let (witness, rekindle) = prepare(place);
        let pid = witness.program.pid().to_string();
        // The first one touches memory and files that later ones find warm: it would tell too
        // long a time.
        rekindle.checkpoint(witness.program.pid(), &[]);
        let begin = Instant::now();
        rekindle.checkpoint(witness.program.pid(), &[]);
        let whole = begin.elapsed();
        let mut known = published(&rekindle);
        for (number, delay) in instants(whole, rounds(5, 40)).enumerate() {
            let begin = Instant::now();
            let running = rekindle.start(&["checkpoint", &pid, "--stop"]);
            sleep_until(begin + delay);
            let signal = if number % 2 == 0 { Signal::INT } else { Signal::TERM };
            let verb = Pid::from_child(&running.child);
            let _ = kill_process(verb, signal);
            let report = running.finish();
            match report.code {
                Some(0) => {
                    witness.program.wait_gone();
                    rekindle.resume(report.text("id"), &[]);
                }
                Some(7 | 8) => assert_eq!(report.json["outcome"], "rolled_back", "{report}"),
                // Between publishing and ending: the checkpoint stays and the program goes on.
                Some(10) => {
                    assert_eq!(report.json["outcome"], "running", "{report}");
                    assert!(report.talk.contains("is safe"), "{report}");
                }
                // Before the verb could take the signal in hand.
                None => {}
                _ => panic!("after {signal:?} at {delay:?}: {report}"),
            }
            goes_on_after(&witness, number);
            verify_new(&rekindle, &mut known);
        }
        witness.goes_on(1);
        witness.program.kill();
    });
}

/// A witness with some of everything, whose updates are over soon.
fn small(place: &Place) -> Witness {
    let kinds = "heap,copy-on-write,memfd,anonymous-shared,epoll,pipes,files,listeners,timer-fds,\
                 registers,actions,in-poll,in-futex,ring,churn";
    let options = ["--mb", "4", "--stop-may-interrupt", "--kinds", kinds];
    let witness = Witness::start(place, &options);
    witness.goes_on(1);
    witness
}

/// Whoever is killed of those that update: one process runs the program, and only one.
#[test]
fn killed_during_updates() {
    sandbox::run(LIMIT, |place| {
        let witness = small(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let inside = u64::try_from(witness.program.pid()).unwrap();
        let one = |when: &str| {
            wait::until("a single witness", wait::PATIENCE, || match witnesses().as_slice() {
                [one] => Ok(*one),
                several => Err(format!("{several:?} {when}")),
            })
        };
        let words =
            |pid: i32| ["update".to_owned(), pid.to_string(), "--wait".into(), "60s".into()];
        let update = |pid: i32| {
            let words = words(pid);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            rekindle.run(&words).expect("updated").pid("pid")
        };
        // The first one touches memory and files that later ones find warm.
        let first = update(witness.program.pid());
        witness.goes_on(1);
        let begin = Instant::now();
        let mut outside = update(first);
        let whole = begin.elapsed();
        let count = rounds(4, 300);
        for (number, delay) in instants(whole, count).enumerate() {
            let words = words(outside);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            kill_after(&rekindle, &words, delay);
            goes_on_after(&witness, number);
            outside = one(&format!("after a kill at {delay:?}"));
            assert_eq!(witness.number("pid"), inside, "another pid inside");
            if number % UNDISTURBED_AFTER == UNDISTURBED_AFTER - 1 {
                // What the killed ones left in it is in nobody's way.
                outside = update(outside);
            }
        }
        witness.goes_on(1);
        // It is known by its name wherever it is, and can be updated again.
        outside = update(outside);
        witness.goes_on(1);
        assert_eq!(one("at the end"), outside);
        Program::of_pid(outside).kill();
    });
}

/// Processes below `ancestor`, the youngest first.
fn descendants(ancestor: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_below = |pid: &i32| {
        std::iter::successors(parent(*pid), |pid| parent(*pid)).any(|pid| pid == ancestor)
    };
    let mut below: Vec<i32> = pids.filter(is_below).collect();
    below.sort_unstable_by_key(|pid| std::cmp::Reverse(*pid));
    below
}

/// The agent, the fault server, the old process, the new one or what belongs to it is killed at
/// some instant of an update: one process runs the program, or, when the program itself was
/// killed, its last checkpoint does.
#[test]
fn others_killed_during_updates() {
    use rustix::process::{Pid, Signal, kill_process};
    sandbox::run(LIMIT, |place| {
        let kinds = "heap,copy-on-write,memfd,anonymous-shared,epoll,pipes,listeners,timer-fds,\
                     registers,actions,in-poll,in-futex,ring";
        let options = ["--mb", "4", "--still-files", "--stop-may-interrupt", "--kinds", kinds];
        let witness = Witness::start(place, &options);
        witness.goes_on(1);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let update = |pid: i32| rekindle.update(pid, &["--wait", "60s"]).pid("pid");
        let first = update(witness.program.pid());
        let begin = Instant::now();
        let mut outside = update(first);
        let whole = begin.elapsed();
        for (number, delay) in instants(whole, rounds(4, 300)).enumerate() {
            let begin = Instant::now();
            let running = rekindle.start(&["update", &outside.to_string(), "--wait", "60s"]);
            let verb = Pid::from_child(&running.child).as_raw_pid();
            sleep_until(begin + delay);
            let (victim, pids) = match number % 4 {
                0 => ("the agent", named("rekindle-agent")),
                1 => ("the fault server", named("rekindle-faults")),
                2 => ("the old process", vec![outside]),
                _ => ("the new process", descendants(verb)),
            };
            let killed = pids.first().copied();
            let killed = killed
                .filter(|pid| kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL).is_ok());
            let report = running.finish();
            let when = format!("{victim} ({killed:?}) killed at {delay:?}: {report}");
            let now = wait::until("one witness or none", wait::PATIENCE, || {
                match witnesses().as_slice() {
                    [] => Ok(None),
                    [one] => Ok(Some(*one)),
                    several => Err(format!("{several:?}: {when}")),
                }
            });
            outside = match now {
                Some(now) => now,
                None => {
                    assert!(number % 4 > 1, "nobody lives: {when}");
                    rekindle.resume("latest", &[]).pid("pid")
                }
            };
            goes_on_after(&witness, number);
        }
        outside = update(outside);
        witness.goes_on(1);
        assert_eq!(witnesses(), [outside]);
        Program::of_pid(outside).kill();
    });
}

/// A witness, its update that stands still at `step`, and the name of who is killed then. Gives
/// what the update said, if it was not the one that was killed.
fn killed_at(place: &Place, pid: i32, step: &str, victim: &str) -> Option<Report> {
    use rustix::process::{Pid, Signal, kill_process};
    let halt = format!("REKINDLE_HALT_AT={step}");
    let rekindle = Rekindle::new(&place.store(), place.dir()).through(&["env", &halt]);
    let running = rekindle.start(&["update", &pid.to_string(), "--wait", "60s"]);
    let verb = Pid::from_child(&running.child);
    wait::until(&format!("update to stand at {step}"), wait::PATIENCE, || {
        match state_of(verb.as_raw_pid()) {
            Some('T') => Ok(()),
            Some('Z') => panic!("it ended before {step}: {}", running.talk()),
            state => Err(format!("{state:?}")),
        }
    });
    if victim == "rekindle" {
        running.kill();
        return None;
    }
    for pid in named(victim) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    wait::until_true("end of the arbiter", wait::PATIENCE, || named(victim).is_empty());
    kill_process(verb, Signal::CONT).unwrap();
    Some(running.finish())
}

/// At each step of the hand-over, whoever of us is killed there: it is the old process that goes on
/// before the decision, and the new one after it.
#[test]
fn killed_at_each_step_of_a_hand_over() {
    sandbox::run(LIMIT, |place| {
        let witness = small(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut outside = witness.program.pid();
        let steps = ["prepared", "braked", "held", "committed", "closed", "met", "freed"];
        for (number, step) in steps.into_iter().enumerate() {
            let is_decided = number > 2;
            // Once it is decided the arbiter is there for our death only.
            let victims = ["rekindle", "rekindle-commit"];
            let victims = if number > 3 { &victims[..1] } else { &victims[..] };
            for victim in victims {
                let report = killed_at(place, outside, step, victim);
                witness.moves();
                let when = format!("{victim} killed when {step}");
                let now = wait::until("a single witness", wait::PATIENCE, || {
                    match witnesses().as_slice() {
                        [one] => Ok(*one),
                        several => Err(format!("{several:?}: {when}")),
                    }
                });
                assert_eq!(now != outside, is_decided, "{when}: {report:?}");
                if let Some(report) = report {
                    let wanted = if is_decided { "updated" } else { "rolled_back" };
                    assert_eq!(report.json["outcome"], wanted, "{when}: {report}");
                }
                outside = now;
            }
        }
        assert_eq!(named("rekindle-commit"), [0; 0], "an arbiter is left");
        witness.goes_on(1);
        outside = rekindle.update(outside, &["--wait", "60s"]).pid("pid");
        witness.goes_on(1);
        Program::of_pid(outside).kill();
    });
}

/// Somebody kills the program itself while it stands still: that is said, and its checkpoint has
/// all of it.
#[test]
fn a_program_killed_while_it_is_updated() {
    use rustix::process::{Pid, Signal, kill_process};
    sandbox::run(LIMIT, |place| {
        let witness = small(place);
        let inside = witness.program.pid();
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let halted = rekindle.clone().through(&["env", "REKINDLE_HALT_AT=prepared"]);
        let running = halted.start(&["update", &inside.to_string()]);
        let verb = Pid::from_child(&running.child);
        wait::until_true("the update to stand", wait::PATIENCE, || {
            state_of(verb.as_raw_pid()) == Some('T')
        });
        witness.program.signal(Signal::KILL);
        kill_process(verb, Signal::CONT).unwrap();
        let report = running.finish().expect_failure(&[9], "lost", &["rekindle resume"]);
        wait::until_true("its end", wait::PATIENCE, || witnesses().is_empty());
        let resumed = rekindle.resume("latest", &[]);
        assert_eq!(resumed.pid("pid_inside"), inside, "{report}, then {resumed}");
        witness.goes_on(1);
        Program::of_pid(resumed.pid("pid")).kill();
    });
}
