//! userfaultfds of our own memory. One test at a time, in a process of their own: a fork by any
//! test of a process would wait for all of its userfaultfds.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mem::{AddrRange, PAGE_SIZE, VirtAddr};

use rekindle_sys::pagemap::{Categories, Pagemap, ScanFilter};
use rekindle_sys::proc::ProcDir;
use rekindle_sys::task::Tid;
use rekindle_sys::userfault::{
    Event, Features, Install, Kind, Message, Modes, Obstacle, Progress, Userfault, UserfaultError,
};

const PAGES: u64 = 16;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fresh pages that no Rust object lives in; never unmapped but by the test itself.
fn fresh() -> AddrRange {
    // SAFETY: a new private anonymous mapping is nobody else's memory.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            (PAGES * PAGE_SIZE) as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    AddrRange::new(at.addr() as u64, at.addr() as u64 + PAGES * PAGE_SIZE)
}

fn pages(range: AddrRange, from: u64, to: u64) -> AddrRange {
    AddrRange::new(range.start.0 + from * PAGE_SIZE, range.start.0 + to * PAGE_SIZE)
}

fn pointer(range: AddrRange, page: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut((range.start.0 + page * PAGE_SIZE) as usize)
}

fn load(range: AddrRange, page: u64) -> u8 {
    // SAFETY: the page lies in a mapping of `fresh` that still exists.
    unsafe { pointer(range, page).read_volatile() }
}

fn store(range: AddrRange, page: u64, value: u8) {
    // SAFETY: as in `load`.
    unsafe { pointer(range, page).write_volatile(value) }
}

fn written(range: AddrRange) -> Vec<u64> {
    let dir = ProcDir::open(i32::try_from(std::process::id()).unwrap()).unwrap();
    let present = Categories::WRITTEN | Categories::PRESENT;
    let filter = ScanFilter { all: present, ..ScanFilter::default() };
    let mut found = Vec::new();
    Pagemap::open(&dir)
        .unwrap()
        .scan(range, &filter, |region| {
            let pages = region.range.pages();
            found.extend((pages.start.0..pages.end.0).map(|p| p - range.pages().start.0));
        })
        .unwrap();
    found
}

fn next(userfault: &Userfault) -> Event {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut slots = [Message::default()];
    while Instant::now() < deadline {
        if userfault.wait(1000).unwrap() && userfault.read(&mut slots).unwrap() == 1 {
            return slots[0].event();
        }
    }
    panic!("no message within 10 s");
}

fn serving(range: AddrRange) -> Userfault {
    let userfault = Userfault::of_ourselves(Kind::Full).unwrap();
    userfault.handshake(Features::SERVE).unwrap();
    userfault.register(range, Modes::MissingAndWriteProtect).unwrap();
    userfault
}

fn page_of(value: u8) -> Vec<u8> {
    vec![value; PAGE_SIZE as usize]
}

const ALL_DONE: Option<Obstacle> = None;

#[test]
fn writes_are_seen_without_anybody_listening() {
    let _alone = alone();
    let range = fresh();
    store(range, 1, 1);
    store(range, 2, 1);
    let userfault = Userfault::of_ourselves(Kind::UserModeOnly).unwrap();
    userfault.handshake(Features::TRACK_WRITES).unwrap();
    userfault.register(range, Modes::WriteProtect).unwrap();
    assert!(userfault.write_protect(range, true).unwrap());
    assert_eq!(written(range), []);
    // One that was there, one that was absent, and a read, which is no write.
    store(range, 2, 2);
    store(range, 9, 9);
    let _ = load(range, 5);
    assert_eq!(written(range), [2, 9]);
    assert!(userfault.write_protect(range, true).unwrap());
    assert_eq!(written(range), []);
    assert_eq!((load(range, 1), load(range, 2), load(range, 9)), (1, 2, 9));
    userfault.unregister(range).unwrap();
    assert_eq!(written(range), [1, 2, 5, 9], "nothing is protected any more");
}

#[test]
fn the_device_gives_one_too() {
    let _alone = alone();
    let userfault = Userfault::of_ourselves_by_device(Kind::Full).unwrap();
    userfault.handshake(Features::SERVE | Features::MOVE).unwrap();
    userfault.register(fresh(), Modes::Missing).unwrap();
}

