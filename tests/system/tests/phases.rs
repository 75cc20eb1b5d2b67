//! A failure where each phase of `checkpoint`, `resume` and `update` begins: the program goes on as it was,
//! nothing half-made is left, and the next try succeeds. And what an update can change, and cannot carry.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_system_tests::program::{Program, python, state_of};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{skips, wait};
use rustix::process::Signal;

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

fn failing(place: &Place, phase: &str) -> Rekindle {
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
        let rehearse = ["--rehearse", "2ms", "--record-input", "5ms", "--shadow", "on"];
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
        assert!(names.iter().any(|name| name == "shadow"), "{names:?}");
        let running = ["thaw", "shadow", "release"];
        for name in names.iter().filter(|name| !running.contains(&name.as_str())) {
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
import fcntl, os, sys, time
file = open(sys.argv[1] + ".lock", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
os.rename(sys.argv[1] + ".lock", sys.argv[1])
time.sleep(1000)
"#;

/// What hangs on the process and not on what it has open cannot go to another one: it is named before
/// anything is touched.
#[test]
fn an_update_names_what_cannot_travel() {
    sandbox::run(LIMIT, |place| {
        let ready = place.path("ready");
        let program = python(place, "hangs", HANGS_ON_ITS_PROCESS, &[&ready]);
        wait::until_true("the program to be ready", wait::PATIENCE, || ready.exists());
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = program.pid().to_string();
        let report = rekindle.run(&["update", &pid, "--wait", "0s"]);
        assert_eq!(report.blockers(), ["file-lock"], "{report}");
        let _ = report.expect_failure(&[3], "refused", &["fcntl(2) lock"]);
        assert_eq!(program.state(), Some('S'));
        let report = rekindle.run(&["check", &pid, "--update"]);
        assert_eq!((report.code, report.blockers().len()), (Some(3), 1), "{report}");
        program.kill();
    });
}

/// An epoll waits for signals, through another epoll, and for a pipe. `SIGUSR1` writes to the pipe.
const WAITS_FOR_SIGNALS: &str = r#"
import ctypes, os, select, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR2 - 1))
signals = ctypes.CDLL(None).signalfd(-1, mask, os.O_NONBLOCK)
reader, writer = os.pipe()
signal.signal(signal.SIGUSR1, lambda *_: os.write(writer, b"x"))
inner, outer = select.epoll(), select.epoll()
inner.register(signals, select.EPOLLIN)
inner.register(reader, select.EPOLLIN)
outer.register(inner, select.EPOLLIN)
log = open(sys.argv[1], "a")
while True:
    print("waits", file=log, flush=True)
    for _ in outer.poll():
        for number, _ in inner.poll(0):
            os.read(number, 128)
            print("signal" if number == signals else "pipe", file=log, flush=True)
"#;

/// A socket with an owner that gets `SIGIO`, another that gets `SIGUSR2` for its group, and `SIGUSR1`
/// to write to both.
const IS_SIGNALLED: &str = r#"
import fcntl, os, signal, socket, sys, time
log = open(sys.argv[1], "a")
def told(text):
    return lambda *_: print(text, file=log, flush=True)
def write(*_):
    for end in ends:
        end.send(b"x")
ends = []
signal.signal(signal.SIGIO, told("io"))
signal.signal(signal.SIGUSR2, told("group"))
signal.signal(signal.SIGUSR1, write)
for owner, number in ((os.getpid(), 0), (-os.getpid(), signal.SIGUSR2)):
    left, right = socket.socketpair()
    fcntl.fcntl(left, fcntl.F_SETOWN, owner)
    if number:
        fcntl.fcntl(left, fcntl.F_SETSIG, number)
    fcntl.fcntl(left, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    ends += [right]
    globals()["left%d" % number] = left
print("waits", file=log, flush=True)
while True:
    time.sleep(1000)
"#;

/// A program gets its signals as before, updated and after an update that was only tried. `asks`: what
/// is sent to it, and the line that it writes then.
fn hears_its_signals(place: &Place, script: &str, asks: &[(Signal, &str)]) {
    let log = place.path("log");
    let program = python(place, "signalled", script, &[&log]);
    let rekindle = Rekindle::new(&place.store(), place.dir());
    let lines = |text: &str| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines().filter(|line| *line == text).count()
    };
    wait::until_true("the program to wait", wait::PATIENCE, || lines("waits") > 0);
    let (mut outside, mut instance) = (program.pid(), String::new());
    let ask = |outside: i32, when: &str| {
        for (signal, line) in asks {
            let before = lines(line);
            Program::of_pid(outside).signal(*signal);
            wait::until_true(&format!("{line} {when}"), wait::PATIENCE, || lines(line) > before);
        }
    };
    ask(outside, "before");
    for round in 0..2 {
        let tried = rekindle.run(&["update", &outside.to_string(), "--dry-run", "--wait", "60s"]);
        let _ = tried.expect("rolled_back");
        ask(outside, &format!("after trial {round}"));
        let report = rekindle.update(outside, &["--wait", "60s"]);
        outside = report.pid("pid");
        ask(outside, &format!("after update {round}"));
        instance = report.text("instance").to_owned();
    }
    // Killed when it is decided: somebody else does what is left to do.
    let halted = rekindle.clone().through(&["env", "REKINDLE_HALT_AT=committed"]);
    let running = halted.start(&["update", &outside.to_string(), "--wait", "60s"]);
    let verb = i32::try_from(running.child.id()).unwrap();
    wait::until_true("the update to stand", wait::PATIENCE, || state_of(verb) == Some('T'));
    running.kill();
    wait::until_true("the old one's end", wait::PATIENCE, || {
        matches!(state_of(outside), None | Some('Z'))
    });
    let found = rekindle.run(&["check", &instance]);
    outside = i32::try_from(found.json["target"]["pid"].as_u64().unwrap()).unwrap();
    ask(outside, "after a kill");
    Program::of_pid(outside).kill();
}

#[test]
fn an_epoll_that_waits_for_signals_is_updated() {
    sandbox::run(LIMIT, |place| {
        let asks = [(Signal::USR2, "signal"), (Signal::USR1, "pipe")];
        hears_its_signals(place, WAITS_FOR_SIGNALS, &asks);
    });
}

#[test]
fn owners_that_get_signals_are_updated() {
    sandbox::run(LIMIT, |place| {
        let asks = [(Signal::USR1, "io"), (Signal::USR1, "group")];
        hears_its_signals(place, IS_SIGNALLED, &asks);
    });
}

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

const HOLDS_A_FILE: &str = r#"
import os, sys, time
file = open(sys.argv[1] + ".new", "w")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(1000)
"#;

/// The probe fails: the program is taken back to the moment of the update, unless a file has moved
/// since. It says 10 either way; 9 when it has ended and nobody asks for it back.
#[test]
fn an_update_whose_probe_fails_can_be_taken_back() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let running = |target: &str| {
            let report = rekindle.run(&["check", target]);
            let row = &report.json["target"];
            let pid = row["pid"].as_u64().unwrap_or_else(|| panic!("{report}"));
            (i32::try_from(pid).unwrap(), row["instance"].as_str().unwrap().to_owned())
        };
        let allowed = std::fs::read_to_string(THP).is_ok_and(|text| !text.contains("[never]"));
        let huge = if allowed { &["--huge"][..] } else { &[] };
        let fails = |instance: &str, probe: &str| {
            let probe = ["--probe", probe, "--probe-timeout", "200ms", "--on-probe-fail", "rewind"];
            let words = [&["update", instance, "--wait", "60s"][..], &probe, huge].concat();
            let report = failing(place, "arrange").run(&words);
            // Nothing else comes first.
            assert!(!report.talk.contains("as they came"), "{report}");
            report
        };
        let kinds = "heap,registers,listeners,pipes,epoll,ring,files";
        let witness = Witness::start(place, &["--mb", "4", "--still-files", "--kinds", kinds]);
        witness.goes_on(1);
        let (old, instance) = running(&witness.program.pid().to_string());
        let report = fails(&instance, "exit 1").expect_failure(&[10], "resumed", &["taken back"]);
        witness.goes_on(1);
        assert_eq!(witness.number("pid"), u64::try_from(old).unwrap(), "{report}");
        // What does not answer because it has ended needs nobody to end it.
        let died = ends_it(&instance);
        let report = fails(&instance, &died).expect_failure(&[10], "resumed", &["taken back"]);
        witness.goes_on(1);
        assert_eq!(witness.number("pid"), u64::try_from(old).unwrap(), "{report}");
        let pid = running(&instance).0;
        Program::of_pid(pid).kill();
        witness.assert_content("at the end");

        let file = place.path("file");
        let program = python(place, "holds", HOLDS_A_FILE, &[&file]);
        wait::until_true("the program to be ready", wait::PATIENCE, || file.exists());
        let (old, instance) = running(&program.pid().to_string());
        let probe = format!("echo moved >> {}; exit 1", file.display());
        let words = ["cannot be taken back", file.to_str().unwrap()];
        let report = fails(&instance, &probe).expect_failure(&[10], "updated", &words);
        let (pid, _) = running(&instance);
        assert_ne!(pid, old, "{report}");
        assert_eq!(Program::of_pid(pid).state(), Some('S'));
        // Nobody asks for it back: it is said that it has ended.
        let died = ends_it(&instance);
        let words = ["update", &instance, "--probe", &died, "--probe-timeout", "1ms"];
        let words = [&words[..], &["--wait", "60s"]].concat();
        let _ = rekindle.run(&words).expect_failure(&[9], "lost", &["has ended since"]);
    });
}

