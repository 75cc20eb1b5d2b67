//! What batches can do, and how they fail.
#![allow(unsafe_code, missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::exit, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod witness;

use std::time::{Duration, Instant};

use libc::{SYS_close, SYS_eventfd2, SYS_getpid, SYS_getppid, SYS_pipe2, SYS_read, SYS_write};
use rekindle_inject::{Arg, Batch, InjectError, Injector, Undo};
use sys::ptrace::{Options, PtraceError, Stop, StoppedThread, Traced};
use sys::task::{Pid, Tid};
use witness::Witness;

#[test]
fn sleeper_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "sleeper_role") {
        witness::answer();
    }
}

#[test]
fn handling_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "handling_role") {
        witness::calls::handle_ignored_signals();
        witness::watch("registers", &(1..=64).collect::<Vec<_>>(), |beat| {
            witness::registers::keep("registers", 0x1234_5678_9abc_def1, 100_000, beat);
        });
        witness::calls::timeouts();
        witness::answer();
    }
}

#[test]
fn handled_by_nobody_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "handled_by_nobody_role") {
        witness::calls::timeouts();
        witness::answer();
    }
}

#[test]
fn counting_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "counting_role") {
        witness::calls::count_signals();
        witness::answer();
    }
}

#[test]
fn sequence_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "sequence_role") {
        witness::watch("sequence", &[], witness::sequence::restart_for_ever);
        witness::answer();
    }
}

#[test]
fn filtered_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "filtered_role") {
        witness::calls::forbid(SYS_getppid as u32);
        witness::answer();
    }
}

