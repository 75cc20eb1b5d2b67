//! What a program notices of injected calls: nothing.
#![allow(unsafe_code, missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::exit, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod witness;

use std::time::{Duration, Instant};

use rekindle_inject::{Arg, Batch, CallId, InjectError, Injection, Injector, Undo};
use sys::proc::{ProcDir, parse_status};
use sys::ptrace::{Options, Traced};
use sys::task::{Pid, Tid};

#[test]
fn witness_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "witness_role") {
        witness::watch("registers", &(1..=64).collect::<Vec<_>>(), |beat| {
            witness::registers::keep("registers", 0x1234_5678_9abc_def1, 20_000, beat);
        });
        witness::calls::timeouts();
        witness::calls::arrivals();
        witness::calls::handlers();
        witness::answer();
    }
}

#[test]
fn nothing_is_noticed() {
    let mut witness = witness::spawn("witness_role");
    witness.goes_on(2);
    let pid = Pid::new(witness.pid()).unwrap();
    let injector = Injector::new(pid).unwrap();
    let until = Instant::now() + Duration::from_secs(4);
    let (mut count, mut open, mut run, mut finish) =
        (0, Duration::ZERO, Duration::ZERO, Duration::ZERO);
    while Instant::now() < until {
        for tid in witness.threads() {
            let tid = Tid::new(tid).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            let traced = Traced::seize(tid, Options::default()).unwrap();
            traced.interrupt().unwrap();
            let mut thread = traced.into_stopped(deadline).unwrap();
            let regs = thread.regs().unwrap();
            let t0 = Instant::now();
            let mut injection = injector.open(&mut thread, 64 * 1024).unwrap();
            let t1 = Instant::now();
            let mut batch = Batch::new();
            let pid_call = batch.call(39, &[]);
            let tid_call = batch.call(186, &[]);
            for _ in 2..100 {
                batch.call(39, &[]);
            }
            let answers = injection.run(&batch).unwrap();
            let t2 = Instant::now();
            assert_eq!(answers.get(pid_call).unwrap(), pid.raw() as u64);
            assert_eq!(answers.get(tid_call).unwrap(), tid.raw() as u64);
            assert_eq!(answers.values().len(), 100);
            injection.finish().unwrap();
            let t3 = Instant::now();
            let after = thread.regs().unwrap();
            assert_eq!((after.rip, after.rsp, after.orig_rax), (regs.rip, regs.rsp, regs.orig_rax));
            thread.detach(0).unwrap();
            count += 1;
            open += t1 - t0;
            run += t2 - t1;
            finish += t3 - t2;
        }
        witness.goes_on(1);
    }
    println!(
        "{count} injections: open {:?}, 100 calls {:?}, finish {:?}",
        open / count,
        run / count,
        finish / count
    );
    witness.goes_on(3);
}

/// A child that is let go, as it is when its tracer dies, ends before it is the program a second
/// time, and the program takes its end by itself.
#[test]
fn a_child_that_is_let_go_ends_at_its_first_instruction() {
    const CLONE: i64 = 56;
    const WAIT4: i64 = 61;
    const WALL: u64 = 0x4000_0000;
    const SIGSEGV: i32 = 11;
    let mut witness = witness::spawn("witness_role");
    witness.goes_on(1);
    let pid = Pid::new(witness.pid()).unwrap();
    let injector = Injector::new(pid).unwrap();
    for tid in witness.threads() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let options = Options { trace_clone: true, ..Options::default() };
        let traced = Traced::seize(Tid::new(tid).unwrap(), options).unwrap();
        traced.interrupt().unwrap();
        let mut thread = traced.into_stopped(deadline).unwrap();
        let mut injection = injector.open(&mut thread, 16 * 1024).unwrap();
        injection.keep_from_children().unwrap();
        let mut batch = Batch::new();
        let status = injection.reserve(8).unwrap();
        let own = Arg::Result(CallId::OWN);
        let undo = Undo::new(WAIT4, &[own, status.into(), WALL.into(), 0_u64.into()]);
        batch.require_with_undo(CLONE, &[], undo);
        injection.run(&batch).unwrap();
        let child = injection.new_children().pop().unwrap();
        let number = child.tid().raw();
        let stat = || std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap();
        // As the kernel lets it go when we die.
        child.detach(0).unwrap();
        while !stat().contains(") Z ") {
            if Instant::now() >= deadline {
                // SAFETY: takes integers only.
                unsafe { libc::kill(number, libc::SIGKILL) };
                panic!("it goes on: {}", stat());
            }
            std::thread::yield_now();
        }
        // The last number of a line of stat is how it ended.
        let code: i32 = stat().trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(code & 0x7f, SIGSEGV, "{}", stat());
        injection.finish().unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{number}")).exists());
        thread.detach(0).unwrap();
    }
    witness.goes_on(2);
}

/// Tracers that were killed may each have left a slot to the same thread. It works in one of them
/// now, and the others do for other threads.
#[test]
fn slots_left_to_one_thread_are_used_again() {
    let mut witness = witness::spawn("witness_role");
    witness.goes_on(1);
    let pid = Pid::new(witness.pid()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let stopped = |tid: i32| {
        let traced = Traced::seize(Tid::new(tid).unwrap(), Options::default()).unwrap();
        traced.interrupt().unwrap();
        traced.into_stopped(deadline).unwrap()
    };
    let tids = witness.threads();
    let injector = || Injector::new(pid).unwrap();
    let slots = injector().threads_max();
    assert!(slots > 1, "there is one slot");
    for _ in 0..slots {
        let mut is_left = false;
        while !is_left {
            assert!(Instant::now() < deadline, "thread {} does not leave our code", tids[0]);
            let mut thread = stopped(tids[0]);
            let injector = injector();
            // As it is when the tracer dies: the thread is let go and finds its way back.
            match injector.open(&mut thread, 16 * 1024) {
                Ok(injection) => {
                    std::mem::forget(injection);
                    is_left = true;
                }
                Err(InjectError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            thread.detach(0).unwrap();
        }
    }
    let process = ProcDir::open(pid.raw()).unwrap();
    loop {
        let mut threads: Vec<_> = tids[..slots].iter().map(|tid| stopped(*tid)).collect();
        let status = |tid: &i32| {
            process.parse(&format!("task/{tid}/status"), &mut Vec::new(), parse_status).unwrap()
        };
        let statuses: Vec<_> = tids[..slots].iter().map(status).collect();
        let each = threads.iter_mut().zip(&statuses).map(|(t, status)| (t, status, 16 * 1024));
        let injector = injector();
        let is_open = match injector.open_each(each) {
            Ok(injections) => {
                Injection::finish_each(injections).unwrap();
                true
            }
            // The last one's thread is still on its way back.
            Err(InjectError::Busy { .. }) if Instant::now() < deadline => false,
            Err(error) => panic!("{error}"),
        };
        for thread in threads {
            thread.detach(0).unwrap();
        }
        if is_open {
            break;
        }
    }
    witness.goes_on(2);
}