/// A probe that fails because it kills the program, as which `instance` runs.
fn ends_it(instance: &str) -> String {
    format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' /run/rekindle/{instance}/state); \
         kill -9 $pid; while kill -0 $pid; do :; done; exit 1"
    )
}

/// Nothing goes to the store, what goes to memory instead is gone when the new process has everything,
/// and what a killed update leaves there is removed by the next. The program can be updated as ever
/// afterwards.
#[test]
fn an_update_can_do_without_a_store() {
    sandbox::run(LIMIT, |place| {
        let kinds = "heap,memfd,registers,pipes,ring";
        let options = ["--mb", "16", "--stop-may-interrupt", "--kinds", kinds];
        let witness = Witness::start(place, &options);
        witness.goes_on(1);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let passing = || {
            let names = std::fs::read_dir("/dev/shm").unwrap().flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.starts_with("rekindle-")).collect::<Vec<_>>()
        };
        let old = witness.program.pid();
        let halted = rekindle.clone().through(&["env", "REKINDLE_HALT_AT=prepared"]);
        let running = halted.start(&["update", &old.to_string(), "--no-store"]);
        let verb = i32::try_from(running.child.id()).unwrap();
        wait::until_true("the update to stand", wait::PATIENCE, || state_of(verb) == Some('T'));
        assert_eq!(passing().len(), 1);
        running.kill();
        witness.moves();

        let (mut outside, mut instance) = (old, String::new());
        for options in
            [&["--no-store", "--dry-run"][..], &["--no-store"], &["--no-store", "--eager"]]
        {
            let pid = outside.to_string();
            let words = [&["update", &pid, "--wait", "60s"], options].concat();
            let report = rekindle.run(&words);
            report.expect_ok();
            assert!(report.json["id"].is_null(), "{report}");
            outside = report.pid("pid");
            report.text("instance").clone_into(&mut instance);
            wait::until("nothing left in memory", wait::PATIENCE, || match passing() {
                left if left.is_empty() => Ok(()),
                left => Err(format!("{left:?} after {report}")),
            });
            witness.moves();
        }
        let target = outside.to_string();
        let words =
            ["update", &target, "--no-store", "--probe", "exit 1", "--probe-timeout", "1ms"];
        let report = rekindle.run(&[&words[..], &["--wait", "60s"]].concat());
        let report = report.expect_failure(&[10], "updated", &["it runs as pid"]);
        assert!(!report.talk.contains("is kept"), "{report}");
        let found = rekindle.run(&["check", &instance]);
        outside = i32::try_from(found.json["target"]["pid"].as_u64().unwrap()).unwrap();
        assert!(!place.store().exists() || listed(&rekindle) == 0, "there is a checkpoint");
        outside = rekindle.update(outside, &["--wait", "60s"]).pid("pid");
        assert_eq!(listed(&rekindle), 1);
        witness.goes_on(1);
        Program::of_pid(outside).kill();
        witness.assert_content("at the end");
    });
}

