//! What a program notices of injected calls: nothing.
#![allow(unsafe_code, missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::exit, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod witness;

use std::time::{Duration, Instant};

use rekindle_inject::{Arg, Batch, CallId, Injector, Undo};
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
