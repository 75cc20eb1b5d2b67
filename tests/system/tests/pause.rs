//! A program that writes its memory faster than it can be copied: `--max-pause` leaves it
//! alone, and without it it is forked, and the checkpoint is right.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::{sandbox, skips};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// Fills its memory with one number after the other, and after each fill looks at some pages,
/// whether that is so. The last two parts are not there, and zero, in a child of it. Tells how many fills there
/// were and how many were wrong. With `full` it has no descriptor left that it could open.
const WRITER: &str = r"
import mmap, os, resource, sys
out = open(sys.argv[1], 'a', buffering=1)
if sys.argv[2] == 'full':
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    held = []
    try:
        while True: held.append(os.open('/dev/null', os.O_RDONLY))
    except OSError: pass
DONTFORK, WIPEONFORK = 10, 18
SIZE, PIECE = 256 << 20, 4 << 20
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(DONTFORK, SIZE - 2 * PIECE, PIECE)
m.madvise(WIPEONFORK, SIZE - PIECE, PIECE)
n, wrong = 0, 0
while True:
    n += 1
    piece = bytes([n % 256]) * PIECE
    for at in range(0, SIZE, PIECE):
        m[at:at + PIECE] = piece
    wrong += any(m[at] != n % 256 for at in range(0, SIZE, 4096 * 61))
    print(n, wrong, file=out)
";
const SIZE_BYTES: u64 = 256 << 20;
/// What no fork has as it was.
const LACKING_BYTES: u64 = 8 << 20;

fn goes_on(program: &Program, out: &std::path::Path) {
    let fills = || -> (u64, u64) {
        let text = std::fs::read_to_string(out).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = whole.lines().last().unwrap_or("0 0");
        let (fills, wrong) = line.split_once(' ').unwrap();
        (fills.parse().unwrap(), wrong.parse().unwrap())
    };
    let before = fills().0;
    rekindle_system_tests::wait::until_true("two more fills", Duration::from_secs(60), || {
        assert!(program.exists(), "it has ended");
        fills().0 >= before + 2
    });
    assert_eq!(fills().1, 0, "fills that were wrong");
}

#[test]
fn a_program_that_writes_as_fast_as_it_can() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let out = place.path("fills");
        std::fs::write(&out, "").unwrap();
        let path = out.display().to_string();
        let program =
            Start::new(place.dir(), "writer", &["python3", "-c", WRITER, &path, "free"]).start();
        goes_on(&program, &out);
        let pid = program.pid().to_string();
        // Less than anything takes: how busy the program is depends on who has the processors.
        let report = rekindle.run(&["checkpoint", &pid, "--max-pause", "1ms"]);
        let _ = report.expect_failure(&[7], "rolled_back", &["--max-pause 1 ms", "untouched"]);
        goes_on(&program, &out);
        let listed = rekindle.run(&["list"]);
        assert_eq!(listed.json["checkpoints"].as_array().map(Vec::len), Some(0), "{listed}");
        // Without a bound what is left to copy is copied from a fork when it is much.
        let report = rekindle.run(&["checkpoint", &pid]);
        report.expect_ok();
        let in_pause = report.json["copied_in_pause_bytes"].as_u64().unwrap();
        assert!(in_pause < 100 << 20, "{report}");
        goes_on(&program, &out);
        // It is of one moment, and so are one that was forked for certain and one that was not.
        let forked = rekindle.run(&["checkpoint", &pid, "--shadow", "on"]);
        assert!(forked.json["shadow"]["copied_bytes"].as_u64().is_some(), "{forked}");
        goes_on(&program, &out);
        let copied = rekindle.run(&["checkpoint", &pid, "--shadow", "off"]);
        assert!(copied.json["shadow"].is_null(), "{copied}");
        program.kill();
        for report in [report, forked, copied] {
            resumed_goes_on(&rekindle, &report, &out);
        }
    });
}

/// Writes to each of its huge pages all the time.
const HUGE_WRITER: &str = r"
import mmap, sys
SIZE, HUGE, MADV_HUGEPAGE = 64 << 20, 2 << 20, 14
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(MADV_HUGEPAGE)
n, out = 0, open(sys.argv[1], 'a', buffering=1)
while True:
    n += 1
    for at in range(0, SIZE, HUGE):
        m[at + n % 512 * 4096] = n % 256
    if n % 1000 == 1: print(n, 0, file=out)
";

/// A checkpoint that is given up leaves the program the huge pages that it had.
#[test]
fn huge_pages_are_given_back_by_one_that_is_given_up() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let out = place.path("fills");
        std::fs::write(&out, "").unwrap();
        let path = out.display().to_string();
        let program =
            Start::new(place.dir(), "writer", &["python3", "-c", HUGE_WRITER, &path]).start();
        goes_on(&program, &out);
        let huge_kb = || -> u64 {
            let text = program.proc_file("smaps_rollup");
            let line = text.lines().find(|line| line.starts_with("AnonHugePages:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let before = huge_kb();
        if before < 60 << 10 {
            skips::skip("huge pages after a checkpoint", "transparent huge pages on request");
            return;
        }
        let pid = program.pid().to_string();
        // Before the freeze; when the program stood still; when all was copied and tracking has ended.
        let report = rekindle.run(&["checkpoint", &pid, "--max-pause", "1ms"]);
        let _ = report.expect_failure(&[7], "rolled_back", &["--max-pause 1 ms", "untouched"]);
        assert!(huge_kb() >= before, "{} kB of {before} kB in huge pages", huge_kb());
        for phase in ["state", "encode", "publish"] {
            let setting = format!("REKINDLE_FAIL_PHASE={phase}");
            let failing = Rekindle::new(&place.store(), place.dir()).through(&["env", &setting]);
            let _ =
                failing.run(&["checkpoint", &pid]).expect_failure(&[7], "rolled_back", &[phase]);
            assert!(huge_kb() >= before, "{phase}: {} kB of {before} kB in huge pages", huge_kb());
        }
        goes_on(&program, &out);
    });
}

