//! Programs in several languages continue exactly where they were, checkpoint after checkpoint:
//! each of their threads and tasks appends numbered values to a file, and a gap, a repetition or a
//! wrong value in any of them is a failure.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::files::Sequence;
use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{binaries, skips, wait};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);
const CYCLES: usize = 5;
/// Files that each program writes.
const SEQUENCES: u32 = 4;
/// Lines that each must have written before a checkpoint and after a resume.
const LINES: u64 = 25;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

fn start(place: &Place, mut words: Vec<String>) -> (Program, Vec<Sequence>) {
    let dir = place.path("lines");
    std::fs::create_dir(&dir).unwrap();
    words.push(dir.display().to_string());
    let program = Start::new(place.dir(), "program", &words).start();
    let file = |number| Sequence::in_file(&dir.join(format!("lines-{number}")));
    (program, (0..SEQUENCES).map(file).collect())
}

fn all_grow(program: &Program, sequences: &[Sequence]) {
    for sequence in sequences {
        assert!(program.exists(), "process {} is gone", program.pid());
        sequence.grows(LINES);
    }
}

/// Five times: ended by a checkpoint, brought back with the same pid, every sequence goes on.
fn continues(place: &Place, words: Vec<String>) {
    let (program, sequences) = start(place, words);
    let rekindle = Rekindle::new(&place.store(), place.dir());
    all_grow(&program, &sequences);
    for cycle in 0..CYCLES {
        let (mappings, descriptors) = (program.mappings(), program.descriptors());
        let stopped = rekindle.stop(program.pid(), &[]);
        program.wait_gone();
        let lines: Vec<u64> = sequences.iter().map(Sequence::check).collect();
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        assert_eq!(resumed.pid("pid_inside"), program.pid(), "cycle {cycle}: {resumed}");
        // A language's runtime opens files of its own for a moment.
        let numbers = |all: Vec<(i32, String)>| all.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        let before = numbers(descriptors);
        wait::until("the same descriptors", wait::PATIENCE, || {
            let now = numbers(program.descriptors());
            if now == before { Ok(()) } else { Err(format!("cycle {cycle}: {before:?}, {now:?}")) }
        });
        // Nothing was lost or added; the program itself may map and unmap as it goes on.
        let now = program.mappings();
        let kept = mappings.iter().filter(|mapping| now.contains(mapping)).count();
        assert!(kept * 10 >= mappings.len() * 9, "cycle {cycle}: {mappings:#?} became {now:#?}");
        for (sequence, before) in sequences.iter().zip(lines) {
            assert!(sequence.check() >= before, "cycle {cycle}: lines are gone");
        }
        all_grow(&program, &sequences);
    }
    program.kill();
}

/// A live checkpoint leaves every sequence as it would have been.
fn goes_on(place: &Place, words: Vec<String>) {
    let (program, sequences) = start(place, words);
    let rekindle = Rekindle::new(&place.store(), place.dir());
    all_grow(&program, &sequences);
    for _ in 0..CYCLES {
        let report = rekindle.checkpoint(program.pid(), &[]);
        assert!(report.number("pause_us") > 0, "{report}");
        all_grow(&program, &sequences);
    }
    program.kill();
}

fn words<const N: usize>(words: [&Path; N]) -> Vec<String> {
    words.map(|word| word.display().to_string()).into()
}

fn python() -> Option<Vec<String>> {
    let python = binaries::python();
    if python.is_none() {
        skips::skip("python3", "python3");
    }
    Some(words([&python?, &source("counting.py")]))
}

fn node() -> Option<Vec<String>> {
    let node = binaries::on_path("node");
    if node.is_none() {
        skips::skip("node", "node");
    }
    Some(words([&node?, &source("counting.js")]))
}

/// The class is compiled here: a run from source would hold a whole compiler in memory.
fn java(place: &Place) -> Option<Vec<String>> {
    let (java, javac) = (binaries::on_path("java"), binaries::on_path("javac"));
    if java.is_none() || javac.is_none() {
        skips::skip("java", "java and javac");
    }
    let classes = place.path("classes");
    let mut compile = Command::new(javac?);
    compile.arg("-d").arg(&classes).arg(source("Counting.java"));
    assert!(compile.status().unwrap().success(), "javac failed");
    let mut words = words([&java?, Path::new("-Xmx128m"), Path::new("-cp"), &classes]);
    words.push("Counting".into());
    Some(words)
}

fn rust() -> Vec<String> {
    words([Path::new(env!("CARGO_BIN_EXE_counting"))])
}

#[test]
fn python_continues() {
    sandbox::run(LIMIT, |place| {
        if let Some(words) = python() {
            continues(place, words);
        }
    });
}

#[test]
fn python_goes_on_through_live_checkpoints() {
    sandbox::run(LIMIT, |place| {
        if let Some(words) = python() {
            goes_on(place, words);
        }
    });
}

#[test]
fn node_continues() {
    sandbox::run(LIMIT, |place| {
        if let Some(words) = node() {
            continues(place, words);
        }
    });
}

#[test]
fn node_goes_on_through_live_checkpoints() {
    sandbox::run(LIMIT, |place| {
        if let Some(words) = node() {
            goes_on(place, words);
        }
    });
}

#[test]
fn java_continues() {
    sandbox::run(LIMIT, |place| {
        if let Some(words) = java(place) {
            continues(place, words);
        }
    });
}

#[test]
fn java_goes_on_through_live_checkpoints() {
    sandbox::run(LIMIT, |place| {
        if let Some(words) = java(place) {
            goes_on(place, words);
        }
    });
}