#[test]
fn a_missing_page_is_served_and_not_dirty() {
    let _alone = alone();
    let range = fresh();
    let userfault = serving(range);
    let reader = thread::spawn(move || {
        let tid = Tid::current().raw();
        (tid, load(range, 3))
    });
    let Event::Fault(fault) = next(&userfault) else { panic!("a fault is expected") };
    assert_eq!(fault.address.page(), pages(range, 3, 4).start.page());
    assert!(!fault.write && !fault.write_protected && !fault.minor);
    let how = Install { write_protect: true, no_wake: true };
    let put = userfault.copy(fault.address.page().addr(), &page_of(7), how).unwrap();
    assert_eq!(put, Progress { done_bytes: PAGE_SIZE, obstacle: ALL_DONE });
    userfault.wake(pages(range, 3, 4)).unwrap();
    let (tid, value) = reader.join().unwrap();
    assert_eq!((value, fault.thread), (7, tid.unsigned_abs()));
    assert_eq!(written(range), []);
    store(range, 3, 8);
    assert_eq!(written(range), [3]);
    assert_eq!(load(range, 3), 8);
}

#[test]
fn the_reason_of_a_stop_is_told() {
    let _alone = alone();
    let range = fresh();
    let userfault = serving(range);
    let how = Install::default();
    userfault.copy(pages(range, 2, 3).start, &page_of(1), how).unwrap();
    let run = vec![5; 4 * PAGE_SIZE as usize];
    let got = userfault.copy(range.start, &run, how).unwrap();
    assert_eq!(got.done_bytes, 2 * PAGE_SIZE);
    assert_eq!(got.obstacle, Some(Obstacle::Present));
    assert_eq!((load(range, 1), load(range, 2)), (5, 1));
    let zeros = userfault.zero(pages(range, 3, 5), false).unwrap();
    assert_eq!(zeros, Progress { done_bytes: 2 * PAGE_SIZE, obstacle: ALL_DONE });
    let elsewhere = userfault.copy(fresh().start, &page_of(1), how).unwrap();
    assert_eq!(elsewhere, Progress { done_bytes: 0, obstacle: Some(Obstacle::NotMapped) });
}

#[test]
fn a_range_of_several_mappings_is_put_in_and_a_hole_is_told() {
    let _alone = alone();
    let range = fresh();
    let userfault = serving(range);
    let length = PAGE_SIZE as usize;
    for (page, protection) in [(3, libc::PROT_READ), (4, libc::PROT_NONE)] {
        // SAFETY: the page belongs to this test alone, which does not touch it until it may.
        assert_eq!(unsafe { libc::mprotect(pointer(range, page).cast(), length, protection) }, 0);
    }
    let all: Vec<u8> = (1..=9).flat_map(page_of).collect();
    let put = userfault.copy(range.start, &all, Install::default()).unwrap();
    assert_eq!(put, Progress { done_bytes: 9 * PAGE_SIZE, obstacle: ALL_DONE });
    // SAFETY: as above.
    unsafe {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        assert_eq!(libc::mprotect(pointer(range, 3).cast(), 2 * length, both), 0);
    }
    assert_eq!(
        (0..9).map(|page| load(range, page)).collect::<Vec<_>>(),
        (1..=9).collect::<Vec<_>>()
    );
    // SAFETY: a mapping that nothing else knows takes the page's place.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let remover = thread::spawn(move || {
            libc::mmap(pointer(range, 12).cast(), length, both, flags, -1, 0) == libc::MAP_FAILED
        });
        assert!(matches!(next(&userfault), Event::Unmap(_)));
        assert!(!remover.join().unwrap());
    }
    let put = userfault.copy(pages(range, 9, 16).start, &all[..7 * length], Install::default());
    let put = put.unwrap();
    assert_eq!(put, Progress { done_bytes: 3 * PAGE_SIZE, obstacle: Some(Obstacle::NotMapped) });
}

