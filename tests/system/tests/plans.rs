//! Checkpoints under random plans: whatever a plan says, no byte is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

#[path = "plans/held_back.rs"]
mod held_back;
#[path = "plans/losses.rs"]
mod losses;
#[path = "plans/rehearsals.rs"]
mod rehearsals;

use rehearsals::Hostile;
use rekindle_system_tests::program::{self, Program};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{rounds, wait};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);

/// Knows what each of its pages holds and changes a few all the time. When it finds the file `go`
/// it compares every byte and tells how many pages were wrong.
const PAGES: &str = r"
import hashlib, mmap, os, random, sys, time
go, out = sys.argv[1], open(sys.argv[2], 'a', buffering=1)
N = 32 * 256
m = mmap.mmap(-1, N * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
age = [0] * N
def page(i):
    if i % 11 == 0: return bytes(4096)
    if i % 7 == 0: return hashlib.shake_256(b'%d %d' % (i, age[i])).digest(4096)
    return hashlib.sha256(b'%d %d' % (i, age[i])).digest() * 128
def put(i): m[i * 4096:(i + 1) * 4096] = page(i)
for i in range(N): put(i)
out.write('0\n')
while True:
    for i in random.sample(range(N), 8):
        age[i] += 1; put(i)
    if os.path.exists(go):
        out.write('%d\n' % sum(m[i * 4096:(i + 1) * 4096] != page(i) for i in range(N)))
        os.unlink(go)
    time.sleep(0.002)
";

struct Pages {
    program: Program,
    go: PathBuf,
    out: PathBuf,
}

impl Pages {
    fn start(place: &Place) -> Self {
        let (go, out) = (place.path("go"), place.path("out"));
        let program = program::python(place, "pages", PAGES, &[&go, &out]);
        wait::until_true("the pages to be written", Duration::from_secs(60), || {
            std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with('\n'))
        });
        Self { program, go, out }
    }

    /// Has it compare every byte.
    fn assert_right(&self, when: &str) {
        let lines = || std::fs::read_to_string(&self.out).unwrap().lines().count();
        let before = lines();
        std::fs::write(&self.go, "").unwrap();
        wait::until_true("its pages to be compared", Duration::from_secs(60), || lines() > before);
        let text = std::fs::read_to_string(&self.out).unwrap();
        assert_eq!(text.lines().last(), Some("0"), "pages that are wrong {when}");
    }
}

/// xorshift64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % below
    }
}

/// A plan file that names most of what is mapped, with any tier and any treatment.
fn random_plan(pid: i32, draw: &mut Draw) -> Value {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let longest = [3, 20, 300][usize::try_from(draw.below(3)).unwrap()];
    let mut extents = Vec::new();
    for line in maps.lines() {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let page = |text| u64::from_str_radix(text, 16).unwrap() / 4096;
        let (mut at, end) = (page(start), page(end));
        // Beyond user memory, where there are none of the program's own pages.
        while at < end && end < 1 << 35 && extents.len() < 1 << 20 {
            let count = (1 + draw.below(longest)).min(end - at);
            if draw.below(5) > 0 {
                let (tier, treatment) = (1 + draw.below(3), 1 + draw.below(15));
                extents.push(json!([0, at, count, tier, treatment, draw.below(50), 0]));
            }
            at += count;
        }
    }
    plan_file("random", "drawn", extents)
}

/// A plan file of `extents`, which all have the same reason.
fn plan_file(policy: &str, reason: &str, extents: Vec<Value>) -> Value {
    let predictions = json!({
        "pause_us": 0, "copied_in_pause_bytes": 0, "first_answer_us": 0,
        "faults_before_answer": 0, "stall_us": 0, "critical_bytes": 0,
        "critical_stored_bytes": 0, "warm_bytes": 0, "warm_stored_bytes": 0, "cold_bytes": 0,
        "cold_stored_bytes": 0, "not_stored_bytes": 0, "expensive": [],
    });
    json!({
        "schema": "rekindle.plan.v1", "policy": policy, "window_intervals": 0,
        "thresholds": { "warm": 0, "critical": 0 }, "notes": [], "predictions": predictions,
        "memories": ["private/0"], "reasons": [reason], "extents": extents,
    })
}

