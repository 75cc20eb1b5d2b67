//! Sampling a thread of this test.

use std::sync::mpsc;

use super::*;
use crate::pin::Pinned;
use crate::task::Tid;

/// Starts a thread that maps `pages` fresh pages when told, writes to each, and says where.
fn toucher(pages: usize) -> (Tid, mpsc::Sender<()>, mpsc::Receiver<u64>) {
    let (go, gone) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let (name, named) = mpsc::channel();
    std::thread::spawn(move || {
        name.send(Tid::current()).unwrap();
        gone.recv().unwrap();
        // SAFETY: a fresh private anonymous mapping, never unmapped, is nobody else's memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * 4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the advice and the writes below stay inside the mapping.
        unsafe { libc::madvise(at, pages * 4096, libc::MADV_NOHUGEPAGE) };
        let at = at.cast::<u8>();
        for page in 0..pages {
            // SAFETY: see above.
            unsafe { at.add(page * 4096 + 24).write_volatile(1) };
        }
        tell.send(at.addr() as u64).unwrap();
        // Stays until the test is over, so that its events do.
        let _ = gone.recv();
    });
    (named.recv().unwrap(), go, told)
}

#[test]
fn every_fault_comes_with_its_address_and_registers() {
    const PAGES: usize = 300;
    let (tid, go, told) = toucher(PAGES);
    let cpus = online_cpus().unwrap();
    let kind = EventKind::PageFaults { period: 1 };
    let mut group = EventGroup::new(kind, Scope::UserAndKernel, tid, &cpus, 64).unwrap();
    assert!(group.follow(tid).unwrap());
    assert!(!group.follow(tid).unwrap());
    group.set_enabled(true).unwrap();
    go.send(()).unwrap();
    let start = told.recv().unwrap();
    let mut pages = std::collections::BTreeSet::new();
    let mut last = 0;
    let drained = group.drain(|sample| {
        assert_eq!(sample.tid, tid.raw());
        if let Some(offset) = sample.addr.0.checked_sub(start)
            && offset < PAGES as u64 * 4096
        {
            assert_eq!(offset % 4096, 24, "the address is exact to the byte");
            assert!(sample.in_user && sample.regs.is_some_and(|r| r.rip == sample.ip.0));
            assert!(sample.time_ns >= last);
            last = sample.time_ns;
            pages.insert(offset / 4096);
        }
    });
    assert_eq!((pages.len(), drained.lost, drained.exec), (PAGES, 0, false));
}

#[test]
fn a_ring_that_is_too_small_says_how_much_it_lost() {
    const PAGES: usize = 200;
    // A ring belongs to a processor: the thread that overruns it and the one whose record tells
    // of that run on the same.
    let _here = Pinned::here().unwrap();
    let (tid, go, told) = toucher(PAGES);
    let cpus = online_cpus().unwrap();
    let kind = EventKind::PageFaults { period: 1 };
    let mut group = EventGroup::new(kind, Scope::UserAndKernel, tid, &cpus, 1).unwrap();
    group.follow(tid).unwrap();
    group.set_enabled(true).unwrap();
    go.send(()).unwrap();
    told.recv().unwrap();
    let first = group.drain(|_| {});
    // Losses are told with the next record that fits.
    go.send(()).ok();
    let (other, go, told) = toucher(1);
    group.follow(other).unwrap();
    go.send(()).unwrap();
    told.recv().unwrap();
    let second = group.drain(|_| {});
    assert!(first.samples > 0 && first.samples < 200, "{first:?}");
    assert!(first.lost + second.lost > 0, "{first:?} {second:?}");
}

#[test]
fn a_clock_samples_what_runs() {
    let (name, named) = mpsc::channel();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let worker = std::thread::spawn(move || {
        name.send(Tid::current()).unwrap();
        let mut number = 0u64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            number = std::hint::black_box(number.wrapping_mul(3) + 1);
        }
    });
    let tid = named.recv().unwrap();
    let cpus = online_cpus().unwrap();
    let kind = EventKind::CpuClock { hz: 500 };
    let mut group = EventGroup::new(kind, Scope::UserOnly, tid, &cpus, 16).unwrap();
    group.follow(tid).unwrap();
    group.set_enabled(true).unwrap();
    let mut samples = 0;
    let begun = std::time::Instant::now();
    while samples < 20 && begun.elapsed().as_secs() < 20 {
        std::thread::yield_now();
        samples += group.drain(|s| assert!(s.in_user && s.regs.is_some())).samples;
    }
    group.set_enabled(false).unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    worker.join().unwrap();
    assert!(samples >= 20, "{samples} samples of a busy thread");
}

#[test]
fn a_thread_that_is_over_cannot_be_followed() {
    let tid = std::thread::spawn(Tid::current).join().unwrap();
    let event = Event::open(EventKind::Silent, Scope::UserOnly, tid, 0);
    assert!(event.is_err_and(|e| e.is_gone()));
}
