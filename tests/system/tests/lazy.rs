//! Resumes that run before their memory is there.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::pages::{agent_log, pages, seen};
use rekindle_system_tests::program::{self, Program};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::witness::{self, Witness};
use rekindle_system_tests::{rounds, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);
/// How long a program may stand still because processes of ours were killed.
const STALL: Duration = Duration::from_secs(1);

fn rekindle(place: &Place) -> Rekindle {
    Rekindle::new(&place.store(), place.dir())
}

#[test]
fn killed_servers_and_keepers_lose_no_page() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (program, go, out) = pages(place);
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        let program = Program::of_pid(resumed.pid("pid"));
        std::fs::write(&go, "").unwrap();
        for round in 0..rounds(24, 600) {
            let status = rekindle.run(&["status"]).json;
            let row = &status["instances"][0];
            assert_ne!(row["state"], "complete", "it ended before it was tested");
            let ours = |at: usize| i32::try_from(row["processes"][at].as_u64().unwrap()).unwrap();
            let (keeper, server) = (ours(0), ours(1));
            assert_confined(row, CAP_SYS_NICE);
            let victims: &[i32] = match round % 3 {
                0 => &[server],
                1 => &[keeper],
                _ => &[keeper, server],
            };
            for pid in victims {
                // One that was just replaced may be named still.
                let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
            }
            // Every other time the next question comes while they are still dying.
            let step = u64::try_from(round % 2 * round).unwrap();
            std::thread::sleep(Duration::from_millis(step * 7 % 50));
        }
        rekindle.run(&["status"]).expect_ok();
        let before = seen(&out).0;
        wait::until_true("the program to go on", Duration::from_secs(10), || {
            seen(&out).0 > before + 100
        });
        let (count, wrong, longest) = seen(&out);
        assert_eq!(wrong, 0, "of {count} pages");
        // With both killed the program waits for the next verb, which comes within a round.
        assert!(longest < 2 * STALL, "it stood still for {longest:?}");
        // What it has not asked for need not be there for a checkpoint.
        rekindle.checkpoint(program.pid(), &[]);
        assert_eq!(rekindle.run(&["status"]).json["instances"][0]["state"], "loading");
        assert_eq!(seen(&out).1, 0);
        program.kill();
    });
}

/// Bits of capabilities(7).
const CAP_SYS_NICE: u64 = 1 << 23;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// The agent and the server that a row of `status` names have these rights and no others, in any
/// set, the holder has none, and their system calls are filtered.
fn assert_confined(row: &serde_json::Value, rights: u64) {
    let text = |at: usize| {
        let path = format!("/proc/{}/status", row["processes"][at]);
        // One that was just replaced may be named still.
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let bounds = rights;
    let is_confined = |text: &str, rights: u64| {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let set = |name| u64::from_str_radix(field(name).unwrap(), 16).unwrap();
        field("Seccomp:") == Some("2")
            && field("NoNewPrivs:") == Some("1")
            && (set("CapEff:"), set("CapPrm:")) == (rights, rights)
            && set("CapBnd:") & !bounds == 0
            && (set("CapInh:") | set("CapAmb:")) & !rights == 0
    };
    assert!(is_confined(&text(0), rights), "the agent: {}", text(0));
    let (server, holder) = (text(1), || text(2));
    assert!(server.is_empty() || is_confined(&server, rights), "the server: {server}");
    // Nobody waits until it has gone to sleep.
    wait::until_true("the holder to have no rights", Duration::from_secs(5), || {
        holder().is_empty() || is_confined(&holder(), 0)
    });
}

#[test]
fn an_agent_keeps_the_rights_that_its_store_takes() {
    sandbox::run(LIMIT, |place| {
        let shut = place.path("of-another-user");
        std::fs::create_dir(&shut).unwrap();
        let rekindle = rekindle(place).with_store(&shut.join("store"));
        let (program, go, out) = pages(place);
        rekindle.stop(program.pid(), &[]);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&shut, private).unwrap();
        std::os::unix::fs::chown(&shut, Some(12345), Some(12345)).unwrap();
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        let program = Program::of_pid(resumed.pid("pid"));
        std::fs::write(&go, "").unwrap();
        for victims in [&[0][..], &[1], &[2], &[0, 1]] {
            let status = rekindle.run(&["status"]).json;
            let row = &status["instances"][0];
            assert_confined(row, CAP_SYS_NICE | CAP_DAC_READ_SEARCH);
            for at in victims {
                let pid = i32::try_from(row["processes"][*at].as_u64().unwrap()).unwrap();
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            }
            let before = seen(&out).0;
            rekindle.run(&["status"]).expect_ok();
            wait::until_true("the program to go on", Duration::from_secs(10), || {
                seen(&out).0 > before + 100
            });
        }
        let (count, wrong, _) = seen(&out);
        assert_eq!(wrong, 0, "of {count} pages");
        program.kill();
    });
}