#[test]
fn trapped_role() {
    if std::env::var(witness::ROLE).is_ok_and(|role| role == "trapped_role") {
        println!("ready");
        witness::calls::forbid(libc::SYS_munmap as u32);
        std::thread::sleep(Duration::from_secs(100));
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn stop(tid: i32) -> StoppedThread {
    let traced = Traced::seize(Tid::new(tid).unwrap(), Options::default()).unwrap();
    traced.interrupt().unwrap();
    traced.into_stopped(soon()).unwrap()
}

fn injector(witness: &Witness) -> Injector {
    Injector::new(Pid::new(witness.pid()).unwrap()).unwrap()
}

/// The thread that answers.
fn last_thread(witness: &Witness) -> i32 {
    *witness.threads().last().unwrap()
}

#[test]
fn arguments_come_from_answers_and_from_scratch() {
    let mut witness = witness::spawn("sleeper_role");
    let vdso = witness.vdso();
    let mut thread = stop(last_thread(&witness));
    let injector = injector(&witness);
    let mut injection = injector.open(&mut thread, 32 * 1024).unwrap();
    let ends = injection.reserve(8).unwrap();
    let text = injection.place(b"through a pipe").unwrap();
    let back = injection.reserve(14).unwrap();

    let mut batch = Batch::new();
    batch.require(SYS_pipe2, &[ends.into(), 0.into()]);
    injection.run(&batch).unwrap();
    let numbers = injection.read_scratch(ends).unwrap();
    let fd = |at: usize| i32::from_ne_bytes(numbers[at..at + 4].try_into().unwrap());

    let mut batch = Batch::new();
    batch.require(SYS_write, &[fd(4).into(), text.into(), Arg::Imm(14)]);
    let eight = batch.require(SYS_eventfd2, &[Arg::Imm(8), 0.into()]);
    let counter = injection.reserve(8).unwrap();
    let read = batch.require(SYS_read, &[eight.into(), counter.into(), Arg::Imm(8)]);
    // The counter read is 8: as many bytes of the text are wanted.
    let part = batch.require(SYS_read, &[fd(0).into(), back.into(), Arg::Load(counter)]);
    batch.require(SYS_close, &[fd(0).into()]);
    batch.require(SYS_close, &[fd(4).into()]);
    batch.require(SYS_close, &[eight.into()]);
    let answers = injection.run(&batch).unwrap();
    assert_eq!(answers.get(read).unwrap(), 8);
    assert_eq!(answers.get(part).unwrap(), 8);
    assert_eq!(injection.read_scratch(back).unwrap(), b"through \0\0\0\0\0\0");
    injection.finish().unwrap();
    thread.detach(0).unwrap();
    witness.beats();
    assert_eq!(witness.vdso(), vdso, "the end of the vdso is zero again");
}

#[test]
fn a_required_call_that_fails_ends_its_batch() {
    let witness = witness::spawn("sleeper_role");
    let mut thread = stop(last_thread(&witness));
    let injector = injector(&witness);
    let mut injection = injector.open(&mut thread, 0).unwrap();
    let mut batch = Batch::new();
    let tolerated = batch.call(SYS_close, &[(-1).into()]);
    let required = batch.require(SYS_close, &[999.into()]);
    let never = batch.call(SYS_getpid, &[]);
    let answers = injection.run_to_failure(&batch).unwrap();
    assert_eq!(answers.failed(), Some(required));
    assert_eq!(answers.raw(tolerated), Some(-i64::from(libc::EBADF)));
    assert_eq!(answers.raw(never), None);
    assert!(matches!(answers.get(never), Err(InjectError::NotMade { index: 2 })));
    let error = injection.run(&batch).unwrap_err();
    assert!(matches!(error, InjectError::Call { index: 1, nr: 3, .. }), "{error}");
}

#[test]
fn what_a_batch_refers_to_is_checked() {
    let witness = witness::spawn("sleeper_role");
    let mut thread = stop(last_thread(&witness));
    let injector = injector(&witness);
    let mut injection = injector.open(&mut thread, 0).unwrap();
    let mut other = Batch::new();
    other.call(SYS_getpid, &[]);
    let later = other.call(SYS_getpid, &[]);
    let mut batch = Batch::new();
    batch.call(SYS_close, &[later.into()]);
    assert!(matches!(injection.run(&batch), Err(InjectError::BadBatch { index: 0, .. })));
    assert!(matches!(injection.reserve(1 << 30), Err(InjectError::ScratchFull { .. })));
    let mut long = Batch::new();
    for _ in 0..1000 {
        long.call(SYS_getpid, &[]);
    }
    assert!(matches!(injection.run(&long), Err(InjectError::ScratchFull { .. })));
}

#[test]
fn what_a_call_made_is_undone_unless_it_is_to_stay() {
    let mut witness = witness::spawn("sleeper_role");
    let (descriptors, mappings) = (witness.descriptors(), witness.mappings());
    let injector = injector(&witness);
    let make = || {
        let mut batch = Batch::new();
        let fd = batch.require_with_undo(SYS_eventfd2, &[0.into()], Undo::close_result());
        let failing = Undo::close_result();
        batch.call(SYS_getppid, &[]);
        // Fails, so that its undo, which would close descriptor -9, is not run.
        batch.require_with_undo(SYS_close, &[999.into()], failing);
        (batch, fd)
    };
    for finish in [true, false] {
        let mut thread = stop(last_thread(&witness));
        let mut injection = injector.open(&mut thread, 0).unwrap();
        let (batch, fd) = make();
        let answers = injection.run_to_failure(&batch).unwrap();
        assert!(answers.get(fd).is_ok());
        assert_eq!(witness.descriptors().len(), descriptors.len() + 1);
        let mut batch = Batch::new();
        let pages = [Arg::Imm(0), Arg::Imm(8192), 3.into(), 0x22.into(), (-1).into(), 0.into()];
        batch.require_with_undo(libc::SYS_mmap, &pages, Undo::munmap_result(8192));
        injection.run(&batch).unwrap();
        if finish {
            injection.finish().unwrap();
        } else {
            drop(injection);
        }
        drop(thread);
        witness.beats();
        assert_eq!(witness.descriptors(), descriptors);
        assert_eq!(witness.mappings(), mappings);
    }
    let mut thread = stop(last_thread(&witness));
    let mut injection = injector.open(&mut thread, 0).unwrap();
    let mut batch = Batch::new();
    batch.require_with_undo(SYS_eventfd2, &[0.into()], Undo::close_result());
    injection.run(&batch).unwrap();
    injection.forget_undos().unwrap();
    injection.finish().unwrap();
    drop(thread);
    assert_eq!(witness.descriptors().len(), descriptors.len() + 1);
}

#[test]
fn a_stopped_process_stays_stopped() {
    let mut witness = witness::spawn("sleeper_role");
    let state = |witness: &Witness| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", witness.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    let until = |witness: &Witness, wanted: &[char]| {
        let deadline = soon();
        while !wanted.contains(&state(witness)) {
            assert!(Instant::now() < deadline, "{}", state(witness));
            std::thread::yield_now();
        }
    };
    // SAFETY: the child is alive until the witness is dropped.
    unsafe { libc::kill(witness.pid(), libc::SIGSTOP) };
    until(&witness, &['T']);
    for tid in witness.threads() {
        let mut thread = stop(tid);
        assert_eq!(thread.stop(), Stop::Group(libc::SIGSTOP));
        let injector = injector(&witness);
        let mut injection = injector.open(&mut thread, 0).unwrap();
        let mut batch = Batch::new();
        let call = batch.call(SYS_getpid, &[]);
        assert_eq!(injection.run(&batch).unwrap().get(call).unwrap(), witness.pid() as u64);
        injection.finish().unwrap();
        assert_eq!(thread.stop(), Stop::Group(libc::SIGSTOP));
        thread.detach(0).unwrap();
        until(&witness, &['T']);
    }
    // SAFETY: as above.
    unsafe { libc::kill(witness.pid(), libc::SIGCONT) };
    witness.beats();
}

#[test]
fn a_process_stopped_during_an_injection_stops_after_it() {
    let mut witness = witness::spawn("sleeper_role");
    let injector = injector(&witness);
    let mut thread = stop(last_thread(&witness));
    let mut injection = injector.open(&mut thread, 0).unwrap();
    // SAFETY: the child is alive until the witness is dropped.
    unsafe { libc::kill(witness.pid(), libc::SIGSTOP) };
    let mut batch = Batch::new();
    let call = batch.call(SYS_getpid, &[]);
    for _ in 0..3 {
        assert_eq!(injection.run(&batch).unwrap().get(call).unwrap(), witness.pid() as u64);
    }
    injection.finish().unwrap();
    thread.detach(0).unwrap();
    let deadline = soon();
    let all_stopped = |witness: &Witness| {
        witness.held().iter().filter(|held| held.contains("State:\tT")).count()
            == witness.threads().len()
    };
    while !all_stopped(&witness) {
        assert!(Instant::now() < deadline, "{:?}", witness.held());
        std::thread::yield_now();
    }
    // SAFETY: as above.
    unsafe { libc::kill(witness.pid(), libc::SIGCONT) };
    witness.beats();
}

#[test]
fn a_call_that_does_not_return_is_a_timeout_and_is_undone() {
    let mut witness = witness::spawn("sleeper_role");
    let (descriptors, mappings) = (witness.descriptors(), witness.mappings());
    let injector = injector(&witness);
    let mut thread = stop(last_thread(&witness));
    let mut injection = injector.open(&mut thread, 0).unwrap();
    injection.set_timeout(Duration::from_millis(100));
    let buffer = injection.reserve(8).unwrap();
    let mut batch = Batch::new();
    let fd = batch.require_with_undo(SYS_eventfd2, &[0.into()], Undo::close_result());
    batch.call(SYS_read, &[fd.into(), buffer.into(), Arg::Imm(8)]);
    let error = injection.run(&batch).unwrap_err();
    assert!(matches!(error, InjectError::Timeout { index: 1, .. }), "{error}");
    injection.finish().unwrap();
    thread.detach(0).unwrap();
    witness.beats();
    assert_eq!((witness.descriptors(), witness.mappings()), (descriptors, mappings));
}

#[test]
fn a_process_that_is_killed_is_an_error() {
    let witness = witness::spawn("sleeper_role");
    let injector = injector(&witness);
    let mut thread = stop(last_thread(&witness));
    let mut injection = injector.open(&mut thread, 0).unwrap();
    let buffer = injection.reserve(8).unwrap();
    let mut batch = Batch::new();
    let fd = batch.require(SYS_eventfd2, &[0.into()]);
    batch.call(SYS_read, &[fd.into(), buffer.into(), Arg::Imm(8)]);
    let pid = witness.pid();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        // SAFETY: the child is not reaped before the witness is dropped.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    });
    let started = Instant::now();
    let error = injection.run(&batch).unwrap_err();
    killer.join().unwrap();
    let ended =
        matches!(error, InjectError::Ptrace(PtraceError::Ended { .. } | PtraceError::Gone { .. }));
    assert!(ended, "{error}");
    assert!(injection.finish().is_err());
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn nothing_is_noticed_where_all_signals_are_handled() {
    let mut witness = witness::spawn("handling_role");
    witness.goes_on(2);
    let injector = injector(&witness);
    let mut batch = Batch::new();
    let call = batch.call(SYS_getpid, &[]);
    for _ in 0..20 {
        for tid in witness.threads() {
            let mut thread = stop(tid);
            let mut injection = injector.open(&mut thread, 0).unwrap();
            for _ in 0..3 {
                assert_eq!(injection.run(&batch).unwrap().get(call).unwrap(), witness.pid() as u64);
            }
            injection.finish().unwrap();
            thread.detach(0).unwrap();
        }
    }
    witness.goes_on(2);
}

#[test]
fn signals_that_come_meanwhile_are_received_once() {
    let mut witness = witness::spawn("counting_role");
    let injector = injector(&witness);
    let tid = last_thread(&witness);
    let mut sent = 0;
    for round in 0..50 {
        let mut thread = stop(tid);
        let mut injection = injector.open(&mut thread, 0).unwrap();
        let mut batch = Batch::new();
        batch.call(SYS_getpid, &[]);
        for _ in 0..3 {
            let to_process = round % 2 == 0;
            // Queued signals, of which none is lost: each has to arrive.
            // SAFETY: the child is alive until the witness is dropped.
            unsafe {
                if to_process {
                    libc::kill(witness.pid(), libc::SIGRTMIN());
                } else {
                    let signal = libc::SIGRTMIN();
                    libc::syscall(libc::SYS_tgkill, witness.pid(), tid, signal);
                }
            }
            sent += 1;
            injection.run(&batch).unwrap();
        }
        injection.finish().unwrap();
        thread.detach(0).unwrap();
    }
    let deadline = soon();
    while witness.shown() < sent {
        assert!(Instant::now() < deadline, "{} of {sent} signals", witness.shown());
    }
    assert_eq!(witness.shown(), sent);
}

#[test]
fn a_restartable_sequence_is_aborted_as_by_any_stop() {
    let mut witness = witness::spawn("sequence_role");
    witness.goes_on(3);
    let injector = injector(&witness);
    let tid = last_thread(&witness);
    let (mut rounds, mut inside) = (0, 0);
    let deadline = soon();
    while inside < 50 {
        assert!(Instant::now() < deadline, "{inside} of {rounds} stops were inside the sequence");
        rounds += 1;
        std::thread::sleep(Duration::from_micros(100));
        let mut thread = stop(tid);
        let before = thread.regs().unwrap().rip;
        let mut injection = injector.open(&mut thread, 0).unwrap();
        inside += u32::from(injection.regs().rip != before);
        let mut batch = Batch::new();
        batch.call(SYS_getpid, &[]);
        injection.run(&batch).unwrap();
        injection.finish().unwrap();
        thread.detach(0).unwrap();
    }
    witness.goes_on(3);
}

#[test]
fn a_thread_is_refused_while_it_is_not_stopped_by_us() {
    let witness = witness::spawn("sleeper_role");
    let injector = injector(&witness);
    let tid = Tid::new(last_thread(&witness)).unwrap();
    let traced = Traced::seize(tid, Options::default()).unwrap();
    let error = Traced::seize(tid, Options::default()).unwrap_err();
    assert!(matches!(error, PtraceError::Denied { .. }), "{error}");
    // SAFETY: the child is alive until the witness is dropped.
    unsafe { libc::syscall(libc::SYS_tgkill, witness.pid(), tid.raw(), libc::SIGURG) };
    let mut thread = traced.into_next_stop(soon()).unwrap();
    assert_eq!(thread.stop(), Stop::Signal(libc::SIGURG));
    let error = injector.open(&mut thread, 0).unwrap_err();
    assert!(matches!(error, InjectError::Refused { .. }), "{error}");
}

#[test]
fn seccomp_filters_are_passed_unless_they_bar_the_way_back() {
    let mut witness = witness::spawn("filtered_role");
    let injector = injector(&witness);
    let mut thread = stop(last_thread(&witness));
    let mut injection = injector.open(&mut thread, 0).unwrap();
    let mut batch = Batch::new();
    let call = batch.call(SYS_getppid, &[]);
    assert_eq!(injection.run(&batch).unwrap().get(call).unwrap(), u64::from(std::process::id()));
    let mut batch = Batch::new();
    batch.require_with_undo(SYS_eventfd2, &[0.into()], Undo::new(SYS_getppid, &[]));
    assert!(matches!(injection.run(&batch), Err(InjectError::BadBatch { index: 0, .. })));
    injection.finish().unwrap();
    thread.detach(0).unwrap();
    witness.beats();

    let witness = witness::spawn("trapped_role");
    let injector = self::injector(&witness);
    let deadline = soon();
    loop {
        let mut thread = stop(last_thread(&witness));
        match injector.open(&mut thread, 0) {
            Err(InjectError::Refused { why, .. }) => {
                assert!(why.contains("seccomp"), "{why}");
                break;
            }
            // The filter is not in force yet.
            Ok(injection) => injection.finish().unwrap(),
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn several_threads_at_once_have_a_slot_each() {
    let mut witness = witness::spawn("handled_by_nobody_role");
    witness.goes_on(2);
    let vdso = witness.vdso();
    let injector = injector(&witness);
    let mut threads: Vec<_> = witness.threads().into_iter().skip(1).take(6).map(stop).collect();
    let mut injections = Vec::new();
    let mut busy = 0;
    for thread in &mut threads {
        match injector.open(thread, 0) {
            Ok(injection) => injections.push(injection),
            Err(InjectError::Busy { .. }) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{} slots", injections.len());
    assert!(injections.len() >= 2 && busy >= 1);
    let mut batch = Batch::new();
    let call = batch.call(libc::SYS_gettid, &[]);
    for _ in 0..3 {
        for injection in &mut injections {
            let tid = injection.thread().tid().raw() as u64;
            assert_eq!(injection.run(&batch).unwrap().get(call).unwrap(), tid);
        }
    }
    // Not in the order they were opened.
    injections.swap(0, 1);
    for injection in injections {
        injection.finish().unwrap();
    }
    drop(threads);
    assert_eq!(witness.vdso(), vdso);
    witness.goes_on(2);
}
