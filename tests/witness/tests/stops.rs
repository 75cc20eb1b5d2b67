//! A freezer may stop the witness as often as it likes: it must not complain about what a correct
//! freezer does, and must complain about what an incorrect one does.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

struct Witness {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(format!("/dev/shm/rekindle-witness-{}", self.child.id()));
    }
}

impl Witness {
    fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Passes bound the run, should the test itself be killed.
        let child = Command::new(env!("CARGO_BIN_EXE_rekindle-witness"))
            .args(["--mb", "4", "--pause-ms", "50", "--passes", "2000"])
            .args(arguments)
            .args([Path::new("--dir"), &dir.path().join("files")])
            .args([Path::new("--ready"), &dir.path().join("ready")])
            .args([Path::new("--report"), &dir.path().join("report")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let witness = Self { child, dir };
        witness.wait_for("the ready file", || witness.dir.path().join("ready").exists());
        witness
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn report(&self) -> Option<String> {
        std::fs::read_to_string(self.dir.path().join("report")).ok()
    }

    fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < LIMIT, "no {what}: {:?}", self.report());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A number of the status that a fresh connection is answered with.
    fn number(&self, key: &str) -> u64 {
        let ready = std::fs::read_to_string(self.dir.path().join("ready")).unwrap();
        let begin = ready.find("127.0.0.1:").unwrap();
        let end = begin + ready[begin..].find('"').unwrap();
        let text = read_all(&ready[begin..end]);
        let text = text.unwrap_or_else(|e| panic!("no status ({e}): {:?}", self.report()));
        let begin = text.find(&format!("\"{key}\":")).unwrap() + key.len() + 3;
        text[begin..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    /// Waits until everything was checked `count` times more.
    fn goes_on(&self, count: u64) {
        let goal = self.number("whole_passes") + count;
        self.wait_for("further passes", || self.number("whole_passes") >= goal);
    }

    fn signal(&self, number: i32) {
        // SAFETY: takes no pointers; the child was not reaped, so the pid is its.
        assert_eq!(unsafe { libc::kill(self.pid(), number) }, 0);
    }
}

fn read_all(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ptrace(request: libc::c_uint, tid: i32, data: usize) -> i64 {
    // SAFETY: no request of this file takes a pointer.
    unsafe { libc::ptrace(request, tid, 0usize, data) }
}

/// Seizes, stops and releases every thread, as a freezer does.
fn freeze_and_thaw(pid: i32, frozen: Duration) {
    let mut seized = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let tid: i32 = entry.file_name().to_string_lossy().parse().unwrap();
        // A thread may end meanwhile.
        if ptrace(libc::PTRACE_SEIZE, tid, 0) == 0 {
            seized.push(tid);
        }
    }
    for &tid in &seized {
        ptrace(libc::PTRACE_INTERRUPT, tid, 0);
    }
    // The first thread last: should the witness end now, that one is reported only after the
    // others were waited for.
    let stopped: Vec<_> = seized.into_iter().rev().map(|tid| (tid, wait_for_stop(tid))).collect();
    std::thread::sleep(frozen);
    for (tid, signal) in stopped {
        // A thread that was ended meanwhile cannot be let go, only waited for.
        if ptrace(libc::PTRACE_DETACH, tid, signal) != 0 && tid != pid {
            // SAFETY: a null status is allowed.
            unsafe { libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL) };
        }
    }
}

/// Waits until a thread stands still. A signal that was on its way to it is returned: it has to be
/// handed over when the thread goes on, or it is lost.
fn wait_for_stop(tid: i32) -> usize {
    let (begin, mut status) = (Instant::now(), 0);
    loop {
        // SAFETY: `status` lives through the call.
        let found = unsafe { libc::waitpid(tid, &mut status, libc::__WALL | libc::WNOHANG) };
        if found != 0 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "thread {tid} does not stop");
        std::thread::yield_now();
    }
    let event = status >> 16;
    let delivers = libc::WIFSTOPPED(status) && event != libc::PTRACE_EVENT_STOP;
    if delivers { usize::try_from(libc::WSTOPSIG(status)).unwrap() } else { 0 }
}

#[test]
fn job_control_stops_are_fine() {
    let witness = Witness::start(&["--stop-may-interrupt"]);
    for round in 0..8 {
        witness.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(100 + round * 70));
        witness.signal(libc::SIGCONT);
        witness.goes_on(1);
    }
    assert_eq!(witness.report(), None);
}

#[test]
fn tracer_stops_are_fine() {
    let witness = Witness::start(&["--stop-may-interrupt"]);
    for round in 0..20u64 {
        freeze_and_thaw(witness.pid(), Duration::from_millis(round * 13 % 200));
        if round % 4 == 0 {
            witness.goes_on(1);
        }
    }
    witness.goes_on(2);
    assert_eq!(witness.report(), None);
}

/// A stop ends epoll_wait with EINTR: a freezer that lets the program see it is caught.
#[test]
fn an_interrupted_wait_is_noticed() {
    let witness = Witness::start(&["--kinds", "in-epoll-wait,in-epoll-pwait,in-sigtimedwait"]);
    witness.wait_for("complaint", || {
        freeze_and_thaw(witness.pid(), Duration::ZERO);
        witness.report().is_some()
    });
    let report = witness.report().unwrap();
    assert!(report.contains("Interrupted system call"), "{report}");
}

#[test]
fn status_counts_up_and_names_the_listeners() {
    let witness = Witness::start(&[]);
    witness.goes_on(3);
    assert_eq!(witness.number("pid"), u64::from(witness.child.id()));
    let address = witness.dir.path().join("files/status.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(address).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("\"ready\":true"), "{text}");
}
