//! What a program notices when the process that injects into it is killed: nothing.
#![allow(unsafe_code, missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::exit, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod witness;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rekindle_inject::{Batch, Injection, Injector, Undo};
use sys::proc::{ProcDir, parse_status};
use sys::ptrace::{Options, Traced};
use sys::task::{Pid, Tid};
use witness::Witness;

const TARGET: &str = "INJECT_TEST_TARGET";

/// The program that is injected into.
#[test]
fn witness_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "witness_role") {
        witness::watch("registers", &(1..=64).collect::<Vec<_>>(), |beat| {
            witness::registers::keep("registers", 0x1234_5678_9abc_def1, 100_000, beat);
        });
        witness::calls::timeouts();
        witness::calls::arrivals();
        witness::calls::handlers();
        witness::answer();
    }
}

/// One that handles every signal which is otherwise ignored.
#[test]
fn handling_witness_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "handling_witness_role") {
        witness::calls::handle_ignored_signals();
        witness::watch("registers", &(1..=64).collect::<Vec<_>>(), |beat| {
            witness::registers::keep("registers", 0x1234_5678_9abc_def1, 100_000, beat);
        });
        witness::calls::timeouts();
        witness::answer();
    }
}

/// The program that injects: for each line it reads a child of it does so for ever.
#[test]
fn tracer_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "tracer_role") {
        let target = std::env::var(TARGET).unwrap().parse().unwrap();
        let server = std::process::id() as i32;
        for _ in std::io::stdin().lines() {
            // SAFETY: run with one test thread, this process has no other thread that could hold
            // a lock at the fork.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: prctl and getppid touch no memory of ours.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    assert_eq!(libc::getppid(), server);
                }
                inject_for_ever(Pid::new(target).unwrap());
            }
            let mut status = 0;
            // SAFETY: an int is written to a live one.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            println!("\nended {status}");
        }
        std::process::exit(0);
    }
}

