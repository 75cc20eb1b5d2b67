//! Opening, freezing and reading real processes.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rekindle_target::{FreezeOptions, Frozen, OpenError, Process};
use sys::proc::RunState;

struct Guarded(Child);

impl Guarded {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HEAD: &str = "import ctypes, os, signal, sys, threading, time\n\
                    libc = ctypes.CDLL(None)\nlibc.prctl(1, 9)\n";

/// A python that runs `script`, which has to print one line when it is ready.
fn python(script: &str) -> (Guarded, String) {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-I", "-S", "-c", &format!("{HEAD}{script}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    (Guarded(child), line.trim().to_owned())
}

const SLEEP: &str = "print('ready', flush=True)\nwhile True: time.sleep(1000)\n";

fn within(process: &Process, time: Duration) -> Result<Frozen<'_>, rekindle_target::FreezeError> {
    process.freeze(FreezeOptions { deadline: Instant::now() + time, suspend_seccomp: false })
}

fn states(process: &Process) -> Vec<RunState> {
    let dir = process.dir();
    let tids = dir.tids().unwrap();
    // A thread that has ended since it was listed has no state.
    let state = |tid: &i32| {
        let task = dir.open_task(*tid).ok()?;
        Some(task.parse("stat", &mut Vec::new(), sys::proc::parse_stat).ok()?.state)
    };
    tids.iter().filter_map(state).collect()
}

/// Waits until `ready` holds: what it looks at changes by itself.
fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < deadline, "waited for {what} for 10 s");
        std::thread::yield_now();
    }
}

/// A freeze that gives up has interrupted threads all the same: none may see that.
#[test]
fn a_freeze_given_up_interrupts_no_call() {
    let (mut child, _) = python(
        "
libc = ctypes.CDLL(None, use_errno=True)
poll = libc.epoll_create1(0)
event = ctypes.create_string_buffer(16)
signals = ctypes.create_string_buffer(128)
libc.sigaddset(signals, signal.SIGUSR1)
def wait_for_event():
    while True:
        if libc.epoll_wait(poll, event, 1, 50) < 0: os._exit(3)
def wait_for_signal():
    while True:
        timeout = (ctypes.c_long * 2)(0, 50000000)
        if libc.sigtimedwait(signals, None, timeout) < 0 and ctypes.get_errno() != 11: os._exit(4)
def wait_for_ring():
    ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
    while ring >= 0:
        if libc.syscall(426, ring, 0, 1, 1, None, 0) < 0: os._exit(5)
for body in [wait_for_event, wait_for_signal, wait_for_ring] * 4:
    threading.Thread(target=body, daemon=True).start()
print('ready', flush=True)
while True: time.sleep(1000)
",
    );
    let process = Process::open(child.pid()).unwrap();
    let mut given_up = 0;
    for round in 0..300 {
        // From a deadline that has passed already to one that is just met.
        given_up += usize::from(within(&process, Duration::from_micros(round * 2)).is_err());
        let status = child.0.try_wait().unwrap();
        assert_eq!(status, None, "a call was interrupted after {given_up} freezes given up");
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.0.try_wait().unwrap(), None, "a call was interrupted");
    assert!(given_up > 0, "no freeze was given up");
}

#[test]
fn all_threads_stop_and_go_on() {
    let (child, _) = python(
        "
n = [0] * 5
def body(i):
    while True: n[i] += 1
for i in range(5): threading.Thread(target=body, args=(i,), daemon=True).start()
print('ready', flush=True)
while True: time.sleep(0.001)
",
    );
    let process = Process::open(child.pid()).unwrap();
    let frozen = within(&process, Duration::from_secs(10)).unwrap();
    assert_eq!(frozen.threads().len(), 6);
    assert_eq!(frozen.threads()[0].tid().raw(), child.pid());
    assert!(states(&process).iter().all(|s| *s == RunState::Traced));
    assert!(!frozen.was_stopped());
    frozen.thaw();
    assert!(states(&process).iter().all(|s| *s != RunState::Traced && *s != RunState::Stopped));
    let spent = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse::<u64>().unwrap()
    };
    let before = spent();
    until("the threads to run", || spent() > before);
}

#[test]
fn a_process_that_starts_and_ends_threads_all_the_time() {
    let (child, _) = python(
        "
def body(): time.sleep(0.0001)
print('ready', flush=True)
while True:
    all = [threading.Thread(target=body) for _ in range(20)]
    for t in all: t.start()
    for t in all: t.join()
",
    );
    let process = Process::open(child.pid()).unwrap();
    for _ in 0..30 {
        let frozen = within(&process, Duration::from_secs(10)).unwrap();
        let tids: Vec<i32> = process.dir().tids().unwrap();
        let mut stopped: Vec<i32> = frozen.threads().iter().map(|t| t.tid().raw()).collect();
        stopped.sort_unstable();
        // A thread that was ending when the freeze began may still be listed.
        assert!(stopped.iter().all(|tid| tids.contains(tid)));
        let running =
            |s: &RunState| !matches!(s, RunState::Traced | RunState::Zombie | RunState::Dead);
        assert!(!states(&process).iter().any(running), "{:?}", states(&process));
    }
    assert!(process.is_alive().unwrap());
}

