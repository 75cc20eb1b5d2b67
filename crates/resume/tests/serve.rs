//! The fault server, serving programs that move, drop and fork memory while it does.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mem::{AddrRange, MemoryId, PAGE_SIZE, PageRange, PageSet, PageSource, PageSourceError};
use rekindle_resume::serve::{Ended, Ledger, Server, begin};
use sys::userfault::{Features, Kind, Modes};
use target::Process;

const PAGES: u64 = 2048;
const MEMORY: MemoryId = MemoryId::Private(0);

/// Every page but each seventh has content: its number within the mapping, over and over.
struct Numbered {
    first: u64,
    broken: AtomicBool,
    /// How often it was asked while it was broken.
    refused: AtomicU64,
}

impl PageSource for Numbered {
    fn pages(&self, _: MemoryId) -> Result<PageSet, PageSourceError> {
        let each = (0..PAGES).filter(|n| n % 7 != 6);
        Ok(each.map(|n| PageRange::new(self.first + n, self.first + n + 1)).collect())
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        if self.broken.load(Ordering::Acquire) {
            self.refused.fetch_add(1, Ordering::AcqRel);
            let cause = std::io::Error::other("the disk is gone");
            return Err(PageSourceError::Io { memory, pages, cause });
        }
        for (page, bytes) in (pages.start.0..).zip(buffer.chunks_mut(4096)) {
            let number = page - self.first;
            assert!(number < PAGES && number % 7 != 6, "page {number} has no content");
            for word in bytes.chunks_mut(8) {
                word.copy_from_slice(&(number + 1).to_le_bytes());
            }
        }
        Ok(())
    }
}

/// A mapping of `PAGES` pages whose content the program knows, and commands on it.
const SCRIPT: &str = r"
import ctypes, mmap, os, random, signal, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True); libc.prctl(1, 9)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
P = 4096; N = int(sys.argv[1])
def new(pages): return libc.mmap(None, ctypes.c_size_t(pages * P), 3, 0x22, -1, ctypes.c_long(0))
base = new(N)
# Places that were never anybody's: which of two moves to one place came first cannot always be told.
place = [0x200000000000]; placing = threading.Lock()
def fresh(pages):
    at = place[0]; place[0] += (pages + 16) * P
    got = libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(pages * P), 3, 0x100022, -1, ctypes.c_long(0))
    assert got == at
    return at
