//! A profile never harms the program, whatever the program or rekindle does meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_system_tests::program::{Program, Start, whole_lines};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::wait::{self, PATIENCE};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{binaries, rounds, skips};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(900);
const SWITCH: &str = "/proc/sys/kernel/numa_balancing";

/// A python program that forks, maps, unmaps and checks itself.
struct Restless {
    program: Program,
    progress: PathBuf,
}

impl Restless {
    fn start(place: &Place, modes: &[&str], user: Option<u32>) -> Option<Self> {
        let Some(python) = binaries::python() else {
            skips::skip("restless python program", "python3");
            return None;
        };
        let label = format!("restless-{}", modes.join("-"));
        let dir = place.path(&label);
        std::fs::create_dir_all(&dir).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&dir, open).unwrap();
        let progress = dir.join("progress");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/restless.py");
        // A user of its own cannot read the checkout.
        let script = dir.join("restless.py");
        std::fs::copy(source, &script).unwrap();
        let mut words = vec![
            python.display().to_string(),
            script.display().to_string(),
            progress.display().to_string(),
        ];
        words.extend(modes.iter().map(|mode| (*mode).to_owned()));
        let start = Start::new(place.dir(), &label, &words);
        let program = match user {
            Some(user) => start.as_user(user),
            None => start,
        };
        let restless = Self { program: program.start(), progress };
        restless.goes_on();
        Some(restless)
    }

    /// Rounds so far, all of them right.
    fn rounds(&self) -> usize {
        let lines = whole_lines(&self.progress);
        let bad = lines.iter().find(|line| line.starts_with("BAD"));
        assert_eq!(bad, None, "the program was harmed");
        lines.len()
    }

    fn goes_on(&self) {
        let goal = self.rounds() + 2;
        wait::until_true("a round of the restless program", PATIENCE, || {
            assert!(self.program.exists(), "the program ended: {:?}", self.rounds());
            self.rounds() >= goal
        });
    }
}

fn profiled(rekindle: &Rekindle, pid: i32, time: &str, options: &[&str]) -> serde_json::Value {
    let pid = pid.to_string();
    let words: Vec<&str> =
        ["profile", &pid, "--for", time].iter().chain(options).copied().collect();
    let report = rekindle.start(&words).finish_within(LIMIT).expect("running");
    assert_eq!(report.text("end"), "asked", "{report}");
    report.json
}

/// Whether any mapping is registered for write tracking.
fn is_tracked(program: &Program) -> bool {
    let smaps = program.proc_file("smaps");
    smaps.lines().any(|line| line.starts_with("VmFlags:") && line.contains(" uw"))
}

#[test]
fn a_witness_is_profiled_and_finds_nothing_changed() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "32"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid();
        let time = if rounds(1, 2) == 1 { "8s" } else { "600s" };
        let copy = place.path("copy.heat");
        let report = profiled(
            &rekindle,
            pid,
            time,
            &["--max-slowdown", "5%", "-o", &copy.display().to_string()],
        );
        assert!(report["pages_seen"].as_u64().unwrap() > 0, "{report}");
        let rows = report["collectors"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["available"] == true), "{report}");
        witness.goes_on(2);
        assert!(!is_tracked(&witness.program), "still tracked after a profile");
        assert!(std::fs::metadata(&copy).unwrap().len() > 100);
        // The line's heat is there too, and the next profile is merged into it.
        let line = place.store().join("lines").join(report["instance"].as_str().unwrap());
        let first = std::fs::metadata(line.join("heat")).unwrap().len();
        assert!(first > 100);
        profiled(&rekindle, pid, "2s", &[]);
        witness.goes_on(1);
    });
}

#[test]
fn what_cannot_be_kept_is_refused_before_anybody_waits() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid();
        let report = profiled(&rekindle, pid, "1s", &[]);
        assert_eq!(report["costs_measured"], true, "measured by whoever comes first");
        let words = |copy: &str| {
            ["profile", &pid.to_string(), "--for", "600s", "-o", copy].map(str::to_owned)
        };
        let run = |copy: &Path| {
            let words = words(&copy.display().to_string());
            rekindle.run(&words.each_ref().map(String::as_str))
        };
        assert_eq!(run(&place.path("not/there.heat")).code, Some(2));
        // What a newer rekindle has learned stays.
        let line = place.store().join("lines").join(report["instance"].as_str().unwrap());
        let mut newer = std::fs::read(line.join("heat")).unwrap();
        newer[8] += 1;
        std::fs::write(line.join("heat"), &newer).unwrap();
        assert_eq!(run(&place.path("x.heat")).code, Some(4));
        assert_eq!(std::fs::read(line.join("heat")).unwrap(), newer);
        // What is damaged is kept aside.
        newer[8] -= 1;
        let middle = newer.len() / 2;
        newer[middle] ^= 1;
        std::fs::write(line.join("heat"), &newer).unwrap();
        profiled(&rekindle, pid, "1s", &[]);
        assert_eq!(std::fs::read(line.join("heat.damaged")).unwrap(), newer);
        witness.goes_on(1);
    });
}