#[test]
fn a_stopped_process_stays_stopped() {
    let (child, _) = python(SLEEP);
    let process = Process::open(child.pid()).unwrap();
    process.pidfd().send_signal(libc::SIGSTOP).unwrap();
    until("the stop", || states(&process) == [RunState::Stopped]);
    let frozen = within(&process, Duration::from_secs(10)).unwrap();
    assert!(frozen.was_stopped());
    drop(frozen);
    until("the stop", || states(&process) == [RunState::Stopped]);
    process.pidfd().send_signal(libc::SIGCONT).unwrap();
    until("the sleep", || states(&process) == [RunState::Sleeping]);
}

/// The parent of a vfork cannot be stopped until its child has executed a program or ended.
#[test]
fn a_thread_that_cannot_stop_leaves_nothing_stopped() {
    let (child, pid) = python(
        "
def body():
    r, w = os.pipe()
    # The child of this vfork waits for us to be told of it, and is ended by its parent's end.
    libc.syscall.argtypes = [ctypes.c_long] * 7
    libc.syscall(58, 0, 0, 0, 0, 0, 0)
code = bytes([0xb8, 58, 0, 0, 0, 0x0f, 5, 0x85, 0xc0, 0x75, 9,
              0xb8, 34, 0, 0, 0, 0x0f, 5, 0xeb, 0xf7, 0xc3])
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, 4096, 7, 0x22, -1, 0)
ctypes.memmove(page, code, len(code))
threading.Thread(target=ctypes.CFUNCTYPE(ctypes.c_long)(page), daemon=True).start()
while True:
    children = ''.join(open(f'/proc/self/task/{t}/children').read() for t in os.listdir('/proc/self/task'))
    if children: break
print(children, flush=True)
while True: time.sleep(1000)
",
    );
    let process = Process::open(child.pid()).unwrap();
    let vforked = Process::open(pid.parse().unwrap()).unwrap();
    let error = within(&process, Duration::from_millis(300)).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("uninterruptible sleep"), "{error}");
    // The one in uninterruptible sleep stays there until its child ends; the other runs.
    until("the thaw", || {
        let states = states(&process);
        states.contains(&RunState::Sleeping) && !states.contains(&RunState::Traced)
    });
    vforked.pidfd().send_signal(libc::SIGKILL).unwrap();
    until("the freeze", || within(&process, Duration::from_secs(1)).is_ok());
    until("the thaw", || !states(&process).contains(&RunState::Traced));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let open = |pid| Process::open(pid).map(drop).unwrap_err();
    assert!(matches!(open(i32::MAX), OpenError::NoSuchProcess { .. }));
    assert!(matches!(open(-4), OpenError::NoSuchProcess { .. }));
    assert!(matches!(open(2), OpenError::KernelThread { .. }));
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(open(own), OpenError::Ourselves { .. }));
    let (child, tid) = python(
        "
def body():
    print(threading.get_native_id(), flush=True)
    time.sleep(1000)
threading.Thread(target=body, daemon=True).start()
while True: time.sleep(1000)
",
    );
    let process = child.pid();
    let error = open(tid.parse().unwrap());
    assert!(
        matches!(error, OpenError::NotAProcess { process: of, .. } if of == process),
        "{error}"
    );
    let mut dead = Command::new("/bin/true").spawn().unwrap();
    let pid = i32::try_from(dead.id()).unwrap();
    until("the end", || matches!(Process::open(pid), Err(OpenError::Zombie { .. })));
    dead.wait().unwrap();
    assert!(matches!(open(pid), OpenError::NoSuchProcess { .. }));
}

#[test]
fn the_end_of_a_frozen_process_is_seen_by_its_parent() {
    let (mut parent, pid) = python(
        "
p = os.fork()
if p == 0:
    libc.prctl(1, 9)
    for _ in range(3): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    print(os.getpid(), flush=True)
    while True: time.sleep(1000)
sys.exit(os.WTERMSIG(os.waitpid(p, 0)[1]))
",
    );
    let process = Process::open(pid.parse().unwrap()).unwrap();
    let frozen = within(&process, Duration::from_secs(10)).unwrap();
    frozen.end(Instant::now() + Duration::from_secs(10)).unwrap();
    assert_eq!(parent.0.wait().unwrap().code(), Some(libc::SIGKILL));
    assert!(!process.is_alive().unwrap());
}

/// Two tracers cannot have one thread: the second is told, and the first keeps it.
#[test]
fn a_traced_process_is_left_alone() {
    let (child, _) = python(SLEEP);
    let process = Process::open(child.pid()).unwrap();
    let frozen = within(&process, Duration::from_secs(10)).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| within(&process, Duration::from_secs(1)).map(drop));
        let error = second.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("traced by another"), "{error}");
    });
    assert_eq!(states(&process), [RunState::Traced]);
    frozen.thaw();
    assert_eq!(process.status().unwrap().tracer_pid, 0);
}
