//! Copying while the program runs: whatever it does meanwhile, what was copied in the end is what
//! the frozen memory holds.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]
#![allow(clippy::print_stderr, reason = "the tests say what they met")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mem::{MemoryId, PageRange, PageSet, PageSink, PageSinkError, Sharing};
use rekindle_capture::Precopy;
use support::swap::Swap;
use support::{Guarded, python};
use sys::pagemap::ScanFilter;
use sys::proc::maps_entries;
use target::{FreezeOptions, Memory, PrivateRange, Process, Tracker};

/// Keeps the latest bytes of every page.
#[derive(Default)]
struct Latest(Mutex<BTreeMap<u64, Vec<u8>>>);

impl PageSink for Latest {
    fn put(&self, id: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        assert_eq!(id, MemoryId::Private(0));
        let mut map = self.0.lock().unwrap();
        for (number, page) in (pages.start.0..).zip(bytes.chunks_exact(4096)) {
            map.insert(number, page.to_vec());
        }
        Ok(())
    }
}

fn private(process: &Process) -> Vec<PrivateRange> {
    let mut text = Vec::new();
    process.dir().read("maps", &mut text).unwrap();
    maps_entries(&text)
        .map(Result::unwrap)
        .filter(|e| e.sharing == Sharing::Private && !e.name_raw.starts_with(b"[v"))
        .map(|e| PrivateRange { range: e.range, readable: e.protection.read })
        .collect()
}

fn options() -> FreezeOptions {
    FreezeOptions { deadline: Instant::now() + Duration::from_secs(20), suspend_seccomp: false }
}

/// What one run of pre-copy found.
struct Outcome {
    /// Bytes copied in each round, the last one, of the frozen program, included.
    copied_bytes: Vec<u64>,
    resident_bytes: u64,
    stops: usize,
    guarded_bytes: u64,
}

/// How many mappings have a userfaultfd.
fn userfaults(process: &Process) -> usize {
    let smaps = process.dir().parse("smaps", &mut Vec::new(), sys::proc::parse_smaps).unwrap();
    smaps.iter().filter(|entry| entry.has_flag(b"uw") || entry.has_flag(b"um")).count()
}

/// Copies `child` in `rounds` rounds, `between` after each, freezes it and compares every page; and
/// once more, with the tracking carried on, while somebody else looks through the tracker, too.
fn copy_and_compare(child: &Guarded, rounds: usize, mut between: impl FnMut(usize)) -> Outcome {
    let process = child.process();
    let own = userfaults(&process);
    let mut precopy = Precopy::start(&process, options()).unwrap();
    let mut known = BTreeMap::new();
    let (outcome, mut pages) =
        session(child, &process, &mut precopy, rounds, &mut between, &mut known);
    for _ in 0..2 {
        disturb(&process, precopy.tracker());
        let tracker = Arc::clone(precopy.tracker());
        precopy = Precopy::carry_on(&process, options(), tracker, pages).unwrap();
        pages = session(child, &process, &mut precopy, 2, &mut |_| sleep(10), &mut known).1;
    }
    let released = precopy.release();
    assert!(released.stop.is_some(), "it could not be stopped to let it go");
    sleep(5);
    process.freeze(options()).unwrap();
    assert_eq!(userfaults(&process), own, "mappings are tracked still");
    outcome
}

/// Arms what was written, here and there, as one does who wants to know how often.
fn disturb(process: &Process, tracker: &Tracker<'_>) {
    let written = ScanFilter::ARMABLE;
    for number in 0..6_u64 {
        for mapping in private(process) {
            let pieces = mapping.range.pages().aligned_chunks(64);
            for piece in pieces.skip(usize::try_from(number % 3).unwrap()).step_by(3) {
                // What is not tracked, or not there any more, is not armed.
                let _ = tracker.scan(piece.addrs(), &written, true, |_| ());
            }
        }
        sleep(3);
    }
}

type Bytes = BTreeMap<u64, Vec<u8>>;