#[test]
fn one_verb_at_a_time_and_ctrl_c_keeps_what_was_seen() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid().to_string();
        let running = rekindle.start(&["profile", &pid, "--for", "600s"]);
        let child = i32::try_from(running.child.id()).unwrap();
        // The profile has the lock before it collects.
        wait::until_true("the profile at work", PATIENCE, || is_tracked(&witness.program));
        let refused = rekindle.run(&["checkpoint", &pid]);
        assert_eq!(refused.code, Some(3), "{refused}");
        witness.goes_on(1);
        Program::of_pid(child).signal(Signal::INT);
        let report = running.finish().expect("running");
        assert!(report.number("seconds") < 600, "{report}");
        witness.goes_on(1);
        // The lock is free again.
        profiled(&rekindle, witness.program.pid(), "1s", &[]);
    });
}

#[test]
fn a_profile_killed_at_any_time_leaves_the_program_as_it_was() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "16", "--stop-may-interrupt"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid();
        // The first profile would measure that, which is not what is to be met.
        rekindle.run(&["check", "--calibrate"]).expect_ok();
        let mut alive = 0;
        for round in 0..rounds(8, 60) {
            let words = ["profile", &pid.to_string(), "--for", "60s", "--max-slowdown", "10%"];
            let running = rekindle.start(&words);
            // From the first instruction to well into the collecting, at uneven steps.
            std::thread::sleep(Duration::from_millis(u64::try_from(round * 97 % 800).unwrap()));
            alive += usize::from(running.kill());
            witness.moves();
            assert!(!is_tracked(&witness.program), "still tracked after our death");
            if round % 16 == 15 {
                // A wait with a timeout begins anew after each stop: now and then one may end.
                witness.goes_on(1);
            }
        }
        assert!(alive > 0, "no profile was killed at work");
        witness.goes_on(1);
        profiled(&rekindle, pid, "2s", &[]);
        witness.goes_on(1);
    });
}

#[test]
fn a_restless_program_is_not_harmed() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let nobody = Some(65534);
        for (modes, user) in [
            (&[][..], None),
            (&["seccomp"][..], nobody),
            (&["userfault"][..], None),
            (&["seccomp", "forks-only"][..], None),
            (&["uring"][..], None),
        ] {
            let Some(restless) = Restless::start(place, modes, user) else { return };
            let pid = restless.program.pid();
            let report = profiled(&rekindle, pid, "4s", &["--max-slowdown", "10%"]);
            assert!(report["samples"].as_u64().unwrap() > 0, "{modes:?}: {report}");
            // It faults by the thousand in threads that come and go: records stay in the budget.
            let cost = report["overhead_estimate_permille"].as_u64().unwrap();
            assert!(cost <= 200, "{modes:?}: {report}");
            restless.goes_on();
            for delay in [150, 420, 700] {
                let running = rekindle.start(&["profile", &pid.to_string(), "--for", "60s"]);
                std::thread::sleep(Duration::from_millis(delay));
                let _ = running.kill();
                restless.goes_on();
            }
            restless.program.kill();
        }
    });
}

/// mremap(2) of memory that is two mappings for the moment fails: mappings are never split.
#[test]
fn memory_that_is_moved_all_the_time_stays_whole() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let Some(restless) = Restless::start(place, &["forks-only", "moves"], None) else { return };
        let pid = restless.program.pid();
        for _ in 0..rounds(4, 40) {
            profiled(&rekindle, pid, "2s", &["--max-slowdown", "10%"]);
            restless.goes_on();
        }
        // Also when we die armed.
        for delay in [300, 900] {
            let running = rekindle.start(&["profile", &pid.to_string(), "--for", "60s"]);
            std::thread::sleep(Duration::from_millis(delay));
            let _ = running.kill();
            restless.goes_on();
        }
    });
}

