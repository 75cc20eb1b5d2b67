//! What an injection costs, printed; only an absurd figure fails.
#![allow(unsafe_code, missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::exit, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod witness;

use std::time::{Duration, Instant};

use rekindle_inject::{Batch, Injector};
use sys::ptrace::{Options, Traced};
use sys::task::{Pid, Tid};

#[test]
fn sleeper_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "sleeper_role") {
        witness::answer();
    }
}

#[test]
fn an_injection_costs_some_hundred_microseconds() {
    const ROUNDS: usize = 300;
    let witness = witness::spawn("sleeper_role");
    let pid = Pid::new(witness.pid()).unwrap();
    let tid = Tid::new(*witness.threads().last().unwrap()).unwrap();
    let mut costs: [Vec<Duration>; 6] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        let mut at = vec![Instant::now()];
        let injector = Injector::new(pid).unwrap();
        at.push(Instant::now());
        let traced = Traced::seize(tid, Options::default()).unwrap();
        traced.interrupt().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut thread = traced.into_stopped(deadline).unwrap();
        at.push(Instant::now());
        let mut injection = injector.open(&mut thread, 64 * 1024).unwrap();
        at.push(Instant::now());
        let mut batch = Batch::new();
        for _ in 0..100 {
            batch.call(39, &[]);
        }
        injection.run(&batch).unwrap();
        at.push(Instant::now());
        injection.finish().unwrap();
        at.push(Instant::now());
        thread.detach(0).unwrap();
        at.push(Instant::now());
        for (cost, pair) in costs.iter_mut().zip(at.windows(2)) {
            cost.push(pair[1] - pair[0]);
        }
    }
    let names = ["look", "stop", "open", "100 calls", "finish", "let go"];
    for (name, cost) in names.iter().zip(&mut costs) {
        cost.sort();
        println!(
            "{name}: median {:?}, fastest {:?}, slowest {:?}",
            cost[ROUNDS / 2],
            cost[0],
            cost[ROUNDS - 1]
        );
        assert!(cost[ROUNDS / 2] < Duration::from_millis(100), "{name}");
    }
}
