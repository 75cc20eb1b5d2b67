//! Targets that have to be refused: one clear message (object, cause, next step), the documented
//! exit code, the program running as before, and nothing half-written to see.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{binaries, skips, wait};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);
const USER: &str = "23458";

fn rekindle(place: &Place) -> Rekindle {
    Rekindle::new(&place.store(), place.dir())
}

/// Starts the odd program; none, after a skip, when the host cannot be odd in that way.
fn odd(place: &Place, mode: &str, more: &[&str]) -> Option<(Program, i32)> {
    let binary = binaries::odd().display().to_string();
    let words: Vec<&str> = [binary.as_str(), mode].iter().chain(more).copied().collect();
    let program = Start::new(place.dir(), mode, &words).start();
    let target = wait::until("the odd program", wait::PATIENCE, || {
        if !program.exists() {
            return Ok(None);
        }
        let lines = program.lines();
        let pid = lines.iter().find_map(|line| line.strip_prefix("target ")?.parse().ok());
        pid.map(Some).ok_or("no line `target PID`")
    });
    if target.is_none() {
        skips::skip(mode, "what the odd program needs for it");
    }
    target.map(|target| (program, target))
}

/// A live checkpoint, a checkpoint with `--stop` and a `check` of `pid` all refuse with `kind`,
/// with what lifts it, and change nothing.
fn is_refused_as(place: &Place, pid: i32, kind: &str) {
    let rekindle = rekindle(place);
    let before = look(pid);
    let text = pid.to_string();
    let checks =
        [&["checkpoint", &text] as &[&str], &["checkpoint", &text, "--stop"], &["check", &text]];
    for words in checks {
        let report = rekindle.run(&[words, &["--wait", "200ms"]].concat());
        if words[0] == "checkpoint" {
            let report = report.expect_failure(&[3], "refused", &[&text]);
            has_kind(&report, kind);
        } else {
            assert!(report.json.to_string().contains(kind), "no {kind}: {report}");
        }
        assert_eq!(look(pid), before, "{words:?} changed the program");
    }
    nothing_in(&rekindle);
}

fn has_kind(report: &Report, kind: &str) {
    assert!(report.blockers().contains(&kind), "no blocker {kind}: {report}");
    for row in report.json["blockers"].as_array().into_iter().flatten() {
        for key in ["object", "lift"] {
            assert!(row[key].as_str().is_some_and(|text| !text.is_empty()), "no {key}: {report}");
        }
    }
}

/// What a refusal must leave alone.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    state: Option<char>,
    tracer: String,
    mappings: Vec<String>,
    descriptors: Vec<(i32, String)>,
}

fn look(pid: i32) -> Look {
    let program = Program::of_pid(pid);
    let status = program.proc_file("status");
    let tracer = status.lines().find(|line| line.starts_with("TracerPid")).unwrap_or_default();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mappings = maps.lines().map(str::to_owned).collect();
    // Whether a program that is not stopped runs or sleeps at this instant is its own affair.
    let state = program.state().map(|state| if "RS".contains(state) { 'S' } else { state });
    let descriptors = program.descriptors();
    Look { state, tracer: tracer.to_owned(), mappings, descriptors }
}

/// No checkpoint can be listed, be there a store or not.
fn nothing_in(rekindle: &Rekindle) {
    if rekindle.store().exists() {
        let list = rekindle.run(&["list"]);
        assert!(!list.json.to_string().contains("\"id\""), "something is listed: {list}");
    }
}

#[test]
fn a_pid_that_does_not_exist() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        for words in [["checkpoint", "4194000"], ["check", "4194000"]] {
            let report = rekindle.run(&words).expect_failure(&[2], "refused", &["4194000"]);
            assert!(report.talk.contains("no such process"), "{report}");
        }
        for nonsense in ["0", "-1", "redis", "99999999999", ""] {
            let report = rekindle.run(&["checkpoint", nonsense]);
            assert_eq!(report.code, Some(2), "{report}");
        }
        nothing_in(&rekindle);
    });
}

/// Kernel threads are visible in the host's pid namespace only: no sandbox here, and nothing that
/// could be harmed.
#[test]
fn a_kernel_thread() {
    let dir = tempfile::tempdir().unwrap();
    let name = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if name.trim() != "kthreadd" {
        skips::skip("kernel threads", "a pid namespace that shows them");
        return;
    }
    let rekindle = Rekindle::new(&dir.path().join("store"), dir.path());
    let report = rekindle.run(&["checkpoint", "2"]);
    let _ = report.expect_failure(&[3], "refused", &["2", "kernel thread"]);
    nothing_in(&rekindle);
}