#[test]
fn a_program_that_executes_itself_while_armed_goes_on() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let Some(restless) = Restless::start(place, &["execs"], None) else { return };
        let pid = restless.program.pid().to_string();
        for _ in 0..rounds(3, 20) {
            let words = ["profile", &pid, "--for", "600s", "--max-slowdown", "10%"];
            let report = rekindle.run(&words).expect("running");
            assert_eq!(report.text("end"), "program executed another", "{report}");
            restless.goes_on();
            assert!(!is_tracked(&restless.program), "the new program is tracked");
        }
    });
}

#[test]
fn a_program_that_is_not_all_there_is_profiled_and_a_profiled_one_checkpointed() {
    sandbox::run(LIMIT, |place| {
        let mut witness = Witness::start(place, &["--mb", "32"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid().to_string();
        // A profile dies armed; the checkpoint behind it has to find everything.
        let running = rekindle.start(&["profile", &pid, "--for", "600s"]);
        wait::until_true("the profile at work", PATIENCE, || is_tracked(&witness.program));
        assert!(running.kill(), "the profile had ended");
        rekindle.run(&["checkpoint", &pid, "--stop"]).expect_ok();
        // Pages come when they are touched: it is still being loaded when the profile begins.
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        witness.program = Program::of_pid(resumed.pid("pid"));
        profiled(&rekindle, witness.program.pid(), "3s", &[]);
        witness.goes_on(2);
    });
}

/// What is in huge pages is left there, and it is said that its writes were not tracked.
#[test]
fn memory_in_huge_pages_is_not_called_watched() {
    const PROGRAM: &str = "import mmap
SIZE = 64 << 20
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(14)
while True:
    for at in range(0, SIZE, 2 << 20): m[at] = 1";
    sandbox::run(LIMIT, |place| {
        let Some(python) = binaries::python() else {
            skips::skip("profile of huge pages", "python3");
            return;
        };
        let python = python.display().to_string();
        let program = Start::new(place.dir(), "huge", &[python.as_str(), "-c", PROGRAM]).start();
        let huge_bytes = || -> u64 {
            let text = program.proc_file("smaps_rollup");
            let line = text.lines().find(|line| line.starts_with("AnonHugePages:"));
            let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kb.unwrap_or(0) << 10
        };
        let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if enabled.is_ok_and(|text| text.contains("[never]")) {
            skips::skip("profile of huge pages", "transparent huge pages on request");
            return;
        }
        wait::until_true("huge pages", PATIENCE, || huge_bytes() >= 60 << 20);
        let before = huge_bytes();
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let report = profiled(&rekindle, program.pid(), "2s", &["--max-slowdown", "10%"]);
        assert!(report["write_passes"].as_u64().unwrap() > 0, "{report}");
        assert!(report["huge_bytes"].as_u64().unwrap() >= 60 << 20, "{report}");
        assert!(huge_bytes() >= before, "a profile split huge pages");
    });
}

#[test]
fn a_stopped_program_stays_stopped() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let Some(restless) = Restless::start(place, &["forks-only"], None) else { return };
        restless.program.signal(Signal::STOP);
        let stopped = || restless.program.state() == Some('T');
        wait::until_true("the stop", PATIENCE, stopped);
        profiled(&rekindle, restless.program.pid(), "1s", &[]);
        assert!(stopped(), "a profile woke a stopped program");
        restless.program.signal(Signal::CONT);
        restless.goes_on();
    });
}

