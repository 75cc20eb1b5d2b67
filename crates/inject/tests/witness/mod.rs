//! A program that knows what it should see: threads that keep values in every register, and
//! threads inside every kind of blocking system call, each checking what it gets back.
//!
//! It is this test binary executed again ([`spawn`]). It talks over its standard streams: a line
//! sent to it is answered with how often each thread has come round.

pub mod calls;
pub mod registers;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Which program the executed test binary is to be.
pub const ROLE: &str = "INJECT_TEST_ROLE";

/// A thread of the witness, and how often it has come round.
pub struct Beat {
    name: &'static str,
    count: AtomicU64,
}

static BEATS: Mutex<Vec<&'static Beat>> = Mutex::new(Vec::new());

impl Beat {
    pub fn tick(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts a thread that runs `body` for ever, with `blocked` as its signal mask; it ticks its beat
/// each time it has found everything right.
pub fn watch(
    name: &'static str,
    blocked: &[i32],
    body: impl FnOnce(&'static Beat) + Send + 'static,
) {
    let beat: &'static Beat = Box::leak(Box::new(Beat { name, count: AtomicU64::new(0) }));
    BEATS.lock().unwrap().push(beat);
    let mask = calls::set_of(blocked);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            calls::set_mask(mask);
            body(beat);
            fail(name, "its loop ended");
        })
        .unwrap();
}

/// Ends the witness with a message.
pub fn fail(name: &str, why: &str) -> ! {
    eprintln!("witness: {name}: {why}");
    std::process::exit(3)
}

/// The witness's main program: answers lines until its input ends.
pub fn answer() -> ! {
    println!("ready");
    for line in std::io::stdin().lines() {
        let Ok(_) = line else { break };
        let beats = BEATS.lock().unwrap();
        let counts: Vec<String> = beats
            .iter()
            .map(|beat| format!("{}={}", beat.name, beat.count.load(Ordering::Relaxed)))
            .collect();
        println!("{}", counts.join(" "));
    }
    std::process::exit(0)
}

/// A running witness; killed when dropped.
pub struct Witness {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Runs this test binary again as `role` (a test of this name that sees [`ROLE`]).
pub fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([role, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    // SAFETY: prctl is async-signal-safe and touches nothing of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command
}

/// Starts the witness `role` and waits until it is ready.
pub fn spawn(role: &str) -> Witness {
    let mut child = command(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut witness = Witness { child, input, output };
    while !witness.line().ends_with("ready") {}
    witness
}

impl Witness {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let got = self.output.read_line(&mut line).unwrap();
        assert!(got > 0, "the witness has ended: {:?}", self.child.wait());
        line.trim().to_owned()
    }

    /// How often each thread has come round. Fails when the witness has found something wrong.
    pub fn beats(&mut self) -> Vec<(String, u64)> {
        writeln!(self.input, "beats").unwrap();
        let line = self.line();
        line.split(' ')
            .filter_map(|beat| beat.split_once('='))
            .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
            .collect()
    }

    /// Waits until every thread has come round `more` times.
    pub fn goes_on(&mut self, more: u64) {
        let before = self.beats();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.beats();
            let late: Vec<_> = before
                .iter()
                .zip(&now)
                .filter(|((_, before), (_, now))| now - before < more)
                .map(|((name, _), _)| name)
                .collect();
            if late.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "threads that do not come round: {late:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn threads(&self) -> Vec<i32> {
        let mut all: Vec<i32> = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        all.sort_unstable();
        all
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
