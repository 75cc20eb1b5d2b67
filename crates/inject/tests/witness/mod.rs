//! A program that knows what it should see: threads that keep values in every register, and
//! threads inside every kind of blocking system call, each checking what it gets back.
//!
//! It is this test binary executed again ([`spawn`]). It talks over its standard streams: a line
//! sent to it is answered with how often each thread has come round.

pub mod calls;
pub mod registers;
pub mod sequence;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Which program the executed test binary is to be.
pub const ROLE: &str = "INJECT_TEST_ROLE";

/// Set: calls that any stop interrupts may return `EINTR`, which is counted as `shown`.
pub const STOPS_SHOW: &str = "INJECT_TEST_STOPS_SHOW";
pub static SHOWN: AtomicU64 = AtomicU64::new(0);

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
        println!("{} shown:{}", counts.join(" "), SHOWN.load(Ordering::Relaxed));
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
    spawn_command(command(role))
}

/// As [`spawn`], with a command made by [`command`].
pub fn spawn_command(mut command: Command) -> Witness {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
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

    /// How often a stop showed ([`STOPS_SHOW`]).
    pub fn shown(&mut self) -> u64 {
        writeln!(self.input, "beats").unwrap();
        let line = self.line();
        line.rsplit_once("shown:").unwrap().1.parse().unwrap()
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

    /// Fails if the witness has ended.
    pub fn lives(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the witness has ended: {ended:?}");
    }

    /// Its mappings, as the kernel lists them.
    pub fn mappings(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap()
    }

    /// What its descriptors lead to, sockets apart: they come and go.
    pub fn descriptors(&self) -> Vec<String> {
        let mut all: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .filter(|target| !target.starts_with("socket:"))
            .collect();
        all.sort();
        all
    }

    /// Threads that are stopped or traced, with their state.
    pub fn held(&self) -> Vec<String> {
        let status = |tid| {
            let path = format!("/proc/{}/task/{tid}/status", self.pid());
            std::fs::read_to_string(path).unwrap_or_default()
        };
        self.threads()
            .into_iter()
            .map(|tid| (tid, status(tid)))
            .filter(|(_, status)| {
                status.lines().any(|line| {
                    line.starts_with("State:\tt")
                        || line.starts_with("State:\tT")
                        || (line.starts_with("TracerPid:") && line != "TracerPid:\t0")
                })
            })
            .map(|(tid, status)| format!("{tid}: {}", status.lines().nth(2).unwrap_or_default()))
            .collect()
    }

    /// The bytes of the vdso.
    pub fn vdso(&self) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let maps = self.mappings();
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
        let (start, rest) = line.split_once('-').unwrap();
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (parse(start), parse(rest.split_once(' ').unwrap().0));
        let mut bytes = vec![0; (end - start) as usize];
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.pid())).unwrap();
        memory.read_exact_at(&mut bytes, start).unwrap();
        bytes
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