#[test]
fn rekindle_itself_and_its_init() {
    sandbox::run(LIMIT, |place| {
        let own = std::process::id().to_string();
        // The shell's pid is the pid of what it becomes.
        let rekindle = rekindle(place);
        let script = "exec \"$1\" checkpoint $$ --store \"$2\" --format json";
        let output = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .args([binaries::rekindle(), place.store()])
            .output()
            .unwrap();
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{talk}");
        assert!(talk.contains("itself"), "{talk}");
        // The test has a child, rekindle.
        let report = rekindle.run(&["checkpoint", &own, "--wait", "100ms"]);
        has_kind(&report.expect_failure(&[3], "refused", &[&own]), "children");
    });
}

#[test]
fn a_zombie() {
    sandbox::run(LIMIT, |place| {
        let Some((program, target)) = odd(place, "zombie", &[]) else { return };
        let text = target.to_string();
        let report = rekindle(place).run(&["checkpoint", &text]);
        let _ = report.expect_failure(&[3], "refused", &[&text, "ended"]);
        nothing_in(&rekindle(place));
        program.kill();
    });
}

fn refused(kind: &'static str, mode: &'static str, file: Option<&'static str>, place: &Place) {
    let file = file.map(|name| place.path(name).display().to_string());
    let more: Vec<&str> = file.iter().map(String::as_str).collect();
    let Some((program, target)) = odd(place, mode, &more) else { return };
    is_refused_as(place, target, kind);
    program.kill();
}

#[test]
fn traced_by_another() {
    sandbox::run(LIMIT, |place| refused("tracer", "traced", None, place));
}

#[test]
fn with_children() {
    sandbox::run(LIMIT, |place| refused("children", "children", None, place));
}

#[test]
fn with_a_pipe_to_somebody_outside() {
    sandbox::run(LIMIT, |place| refused("pipe", "pipe-outside", None, place));
}

#[test]
fn with_an_io_uring() {
    sandbox::run(LIMIT, |place| refused("io-uring", "io-uring", None, place));
}

#[test]
fn with_kernel_aio() {
    sandbox::run(LIMIT, |place| refused("async-io", "async-io", None, place));
}

#[test]
fn with_a_device_mapping() {
    sandbox::run(LIMIT, |place| refused("device-mapping", "device", None, place));
}

#[test]
fn with_a_performance_counter() {
    sandbox::run(LIMIT, |place| refused("perf-event", "perf", None, place));
}

#[test]
fn with_inotify() {
    sandbox::run(LIMIT, |place| refused("inotify", "inotify", None, place));
}

#[test]
fn with_a_deleted_file() {
    sandbox::run(LIMIT, |place| refused("deleted-file", "deleted", Some("gone"), place));
}

/// A vfork's parent cannot be stopped until its child is gone: transient, so it is waited for.
#[test]
fn in_uninterruptible_sleep() {
    sandbox::run(LIMIT, |place| {
        let Some((program, target)) = odd(place, "uninterruptible", &[]) else { return };
        wait::until_true("the vfork", wait::PATIENCE, || program.state() == Some('D'));
        is_refused_as(place, target, "uninterruptible-sleep");
        program.kill();
    });
}

#[test]
fn a_32_bit_program() {
    sandbox::run(LIMIT, |place| {
        let file = place.path("small").display().to_string();
        let Some((program, target)) = odd(place, "32-bit", &[&file]) else { return };
        let runs = || {
            std::fs::read_link(format!("/proc/{target}/exe"))
                .is_ok_and(|exe| exe == Path::new(&file))
        };
        wait::until_true("the 32-bit program, or its end", wait::PATIENCE, || {
            runs() || !program.exists()
        });
        if !runs() {
            skips::skip("32-bit programs", "a kernel that runs them");
            return;
        }
        let rekindle = rekindle(place);
        let before = look(target);
        let text = target.to_string();
        for words in [&["checkpoint", text.as_str()] as &[&str], &["checkpoint", &text, "--stop"]] {
            let report = rekindle.run(words).expect_failure(&[3], "refused", &[&text, "32-bit"]);
            assert_eq!(look(target), before, "{report}");
        }
        nothing_in(&rekindle);
        program.kill();
    });
}

