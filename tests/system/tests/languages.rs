//! Programs in several languages continue exactly where they were, checkpoint after checkpoint:
//! each of their threads and tasks appends numbered values to a file, and a gap, a repetition or a
//! wrong value in any of them is a failure.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::files::Sequence;
use rekindle_system_tests::program::{Program, Start};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{binaries, skips, wait};
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
