//! Agents of lazily resumed programs where the host gives them less than they ask for.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::pages::{agent_log, pages, seen};
use rekindle_system_tests::program::{self, Program};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{skips, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

fn rekindle(place: &Place) -> Rekindle {
    Rekindle::new(&place.store(), place.dir())
}

/// The logs of faults of every line in the store.
fn fault_logs(place: &Place) -> BTreeSet<PathBuf> {
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let lines = files(&place.store().join("lines"));
    lines.iter().flat_map(|line| files(&line.join("faults"))).collect()
}

/// What is touched while a process is built and compared that never runs is no log of the program's.
#[test]
fn only_a_program_that_ran_leaves_a_log_of_faults() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (program, go, out) = pages(place);
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--lazy"]);
        let mut program = Program::of_pid(resumed.pid("pid"));
        std::fs::write(&go, "").unwrap();
        let row = || rekindle.run(&["status"]).json["instances"][0].clone();
        let complete = || wait::until_true("all of it", LIMIT, || row()["state"] == "complete");
        complete();
        wait::until_true("a log", Duration::from_secs(10), || fault_logs(place).len() == 1);
        wait::until_true("nobody of ours", Duration::from_secs(10), || {
            row()["processes"].as_array().unwrap().is_empty()
        });
        let logs = fault_logs(place);
        let kept = row();
        assert_eq!(kept["processes"], serde_json::json!([]), "{kept}");
        assert!(
            kept["complete_us"].as_u64() > Some(0) && kept["faults"].as_u64() > Some(0),
            "{kept}"
        );
        assert_eq!(kept["servers"], 1, "{kept}");
        let pid = program.pid().to_string();
        for _ in 0..5 {
            let tried = rekindle.run(&["update", &pid, "--dry-run"]);
            let _ = tried.expect("rolled_back");
            // Its agent ends by itself.
            wait::until_true("nobody of ours", Duration::from_secs(10), || {
                row()["processes"].as_array().unwrap().is_empty()
            });
        }
        assert_eq!(fault_logs(place), logs);
        // Nor are they anybody else's loading.
        assert_eq!(row(), kept);
        let updated = rekindle.update(program.pid(), &[]);
        program = Program::of_pid(updated.pid("pid"));
        complete();
        wait::until_true("another log", Duration::from_secs(10), || {
            fault_logs(place).is_superset(&logs) && fault_logs(place).len() == 2
        });
        assert_eq!(seen(&out).1, 0, "wrong pages");
        program.kill();
    });
}

/// Has many mappings that are loaded after the start, each with its number in each page, and tells how
/// many pages are wrong when it may go on.
const MAPPINGS: &str = r"
import ctypes, os, sys, time
go, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p
P, EACH = 4096, 64
whole = count * (EACH + 1) * P
base = libc.mmap(None, ctypes.c_size_t(whole), 3, 0x22, -1, ctypes.c_long(0))
libc.madvise(ctypes.c_void_p(base), ctypes.c_size_t(whole), 15)
def at(n): return base + n * (EACH + 1) * P
def number(n): return (n + 1).to_bytes(8, 'little') * (EACH * P // 8)
for n in range(count):
    assert libc.munmap(ctypes.c_void_p(at(n) + EACH * P), ctypes.c_size_t(P)) == 0
    ctypes.memmove(at(n), number(n), EACH * P)
open(out, 'w').write('begun\n')
while not os.path.exists(go): time.sleep(0.01)
wrong = sum(ctypes.string_at(at(n), EACH * P) != number(n) for n in range(count))
open(out, 'w').write(f'wrong {wrong}\n')
while True: time.sleep(1)
";

#[test]
fn thousands_of_mappings_are_loaded_lazily() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (go, out) = (place.path("go"), place.path("out"));
        let count = Path::new("5000");
        let program = program::python(place, "mappings", MAPPINGS, &[&go, &out, count]);
        let told = || std::fs::read_to_string(&out).unwrap_or_default();
        wait::until_true("it to begin", Duration::from_secs(60), || told() == "begun\n");
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--lazy"]);
        let program = Program::of_pid(resumed.pid("pid"));
        // An agent that follows has them from the ledger.
        let row = || rekindle.run(&["status"]).json["instances"][0].clone();
        if let Some(agent) = row()["processes"][0].as_u64() {
            let agent = Pid::from_raw(i32::try_from(agent).unwrap()).unwrap();
            let _ = kill_process(agent, Signal::KILL);
        }
        std::fs::write(&go, "").unwrap();
        wait::until_true("it to see its memory", LIMIT, || told().starts_with("wrong"));
        assert_eq!(told(), "wrong 0\n");
        program.kill();
    });
}

/// A control group of this test alone in which processes are counted. Dropping it lets who is in it
/// have as many as they like.
struct Counted(PathBuf);