/// One checkpoint's copy, and the pages that there are. `known`: the bytes of the one before, and then
/// of this one.
fn session(
    child: &Guarded,
    process: &Process,
    precopy: &mut Precopy<'_>,
    rounds: usize,
    between: &mut dyn FnMut(usize),
    known: &mut Bytes,
) -> (Outcome, PageSet) {
    let sink = Latest::default();
    let mut copied_bytes = Vec::new();
    // Whoever keeps the copies is told now, and not again.
    let inherited = precopy.inherited().clone();
    for number in 0..rounds {
        let round = precopy.round(&sink, 2, 0, &|_| None).unwrap();
        copied_bytes.push(round.copied_bytes);
        between(number);
    }
    let frozen = process.freeze(options()).unwrap();
    let memory = Memory::frozen(process, private(process), Vec::new()).unwrap();
    let last = precopy.left(&memory, 2).unwrap();
    copied_bytes
        .push(rekindle_capture::copy(&memory, &last.list, &sink, 2, &|_| None).unwrap().bytes);
    // The truth, listed and read without any tracking.
    let mem = File::open(format!("/proc/{}/mem", child.pid())).unwrap();
    let mut expected = PageSet::new();
    for mapping in private(process) {
        for run in memory.content(mapping.range).unwrap().runs() {
            expected.insert(*run);
        }
    }
    let found = &last.pages.memories()[0].1;
    let missing = expected.difference(found);
    assert!(missing.is_empty(), "pages are missing: {:?}", missing.runs());
    let more = found.difference(&expected);
    assert!(more.is_empty(), "pages that hold nothing: {:?}", more.runs());
    let copies = sink.0.into_inner().unwrap();
    let mut wrong = Vec::new();
    for number in expected.runs().iter().flat_map(|run| run.start.0..run.end.0) {
        let mut real = vec![0; 4096];
        mem.read_exact_at(&mut real, number * 4096).unwrap();
        let is_inherited = inherited.contains(mem::PageIndex(number));
        let old = known.get(&number).filter(|_| is_inherited);
        if copies.get(&number).or(old) != Some(&real) {
            wrong.push(number);
        }
    }
    assert!(wrong.is_empty(), "{} pages differ, first {:#x}", wrong.len(), wrong[0]);
    let guards: Vec<_> =
        private(process).iter().flat_map(|m| memory.guards(m.range).unwrap()).collect();
    let pages = |runs: &[mem::AddrRange]| runs.iter().map(|run| run.pages()).collect::<PageSet>();
    assert_eq!(pages(&last.guards), pages(&guards));
    drop(frozen);
    let guarded_bytes = pages(&guards).count().bytes();
    let stops = precopy.stops().len();
    let resident_bytes = expected.count().bytes();
    known.extend(copies);
    (Outcome { copied_bytes, resident_bytes, stops, guarded_bytes }, expected)
}

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn what_stands_still_is_copied_once() {
    let Some(child) = python("x = [bytes([n % 256]) * 5000 for n in range(8000)]") else { return };
    let outcome = copy_and_compare(&child, 2, |_| sleep(20));
    // Private pages of files are left to the end: those of the interpreter and its libraries.
    assert!(outcome.copied_bytes[0] >= outcome.resident_bytes - (4 << 20));
    let later: u64 = outcome.copied_bytes[1..].iter().sum();
    assert!(later < outcome.resident_bytes / 8, "{:?}", outcome.copied_bytes);
    assert_eq!(outcome.stops, 1);
}

