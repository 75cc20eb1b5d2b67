//! A program that looks at one page after the other, and the log of the agent that has them.

use crate::program::{self, Program};
use crate::sandbox::Place;
use crate::wait;
use std::time::Duration;

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

/// Starts one; gives the file that has it go on, and the one that it writes to.
///
/// # Panics
/// When it does not begin.
pub fn pages(place: &Place) -> (Program, std::path::PathBuf, std::path::PathBuf) {
    let (go, out) = (place.path("go"), place.path("out"));
    let program = program::python(place, "pages", PAGES, &[&go, &out]);
    wait::until_true("the pages to be written", Duration::from_secs(60), || {
        std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with('\n'))
    });
    (program, go, out)
}

/// Pages seen, pages wrong, and the longest step so far.
///
/// # Panics
/// When there is no such file.
#[expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
pub fn seen(out: &std::path::Path) -> (u64, u64, Duration) {
    let text = std::fs::read_to_string(out).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers =
        |line: &str| line.split(' ').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>();
    let last = numbers(whole.lines().last().unwrap());
    let longest = whole.lines().map(|line| numbers(line)[2]).max().unwrap();
    (last[0], last[1], Duration::from_micros(longest))
}

/// The log of the agent of an instance.
#[must_use]
pub fn agent_log(instance: &str) -> std::path::PathBuf {
    std::path::Path::new("/run/rekindle").join(instance).join("agent.log")
}