/// Does what the files `step.0`, `step.1`, ... in its folder say, and tells after each how many
/// pages were not as they should be.
const STEPS: &str = r"
import mmap, os, sys, time
folder = sys.argv[1]
out = open(folder + '/out', 'a', buffering=1)
N = 32 * 256
m = mmap.mmap(-1, N * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
should = list(range(1, N + 1))
def put(i, value):
    m[i * 4096:i * 4096 + 8] = value.to_bytes(8, 'little'); should[i] = value
def is_wrong(i):
    page = m[i * 4096:i * 4096 + 4096]
    return page[:8] != should[i].to_bytes(8, 'little') or any(page[8:])
for i in range(N): put(i, i + 1)
def check(start, count): return sum(is_wrong(i) for i in range(start, start + count))
def drop(start, count):
    m.madvise(mmap.MADV_DONTNEED, start * 4096, count * 4096)
    for i in range(start, start + count): should[i] = 0
    return 0
def write(start, count):
    for i in range(start, start + count): put(i, (should[i] << 8) % (1 << 60) + 77)
    return 0
def grow(_, count):
    m.resize((len(should) + count) * 4096)
    should.extend([0] * count)
    return 0
def everything(*_): return check(0, len(should))
n = 0
out.write('begun\n')
while True:
    name = f'{folder}/step.{n}'
    if not os.path.exists(name):
        time.sleep(0.002); continue
    word, start, count = open(name).read().split()
    wrong = {'check': check, 'drop': drop, 'write': write, 'grow': grow, 'all': everything}[word](int(start), int(count))
    n += 1
    out.write(f'{n} {wrong}\n')
";

/// A running program of [`STEPS`].
struct Steps<'a> {
    place: &'a Place,
    count: usize,
}

impl Steps<'_> {
    fn told(&self) -> String {
        std::fs::read_to_string(self.place.path("out")).unwrap_or_default()
    }

    /// Has a step begun.
    fn begin(&mut self, word: &str, start: u64, count: u64) {
        let (part, whole) = (self.place.path("part"), self.place.path("step"));
        std::fs::write(&part, format!("{word} {start} {count}")).unwrap();
        std::fs::rename(part, format!("{}.{}", whole.display(), self.count)).unwrap();
        self.count += 1;
    }

    /// How many pages the last step found wrong, once it is done.
    fn wrong(&self) -> Option<u64> {
        let line = format!("{} ", self.count);
        let told = self.told();
        let whole = told.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok())
    }

    fn is_done(&self) -> bool {
        self.wrong().is_some()
    }

    /// Waits for the step, which must find nothing wrong.
    fn end(&self) {
        wait::until_true("the step to be done", Duration::from_secs(60), || self.is_done());
        assert_eq!(self.wrong(), Some(0), "wrong pages in step {}", self.count);
    }

    /// Has a step done.
    fn step(&mut self, word: &str, start: u64, count: u64) {
        self.begin(word, start, count);
        self.end();
    }

    /// Drops, writes, moves and looks at some pages.
    fn change(&mut self, seed: u64) {
        let at = |n: u64| (seed * 1_000_003 + n * 7919) % 8000;
        for n in 0..4 {
            self.step("check", at(n), 30);
            self.step("drop", at(n + 10), 25);
            self.step("write", at(n + 20), 20);
            self.step("check", at(n + 10), 60);
        }
    }
}