want = [0 if n % 7 == 6 else n + 1 for n in range(N)]
at = [base + n * P for n in range(N)]
print(base, flush=True)
def bad(n, why=''):
    got = ctypes.string_at(at[n], P)
    if got == struct.pack('<Q', want[n]) * (P // 8): return False
    print('BAD page', n, 'wants', want[n], 'has', struct.unpack('<Q', got[:8])[0], why, flush=True)
    return True
def check(pages, why=''): return any([bad(n, why) for n in pages])
def drop(first, count):
    assert libc.madvise(ctypes.c_void_p(at[first]), ctypes.c_size_t(count * P), 4) == 0
    for n in range(first, first + count): want[n] = 0
def write(n, value):
    ctypes.memmove(at[n], struct.pack('<Q', value) * (P // 8), P); want[n] = value
def move(first, count):
    with placing: to = fresh(count)
    got = libc.mremap(ctypes.c_void_p(at[first]), ctypes.c_size_t(count * P), ctypes.c_size_t(count * P), 3, ctypes.c_void_p(to))
    assert got == to
    for n in range(count): at[first + n] = to + n * P
def protect(first, count, how):
    assert libc.mprotect(ctypes.c_void_p(at[first]), ctypes.c_size_t(count * P), how) == 0
def fork(pages, depth=1):
    child = os.fork()
    if child == 0:
        wrong = check(pages, 'in a child')
        if depth > 1 and not wrong: wrong = fork(pages, depth - 1)
        os._exit(1 if wrong else 0)
    return os.waitpid(child, 0)[1] != 0
def storm(seed, steps):
    r = random.Random(seed); wrong = False
    lanes = 4; each = N // lanes; locks = [threading.Lock() for _ in range(lanes)]
    def lane(k):
        nonlocal wrong
        q = random.Random(seed * 10 + k); lo = k * each
        for _ in range(steps):
            with locks[k]:
                a = lo + q.randrange(each // 16) * 16; c = q.choice([1, 2, 4, 16])
                what = q.randrange(5)
                if what == 0: drop(a, 1)
                elif what == 1: write(a + q.randrange(16), q.randrange(1 << 40))
                elif what == 2 and len(set(x - i * P for i, x in enumerate(at[a:a + 16]))) == 1: move(a, 16)
                else: wrong |= check([a + q.randrange(16) for _ in range(c)], 'in the storm')
    threads = [threading.Thread(target=lane, args=(k,)) for k in range(lanes)]
    for t in threads: t.start()
    while any(t.is_alive() for t in threads):
        for l in locks: l.acquire()
        pages = [r.randrange(N) for _ in range(8)]
        child = os.fork()
        if child == 0: os._exit(1 if check(pages, 'in a storm child') else 0)
        for l in locks: l.release()
        wrong |= os.waitpid(child, 0)[1] != 0
    return wrong | check(range(N), 'after the storm')
for line in sys.stdin:
    a = line.split()
    wrong = False
    if a[0] == 'check': wrong = check(range(int(a[1]), int(a[2])))
    elif a[0] == 'drop': drop(int(a[1]), int(a[2]))
    elif a[0] == 'move': move(int(a[1]), int(a[2]))
    elif a[0] == 'protect': protect(int(a[1]), int(a[2]), int(a[3]))
    elif a[0] == 'begin-fork':
        child = os.fork()
        if child == 0: os._exit(1 if check(range(int(a[1]), int(a[2]))) else 0)
    elif a[0] == 'end-fork': os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
    elif a[0] == 'fork': wrong = fork(range(int(a[1]), int(a[2])), int(a[3]))
    elif a[0] == 'storm': wrong = storm(int(a[1]), int(a[2]))
    elif a[0] == 'unmap': assert libc.munmap(ctypes.c_void_p(at[int(a[1])]), ctypes.c_size_t(int(a[2]) * P)) == 0
    print('wrong' if wrong else 'right', flush=True)
";

struct Program {
    child: Child,
    into: ChildStdin,
    from: BufReader<ChildStdout>,
    pages: PageRange,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start() -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-I", "-S", "-c", SCRIPT, &PAGES.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let into = child.stdin.take().unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let first = line.trim().parse::<u64>().unwrap() / PAGE_SIZE;
        Self { child, into, from, pages: PageRange::new(first, first + PAGES) }
    }

    /// Begins a session of its mapping.
    fn serve(&self) -> Ledger {
        let process = Process::open(i32::try_from(self.child.id()).unwrap()).unwrap();
        let soon = Instant::now() + Duration::from_secs(10);
        let (userfault, _) = process.open_userfault(Kind::Full, soon).unwrap();
        userfault.handshake(Features::SERVE).unwrap();
        let range: AddrRange = self.pages.addrs();
        userfault.register(range, Modes::MissingAndWriteProtect).unwrap();
        let ledger = Ledger::create().unwrap();
        begin(&ledger, userfault, &[self.pages], 0).unwrap();
        ledger
    }

    fn source(&self) -> Numbered {
        Numbered {
            first: self.pages.start.0,
            broken: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.into, "{command}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            all += &line;
            if !line.starts_with("BAD") {
                return all.trim().to_owned();
            }
        }
    }

    #[track_caller]
    fn right(&mut self, command: &str) {
        self.tell(command);
        assert_eq!(self.hear(), "right", "{command}");
    }
}

/// Nobody asks for the state here.
fn bell() -> BorrowedFd<'static> {
    static BELL: OnceLock<OwnedFd> = OnceLock::new();
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    BELL.get_or_init(|| rustix::event::eventfd(0, flags).unwrap()).as_fd()
}

/// Counts what the thread that loads in the background says; only one test has it say anything.
struct Told;

static LINES: AtomicU64 = AtomicU64::new(0);

impl tracing::Subscriber for Told {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        LINES.fetch_add(1, Ordering::AcqRel);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` while a server serves; gives how the server ended.
fn served(
    program: &mut Program,
    ledger: &Ledger,
    source: &Numbered,
    fill: bool,
    work: impl FnOnce(&mut Program, &Server<'_>),
) -> Ended {
    let ranges = [program.pages];
    let server = Server::new(ledger, source, MEMORY, &ranges, (None, fill, None), bell()).unwrap();
    std::thread::scope(|scope| {
        let serving =
            scope.spawn(|| tracing::subscriber::with_default(Told, || server.run().unwrap()));
        let work = std::panic::AssertUnwindSafe(|| work(program, &server));
        let worked = std::panic::catch_unwind(work);
        if !fill || worked.is_err() {
            server.stop();
        }
        let ended = serving.join().unwrap();
        match worked {
            Ok(()) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[test]
fn every_page_comes_from_the_source_or_is_zero() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    let ended = served(&mut program, &ledger, &source, false, |program, _| {
        program.right("check 0 100");
        program.right("check 0 2048");
    });
    assert_eq!(ended, Ended::Stopped);
    let faults = ledger.faults();
    assert_eq!(faults.len() as u64, PAGES);
    assert_eq!(faults[0].0, program.pages.start);
}

#[test]
fn what_is_dropped_is_zero_and_what_moves_comes_along() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    served(&mut program, &ledger, &source, false, |program, _| {
        program.right("drop 10 20");
        program.right("move 100 50");
        program.right("check 5 40");
        program.right("drop 120 3");
        program.right("check 90 160");
        program.right("unmap 2000 48");
        program.right("check 0 2000");
    });
}

#[test]
fn children_and_grandchildren_get_their_pages() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    served(&mut program, &ledger, &source, false, |program, _| {
        program.right("drop 3 4");
        program.right("fork 0 64 3");
        program.right("check 0 10");
        program.right("fork 0 2048 2");
    });
}

#[test]
fn everything_is_loaded_and_let_go() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    let ended = served(&mut program, &ledger, &source, true, |program, _| {
        program.right("drop 10 20");
        program.right("check 0 300");
    });
    assert_eq!(ended, Ended::Complete);
    assert!(ledger.is_complete());
    // Nobody serves any more, and nothing is missing.
    program.right("check 0 2048");
    program.right("fork 0 2048 2");
    program.right("drop 0 5");
    program.right("check 0 10");
}

#[test]
fn memory_that_falls_into_several_mappings_is_loaded_whole() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    // Each is a mapping of its own now, and the kernel tells nobody.
    for first in [7, 100, 263, 1031] {
        program.right(&format!("protect {first} 90 1"));
    }
    let ended = served(&mut program, &ledger, &source, true, |_, _| {});
    assert_eq!(ended, Ended::Complete);
    program.right("check 0 2048");
}

#[test]
fn storms_of_changes_while_loading() {
    for seed in 1..=6 {
        let mut program = Program::start();
        let (ledger, source) = (program.serve(), program.source());
        served(&mut program, &ledger, &source, seed % 2 == 0, |program, _| {
            program.right(&format!("storm {seed} 150"));
        });
    }
}

#[test]
fn another_server_goes_on_where_one_was_stopped() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    for round in 0..8 {
        let ended = served(&mut program, &ledger, &source, false, |program, server| {
            program.right(&format!("drop {} 3", round * 40));
            program.tell(&format!("storm {round} 20"));
            std::thread::sleep(Duration::from_millis(20));
            server.stop();
        });
        assert_eq!(ended, Ended::Stopped);
        // In between the program waits.
        let ended = served(&mut program, &ledger, &source, false, |program, _| {
            assert_eq!(program.hear(), "right");
        });
        assert_eq!(ended, Ended::Stopped);
    }
    served(&mut program, &ledger, &source, false, |program, _| program.right("check 0 2048"));
}

#[test]
fn a_page_that_cannot_be_had_is_waited_for_and_never_zero() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    source.broken.store(true, Ordering::Release);
    served(&mut program, &ledger, &source, false, |program, _| {
        program.tell("check 3 4");
        let until = Instant::now() + Duration::from_secs(10);
        while ledger.status().trouble.is_none() {
            assert!(Instant::now() < until, "the trouble is not told");
            std::thread::yield_now();
        }
        source.broken.store(false, Ordering::Release);
        assert_eq!(program.hear(), "right");
        while ledger.status().trouble.is_some() {
            assert!(Instant::now() < until, "the trouble is not over");
            std::thread::yield_now();
        }
    });
}

#[test]
fn what_cannot_be_loaded_is_told_once_and_loaded_when_it_can_be() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    source.broken.store(true, Ordering::Release);
    let ended = served(&mut program, &ledger, &source, true, |_, _| {
        until("it to be told", || ledger.status().unread.is_some());
        let why = ledger.status().unread.unwrap();
        assert!(why.contains("the disk is gone"), "{why}");
        // Each chunk once, and as long as it takes until the pause has grown.
        let chunks = PAGES / 16;
        until("some more tries", || source.refused.load(Ordering::Acquire) > chunks + 2);
        let (tries, begun) = (source.refused.load(Ordering::Acquire), Instant::now());
        until("four more", || source.refused.load(Ordering::Acquire) >= tries + 4);
        assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
        assert_eq!(ledger.status().trouble, None, "nobody waits");
        assert_eq!(LINES.load(Ordering::Acquire), 1);
        source.broken.store(false, Ordering::Release);
    });
    assert_eq!(ended, Ended::Complete);
    assert_eq!(ledger.status().unread, None);
    assert_eq!(LINES.load(Ordering::Acquire), 2);
    program.right("check 0 2048");
}

#[test]
fn a_fault_that_is_tried_again_is_one_fault() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    source.broken.store(true, Ordering::Release);
    served(&mut program, &ledger, &source, false, |program, _| {
        program.tell("check 3 4");
        until("some tries", || source.refused.load(Ordering::Acquire) > 3);
        assert_eq!(ledger.status().faults, 1);
        source.broken.store(false, Ordering::Release);
        assert_eq!(program.hear(), "right");
        assert_eq!(ledger.faults().len(), 1);
    });
}

#[test]
fn trouble_ends_with_the_child_that_had_it() {
    let mut program = Program::start();
    let (ledger, source) = (program.serve(), program.source());
    served(&mut program, &ledger, &source, false, |program, _| {
        source.broken.store(true, Ordering::Release);
        program.right("begin-fork 3 4");
        until("the trouble to be told", || ledger.status().trouble.is_some());
        program.right("end-fork");
        until("the trouble to be over", || ledger.status().trouble.is_none());
        source.broken.store(false, Ordering::Release);
        program.right("check 0 2048");
    });
}