/// A program that does `body` for ever in a thread with `a`, a mapping of 16 MB whose pages were
/// written, `page`, and `n` counting up.
fn busy(body: &str) -> Option<Guarded> {
    let body = body.replace('\n', "\n        ");
    python(&format!(
        "
import threading, random
page = 4096
size = 4096 * page
a = mapping(size)
for at in range(0, size, page):
    poke(a + at, bytes([at // page % 251]) * 64)
def open_direct(content):
    name = tempfile.mktemp()
    with open(name, 'wb') as file:
        file.write(content)
        os.fsync(file.fileno())
    return os.open(name, os.O_RDONLY | os.O_DIRECT)
def forever():
    global a, files
    n = 0
    while True:
        n += 1
        {body}
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.05)
"
    ))
}

fn survives(body: &str) -> Option<Outcome> {
    let child = busy(body)?;
    Some(copy_and_compare(&child, 5, |_| sleep(15)))
}

#[test]
fn pages_written_all_the_time() {
    survives("poke(a + random.randrange(size - 8), n.to_bytes(8, 'little'))");
}

#[test]
fn pages_dropped_and_written_again() {
    survives(
        "at = random.randrange(4000) * page
madvise(a + at, random.choice([1, 16, 90]) * page, 4)
if n % 3: poke(a + at, n.to_bytes(8, 'little'))
if n % 7 == 0: ctypes.string_at(a + at, 1)
if n % 50 == 0: madvise(a + 2048 * page, 1024 * page, 4)",
    );
}

#[test]
fn guard_pages_that_come_and_go() {
    // Half of them before the tracking begins, which last.
    let outcome = survives(
        "at = random.randrange(2048) * page
try: madvise(a + at + (2048 * page if n > 500 else 0), page, 103 if n > 500 and n % 3 else 102)
except OSError: pass
if n == 500: time.sleep(0.05)",
    );
    // Linux 6.15 has them.
    let Some(outcome) = outcome else { return };
    assert!(outcome.guarded_bytes > 0 || !kernel_has_guards());
}

/// Whether `MADV_GUARD_INSTALL` is there.
fn kernel_has_guards() -> bool {
    let (release, _) = sys::proc::system_names();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn pages_of_files_written_and_dropped() {
    survives(
        "
if n == 1:
    fd, name = tempfile.mkstemp()
    os.write(fd, bytes(range(256)) * 16 * 256)
    a = mapping(256 * page, 3, 2, fd)
for k in range(20):
    poke(a + random.randrange(250) * page, n.to_bytes(8, 'little'))
at = a + random.randrange(250) * page
madvise(at, random.choice([1, 4]) * page, 4)
if n % 3 == 0: ctypes.string_at(at, 1)
time.sleep(0.0005)",
    );
}

#[test]
fn mappings_replaced_with_the_same_bounds() {
    survives(
        "b = a + (n % 16) * 256 * page
call(11, b, 64 * page)
mapping(64 * page, 3, 0x32, -1, 0, b)
if n % 2: poke(b + (n % 64) * page, n.to_bytes(8, 'little'))
time.sleep(0.0005)",
    );
}

/// What is beside it is tracked, then replaced, all the time: one mapping with it and then not.
#[test]
fn memory_that_stays_beside_memory_that_goes() {
    let child = busy(
        "b = a + 1024 * page
call(11, b, 1024 * page)
mapping(1024 * page, 3, 0x32, -1, 0, b)
poke(b + (n % 1024) * page, n.to_bytes(8, 'little'))
time.sleep(random.random() * 0.004)",
    );
    if let Some(child) = child {
        copy_and_compare(&child, 40, |_| ());
    }
}

#[test]
fn mappings_that_come_and_go_and_grow() {
    survives(
        "b = mapping((1 + n % 40) * page)
poke(b, n.to_bytes(8, 'little'))
if n % 3 == 0: call(11, b, page)
c = call(25, b + page, page, 60 * page, 1) if n % 40 > 2 else 0
if n % 5 == 0 and c > 0: poke(c, b'grown')
if n > 300: time.sleep(0.002)",
    );
}

#[test]
fn armed_pages_moved_elsewhere() {
    survives(
        "at = a + (n % 60) * 64 * page
to = mapping(64 * page)
moved = call(25, at, 64 * page, 64 * page, 3, to)
if moved < 0: os._exit(1)
poke(moved + 3 * page, n.to_bytes(8, 'little'))
back = call(25, moved, 64 * page, 64 * page, 3, at)
if back < 0: os._exit(1)
if n % 2: poke(back + 5 * page, n.to_bytes(8, 'little'))
time.sleep(0.0005)",
    );
}

/// A page that was armed, swapped out and is written when it comes back.
#[test]
fn armed_pages_swapped_out_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_swap) = Swap::on(folder.path()) else { return };
    let Some(child) = busy(
        "at = a + (n % 60) * 64 * page
madvise(at, 64 * page, 21)
if n % 2: poke(at + (n // 2 % 64) * page, n.to_bytes(8, 'little'))
if n % 7 == 0: ctypes.string_at(at + 9 * page, 1)
time.sleep(0.0005)",
    ) else {
        return;
    };
    let mut swapped_kb = 0;
    copy_and_compare(&child, 5, |_| {
        sleep(15);
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmSwap:")).unwrap();
        let kb: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
        swapped_kb = swapped_kb.max(kb);
    });
    assert!(swapped_kb >= 64 * 4, "only {swapped_kb} kB were swapped out");
}

#[test]
fn protection_changed_all_the_time() {
    survives(
        "at = a + (n % 300) * 8 * page
call(10, at, 8 * page, 1)
call(10, at, 8 * page, 3)
poke(at + (n % 8) * page, n.to_bytes(8, 'little'))",
    );
}

#[test]
fn children_forked_meanwhile() {
    survives(
        "pid = os.fork()
if pid == 0:
    poke(a, b'child'); time.sleep(0.01); os._exit(0)
for k in range(50): poke(a + random.randrange(size - 8), n.to_bytes(8, 'little'))
os.waitpid(pid, 0)",
    );
}

/// The pages of the program that called execve(2) are those of the new program.
#[test]
fn another_program_in_its_place() {
    let Some(child) = python(
        "
other = 'import time; x = [bytes([n % 256]) * 5000 for n in range(4000)]; time.sleep(1000)'
def replaced(*_):
    os.execv('/usr/bin/python3', ['python3', '-I', '-S', '-c', other])
signal.signal(signal.SIGUSR1, replaced)
x = [bytes([n % 256]) * 6000 for n in range(4000)]
",
    ) else {
        return;
    };
    let outcome = copy_and_compare(&child, 2, |number| {
        if number == 1 {
            let pid = child.pid().to_string();
            let status = std::process::Command::new("kill").args(["-USR1", &pid]).status();
            assert!(status.unwrap().success());
            sleep(300);
        }
    });
    // Nothing of the new program was tracked: all of it was copied when it was frozen.
    assert_eq!(outcome.copied_bytes[2], outcome.resident_bytes);
}

/// A program reading with O_DIRECT all the time; `when` it opens its files.
fn direct(when: &str) -> Option<Outcome> {
    survives(&format!(
        "
if n == {when}:
    try:
        files = [open_direct(bytes([65 + k]) * (1 << 20)) for k in range(3)]
    except OSError as cause:
        unavailable(f'O_DIRECT in the folder for temporary files: {{cause}}')
if n >= {when}:
    call(17, files[n % 3], a + (n % 15) * 256 * page, 1 << 20, 0)
else:
    time.sleep(0.001)"
    ))
}

#[test]
fn reads_around_the_page_cache() {
    let Some(outcome) = direct("1") else { return };
    assert!(outcome.stops > 5, "{} stops", outcome.stops);
}

#[test]
fn reads_around_the_page_cache_that_begin_later() {
    // Some 30 ms after the mapping was made: 20 before pre-copy begins and then 5 rounds of 15.
    let _ = direct("90");
}

/// Of a pipe the same flag says that packets stay apart: nothing is read around anything.
#[test]
fn pipes_of_packets_are_no_files_read_directly() {
    let Some(outcome) = survives(
        "
if n == 1: files = os.pipe2(os.O_DIRECT)
os.write(files[1], n.to_bytes(8, 'little') * 64)
call(0, files[0], a + (n % 250) * page, 512)
time.sleep(0.0005)",
    ) else {
        return;
    };
    assert!(outcome.stops < 5, "{} stops", outcome.stops);
}

fn huge_bytes(child: &Guarded) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", child.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("AnonHugePages:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn huge_pages_are_given_back() {
    const BYTES: u64 = 32 << 20;
    let Some(child) = python(
        "
size = 32 << 20
a = mapping(size + (2 << 20))
a = (a + (2 << 20) - 1) & -(2 << 20)
madvise(a, size, 14)
for at in range(0, size, 2 << 20): poke(a + at, b'huge')
def write(*_):
    for at in range(0, size, 2 << 20): poke(a + at + 0x5000, b'split')
signal.signal(signal.SIGUSR1, write)
",
    ) else {
        return;
    };
    if huge_bytes(&child) < BYTES {
        support::skip("transparent huge pages on request");
        return;
    }
    let process = child.process();
    let sink = Latest::default();
    let mut precopy = Precopy::start(&process, options()).unwrap();
    precopy.round(&sink, 2, 0, &|_| None).unwrap();
    let pid = child.pid().to_string();
    let sent = std::process::Command::new("kill").args(["-USR1", &pid]).status();
    assert!(sent.unwrap().success());
    sleep(100);
    let round = precopy.round(&sink, 2, 0, &|_| None).unwrap();
    assert!(round.copied_bytes >= 16 * 4096 && round.copied_bytes < 4 << 20, "{round:?}");
    assert_eq!(huge_bytes(&child), 0, "a write splits an armed huge page");
    let released = precopy.release();
    // The kernel may have made some of them huge again by itself by now.
    let split = released.split.count().bytes();
    assert!(split > 0 && split + huge_bytes(&child) >= BYTES, "{split}");
    let budget = Duration::from_secs(20);
    let given = rekindle_capture::give_back_huge_pages(&process, &released.split, budget);
    assert_eq!((given.bytes, given.left_bytes), (split, 0));
    assert_eq!(huge_bytes(&child), BYTES);
}

/// A mapping with a userfaultfd of the program's own is copied when it is frozen.
#[test]
fn a_userfaultfd_of_its_own() {
    let Some(child) = python(
        "
page = 4096
a = mapping(1024 * page)
for at in range(0, 1024 * page, page): poke(a + at, b'x' * 8)
def open_one():
    fd = call(323, 1)
    fcntl.ioctl(fd, 0xc018aa3f, bytearray(struct.pack('QQQ', 0xaa, 0, 0)))
    fcntl.ioctl(fd, 0xc020aa00, bytearray(struct.pack('QQQQ', a, 512 * page, 1, 0)))
    return fd
fd = need('userfaultfd', open_one)
",
    ) else {
        return;
    };
    let outcome = copy_and_compare(&child, 2, |_| sleep(5));
    let last = outcome.copied_bytes[2];
    assert!((512 * 4096..1 << 22).contains(&last), "{last} bytes were copied at the end");
}
