//! Copying while the program runs, with what is not private, and with a program that ends.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mem::{Backing, MemoryId, PageRange, PageSink, PageSinkError};
use process::LineIdentity;
use rekindle_capture::{self as capture, Precopy};
use support::{freeze, look, python};
use target::FreezeOptions;

fn options() -> FreezeOptions {
    FreezeOptions { deadline: Instant::now() + Duration::from_secs(20), suspend_seccomp: false }
}

/// Keeps the latest bytes of every page of every memory.
#[derive(Default)]
struct Latest(Mutex<BTreeMap<(MemoryId, u64), Vec<u8>>>);

impl PageSink for Latest {
    fn put(&self, id: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        let mut map = self.0.lock().unwrap();
        for (number, page) in (pages.start.0..).zip(bytes.chunks_exact(4096)) {
            map.insert((id, number), page.to_vec());
        }
        Ok(())
    }
}

/// Nothing tracks what is written through another mapping, or by a call with a descriptor: what is
/// shared is as it was when the program stood still.
#[test]
fn shared_memory_written_past_the_mapping_meanwhile() {
    const PAGES: u64 = 512;
    let Some(child) = python(
        "
page, pages = 4096, 512
fd = os.memfd_create('both')
os.ftruncate(fd, pages * page)
a = mapping(pages * page, 3, 1, fd)
b = mapping(pages * page, 3, 1, fd)
own = mapping(pages * page, 3, 0x21)
for n in range(pages):
    for at in (a, own): poke(at + n * page, n.to_bytes(8, 'little') * 8)
def forever():
    n = 0
    while True:
        n += 1
        poke(b + n * 7 % pages * page + 64, n.to_bytes(8, 'little'))
        os.pwrite(fd, n.to_bytes(8, 'little'), n * 11 % pages * page + 128)
        poke(own + n * 13 % pages * page + 64, n.to_bytes(8, 'little'))
tell(hex(a)); tell(hex(own))
threading.Thread(target=forever, daemon=True).start()
",
    ) else {
        return;
    };
    let process = child.process();
    let survey = look(&process);
    let sink = Latest::default();
    let mut precopy = Precopy::start(&process, options()).unwrap();
    for _ in 0..4 {
        precopy.round(&sink, 2, 0, &|_| None).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut frozen = freeze(&process);
    let captured = capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap();
    let left = precopy.left(&captured.memory, 2).unwrap();
    capture::copy(&captured.memory, &left.list, &sink, 2, &|_| None).unwrap();
    let copies = sink.0.into_inner().unwrap();
    let memory = File::open(format!("/proc/{}/mem", child.pid())).unwrap();
    for line in 0..2 {
        let start = child.number(line, 0);
        let space = &captured.instance.spaces[0];
        let mapping = space.mappings.iter().find(|m| m.range.start.0 == start).unwrap();
        let Backing::SharedObject { object, .. } = mapping.backing else { panic!("{mapping:?}") };
        for number in 0..PAGES {
            let mut real = vec![0; 4096];
            memory.read_exact_at(&mut real, start + number * 4096).unwrap();
            let copy = copies.get(&(MemoryId::Shared(object), number));
            assert!(copy == Some(&real), "page {number} of the mapping {line}");
        }
    }
    drop(frozen);
    precopy.release();
}

/// Ends the program when the first pages come.
struct Deadly<'a> {
    pages: Latest,
    pid: i32,
    is_sent: &'a AtomicBool,
}

impl PageSink for Deadly<'_> {
    fn put(&self, id: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        if !self.is_sent.swap(true, Ordering::Relaxed) {
            let pid = self.pid.to_string();
            let sent = std::process::Command::new("kill").args(["-KILL", &pid]).status();
            assert!(sent.unwrap().success());
        }
        self.pages.put(id, pages, bytes)
    }
}

/// A program that ends while it is copied is no program whose checkpoint could go on.
#[test]
fn the_end_of_the_program_meanwhile() {
    let Some(child) = python("x = [bytes([n % 256]) * 5000 for n in range(20000)]") else { return };
    let process = child.process();
    let is_sent = AtomicBool::new(false);
    let sink = Deadly { pages: Latest::default(), pid: child.pid(), is_sent: &is_sent };
    let mut precopy = Precopy::start(&process, options()).unwrap();
    let begun = Instant::now();
    // It may be at its end when it is read, or have no mapping any more: an error, or nothing to copy.
    let first = precopy.round(&sink, 2, 0, &|_| None);
    assert!(is_sent.load(Ordering::Relaxed), "nothing was copied: {first:?}");
    assert!(process.pidfd().wait_ended(Instant::now() + Duration::from_secs(20)).unwrap());
    let second = precopy.round(&sink, 2, 0, &|_| None);
    assert!(second.as_ref().map_or(0, |round| round.copied_bytes) == 0, "{second:?}");
    assert!(process.freeze(options()).is_err(), "a program that has ended stands still");
    let released = precopy.release();
    assert!(released.split.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(20), "it was waited for: {:?}", begun.elapsed());
}