impl Counted {
    fn new(place: &Place) -> Option<Self> {
        let tops = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let name = place.dir().file_name().unwrap();
        let made = tops.iter().map(|top| Path::new(top).join(name)).find(|path| {
            let is_made = std::fs::create_dir(path).is_ok();
            let counts = path.join("pids.max").exists();
            if is_made && !counts {
                std::fs::remove_dir(path).unwrap();
            }
            is_made && counts
        });
        if made.is_none() {
            skips::skip("a limit of processes", "a control group that counts processes");
        }
        made.map(Self)
    }

    fn take(&self, pid: u64) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn limit(&self, most: &str) {
        std::fs::write(self.0.join("pids.max"), most).unwrap();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let begun = std::time::Instant::now();
        while std::fs::remove_dir(&self.0).is_err() && begun.elapsed() < wait::PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where no process can be made the agent stays, says so once, and goes on when one can.
#[test]
fn an_agent_outlasts_a_lack_of_processes() {
    sandbox::run(LIMIT, |place| {
        let Some(counted) = Counted::new(place) else { return };
        let rekindle = rekindle(place);
        let (program, go, out) = pages(place);
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        let program = Program::of_pid(resumed.pid("pid"));
        let row = || rekindle.run(&["status"]).json["instances"][0].clone();
        let ours = |at: usize| row()["processes"][at].as_u64().unwrap();
        let processes = [ours(0), ours(1), ours(2)];
        processes.into_iter().for_each(|pid| counted.take(pid));
        std::fs::write(&go, "").unwrap();
        // The server alone, both that the agent has made, and the agent with its server's help.
        for victims in [&[1][..], &[2, 1], &[0]] {
            let agent = ours(0);
            let pids = victims.iter().map(|at| ours(*at)).collect::<Vec<_>>();
            counted.limit("1");
            for pid in pids {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(700));
            if victims != [0] {
                let log = std::fs::read_to_string(agent_log(resumed.text("instance"))).unwrap();
                assert_eq!(row()["processes"][0].as_u64(), Some(agent), "it has ended: {log}");
                assert_eq!(row()["state"], "blocked");
            }
            let before = seen(&out).0;
            counted.limit("max");
            wait::until_true("the program to go on", Duration::from_secs(10), || {
                seen(&out).0 > before + 100
            });
            wait::until_true("all three to be there", Duration::from_secs(10), || {
                let row = row();
                row["state"] == "loading"
                    && (0..3).all(|at| {
                        let pid = row["processes"][at].as_u64().unwrap();
                        Path::new(&format!("/proc/{pid}")).exists()
                    })
            });
        }
        let log = std::fs::read_to_string(agent_log(resumed.text("instance"))).unwrap();
        let told = log.lines().filter(|line| line.contains("tries again")).count();
        assert_eq!(told, 2, "{log}");
        assert_eq!(seen(&out).1, 0, "wrong pages");
        program.kill();
        wait::until_true("the agent to end", Duration::from_secs(10), || {
            std::fs::read_to_string(counted.0.join("cgroup.procs")).unwrap().is_empty()
        });
    });
}

/// What is written down of an agent does not fit on the file system: it stays all the same.
#[test]
fn an_agent_outlasts_a_full_file_system() {
    sandbox::run(LIMIT, |place| {
        let small = "/run/rekindle";
        std::fs::create_dir_all(small).unwrap();
        // In the mount namespace of this test.
        let words = ["-t", "tmpfs", "-o", "size=1m,mode=700", "none", small];
        assert!(std::process::Command::new("mount").args(words).status().unwrap().success());
        let rekindle = rekindle(place);
        let (program, go, out) = pages(place);
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        let program = Program::of_pid(resumed.pid("pid"));
        std::fs::write(&go, "").unwrap();
        let row = || rekindle.run(&["status"]).json["instances"][0].clone();
        let filler = Path::new(small).join("filler");
        let agent = row()["processes"][0].as_u64().unwrap();
        assert!(std::fs::write(&filler, vec![1; 2 << 20]).is_err(), "it is not full");
        for at in [2, 1, 2] {
            let pid = i32::try_from(row()["processes"][at].as_u64().unwrap()).unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            let before = seen(&out).0;
            wait::until_true("the program to go on", Duration::from_secs(10), || {
                seen(&out).0 > before + 100
            });
            assert_eq!(row()["processes"][0].as_u64(), Some(agent), "it has ended");
        }
        // There is room again: what is written down is true again.
        std::fs::remove_file(filler).unwrap();
        let record = Path::new(small).join(resumed.text("instance")).join("agent");
        wait::until_true("it to be written down", Duration::from_secs(10), || {
            let record: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
            record["holder"] == row()["processes"][2]
        });
        assert_eq!(seen(&out).1, 0, "wrong pages");
        program.kill();
    });
}