fn write(path: &Path, plan: &Value) -> String {
    std::fs::write(path, serde_json::to_vec(plan).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn no_plan_loses_a_byte() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut pages = Pages::start(place);
        let mut draw = Draw(0x5eed_0001_0002_0003);
        for round in 0..rounds(6, 60) {
            let pid = pages.program.pid();
            let plan = write(&place.path("plan"), &random_plan(pid, &mut draw));
            let words =
                ["--plan", &plan, "--parent", if round % 3 == 1 { "none" } else { "latest" }];
            let made = rekindle.checkpoint(pid, &words);
            assert_eq!(made.text("policy"), "random");
            let of_tiers = made.number("critical_bytes")
                + made.number("warm_raw_bytes")
                + ["zero", "spill"]
                    .iter()
                    .map(|k| made.json["cold_bytes"][k].as_u64().unwrap())
                    .sum::<u64>();
            assert_eq!(of_tiers, made.number("resident_bytes"), "{made}");
            rekindle.run(&["verify", made.text("id")]).expect_ok();
            let plan = write(&place.path("plan"), &random_plan(pid, &mut draw));
            let stopped = rekindle.stop(pid, &["--plan", &plan]);
            rekindle.run(&["verify", stopped.text("id")]).expect_ok();
            let how = ["--lazy", "--eager", "--on-demand"][round % 3];
            let resumed = rekindle.resume("latest", &[how]);
            pages.program = Program::of_pid(resumed.pid("pid"));
            pages.assert_right(&format!("after round {round}, {how}"));
        }
        pages.program.kill();
    });
}

/// Critical and warm memory are there before the first instruction, cold memory only once it is touched.
#[test]
fn all_but_cold_memory_is_loaded_before_the_start() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut pages = Pages::start(place);
        let pid = pages.program.pid();
        let mut draw = Draw(0x51f3_27a9);
        let file = write(&place.path("warm.plan"), &random_plan(pid, &mut draw));
        let made = rekindle.stop(pid, &["--plan", &file]);
        let cold: u64 =
            made.json["cold_bytes"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        let resident = made.number("resident_bytes");
        assert!(cold > 1 << 20 && made.number("warm_raw_bytes") > 1 << 20, "{made}");
        let refused = rekindle.run(&["resume", "latest", "--detach", "--as-copy", "--eager=warm"]);
        let _ = refused.expect_failure(&[2], "refused", &["eager-warm"]);
        let resumed = rekindle.resume("latest", &["--eager=warm"]);
        assert_eq!(resumed.text("load"), "eager-warm");
        let loaded = resumed.number("loaded_before_start_bytes");
        assert!(loaded >= resident - cold, "{loaded} of {resident}, {cold} cold: {resumed}");
        // Some cold memory is of a kind that is never loaded later; most is not.
        assert!(loaded <= resident - cold / 2, "{loaded} of {resident}, {cold} cold: {resumed}");
        pages.program = Program::of_pid(resumed.pid("pid"));
        let status = rekindle.run(&["status", &pages.program.pid().to_string()]);
        assert_eq!(status.json["instances"][0]["state"], "loading", "{status}");
        pages.assert_right("with cold memory on demand");
        pages.program.kill();
    });
}

/// How many extents of the newest checkpoint an earlier resume missed.
fn missed(rekindle: &Rekindle) -> usize {
    let shown = rekindle.run(&["inspect", "latest", "pages"]);
    shown.expect_ok();
    let extents = shown.json["pages"].as_array().unwrap().iter();
    extents
        .filter(|extent| extent["tier"] != "cold")
        .filter(|extent| extent["reason"].as_str().unwrap().contains("missed by an earlier resume"))
        .count()
}

#[test]
fn plans_learn_from_what_resumes_missed() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut pages = Pages::start(place);
        assert_eq!(rekindle.stop(pages.program.pid(), &[]).text("policy"), "bootstrap");
        assert_eq!(missed(&rekindle), 0);
        for how in ["--on-demand", "--lazy", "--lazy"] {
            let resumed = rekindle.resume("latest", &[how]);
            pages.program = Program::of_pid(resumed.pid("pid"));
            pages.assert_right("after a resume");
            let stopped = rekindle.stop(pages.program.pid(), &[]);
            assert_eq!(stopped.text("policy"), "adaptive");
            assert!(missed(&rekindle) > 0, "{how}: {stopped}");
            assert!(stopped.number("critical_bytes") < stopped.number("resident_bytes"));
        }
    });
}