/// Starts one.
fn steps(place: &Place) -> (Program, Steps<'_>) {
    let program = program::python(place, "steps", STEPS, &[place.dir()]);
    let steps = Steps { place, count: 0 };
    wait::until_true("it to begin", Duration::from_secs(60), || steps.told().contains("begun"));
    (program, steps)
}

/// Without an option a program runs at once where loading it takes longer than a moment; the agent
/// finds the checkpoint also where it is not in the store that is named.
#[test]
fn large_programs_run_at_once() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (program, go, out) = pages(place);
        let small = program::python(place, "small", "import time\nwhile True: time.sleep(1)", &[]);
        rekindle.stop(small.pid(), &[]);
        let resumed = rekindle.resume("latest", &[]);
        assert_eq!(resumed.json["load"], "eager", "{resumed}");
        Program::of_pid(resumed.pid("pid")).kill();
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--eager"]);
        assert_eq!(resumed.json["load"], "eager", "{resumed}");
        rekindle.stop(resumed.pid("pid"), &[]);
        let path = place.store().display().to_string();
        let elsewhere = Rekindle::new(&place.path("no-store"), place.dir());
        let resumed = elsewhere.resume(&path, &["--probe", "true"]);
        assert_eq!(resumed.json["load"], "lazy", "{resumed}");
        assert!(resumed.number("loaded_before_start_bytes") < 16 << 20, "{resumed}");
        assert!(resumed.json["faults_before_answer"].is_u64(), "{resumed}");
        std::fs::write(&go, "").unwrap();
        wait::until_true("pages to be looked at", LIMIT, || seen(&out).0 > 500);
        assert_eq!(seen(&out).1, 0);
        Program::of_pid(resumed.pid("pid")).kill();
    });
}

#[test]
fn checkpoints_of_half_loaded_programs_refer_to_the_rest() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (mut program, mut steps) = steps(place);
        rekindle.stop(program.pid(), &[]);
        for round in 0..rounds(4, 60) {
            let resumed = rekindle.resume("latest", &["--on-demand"]);
            program = Program::of_pid(resumed.pid("pid"));
            let seed = u64::try_from(round).unwrap();
            steps.change(2 * seed);
            // One that runs on, with the first still being what its pages come from.
            let live = rekindle.checkpoint(program.pid(), &[]);
            // Unless there are so many behind it that all is stored anew.
            let refers = live.number("referenced_bytes") > 8 << 20;
            assert!(refers || live.json["parent"].is_null(), "{live}");
            assert_eq!(rekindle.run(&["status"]).json["instances"][0]["state"], "loading");
            steps.change(2 * seed + 1);
            // What moves is not where the parent has it: it is read and stored anew.
            steps.step("grow", 0, 300);
            steps.step("drop", 100 * seed, 70);
            rekindle.stop(program.pid(), &[]);
            rekindle.run(&["verify", "latest"]).expect_ok();
        }
        let resumed = rekindle.resume("latest", &["--eager"]);
        program = Program::of_pid(resumed.pid("pid"));
        steps.step("all", 0, 0);
        program.kill();
    });
}

/// The files of pages of every checkpoint.
fn page_files(place: &Place) -> Vec<std::path::PathBuf> {
    let checkpoints = std::fs::read_dir(place.store().join("checkpoints")).unwrap();
    checkpoints.map(|entry| entry.unwrap().path().join("pages")).collect()
}

#[test]
fn pages_that_cannot_be_read_are_waited_for() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (program, mut steps) = steps(place);
        rekindle.stop(program.pid(), &[]);
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        let program = Program::of_pid(resumed.pid("pid"));
        steps.step("check", 0, 10);
        let files = page_files(place);
        let altered = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ 0x55).collect();
        for round in 0..2 {
            let damage = |bytes| if round == 0 { Vec::new() } else { altered(bytes) };
            let whole: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
            for (file, bytes) in files.iter().zip(&whole) {
                std::fs::write(file, damage(bytes)).unwrap();
            }
            steps.begin("check", 4000 + 500 * round, 20);
            let row = || rekindle.run(&["status"]).json["instances"][0].clone();
            wait::until_true("it to be seen", Duration::from_secs(10), || {
                row()["state"] == "blocked"
            });
            let needs = row()["needs"].as_str().unwrap().to_owned();
            assert!(needs.contains("checkpoint") && needs.contains("wait"), "{needs}");
            assert!(!steps.is_done(), "it went on without its pages");
            for (file, bytes) in files.iter().zip(&whole) {
                std::fs::write(file, bytes).unwrap();
            }
            steps.end();
            wait::until_true("it to go on", Duration::from_secs(10), || {
                row()["state"] == "loading"
            });
        }
        steps.step("all", 0, 0);
        program.kill();
    });
}

