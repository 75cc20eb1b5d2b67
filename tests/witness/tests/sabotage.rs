//! A check that cannot fail is a defect: every kind is spoilt in each of its ways, and the witness
//! must notice, name the kind, and end with code 1.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

const WITNESS: &str = env!("CARGO_BIN_EXE_rekindle-witness");
/// Passes of 30 ms that bound a run that neither ends nor notices.
const PASSES: &str = "2000";
/// Runs at a time: most of them sleep.
const WORKERS: usize = 12;

/// Kinds that need something of the host: swap (the system tests turn it on and spoil that kind),
/// Linux 6.13, huge pages.
const HOST_DEPENDENT: [&str; 3] = ["paged-out", "guards", "huge"];

fn witness(arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(WITNESS);
    command.args(arguments).arg("--dir").arg(dir.path());
    command.args(["--mb", "2", "--pause-ms", "30"]).stdin(Stdio::null());
    command.output().unwrap()
}

/// Names, defaults and variants of all kinds.
fn list() -> Vec<(String, bool, Vec<String>)> {
    let text = witness(&["--list"]).stdout;
    let text = String::from_utf8(text).unwrap();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let variants = fields[2].split(',').map(str::to_owned).collect();
        (fields[0].to_owned(), fields[1] == "on", variants)
    };
    text.lines().map(parse).collect()
}

fn complaint(kind: &str, variant: &str) -> Option<String> {
    let sabotage = format!("{kind}/{variant}");
    let output = witness(&["--kinds", kind, "--sabotage", &sabotage, "--passes", PASSES]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(1) if message.starts_with(&format!("witness: {kind}: ")) => None,
        Some(4) if HOST_DEPENDENT.contains(&kind) => {
            println!("SKIP {kind}: {message}");
            let listed = include_str!("../../unavailable.toml").contains(&format!("\"{kind}\""));
            let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            (is_ci && !listed).then(|| format!("{kind}: not in tests/unavailable.toml: {message}"))
        }
        other => Some(format!("{sabotage}: exit {other:?}: {message}")),
    }
}

#[test]
fn every_sabotage_is_noticed() {
    let mut cases = Vec::new();
    for (kind, _, variants) in list() {
        assert!(!variants.is_empty(), "{kind} cannot be spoilt");
        cases.extend(variants.into_iter().map(|variant| (kind.clone(), variant)));
    }
    assert!(cases.len() > 100, "only {} cases", cases.len());
    let (cases, complaints) = (Mutex::new(cases), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some((kind, variant)) = cases.lock().unwrap().pop() else { break };
                    complaints.lock().unwrap().extend(complaint(&kind, &variant));
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Proves that nothing complains when nothing is wrong, with every kind the host offers.
#[test]
fn all_kinds_hold() {
    let all: Vec<String> = list().into_iter().map(|(kind, ..)| kind).collect();
    let output = witness(&["--kinds", &all.join(","), "--passes", "60"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
}

/// Proves that an ordinary user's state is checked as well.
#[test]
fn another_user_holds() {
    // SAFETY: takes no arguments.
    if unsafe { libc::getuid() } != 0 {
        println!("SKIP another_user_holds: not root");
        assert!(std::env::var("CI").is_err(), "the tests are to be run as root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), permissions).unwrap();
    let status = Command::new(WITNESS)
        .args(["--drop-to", "23456", "--passes", "40", "--mb", "2", "--pause-ms", "60", "--dir"])
        .arg(dir.path().join("files"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
