//! Resumes that run before their memory is there.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{rounds, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);
/// How long a program may stand still because processes of ours were killed.
const STALL: Duration = Duration::from_secs(1);

fn rekindle(place: &Place) -> Rekindle {
    Rekindle::new(&place.store(), place.dir())
}

/// Knows the number in each of its pages. Once told to go on it looks at one after the other, and
/// has children look at the next few; each line tells how many pages it saw, how many were wrong
/// and how long the last one took in microseconds.
const PAGES: &str = r"
import mmap, os, sys, time
go, out = sys.argv[1], open(sys.argv[2], 'a', buffering=1)
N = 64 * 256
m = mmap.mmap(-1, N * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def number(i): return int.from_bytes(m[i * 4096:i * 4096 + 8], 'little')
for i in range(N): m[i * 4096:i * 4096 + 8] = (i + 1).to_bytes(8, 'little')
def wrong(pages): return sum(number(i) != i + 1 for i in pages)
out.write('0 0 0\n')
n = bad = 0
while True:
    if not os.path.exists(go):
        time.sleep(0.01); continue
    began = time.time()
    bad += wrong([n * 7919 % N]); n += 1
    if n % 20 == 0:
        child = os.fork()
        if child == 0: os._exit(1 if wrong([(n + i) * 7919 % N for i in range(20)]) else 0)
        bad += os.waitpid(child, 0)[1] != 0
    out.write(f'{n} {bad} {int((time.time() - began) * 1e6)}\n')
    time.sleep(0.0005)
";

fn pages(place: &Place) -> (Program, std::path::PathBuf, std::path::PathBuf) {
    let (script, go, out) = (place.path("pages.py"), place.path("go"), place.path("out"));
    std::fs::write(&script, PAGES).unwrap();
    let words = [&script, &go, &out].map(|path| path.display().to_string());
    let mut all = vec!["/usr/bin/python3".to_owned(), "-S".to_owned()];
    all.extend(words);
    let program = Start::new(place.dir(), "pages", &all).start();
    wait::until_true("the pages to be written", Duration::from_secs(60), || {
        std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with('\n'))
    });
    (program, go, out)
}

/// Pages seen, pages wrong, and the longest step so far.
fn seen(out: &std::path::Path) -> (u64, u64, Duration) {
    let text = std::fs::read_to_string(out).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers =
        |line: &str| line.split(' ').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>();
    let last = numbers(whole.lines().last().unwrap());
    let longest = whole.lines().map(|line| numbers(line)[2]).max().unwrap();
    (last[0], last[1], Duration::from_micros(longest))
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
            let victims: &[i32] = match round % 3 {
                0 => &[server],
                1 => &[keeper],
                _ => &[keeper, server],
            };
            for pid in victims {
                // One that was just replaced may be named still.
                let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(u64::try_from(round).unwrap() * 7 % 50));
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
        // A checkpoint loads the rest, and nothing of ours stays.
        rekindle.checkpoint(program.pid(), &[]);
        assert_eq!(rekindle.run(&["status"]).json["instances"][0]["state"], "complete");
        assert_eq!(seen(&out).1, 0);
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
