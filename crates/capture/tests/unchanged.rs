//! A capture changes nothing: not a byte, not a mapping, not a signal, not a descriptor.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use mem::{MemoryId, PageSource};
use process::LineIdentity;
use rekindle_capture as capture;
use support::{Guarded, Pages, python};

const CHILD: &str = "
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
ep = select.epoll()
r, w = os.pipe()
ep.register(r, select.EPOLLIN | select.EPOLLET)
os.write(w, b'x')
guarded = mapping(8 * 4096)
poke(guarded, b'x')
for n in range(3):
    threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
p = select.poll(); p.register(r, 0)
threading.Thread(target=lambda: p.poll(1000000), daemon=True).start()
";

/// Waits until every thread sleeps in its call again: a thaw only lets them go.
fn settle(child: &Guarded) {
    let is_asleep = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        status.contains("State:\tS (sleeping)")
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", child.pid())).unwrap();
    while !tasks().all(|task| is_asleep(task.unwrap())) {
        assert!(Instant::now() < deadline, "a thread does not go back to its call");
        std::thread::yield_now();
    }
}

/// What `/proc` shows of the process and its threads and does not change by itself.
fn shown(child: &Guarded) -> BTreeMap<String, String> {
    settle(child);
    let process = format!("/proc/{}", child.pid());
    let mut shown = BTreeMap::new();
    let mut keep = |path: String, keep_line: &dyn Fn(&str) -> bool| {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| keep_line(line)).collect();
        shown.insert(path, lines.join("\n"));
    };
    keep(format!("{process}/maps"), &|_| true);
    keep(format!("{process}/timers"), &|_| true);
    keep(format!("{process}/limits"), &|_| true);
    let tasks = std::fs::read_dir(format!("{process}/task")).unwrap();
    for task in tasks.map(|entry| entry.unwrap().path()) {
        let task = task.display();
        let stays = |line: &str| {
            !["Vm", "Rss", "voluntary", "nonvoluntary", "State", "SigQ"]
                .iter()
                .any(|p| line.starts_with(p))
        };
        keep(format!("{task}/status"), &stays);
        keep(format!("{task}/syscall"), &|_| true);
        keep(format!("{task}/comm"), &|_| true);
    }
    for entry in std::fs::read_dir(format!("{process}/fdinfo")).unwrap() {
        keep(entry.unwrap().path().display().to_string(), &|_| true);
    }
    shown
}

/// Every existing private page, but for stacks below the stack pointers, where the frames of
/// injected calls have been.
fn bytes(child: &Guarded, pages: &[u64]) -> BTreeMap<u64, Vec<u8>> {
    let mem = std::fs::File::open(format!("/proc/{}/mem", child.pid())).unwrap();
    let read = |page: &u64| {
        let mut bytes = vec![0; 4096];
        mem.read_exact_at(&mut bytes, page * 4096).unwrap();
        (*page, bytes)
    };
    pages.iter().map(read).collect()
}

#[test]
fn nothing_changes() {
    let Some(child) = python(CHILD) else { return };
    let process = child.process();
    let survey = support::look(&process);
    // The first capture shows which pages there are and where the stacks end.
    let first = {
        let mut frozen = support::freeze(&process);
        capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap()
    };
    let stacks: Vec<u64> =
        first.instance.groups[0].threads.iter().map(|t| t.registers.rsp - 128).collect();
    let set = first.memory.pages(MemoryId::Private(0)).unwrap();
    let listed: Vec<u64> = set.runs().iter().flat_map(|r| r.start.0..r.end.0).collect();
    let shown_before = shown(&child);
    let bytes_before = bytes(&child, &listed);

    let mut frozen = support::freeze(&process);
    let second = capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap();
    let list = capture::pages(&second.memory).unwrap();
    let copied = Pages::default();
    capture::copy(&second.memory, &list, &copied, 2, &|_| None).unwrap();
    let threads = frozen.threads().len();
    drop(frozen);

    assert_eq!(threads, 5);
    let shown_after = shown(&child);
    assert!(shown_before.keys().eq(shown_after.keys()));
    for (path, before) in &shown_before {
        assert_eq!(*before, shown_after[path], "{path}");
    }
    let bytes_after = bytes(&child, &listed);
    let below = |address: u64| stacks.iter().any(|sp| address < *sp && sp - address < 64 * 1024);
    // The kernel writes the number of the processor there whenever a thread changes it.
    let areas: Vec<_> = first.instance.groups[0].threads.iter().filter_map(|t| t.rseq).collect();
    let rseq = |address: u64| {
        let size = |area: &process::Rseq| u64::from(area.size_bytes);
        areas.iter().any(|a| (a.address..a.address + size(a)).contains(&address))
    };
    for (page, before) in &bytes_before {
        for (offset, (was, is)) in before.iter().zip(&bytes_after[page]).enumerate() {
            let address = page * 4096 + offset as u64;
            let same = was == is || below(address) || rseq(address);
            assert!(same, "{address:#x} was {was:#x} and is {is:#x}");
        }
    }
    // Apart from the time, the second capture is the first one.
    let (first, second) = (&first.instance, &second.instance);
    let without_times = |thread: &process::Thread| process::Thread {
        // A restarted call reads the clock again.
        registers: process::GeneralRegisters::default(),
        ..thread.clone()
    };
    let threads = |i: &process::Instance| -> Vec<process::Thread> {
        i.groups[0].threads.iter().map(without_times).collect()
    };
    assert_eq!(threads(first), threads(second));
    assert_eq!(first.groups[0].pending_signals, second.groups[0].pending_signals);
    assert_eq!(first.spaces, second.spaces);
    assert_eq!((&first.tables, &first.descriptions), (&second.tables, &second.descriptions));
    assert_eq!(first.pipes, second.pipes);
    assert_eq!(set, second_pages(&list));
}

fn second_pages(list: &capture::PageList) -> mem::PageSet {
    list.memories()[0].1.clone()
}
