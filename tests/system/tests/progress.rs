//! Progress is drawn on a terminal, with rate and time left, and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::{binaries, sandbox, skips};
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Holds bytes that take a moment to store.
const HOLDER: &str = r"
import os, time
held = [os.urandom(1 << 20) for _ in range(128)]
print('ready', flush=True)
while True:
    time.sleep(1)
";

fn holder(place: &sandbox::Place) -> Program {
    let program = Start::new(place.dir(), "holder", &["python3", "-c", HOLDER]).start();
    program.wait_for_line("that it holds its bytes", |line| line == "ready");
    program
}

/// What a verb writes when its streams are a terminal; script(1) makes one.
fn on_a_terminal(place: &sandbox::Place, words: &str) -> Option<String> {
    if binaries::on_path("script").is_none() {
        skips::skip("progress on a terminal", "script");
        return None;
    }
    let seen = place.path("seen");
    let command =
        format!("{} {words} --store {}", binaries::rekindle().display(), place.store().display());
    let status = Command::new("script")
        .args(["--quiet", "--return", "--command", &command])
        .arg(&seen)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let text = String::from_utf8_lossy(&std::fs::read(&seen).unwrap()).into_owned();
    assert!(status.as_ref().is_ok_and(|s| s.success()), "{words}: {status:?}: {text}");
    Some(text)
}

/// The states of the bar, one after the other, without the codes of the terminal.
fn states(text: &str) -> Vec<String> {
    let lines = text.split(['\r', '\n', '\u{1b}']).map(|line| line.trim_start_matches("[2K"));
    lines.filter(|line| line.ends_with(" left")).map(str::to_owned).collect()
}

#[test]
fn a_terminal_sees_rate_and_time_left() {
    sandbox::run(LIMIT, |place| {
        let program = holder(place);
        let words = format!("checkpoint {}", program.pid());
        let Some(text) = on_a_terminal(place, &words) else { return };
        let states = states(&text);
        let moving = states.iter().find(|state| {
            let words: Vec<&str> = state.split_whitespace().collect();
            let unit = words.iter().position(|word| word.ends_with("B/s"));
            let number = unit.and_then(|at| words.get(at - 1)?.parse::<f64>().ok());
            number.is_some_and(|number| number > 0.0)
        });
        assert!(moving.is_some(), "no state with a rate: {states:#?}");
        assert!(states.iter().any(|state| state.starts_with("precopy")), "{states:#?}");
        assert!(text.contains("the program keeps running"), "{text}");
        // A verb that takes as long as it was told to has a time left, and moves no bytes.
        let words = format!("profile {} --for 500ms", program.pid());
        let Some(text) = on_a_terminal(place, &words) else { return };
        let states = self::states(&text);
        let collecting = states.iter().filter(|state| state.starts_with("collect"));
        let timed = collecting.filter(|state| !state.contains("B/s")).count();
        assert!(timed > 0, "{states:#?}");
        program.kill();
    });
}

#[test]
fn a_file_sees_nothing_of_it() {
    sandbox::run(LIMIT, |place| {
        let program = holder(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let report = rekindle.checkpoint(program.pid(), &[]);
        assert!(!report.talk.contains(['\r', '\u{1b}']), "{report}");
        assert!(!report.talk.contains(" left"), "{report}");
        // Nor does a terminal that asked for silence.
        let words = format!("checkpoint {} --progress never", program.pid());
        if let Some(text) = on_a_terminal(place, &words) {
            assert_eq!(states(&text), Vec::<String>::new(), "{text}");
        }
        program.kill();
    });
}