#[test]
fn tiers_follow_heat_and_bad_plans_are_refused() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut pages = Pages::start(place);
        let pid = pages.program.pid();
        let first = rekindle.checkpoint(pid, &[]);
        assert_eq!(first.text("policy"), "bootstrap");
        assert!(first.number("warm_raw_bytes") >= 32 << 20, "{first}");
        let refused = |words: &[&str], codes: &[i32], says: &str| {
            let target = pid.to_string();
            let words: Vec<&str> = ["checkpoint", &target].iter().chain(words).copied().collect();
            let _ = rekindle.run(&words).expect_failure(codes, "refused", &[says]);
        };
        let garbage = place.path("garbage.plan").display().to_string();
        std::fs::write(&garbage, "{}").unwrap();
        refused(&["--plan", &garbage], &[2], "rekindle plan -o FILE");
        refused(&["--plan", "/no/such.plan"], &[2], "/no/such.plan");
        refused(&["--policy", "best"], &[2], "the policies are adaptive");
        refused(&["--heat", &garbage], &[2, 5], "garbage.plan");
        // The specification's own rule, on what a profile saw.
        let profile = rekindle.start(&["profile", &pid.to_string(), "--for", "2s"]);
        // Of a program that only waits nothing may have been seen in the share of its time that a
        // profile takes.
        for _ in 0..5 {
            pages.assert_right("while it is profiled");
            std::thread::sleep(Duration::from_millis(200));
        }
        profile.finish().expect_ok();
        let made =
            rekindle.checkpoint(pid, &["--threshold-warm", "0", "--threshold-critical", "3"]);
        assert_eq!(made.text("policy"), "threshold");
        assert!(made.json["cold_bytes"]["spill"].as_u64().unwrap() > 0, "{made}");
        let made = rekindle.stop(pid, &[]);
        assert_eq!(made.text("policy"), "adaptive");
        let shown = rekindle.run(&["inspect", "latest"]);
        shown.expect_ok();
        let tiers = shown.json["tiers"].as_array().unwrap();
        let sum: u64 = tiers.iter().map(|tier| tier["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sum, made.number("resident_bytes"));
        // What is critical is there before the first instruction, and not everything is.
        let resumed = rekindle.resume("latest", &["--lazy"]);
        let loaded = resumed.number("loaded_before_start_bytes");
        assert!(loaded >= made.number("critical_bytes"), "{resumed}");
        assert!(loaded < made.number("resident_bytes"), "{resumed}");
        pages.program = Program::of_pid(resumed.pid("pid"));
        pages.assert_right("after a resume by heat");
        pages.program.kill();
    });
}

#[test]
fn a_rehearsal_foresees_the_way_of_a_walk() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let program = rehearsals::walk(place);
        let before = rehearsals::pids();
        let made = rekindle.checkpoint(program.pid(), &["--rehearse", "60ms"]);
        let seen = &made.json["rehearsal"];
        assert_eq!((seen["ran"].as_bool(), seen["useful"].as_bool()), (Some(true), Some(true)));
        let pages = rehearsals::rehearsed(&rekindle);
        let (in_a_row, inside) = rehearsals::walked(&program, &pages);
        // What the clone saw is one stretch of the way, and not much else.
        assert!(inside >= 64, "{inside} of {} pages: {made}", pages.len());
        assert!(in_a_row * 10 >= inside * 9, "{in_a_row} of {inside} in a row: {made}");
        assert_eq!(seen["planned_pages"].as_u64(), Some(pages.len() as u64));
        rekindle.run(&["verify", "latest"]).expect_ok();
        wait::until_true("the clone to be gone", Duration::from_secs(10), || {
            rehearsals::pids().is_subset(&before)
        });
        // Heat of the line, for later plans.
        rekindle.run(&["heatmap", &program.pid().to_string()]).expect_ok();
        // One that is stopped is rehearsed, too, while it stands still.
        let stopped = rekindle.stop(program.pid(), &["--rehearse", "60ms"]);
        assert_eq!(stopped.json["rehearsal"]["useful"].as_bool(), Some(true), "{stopped}");
        let resumed = rekindle.resume("latest", &["--lazy"]);
        Program::of_pid(resumed.pid("pid")).kill();
    });
}