#[test]
fn rust_continues() {
    sandbox::run(LIMIT, |place| continues(place, rust()));
}

#[test]
fn rust_goes_on_through_live_checkpoints() {
    sandbox::run(LIMIT, |place| goes_on(place, rust()));
}

/// A program that is stopped by job control comes back stopped, every thread of it, and goes on
/// where it was when it is let go; a live checkpoint leaves it stopped, too.
#[test]
fn a_stopped_program_stays_stopped() {
    sandbox::run(LIMIT, |place| {
        let (program, sequences) = start(place, rust());
        let rekindle = Rekindle::new(&place.store(), place.dir());
        all_grow(&program, &sequences);
        for options in [&["--eager"][..], &["--lazy"]] {
            program.signal(Signal::STOP);
            let is_stopped = || {
                let tasks = std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
                let stat =
                    |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat"));
                tasks.flatten().all(|task| stat(task).unwrap().contains(") T "))
            };
            wait::until_true("the stop", wait::PATIENCE, is_stopped);
            let lines: Vec<u64> = sequences.iter().map(Sequence::check).collect();
            rekindle.checkpoint(program.pid(), &[]).expect_ok();
            assert!(is_stopped());
            let stopped = rekindle.stop(program.pid(), &[]);
            program.wait_gone();
            let resumed = rekindle.resume(stopped.text("id"), options);
            assert_eq!(resumed.pid("pid_inside"), program.pid(), "{resumed}");
            wait::until_true("the stop after the resume", wait::PATIENCE, is_stopped);
            std::thread::sleep(Duration::from_millis(100));
            let now: Vec<u64> = sequences.iter().map(Sequence::check).collect();
            assert_eq!(now, lines, "it wrote while it was stopped");
            program.signal(Signal::CONT);
            all_grow(&program, &sequences);
        }
        program.kill();
    });
}

/// A program without a free descriptor is copied while it stands still, and says so beforehand.
#[test]
fn a_program_without_a_free_descriptor_continues() {
    const SCRIPT: &str = "
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
held = []
try:
    while True: held.append(os.open('/dev/null', os.O_RDONLY))
except OSError: pass
print('full', len(held), flush=True)
out, n = sys.stdout, 0
import time
while True:
    n += 1
    print('count', n, flush=True)
    time.sleep(0.01)
";
    sandbox::run(LIMIT, |place| {
        let script = place.path("full.py");
        std::fs::write(&script, SCRIPT).unwrap();
        let Some(python) = binaries::python() else { return skips::skip("python3", "python3") };
        let program = Start::new(place.dir(), "program", &words([&python, &script])).start();
        let rekindle = Rekindle::new(&place.store(), place.dir());
        program.wait_for_line("to count", |line| line == "count 3");
        for _ in 0..2 {
            let before = program.descriptors().len();
            let stopped = rekindle.stop(program.pid(), &[]);
            program.wait_gone();
            let counted = program.lines().len();
            rekindle.resume(stopped.text("id"), &[]);
            program.wait_for_line("to go on", |line| line == format!("count {}", counted + 20));
            assert_eq!(program.descriptors().len(), before);
        }
        let lines = program.lines();
        let counted: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("count ")).collect();
        for (number, line) in counted.iter().enumerate() {
            assert_eq!(line.parse(), Ok(number + 1), "{lines:?}");
        }
        program.kill();
    });
}

/// Every program's sequences are right with no checkpoint at all: proves the programs themselves.
#[test]
fn the_programs_themselves_are_right() {
    sandbox::run(LIMIT, |place| {
        let programs = [python(), node(), java(place), Some(rust())];
        for (number, words) in programs.into_iter().flatten().enumerate() {
            let (program, sequences) = start(place, words);
            all_grow(&program, &sequences);
            program.kill();
            std::fs::rename(place.path("lines"), place.path(&format!("done-{number}"))).unwrap();
        }
    });
}

const ASYNCIO: &str = r#"
import asyncio, os, sys

async def serve(reader, writer):
    count = 0
    while line := await reader.readline():
        count += 1
        writer.write(b"%d %d %s" % (os.getpid(), count, line))
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    await server.serve_forever()

asyncio.run(main())
"#;

/// A server with asyncio goes to another process while a connection is open: the next line on it
/// is answered by the same coroutine, under the same pid.
#[test]
fn python_asyncio_updated() {
    use std::io::{BufRead, BufReader, Write};
    sandbox::run(LIMIT, |place| {
        let port = place.path("port");
        let server = rekindle_system_tests::program::python(place, "echo", ASYNCIO, &[&port]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let port: u16 = wait::until("the port", wait::PATIENCE, || {
            std::fs::read_to_string(&port).map(|text| text.parse().unwrap())
        });
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        let mut client = BufReader::new(client);
        let mut outside = server.pid();
        for round in 0..4 {
            if round > 0 {
                // Sent before, in part, and answered after.
                client.get_mut().write_all(b"hal").unwrap();
                outside = rekindle.update(outside, &["--wait", "60s"]).pid("pid");
                client.get_mut().write_all(b"f and ").unwrap();
            }
            writeln!(client.get_mut(), "line").unwrap();
            let mut line = String::new();
            client.read_line(&mut line).unwrap();
            let half = if round > 0 { "half and " } else { "" };
            assert_eq!(line, format!("{} {} {half}line\n", server.pid(), round + 1));
        }
        Program::of_pid(outside).kill();
        let mut rest = String::new();
        assert!(client.read_line(&mut rest).is_ok_and(|bytes| bytes == 0), "no end: {rest}");
    });
}