/// A control group of this test alone, of the first version's memory controller or of the second
/// version. Dropping it kills who is in it.
struct Group(PathBuf);

impl Group {
    fn new(place: &Place) -> Option<Self> {
        let tops = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let made = tops.iter().find_map(|top| Self::at(top, place));
        if made.is_none() {
            skips::skip("control groups", "a control group file system that can be written");
        }
        made
    }

    /// Below `top`, when that is a hierarchy.
    fn at(top: &str, place: &Place) -> Option<Self> {
        let path = Path::new(top).join(place.dir().file_name().unwrap());
        std::fs::create_dir(&path).ok()?;
        if !path.join("cgroup.procs").exists() {
            std::fs::remove_dir(&path).unwrap();
            return None;
        }
        Some(Self(path))
    }

    /// Who is in it, as this pid namespace knows them.
    fn members(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.members().into_iter().for_each(|pid| Program::of_pid(pid).kill());
        let begun = std::time::Instant::now();
        while std::fs::remove_dir(&self.0).is_err() && begun.elapsed() < wait::PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Below a frozen control group, of whichever version has such here, a process could not even be
/// ended.
fn refused_when_frozen(place: &Place, rekindle: &Rekindle, pid: &str) {
    let hierarchies = [
        ("/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"]),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", ["1", "0"]),
        ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
    ];
    for (top, file, [frozen, thawed]) in hierarchies {
        let Some(outer) = Group::at(top, place) else { continue };
        let inner = Group(outer.0.join("inner"));
        std::fs::create_dir(&inner.0).unwrap();
        let switch = outer.0.join(file);
        if std::fs::write(&switch, frozen).is_ok() {
            let path = inner.0.display().to_string();
            let report = rekindle.run(&["update", pid, "--dry-run", "--cgroup", &path]);
            std::fs::write(&switch, thawed).unwrap();
            let _ = report.expect_failure(&[4], "refused", &["is frozen"]);
        }
        drop(inner);
    }
}

fn processors(program: &Program) -> String {
    let status = program.proc_file("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    line.unwrap().to_owned()
}

/// Another control group, other processors and limits: the new process has them, the old one stays
/// as it was when it is only tried, and what cannot be had is refused before anything is touched.
#[test]
fn an_update_can_change_what_is_around_the_program() {
    sandbox::run(LIMIT, |place| {
        // Of another user: over most of what is his we have rights only as root.
        let options = ["--mb", "8", "--drop-to", "23456", "--kinds", "heap,registers,ring"];
        let witness = Witness::start(place, &options);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let Some(group) = Group::new(place) else { return };
        let (old, path) = (witness.program.pid(), group.0.display().to_string());
        let pid = old.to_string();
        let before = processors(&witness.program);
        for (words, said) in [
            (["--cgroup", "/nowhere"], "/nowhere"),
            (["--cgroup", "/tmp"], "control group"),
            (["--cpus", "4095"], "processors"),
        ] {
            let report = rekindle.run(&[&["update", &pid], &words[..]].concat());
            let _ = report.expect_failure(&[4], "refused", &[said]);
        }
        refused_when_frozen(place, &rekindle, &pid);
        let nodes = std::fs::read_to_string("/sys/devices/system/node/has_memory");
        if nodes.is_ok_and(|text| text.trim() == "0") {
            let report = rekindle.run(&["update", &pid, "--place", "critical=0,cold=0"]);
            let _ = report.expect_failure(&[4], "refused", &["unavailable"]);
        }
        for limit in ["memory.limit_in_bytes", "memory.max"].map(|name| group.0.join(name)) {
            if limit.exists() {
                std::fs::write(&limit, "16M").unwrap();
                let words = ["update", &pid, "--cgroup", &path];
                let report = rekindle.run(&words).expect_failure(&[4], "refused", &["keep two"]);
                assert!(report.talk.contains(&limit.display().to_string()), "{report}");
                std::fs::write(&limit, "1G").unwrap();
            }
        }
        let options = ["--cgroup", &path, "--cpus", "0", "--rlimit", "nofile=400:500"];
        let words = [&["update", &pid, "--dry-run"], &options[..]].concat();
        let tried = rekindle.run(&words).expect("rolled_back");
        assert!(group.members().is_empty(), "{:?} {tried}", group.members());
        assert_eq!(processors(&witness.program), before, "{tried}");
        witness.moves();

        let report = rekindle.update(old, &options);
        let new = Program::of_pid(report.pid("pid"));
        assert_eq!(group.members(), [new.pid()], "{report}");
        assert_eq!(processors(&new), "0", "{report}");
        let limits = new.proc_file("limits");
        let limit = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let words: Vec<&str> = limit.split_whitespace().collect();
        assert_eq!(words[3..5], ["400", "500"], "{report}");
        let told = report.json["surroundings"].as_array().unwrap();
        let row = |what: &str| told.iter().find(|row| row["what"] == what).unwrap();
        assert_eq!(row("limit nofile")["after"], "400:500", "{report}");
        let last = group.0.file_name().unwrap().to_str().unwrap();
        assert!(row("cgroup")["after"].as_str().unwrap().ends_with(last), "{report}");
        witness.goes_on(1);
    });
}

/// Huge pages where the host has them; where it does not, that is said before anything is touched.
#[test]
fn an_update_can_give_huge_pages() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "32", "--kinds", "heap,registers,ring"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid().to_string();
        let allowed = std::fs::read_to_string(THP);
        if allowed.is_err() || allowed.is_ok_and(|text| text.contains("[never]")) {
            let report = rekindle.run(&["update", &pid, "--huge"]);
            let _ = report.expect_failure(&[4, 6], "refused", &["huge pages"]);
            witness.program.kill();
            return;
        }
        let report = rekindle.update(witness.program.pid(), &["--huge"]);
        let new = Program::of_pid(report.pid("pid"));
        let sums = new.proc_file("smaps_rollup");
        let line = sums.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib >= 16 << 10, "{kib} kB of 32 MB: {report}");
        let told = report.json["surroundings"].as_array().unwrap();
        let row = told.iter().find(|row| row["what"] == "bytes in huge pages").unwrap();
        let after: u64 = row["after"].as_str().unwrap().parse().unwrap();
        assert!(after >= 16 << 20, "{after}: {report}");
        witness.goes_on(1);
        new.kill();
        witness.assert_content("at the end");
    });
}