#[test]
fn nothing_that_a_clone_does_has_any_effect() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut hostile = Hostile::start(place);
        for (form, ends_in) in [
            ("write", "system call 1039"),
            ("share", "system call 1039"),
            ("seek", "system call 1039"),
            ("answers", "system call 1039"),
            ("create-existing", "system call 1039"),
            ("open", "openat"),
            ("open-and-truncate", "openat"),
            ("open-device", "openat"),
            ("open-fifo", "openat"),
            ("open-proc", "openat"),
            ("pass-descriptor", "sendmsg"),
            ("unlink", "unlink"),
            ("truncate", "ftruncate"),
            ("socket", "socket"),
            ("connect", "connect"),
            ("kill", "kill"),
            ("kill-old", "a 32-bit call, number 37"),
            ("ptrace", "ptrace"),
            ("mount", "mount"),
            ("vfork", "vfork"),
            ("clone", "clone"),
            ("execve", "execve"),
            ("io_uring", "io_uring_setup"),
            ("timerfd", "timerfd_settime"),
            ("shmget", "shmget"),
            ("prctl", "prctl"),
            ("lock", "flock"),
            ("exit", "exit_group"),
        ] {
            let before = hostile.surroundings();
            let made = hostile.rehearse(&rekindle, form);
            assert_eq!(made.json["rehearsal"]["ended"].as_str(), Some(ends_in), "{form}: {made}");
            wait::until_true("the clone to be gone", Duration::from_secs(10), || {
                rehearsals::pids().is_subset(&before.pids)
            });
            assert_eq!(hostile.surroundings(), before, "{form}");
            hostile.turn();
        }
        hostile.end();
    });
}

#[test]
fn a_server_does_in_its_clone_what_was_asked_of_it() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let asked_for: Vec<u32> = (0..400).map(|n| n * 1237 % 8192).collect();
        // A connection that stays, and one after the other that does not.
        for each in [usize::MAX, 5] {
            let (server, port) = rehearsals::server(place);
            let over = AtomicBool::new(false);
            let (made, asked) = std::thread::scope(|scope| {
                let client = scope.spawn(|| rehearsals::ask(port, &asked_for, each, &over));
                let words = ["--rehearse", "2s", "--record-input", "300ms", "--tcp", "close"];
                let made = rekindle.checkpoint(server.pid(), &words);
                over.store(true, Ordering::Relaxed);
                (made, client.join().unwrap())
            });
            let input = &made.json["rehearsal"]["input"];
            let number = |name: &str| input[name].as_u64().unwrap();
            assert!(number("recorded_reads") >= 400, "{made}");
            assert!(number("played_reads") >= 400 && number("touched_pages") >= 300, "{made}");
            let seen = rehearsals::places(&server, &rehearsals::rehearsed(&rekindle));
            let foreseen = asked_for.iter().filter(|page| seen.contains(&u64::from(**page)));
            let foreseen = foreseen.count();
            assert!(foreseen * 10 >= asked_for.len() * 9, "{foreseen} of 400, {each}: {made}");
            assert!(seen.len() <= asked_for.len() + 20, "{} pages: {made}", seen.len());
            // The server counts on: what its clone did was not done.
            assert!(asked >= 400);
            std::fs::remove_file(place.path("server.log")).unwrap();
            server.kill();
        }
    });
}