/// Reads a file around the page cache now and then, and has shared memory.
const DIRECT_READER: &str = r"
import mmap, os, sys, time
m = mmap.mmap(-1, 8 << 20)
m[:] = bytes([7]) * (8 << 20)
with open(sys.argv[1] + '.data', 'wb') as file: file.write(bytes(1 << 20))
try: fd = os.open(sys.argv[1] + '.data', os.O_RDONLY | os.O_DIRECT)
except OSError: fd = -1
print(1 if fd >= 0 else 2, 0, file=open(sys.argv[1], 'a'), flush=True)
time.sleep(1000)
";

/// What `check` says beforehand of how a program is copied is what a checkpoint of it does.
#[test]
fn how_it_is_copied_is_told_beforehand() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let copying = |pid: i32, options: &[&str]| -> String {
            let pid = pid.to_string();
            let words: Vec<&str> = ["check", &pid].iter().chain(options).copied().collect();
            let report = rekindle.run(&words);
            let text = report.json["target"]["copying"].as_str();
            text.unwrap_or_else(|| panic!("nothing told: {report}")).to_owned()
        };
        let start = |name: &str, script: &str, mode: &str| -> (Program, std::path::PathBuf) {
            let out = place.path(name);
            std::fs::write(&out, "").unwrap();
            let path = out.display().to_string();
            let words = ["python3", "-c", script, &path, mode];
            let program = Start::new(place.dir(), name, &words).start();
            rekindle_system_tests::wait::until_true("its first line", LIMIT, || {
                std::fs::read_to_string(&out).unwrap().contains('\n')
            });
            (program, out)
        };
        let (free, out) = start("free", WRITER, "free");
        let told = copying(free.pid(), &[]);
        assert_eq!(told, "its memory is copied while the program runs");
        // Without a descriptor it is forked, as a checkpoint says, too; never by an update.
        let (full, _) = start("full", WRITER, "full");
        let told = copying(full.pid(), &[]);
        assert!(told.contains("forked") && told.contains("descriptor"), "{told}");
        let told = copying(full.pid(), &["--update"]);
        assert!(told.contains("stands still") && !told.contains("forked"), "{told}");
        full.kill();
        goes_on(&free, &out);
        free.kill();
        let (reader, out) = start("reader", DIRECT_READER, "");
        let told = copying(reader.pid(), &[]);
        assert!(told.contains("8 MB of shared memory"), "{told}");
        match std::fs::read_to_string(&out).unwrap().starts_with('1') {
            true => assert!(told.contains("O_DIRECT"), "{told}"),
            false => skips::skip(
                "forecast of direct reads",
                "O_DIRECT in the folder for temporary files",
            ),
        }
        // What is still being loaded cannot be tracked: this one touches nothing.
        rekindle.run(&["checkpoint", &reader.pid().to_string(), "--stop"]).expect_ok();
        let resumed = rekindle.resume("latest", &["--on-demand"]);
        assert_eq!(resumed.json["load"], "on-demand", "{resumed}");
        let told = copying(resumed.pid("pid"), &[]);
        assert!(told.contains("stands still") && told.contains("resume"), "{told}");
        Program::of_pid(resumed.pid("pid")).kill();
    });
}

/// The program of a checkpoint goes on, and so does one that was stopped then.
fn resumed_goes_on(rekindle: &Rekindle, report: &Report, out: &std::path::Path) {
    let resumed = rekindle.resume(report.text("id"), &["--files", "ignore"]);
    let program = Program::of_pid(resumed.pid("pid"));
    goes_on(&program, out);
    program.kill();
}

/// A program whose writes cannot be tracked is forked, too, and loses nothing that a fork does not have.
#[test]
fn a_program_that_cannot_be_tracked_is_forked() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let out = place.path("fills");
        std::fs::write(&out, "").unwrap();
        let path = out.display().to_string();
        let words = ["python3", "-c", WRITER, &path, "full"];
        let program = Start::new(place.dir(), "writer", &words).start();
        goes_on(&program, &out);
        let pid = program.pid().to_string();
        let forked = || -> Report {
            let report = rekindle.run(&["checkpoint", &pid]);
            report.expect_ok();
            let said = report.talk.contains("cannot be tracked") && report.talk.contains("forked");
            assert!(said, "{report}");
            let from_fork = report.json["shadow"]["copied_bytes"].as_u64().unwrap();
            assert!(from_fork >= SIZE_BYTES - LACKING_BYTES, "{report}");
            let in_pause = report.json["copied_in_pause_bytes"].as_u64().unwrap();
            assert!((LACKING_BYTES..LACKING_BYTES * 2).contains(&in_pause), "{report}");
            report
        };
        forked();
        goes_on(&program, &out);
        let report = forked();
        assert!(!report.json["parent"].is_null(), "{report}");
        let before = program.descriptors().len();
        program.kill();
        let resumed = rekindle.resume(report.text("id"), &["--files", "ignore"]);
        let program = Program::of_pid(resumed.pid("pid"));
        assert_eq!(program.descriptors().len(), before);
        goes_on(&program, &out);
        program.kill();
    });
}