/// While nobody waits for what cannot be read, `status` says what is needed, and the log does not grow.
#[test]
fn pages_that_cannot_be_loaded_are_told_once() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let (program, mut steps) = steps(place);
        rekindle.stop(program.pid(), &[]);
        let files = page_files(place);
        let whole: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        let program = Program::of_pid(resumed.pid("pid"));
        let signal = |signal| kill_process(Pid::from_raw(program.pid()).unwrap(), signal).unwrap();
        signal(Signal::STOP);
        wait::until_true("it to stand still", Duration::from_secs(10), || {
            program::state_of(program.pid()) == Some('T')
        });
        for (file, bytes) in files.iter().zip(&whole) {
            let damaged: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x55).collect();
            std::fs::write(file, damaged).unwrap();
        }
        // It asks for the rest.
        let pid = resumed.pid("pid").to_string();
        let late = rekindle.run(&["update", &pid, "--wait", "1s"]);
        assert_eq!(late.code, Some(3), "{late}");
        let row = || rekindle.run(&["status"]).json["instances"][0].clone();
        wait::until_true("it to be told", Duration::from_secs(10), || row()["needs"].is_string());
        let row_now = row();
        assert_eq!(row_now["state"], "loading", "{row_now}");
        assert!(row_now["needs"].as_str().unwrap().contains("can be read again"), "{row_now}");
        let lines = || {
            let log = std::fs::read_to_string(agent_log(resumed.text("instance"))).unwrap();
            log.lines().filter(|line| line.contains("loaded")).count()
        };
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(lines(), 1);
        for (file, bytes) in files.iter().zip(&whole) {
            std::fs::write(file, bytes).unwrap();
        }
        wait::until_true("all of it", Duration::from_secs(60), || row()["state"] == "complete");
        assert_eq!(lines(), 2);
        signal(Signal::CONT);
        steps.step("all", 0, 0);
        program.kill();
    });
}

#[test]
fn the_witness_through_lazy_resumes() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        let mut witness = Witness::start(place, &["--mb", "64"]);
        witness.goes_on(1);
        for round in 0..rounds(6, 100) {
            let pid = witness.program.pid().to_string();
            let stopped = rekindle.run(&["checkpoint", &pid, "--stop"]);
            assert!(stopped.code == Some(0), "{stopped}: {:?}", witness.complaint());
            let how = if round % 3 == 2 { "--on-demand" } else { "--lazy" };
            let resumed = rekindle.resume("latest", &[how]);
            witness.program = Program::of_pid(resumed.pid("pid"));
            witness.goes_on(1);
        }
        witness.program.kill();
        witness.assert_content("after lazy resumes");
    });
}

/// Each kind of state alone, all findings at once, half loaded and whole.
#[test]
fn each_kind_through_lazy_resumes() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        witness::each_kind(|kind| one_kind(place, &rekindle, kind));
    });
}

fn one_kind(place: &Place, rekindle: &Rekindle, kind: &str) {
    let options = ["--mb", "4", "--kinds", kind];
    let mut witness = Witness::start_with(place, kind, &options, |start| start);
    witness.goes_on(1);
    for how in ["--lazy", "--on-demand", "--lazy"].into_iter().take(rounds(2, 3)) {
        let pid = witness.program.pid().to_string();
        let stopped = rekindle.run(&["checkpoint", &pid, "--stop"]);
        assert!(stopped.code == Some(0), "{how}: {stopped}: {:?}", witness.complaint());
        let resumed = rekindle.resume(stopped.text("id"), &[how]);
        witness.program = Program::of_pid(resumed.pid("pid"));
        witness.goes_on(1);
    }
    witness.program.kill();
    witness.assert_content("at the end");
}