#[test]
fn a_program_that_waits_is_not_rehearsed_for_nothing() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let script = "import os, sys\nr, w = os.pipe()\nos.read(r, 1)";
        let idle = program::python(place, "idle", script, &[]);
        wait::until_true("it to wait", Duration::from_secs(60), || {
            idle.proc_file("syscall").starts_with("0 ")
        });
        let made = rekindle.checkpoint(idle.pid(), &["--rehearse", "auto"]);
        let seen = &made.json["rehearsal"];
        assert_eq!((seen["ran"].as_bool(), seen["fork_us"].as_u64()), (Some(false), Some(0)));
        assert!(seen["ended"].as_str().unwrap().contains("every thread waits"), "{made}");
        // Asked for all the same, it says that it saw nothing.
        let made = rekindle.checkpoint(idle.pid(), &["--rehearse", "20ms"]);
        let seen = &made.json["rehearsal"];
        assert_eq!((seen["ran"].as_bool(), seen["useful"].as_bool()), (Some(true), Some(false)));
        assert!(seen["ended"].as_str().unwrap().contains("in read"), "{made}");
        idle.kill();
    });
}

/// Reads a file into memory, forgets the file, and tells again and again whether its memory is
/// what it was.
const LOADED: &str = r"
import hashlib, os, sys, time
go, out = sys.argv[1], open(sys.argv[2], 'a', buffering=1)
head = bytes(1000)
data = head + open(sys.argv[3], 'rb').read()
right = hashlib.sha256(data).digest()
out.write('0\n')
while True:
    if os.path.exists(go):
        out.write('%d\n' % (hashlib.sha256(data).digest() != right))
        os.unlink(go)
    time.sleep(0.002)
";

#[test]
fn memory_that_a_file_has_is_read_there() {
    const FILE_BYTES: u64 = 24 << 20;
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let weights = place.path("weights.bin");
        let mut draw = Draw(11);
        let mut number = || {
            let _ = draw.below(1);
            draw.0.to_le_bytes()
        };
        let bytes: Vec<u8> = (0..FILE_BYTES / 8).flat_map(|_| number()).collect();
        std::fs::write(&weights, &bytes).unwrap();
        let (go, out) = (place.path("go"), place.path("out"));
        let program = program::python(place, "loaded", LOADED, &[&go, &out, &weights]);
        wait::until_true("the file to be read", Duration::from_secs(60), || {
            std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with('\n'))
        });
        let mut pages = Pages { program, go, out };
        let pid = pages.program.pid();
        let whole = rekindle.checkpoint(pid, &["--twins", "off"]);
        assert!(whole.number("stored_bytes") > FILE_BYTES, "{whole}");
        // Somebody names it.
        let path = weights.display().to_string();
        let named = rekindle.checkpoint(pid, &["--twin", &path, "--parent", "none"]);
        assert!(named.number("stored_bytes") < FILE_BYTES / 3, "{named}");
        assert_eq!(named.json["twins"][0]["path"], path.as_str(), "{named}");
        rekindle.run(&["verify", named.text("id")]).expect_ok();
        // The program itself knows its name, and will not write it any more.
        wait::until_true("the file to be of some age", Duration::from_secs(20), || {
            let age = std::fs::metadata(&weights).unwrap().modified().unwrap().elapsed();
            age.is_ok_and(|age| age > Duration::from_secs(4))
        });
        let stopped = rekindle.stop(pid, &["--parent", "none"]);
        assert!(stopped.number("stored_bytes") < FILE_BYTES / 3, "{stopped}");
        let resume = ["resume", stopped.text("id"), "--detach", "--lazy"];

        let mut wrong = bytes.clone();
        wrong[12 << 20] ^= 1;
        std::fs::write(&weights, wrong).unwrap();
        let refused = rekindle.run(&resume);
        let _ = refused.expect_failure(&[4], "refused", &["weights.bin", "put the file back"]);
        std::fs::remove_file(&weights).unwrap();
        let _ = rekindle.run(&resume).expect_failure(&[4], "refused", &["weights.bin"]);
        std::fs::write(&weights, &bytes).unwrap();
        // The agent keeps the right to read what is another user's alone.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&weights, private).unwrap();
        std::os::unix::fs::chown(&weights, Some(12345), Some(12345)).unwrap();
        for how in ["--lazy", "--eager"] {
            let resumed = rekindle.resume(stopped.text("id"), &[how]);
            pages.program = Program::of_pid(resumed.pid("pid"));
            pages.assert_right(how);
            pages.program.kill();
        }
    });
}