/// Somebody else's program: what is missing is named, with exit code 6.
#[test]
fn somebody_elses_program() {
    sandbox::run(LIMIT, |place| {
        let Some((program, target)) = odd(place, "plain", &[]) else { return };
        let own = place.path("own");
        std::fs::create_dir(&own).unwrap();
        rustix::fs::chown(&own, Some(rustix::fs::Uid::from_raw(23_458)), None).unwrap();
        let words = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"];
        let before = look(target);
        let as_another = rekindle(place).through(&words).with_store(&own.join("store"));
        let text = target.to_string();
        let report = as_another.run(&["checkpoint", &text]);
        let report = report.expect_failure(&[6], "refused", &[&text]);
        assert_eq!(look(target), before, "{report}");
        program.kill();
    });
}

/// The first process of a container: whoever made the container acts on its end.
#[test]
fn the_first_process_of_a_container() {
    sandbox::run(LIMIT, |place| {
        let words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "1000"];
        let outer = Start::new(place.dir(), "container", &words).start();
        let children = format!("/proc/{0}/task/{0}/children", outer.pid());
        let inner: i32 = wait::until("the container", wait::PATIENCE, || {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            let pid: i32 = text.trim().parse().map_err(|_| format!("children {text:?}"))?;
            let file = |name| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
            let name = file("comm").unwrap_or_default();
            // Until it sleeps (clock_nanosleep is call 230) it loads its libraries.
            let call = file("syscall").unwrap_or_default();
            let sleeps = name.trim() == "sleep" && call.starts_with("230 ");
            if sleeps { Ok(pid) } else { Err(format!("{pid} is {name} in {call}")) }
        });
        let rekindle = rekindle(place);
        let before = look(inner);
        let report = rekindle.run(&["checkpoint", &inner.to_string(), "--stop"]);
        let report = report.expect_failure(&[3], "refused", &[]);
        has_kind(&report, "supervisor");
        assert_eq!(look(inner), before, "{report}");
        outer.kill();
    });
}

/// All blockers at once.
#[test]
fn several_things_at_once() {
    sandbox::run(LIMIT, |place| {
        let Some((program, target)) = odd(place, "pipe-outside", &[]) else { return };
        let report = rekindle(place).run(&["checkpoint", &target.to_string(), "--wait", "100ms"]);
        let report = report.expect_failure(&[3], "refused", &[]);
        let kinds = report.blockers();
        for kind in ["children", "pipe"] {
            assert!(kinds.contains(&kind), "no {kind}: {report}");
        }
        program.kill();
    });
}

/// `--dry-run` of what is not refused touches nothing either.
#[test]
fn a_dry_run_touches_nothing() {
    sandbox::run(LIMIT, |place| {
        let Some((program, target)) = odd(place, "plain", &[]) else { return };
        let rekindle = rekindle(place);
        let before = look(target);
        let report = rekindle.run(&["checkpoint", &target.to_string(), "--stop", "--dry-run"]);
        assert_eq!(report.code, Some(0), "{report}");
        assert_eq!(look(target), before, "{report}");
        nothing_in(&rekindle);
        program.kill();
    });
}

/// `run` starts nothing then; verbs that cannot be tried say so and do nothing.
#[test]
fn a_dry_run_of_other_verbs() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let made = place.path("made");
        let tried = rekindle.run(&["run", "--dry-run", "touch", made.to_str().unwrap()]);
        assert_eq!((tried.code, made.exists()), (Some(0), false), "{tried}");
        for words in [&["demo", "--dry-run"][..], &["profile", "1", "--dry-run"]] {
            let tried = rekindle.run(words);
            assert_eq!(tried.code, Some(2), "{tried}");
        }
        nothing_in(&rekindle);
    });
}

/// A report that cannot be written is a failure.
#[test]
fn a_full_stdout_is_told() {
    sandbox::run(LIMIT, |place| {
        // The second fails, and keeps its own exit code.
        for (words, code) in [(&["check"][..], 1), (&["list", "--format", "json"], 2)] {
            let mut command = std::process::Command::new(binaries::rekindle());
            command.args(words).arg("--store").arg(place.store());
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            let said = command.stdout(full).output().unwrap();
            let talk = String::from_utf8_lossy(&said.stderr);
            assert_eq!(said.status.code(), Some(code), "{words:?}: {talk}");
            assert!(talk.contains("No space left"), "{words:?}: {talk}");
        }
    });
}
