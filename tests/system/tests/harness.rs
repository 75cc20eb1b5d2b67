//! The harness itself: a test that fails inside its namespaces fails outside, one that hangs is
//! killed, and nothing that a test started outlives it.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::Start;
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox;
use rekindle_system_tests::wait;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[should_panic(expected = "failed inside its namespaces")]
fn a_failure_inside_is_a_failure_outside() {
    sandbox::run(LIMIT, |_| panic!("this failure is wanted"));
}

#[test]
#[should_panic(expected = "did not end within")]
fn a_test_that_hangs_is_killed() {
    sandbox::run(Duration::from_secs(2), |_| {
        loop {
            std::thread::park();
        }
    });
}

/// Whether any process of the host has `word` among its arguments.
fn runs(word: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let arguments = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    arguments.into_iter().any(|line| line.split(|byte| *byte == 0).any(|w| w == word.as_bytes()))
}

#[test]
fn nothing_outlives_a_test() {
    const SECONDS: &str = "86399.125";
    let outside = sandbox::run(LIMIT, |place| {
        let program = Start::new(place.dir(), "sleeper", &["sleep", SECONDS]).start();
        wait::until_true("the sleeper", LIMIT, || program.exists() && runs(SECONDS));
    });
    if outside {
        wait::until_true("the end of what a test started", LIMIT, || !runs(SECONDS));
    }
}

#[test]
fn a_started_program_is_a_child_of_init_in_a_session_of_its_own() {
    sandbox::run(LIMIT, |place| {
        let program = Start::new(place.dir(), "sleeper", &["sleep", "100"]).start();
        let field = |number| program.proc_file("stat").split(' ').nth(number).map(str::to_owned);
        wait::until_true("init as the parent", LIMIT, || field(3).as_deref() == Some("1"));
        // Its parent may end before it begins its session.
        let its_own = Some(program.pid().to_string());
        wait::until_true("a session of its own", LIMIT, || field(5) == its_own);
        // While it loads its libraries it has them open.
        wait::until_true("the descriptors that a plain shell gives", LIMIT, || {
            let numbers: Vec<i32> = program.descriptors().into_iter().map(|(fd, _)| fd).collect();
            numbers == [0, 1, 2]
        });
        // Ended and reaped, the pid is free again.
        program.kill();
        assert_eq!(program.state(), None);
    });
}

#[test]
fn the_binary_is_there_and_knows_its_verbs() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let report = rekindle.run(&["no-such-verb"]);
        assert_eq!(report.code, Some(2), "{report}");
    });
}
