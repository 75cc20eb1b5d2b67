//! Userfaultfds of real processes.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mem::{AddrRange, PAGE_SIZE};
use rekindle_target::{Process, SessionError};
use sys::pagemap::{Categories, Pagemap, ScanFilter};
use sys::userfault::{Event, Features, Install, Kind, Message, Modes};

/// A python with a mapping of 64 pages that answers: `w N V` writes, `r N` reads page N's first
/// byte, `p` reads it through a system call (write(2) of page N to a pipe), `f` forks a child
/// that says whether it has a descriptor of ours.
const SCRIPT: &str = "
import ctypes, mmap, os, sys, threading, time
libc = ctypes.CDLL(None); libc.prctl(1, 9)
m = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(m))
if 'threads' in sys.argv:
    for i in range(4): threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
if 'nobody' in sys.argv: os.setuid(65534); libc.prctl(4, 1)
r, w = os.pipe()
print(base, flush=True)
for line in sys.stdin:
    a = line.split()
    if a[0] == 'w': m[int(a[1]) * 4096] = int(a[2]); print('ok', flush=True)
    elif a[0] == 'r': print(m[int(a[1]) * 4096], flush=True)
    elif a[0] == 'p':
        libc.write(w, ctypes.c_void_p(base + int(a[1]) * 4096), 1); print(os.read(r, 1)[0], flush=True)
    elif a[0] == 'd': print(' '.join(sorted(os.listdir('/proc/self/fd'))), flush=True)
";

struct Python {
    child: Child,
    into: ChildStdin,
    from: BufReader<ChildStdout>,
    range: AddrRange,
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Python {
    fn start(argument: &str) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-I", "-S", "-c", SCRIPT, argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let into = child.stdin.take().unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let base = line.trim().parse().unwrap();
        Self { child, into, from, range: AddrRange::new(base, base + 64 * PAGE_SIZE) }
    }

    fn process(&self) -> Process {
        Process::open(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.into, "{command}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    fn written(&self) -> Vec<u64> {
        // An absent page that is not protected counts as written, too.
        let all = Categories::WRITTEN | Categories::PRESENT;
        let filter = ScanFilter { all, ..ScanFilter::default() };
        let mut found = Vec::new();
        let process = self.process();
        let first = self.range.pages().start.0;
        Pagemap::open(process.dir())
            .unwrap()
            .scan(self.range, &filter, |region| {
                found.extend(
                    (region.range.pages().start.0 - first)..(region.range.pages().end.0 - first),
                );
            })
            .unwrap();
        found
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn writes_of_another_process_are_tracked_and_nothing_stays_in_it() {
    for argument in ["alone", "threads", "nobody"] {
        let mut python = Python::start(argument);
        let before = python.ask("d");
        let maps = || std::fs::read(format!("/proc/{}/maps", python.child.id())).unwrap();
        let maps_before = maps();
        let (userfault, stop) =
            python.process().open_userfault(Kind::UserModeOnly, soon()).unwrap();
        println!("{argument}: stopped for {stop:?}");
        assert!(stop < Duration::from_secs(1));
        assert_eq!(maps(), maps_before);
        assert_eq!(python.ask("d"), before);
        userfault.handshake(Features::TRACK_WRITES).unwrap();
        userfault.register(python.range, Modes::WriteProtect).unwrap();
        userfault.write_protect(python.range, true).unwrap();
        python.ask("w 5 1");
        python.ask("w 9 1");
        python.ask("r 20");
        assert_eq!(python.written(), [5, 9]);
        userfault.unregister(python.range).unwrap();
        assert_eq!(python.ask("r 9"), "1");
    }
}

#[test]
fn missing_pages_of_another_process_are_served_in_system_calls_too() {
    let mut python = Python::start("threads");
    let (userfault, _) = python.process().open_userfault(Kind::Full, soon()).unwrap();
    userfault.handshake(Features::SERVE).unwrap();
    userfault.register(python.range, Modes::MissingAndWriteProtect).unwrap();
    for (command, page) in [("r", 3_u64), ("p", 4)] {
        python.tell(&format!("{command} {page}"));
        assert!(userfault.wait(10_000).unwrap());
        let mut slots = [Message::default()];
        assert_eq!(userfault.read(&mut slots).unwrap(), 1);
        let Event::Fault(fault) = slots[0].event() else { panic!("a fault is expected") };
        assert_eq!(fault.address.page().0, python.range.pages().start.0 + page);
        let how = Install { write_protect: true, no_wake: false };
        userfault.copy(fault.address.page().addr(), &[77; 4096], how).unwrap();
        assert_eq!(python.answer(), "77");
    }
    assert_eq!(python.written(), []);
}

#[test]
fn a_program_that_may_not_have_one_is_told_apart() {
    if std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap().trim() == "1" {
        return;
    }
    let mut python = Python::start("nobody");
    let denied = python.process().open_userfault(Kind::Full, soon()).unwrap_err();
    assert!(matches!(denied, SessionError::Denied { .. }), "{denied}");
    assert_eq!(python.ask("r 1"), "0");
}