#[test]
fn nothing_is_put_in_while_an_event_is_unread() {
    let _alone = alone();
    let range = fresh();
    let userfault = serving(range);
    userfault.copy(range.start, &page_of(1), Install::default()).unwrap();
    let remover = thread::spawn(move || {
        let length = 2 * PAGE_SIZE as usize;
        // SAFETY: the pages belong to this test alone.
        unsafe { libc::madvise(pointer(range, 0).cast(), length, libc::MADV_DONTNEED) }
    });
    assert!(userfault.wait(10_000).unwrap());
    let stuck = userfault.copy(pages(range, 5, 6).start, &page_of(1), Install::default()).unwrap();
    assert_eq!(stuck, Progress { done_bytes: 0, obstacle: Some(Obstacle::Changing) });
    assert_eq!(next(&userfault), Event::Remove(pages(range, 0, 2)));
    assert_eq!(remover.join().unwrap(), 0);
    let put = userfault.copy(pages(range, 5, 6).start, &page_of(1), Install::default()).unwrap();
    assert_eq!(put.obstacle, ALL_DONE);
}

#[test]
fn moving_and_unmapping_are_told() {
    let _alone = alone();
    let range = fresh();
    let userfault = serving(range);
    let length = 4 * PAGE_SIZE as usize;
    let mover = thread::spawn(move || {
        // SAFETY: the pages belong to this test alone, and the target of the move is chosen by
        // the kernel.
        unsafe {
            let at =
                libc::mremap(pointer(range, 0).cast(), length, 2 * length, libc::MREMAP_MAYMOVE);
            assert_ne!(at, libc::MAP_FAILED);
            assert_eq!(libc::munmap(pointer(range, 8).cast(), length), 0);
            at.addr() as u64
        }
    });
    let Event::Remap { from, to, len_bytes } = next(&userfault) else { panic!("a move") };
    // The kernel tells of the old place's end, too.
    let mut event = next(&userfault);
    if event == Event::Unmap(pages(range, 0, 4)) {
        event = next(&userfault);
    }
    assert_eq!(event, Event::Unmap(pages(range, 8, 12)));
    assert_eq!((from, len_bytes), (range.start, length as u64));
    assert_eq!(mover.join().unwrap(), to.0);
    let put = userfault.copy(to, &page_of(1), Install::default()).unwrap();
    assert_eq!(put.obstacle, ALL_DONE);
    let gone = userfault.copy(from, &page_of(1), Install::default()).unwrap();
    assert_eq!(gone.obstacle, Some(Obstacle::NotMapped));
}

#[test]
fn a_child_gets_its_pages_from_its_own_descriptor() {
    let _alone = alone();
    let range = fresh();
    let userfault = serving(range);
    let forker = thread::spawn(move || {
        // SAFETY: the child makes async-signal-safe calls and loads only.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(pointer(range, 6).read_volatile()));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            libc::WEXITSTATUS(status)
        }
    });
    let Event::Fork { descriptor } = next(&userfault) else { panic!("a fork is expected") };
    // SAFETY: the message has just brought this descriptor; nobody else owns it.
    let child = Userfault::from_fd(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let Event::Fault(fault) = next(&child) else { panic!("a fault is expected") };
    assert_eq!(fault.address.page(), pages(range, 6, 7).start.page());
    let put = child.copy(pages(range, 6, 7).start, &page_of(42), Install::default()).unwrap();
    assert_eq!(put.obstacle, ALL_DONE);
    assert_eq!(forker.join().unwrap(), 42);
    let ended = child.copy(pages(range, 8, 9).start, &page_of(1), Install::default()).unwrap();
    assert_eq!(ended.obstacle, Some(Obstacle::Ended));
}

#[test]
fn refusals_say_why() {
    let _alone = alone();
    let userfault = Userfault::of_ourselves(Kind::UserModeOnly).unwrap();
    let unknown = userfault.handshake(Features::from_bits(1 << 50 | 1)).unwrap_err();
    assert!(
        matches!(unknown, UserfaultError::Unsupported { missing } if missing.bits() == 1 << 50),
        "{unknown}"
    );
    let range = fresh();
    let first = serving(range);
    let second = Userfault::of_ourselves(Kind::UserModeOnly).unwrap();
    second.handshake(Features::TRACK_WRITES).unwrap();
    let taken = second.register(pages(range, 4, 5), Modes::WriteProtect).unwrap_err();
    assert!(matches!(taken, UserfaultError::Taken { .. }), "{taken}");
    drop(first);
    second.register(pages(range, 4, 5), Modes::WriteProtect).unwrap();
    assert_eq!(Features::WP_ASYNC.names(), "UFFD_FEATURE_WP_ASYNC");
    assert_eq!(VirtAddr(0).page().0, 0);
}