fn inject_for_ever(pid: Pid) -> ! {
    let injector = loop {
        match Injector::new(pid) {
            Ok(injector) => break injector,
            // The last one's thread is still on its way back.
            Err(rekindle_inject::InjectError::Busy { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    println!("\ngo {}", std::process::id());
    let threads = || {
        let entries = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
    };
    // Another order each time, so that each thread is the first at times.
    let mut tids: Vec<i32> = threads().collect();
    let turn = std::process::id() as usize % tids.len();
    tids.rotate_left(turn);
    // One thread at a time, or as many as can be.
    let at_once = [1, injector.threads_max()][std::process::id() as usize % 2];
    loop {
        for tids in tids.chunks(at_once) {
            inject_into(&injector, pid, tids);
        }
    }
}

fn inject_into(injector: &Injector, pid: Pid, tids: &[i32]) {
    let stop = |tid: &i32| {
        let traced = Traced::seize(Tid::new(*tid).unwrap(), Options::default()).unwrap();
        traced.interrupt().unwrap();
        traced.into_stopped(Instant::now() + Duration::from_secs(5)).unwrap()
    };
    let mut threads: Vec<_> = tids.iter().map(stop).collect();
    let process = ProcDir::open(pid.raw()).unwrap();
    let status = |tid: &i32| {
        process.parse(&format!("task/{tid}/status"), &mut Vec::new(), parse_status).unwrap()
    };
    let statuses: Vec<_> = tids.iter().map(status).collect();
    let each = threads.iter_mut().zip(&statuses).map(|(thread, status)| (thread, status, 65536));
    let mut injections = match injector.open_each(each) {
        Ok(injections) => injections,
        Err(rekindle_inject::InjectError::Busy { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    for _ in 0..2 {
        let mut batch = Batch::new();
        let eventfd = batch.require_with_undo(290, &[0.into(), 0.into()], Undo::close_result());
        batch.require(72, &[eventfd.into(), 1.into()]);
        for _ in 0..20 {
            batch.call(39, &[]);
        }
        let batches = vec![batch; injections.len()];
        for answers in Injection::run_each(&mut injections, &batches).unwrap() {
            assert_eq!(answers.values().len(), 22);
        }
    }
    Injection::finish_each(injections).unwrap();
    for thread in threads {
        thread.detach(0).unwrap();
    }
}

/// A process that injects into a witness whenever it is asked to.
struct Tracer {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tracer {
    fn of(witness: &Witness) -> Self {
        let mut child = witness::command("tracer_role")
            .env(TARGET, witness.pid().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, lines }
    }

    fn hear(&mut self, word: &str) -> i32 {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some((before, number)) = line.split_once(' ')
                && before == word
            {
                return number.parse().unwrap();
            }
        }
    }

    /// Injects, and is killed after `life`.
    fn live_and_die(&mut self, life: Duration) {
        writeln!(self.input, "inject").unwrap();
        let pid = self.hear("go");
        let until = Instant::now() + life;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        // SAFETY: the process is a child of the tracer, which has not been told to reap another.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        assert_eq!(self.hear("ended"), libc::SIGKILL, "it ended by itself");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until nothing of an injection is left in `witness`, at most for `patience`.
fn settles(witness: &mut Witness, mappings: &str, descriptors: &[String], patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        witness.lives();
        let held = witness.held();
        let (maps, fds) = (witness.mappings(), witness.descriptors());
        if held.is_empty() && maps == mappings && fds == descriptors {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "held: {held:?}\ndescriptors: {fds:?}\nmappings before:\n{mappings}\nnow:\n{maps}"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// With such patience a death may hold the witness for seconds.
const HELD: Duration = Duration::from_secs(8);

fn kill_many(role: &str, kills: u32, patience: Duration) {
    let mut command = witness::command(role);
    command.env(witness::STOPS_SHOW, "1");
    let mut witness = witness::spawn_command(command);
    witness.goes_on(3);
    let (mappings, descriptors) = (witness.mappings(), witness.descriptors());
    let mut tracer = Tracer::of(&witness);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    let mut inside = 0;
    let mut last_left = witness.vdso();
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tracer.live_and_die(Duration::from_micros(random % 5000));
        settles(&mut witness, &mappings, &descriptors, patience);
        let left = witness.vdso();
        inside += u32::from(left != last_left);
        last_left = left;
        if kill % 50 == 49 || kill + 1 == kills {
            witness.goes_on(2);
        } else if patience >= HELD {
            // A wait that begins anew after each death would be late by the sum of them.
            witness.goes_on(1);
        }
    }
    witness.goes_on(3);
    let shown = witness.shown();
    // Not bounded: it grows with the time the scheduler takes between asking for a stop and telling
    // of it. What must not be there at all is checked by the witness.
    println!(
        "{kills} kills, {inside} of them in the middle of an injection; {shown} showed as EINTR in \
         calls that return it on every stop"
    );
}

#[test]
fn a_killed_tracer_leaves_no_trace() {
    kill_many("witness_role", 1000, Duration::from_secs(5));
}

#[test]
fn a_killed_tracer_leaves_no_trace_where_all_signals_are_handled() {
    kill_many("handling_witness_role", 10, HELD);
}

#[test]
fn a_killed_tracer_leaves_a_stopped_process_stopped() {
    // A stop shows in some calls: that is what SIGSTOP does.
    let mut command = witness::command("witness_role");
    command.env(witness::STOPS_SHOW, "1");
    let mut witness = witness::spawn_command(command);
    witness.goes_on(3);
    let (mappings, descriptors) = (witness.mappings(), witness.descriptors());
    let mut tracer = Tracer::of(&witness);
    let stopped = |witness: &Witness| {
        let held = witness.held();
        held.len() == witness.threads().len() && held.iter().all(|held| held.contains("State:\tT"))
    };
    let until_stopped = |witness: &Witness| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !stopped(witness) {
            assert!(Instant::now() < deadline, "{:?}", witness.held());
            std::thread::yield_now();
        }
    };
    for round in 0..40_u64 {
        // SAFETY: the child is alive until the witness is dropped.
        unsafe { libc::kill(witness.pid(), libc::SIGSTOP) };
        until_stopped(&witness);
        tracer.live_and_die(Duration::from_micros(round * 1_237 % 5000));
        until_stopped(&witness);
        // SAFETY: as above.
        unsafe { libc::kill(witness.pid(), libc::SIGCONT) };
        settles(&mut witness, &mappings, &descriptors, Duration::from_secs(5));
    }
    witness.goes_on(3);
}
