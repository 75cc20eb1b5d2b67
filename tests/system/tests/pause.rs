//! A program that writes its memory faster than it can be copied: `--max-pause` leaves it
//! alone, and without it the pause is longer and the checkpoint is right.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// Fills its memory with one number after the other, and after each fill looks at some pages,
/// whether that is so. Tells how many fills there were and how many were wrong.
const WRITER: &str = r"
import mmap, sys
out = open(sys.argv[1], 'a', buffering=1)
SIZE, PIECE = 192 << 20, 4 << 20
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
n, wrong = 0, 0
while True:
    n += 1
    piece = bytes([n % 256]) * PIECE
    for at in range(0, SIZE, PIECE):
        m[at:at + PIECE] = piece
    wrong += any(m[at] != n % 256 for at in range(0, SIZE, 4096 * 61))
    print(n, wrong, file=out)
";

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
        let program = Start::new(place.dir(), "writer", &["python3", "-c", WRITER, &path]).start();
        goes_on(&program, &out);
        let pid = program.pid().to_string();
        // Less than anything takes: how busy the program is depends on who has the processors.
        let report = rekindle.run(&["checkpoint", &pid, "--max-pause", "1ms"]);
        let _ = report.expect_failure(&[7], "rolled_back", &["--max-pause 1 ms", "untouched"]);
        goes_on(&program, &out);
        let listed = rekindle.run(&["list"]);
        assert_eq!(listed.json["checkpoints"].as_array().map(Vec::len), Some(0), "{listed}");
        // Without a bound it is said beforehand, and what is stored is of one moment.
        let report = rekindle.run(&["checkpoint", &pid]);
        report.expect_ok();
        let copied = report.json["copied_in_pause_bytes"].as_u64().unwrap();
        let is_long = copied > 60 << 20;
        assert!(!is_long || report.talk.contains("stand still"), "{report}");
        goes_on(&program, &out);
        let report = rekindle.stop(program.pid(), &[]);
        program.wait_gone();
        let resumed = rekindle.resume(report.text("id"), &[]);
        let program = Program::of_pid(resumed.pid("pid"));
        goes_on(&program, &out);
        program.kill();
    });
}
