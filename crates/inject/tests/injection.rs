//! What a program notices of injected calls: nothing.
#![allow(unsafe_code, missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::exit, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod witness;

use std::time::{Duration, Instant};

use rekindle_inject::{Batch, Injector};
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