#[test]
fn the_hosts_setting_comes_back_even_when_we_are_killed() {
    sandbox::run(LIMIT, |place| {
        let setting = || std::fs::read_to_string(SWITCH).unwrap_or_default().trim().to_owned();
        let before = setting();
        if before != "0" || std::fs::write(SWITCH, "0").is_err() {
            skips::skip("exact profile", "a host whose NUMA balancing is off and can be turned on");
            return;
        }
        let witness = Witness::start(place, &["--mb", "16"]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = witness.program.pid().to_string();
        for _ in 0..3 {
            let running = rekindle.start(&["profile", &pid, "--for", "60s", "--exact"]);
            wait::until_true("the setting", PATIENCE, || setting() == "1");
            assert!(running.kill(), "the profile had ended");
            wait::until_true("the setting to be put back", PATIENCE, || setting() == before);
            witness.goes_on(1);
        }
        let report = profiled(&rekindle, witness.program.pid(), "6s", &["--exact"]);
        assert_eq!(setting(), before);
        assert!(report["pages_seen"].as_u64().unwrap() > 0, "{report}");
        witness.goes_on(1);
    });
}

/// What is not known for want of a collector, by the collector's name.
const LOSSES: [(&str, &str); 5] = [
    ("write tracking", "which pages are written is known from samples only, not exactly"),
    ("page faults", "which instruction writes a page is known from samples only"),
    ("page faults in system calls", "what system calls touch first is not seen"),
    ("clock samples", "reads and data types are not known"),
    ("referenced bits", "the totals are not checked independently"),
];

/// Just these collectors are missing, each with what is not known for that, and the others saw something.
fn assert_reduced(report: &serde_json::Value, missing: &[&str]) {
    let rows = report["collectors"].as_array().unwrap();
    let of = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let named: Vec<String> =
        rows.iter().filter(|row| row["available"] == false).map(|row| of(row, "name")).collect();
    assert_eq!(named, missing, "{report}");
    for row in rows.iter().filter(|row| row["available"] == false) {
        let (name, detail) = (of(row, "name"), of(row, "detail"));
        let loss = LOSSES.iter().find(|(of, _)| *of == name).map(|(_, loss)| *loss).unwrap();
        let reason = detail.strip_suffix(loss).unwrap_or_else(|| panic!("no loss: {detail}"));
        assert!(reason.len() > 10, "no reason: {detail}");
    }
    assert!(report["samples"].as_u64().unwrap() > 0, "{report}");
    assert!(report["pages_seen"].as_u64().unwrap() > 0, "{report}");
}

fn setting(path: &str) -> i64 {
    std::fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap())
}

#[test]
fn what_may_not_be_used_is_named_and_the_rest_goes_on() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        // What events a plain user may have of his own programs is a matter of the host.
        let Some(restless) = Restless::start(place, &["forks-only"], Some(65534)) else { return };
        let store = place.path("nobodys");
        std::fs::create_dir(&store).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&store, private).unwrap();
        std::os::unix::fs::chown(&store, Some(65534), Some(65534)).unwrap();
        let plain = rekindle.with_store(&store).through(&[
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
        ]);
        let pid = restless.program.pid().to_string();
        let report = plain.run(&["profile", &pid, "--for", "2s", "--max-slowdown", "10%"]);
        restless.goes_on();
        if setting("/proc/sys/kernel/yama/ptrace_scope") > 0 {
            skips::skip(
                "reduced profile of a plain user",
                "programs of one user that may look into each other",
            );
            return;
        }
        let missing: &[&str] = match setting("/proc/sys/kernel/perf_event_paranoid") {
            ..2 => &[],
            2 => &["page faults in system calls"],
            3.. => &["page faults", "clock samples"],
        };
        assert_reduced(&report.expect("running").json, missing);
    });
}

/// A program has one tracer. Without it nobody can be had to track writes; everything else can.
#[test]
fn a_program_that_is_traced_is_profiled_without_tracking_its_writes() {
    const BUSY: &str = "m = bytearray(16 << 20)
while True:
    for at in range(0, len(m), 4096): m[at] = (m[at] + 1) % 256";
    const TRACER: &str = "import ctypes, os, sys
SEIZE, CONT, WALL = 0x4206, 7, 0x40000000
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
assert libc.ptrace(SEIZE, pid, None, None) == 0
while True:
    tid, status = os.waitpid(-1, WALL)
    signal = 0 if status >> 16 else os.WSTOPSIG(status)
    libc.ptrace(CONT, tid, None, ctypes.c_void_p(signal))";
    sandbox::run(LIMIT, |place| {
        let Some(python) = binaries::python() else {
            skips::skip("profile of a traced program", "python3");
            return;
        };
        let python = python.display().to_string();
        let busy = Start::new(place.dir(), "busy", &[python.as_str(), "-c", BUSY]).start();
        let pid = busy.pid().to_string();
        let _tracer =
            Start::new(place.dir(), "tracer", &[python.as_str(), "-c", TRACER, &pid]).start();
        wait::until_true("the tracer", PATIENCE, || {
            !busy.proc_file("status").lines().any(|line| line == "TracerPid:\t0")
        });
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let report = profiled(&rekindle, busy.pid(), "3s", &["--max-slowdown", "10%"]);
        assert_reduced(&report, &["write tracking"]);
        assert!(!busy.proc_file("status").contains("TracerPid:\t0"), "the tracer lost it");
    });
}
