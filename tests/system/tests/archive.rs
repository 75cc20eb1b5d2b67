//! Checkpoints that go from one store to another as a stream, through the command line.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::rekindle::{Rekindle, Running};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::wait::{self, PATIENCE};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{binaries, program::Program};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Three checkpoints of the witness on each other, the last of which ended it.
fn three(place: &Place, rekindle: &Rekindle) -> Witness {
    let witness = Witness::start(place, &["--mb", "16"]);
    for _ in 0..2 {
        let parent = rekindle.checkpoint(witness.program.pid(), &[]);
        assert_eq!(parent.json["outcome"], "running");
    }
    rekindle.stop(witness.program.pid(), &[]);
    witness
}

fn other_store(place: &Place, rekindle: &Rekindle) -> Rekindle {
    rekindle.clone().with_store(&place.path("other"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| {
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    });
    entries.unwrap_or_default()
}

#[test]
fn a_program_comes_back_from_another_store() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut witness = three(place, &rekindle);
        let before = rekindle.verified();
        let file = place.path("stream.tar");
        let tried = rekindle.run(&["export", "latest", "--dry-run"]);
        tried.expect_ok();
        assert!(tried.json["stream_bytes"].is_null(), "{tried}");
        let exported = rekindle.run(&["export", "latest", "-o", file.to_str().unwrap()]);
        exported.expect_ok();
        assert_eq!(exported.number("stream_bytes"), fs::metadata(&file).unwrap().len());
        assert_eq!(exported.json["checkpoints"].as_array().unwrap().len(), 3, "{exported}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let other = other_store(place, &rekindle);
        let imported = other.run(&["import", file.to_str().unwrap()]);
        imported.expect_ok();
        assert_eq!(imported.text("id"), before[0], "{imported}");
        assert_eq!(imported.json["imported"].as_array().unwrap().len(), 3, "{imported}");
        assert_eq!(other.verified(), before);
        let again = other.run(&["import", file.to_str().unwrap()]);
        again.expect_ok();
        assert_eq!(again.json["imported"].as_array().unwrap().len(), 0, "{again}");
        // Of the first store nothing is needed.
        fs::rename(place.store(), place.path("away")).unwrap();
        let resumed = other.resume("latest", &["--lazy"]);
        witness.program = Program::of_pid(resumed.pid("pid"));
        witness.goes_on(2);
        let next = other.stop(witness.program.pid(), &[]);
        assert_eq!(next.text("parent"), before[0], "{next}");
    });
}

#[test]
fn a_stream_goes_through_a_pipe_and_a_cut_one_is_refused() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        three(place, &rekindle);
        let binary = binaries::rekindle();
        let shell = |script: &str| {
            let done = Command::new("bash")
                .args(["-c", script])
                .env("REKINDLE", &binary)
                .env("HERE", place.store())
                .env("THERE", place.path("other"))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let talk = String::from_utf8(done.stderr).unwrap();
            (done.status.code(), String::from_utf8(done.stdout).unwrap(), talk)
        };
        let other = other_store(place, &rekindle);
        let export = "$REKINDLE export latest --store $HERE";
        let import = "$REKINDLE import - --store $THERE";
        let (code, _, talk) =
            shell(&format!("set -o pipefail; {export} | head -c 200000 | {import}"));
        assert_eq!(code, Some(5), "{talk}");
        assert!(talk.contains("ends after 200000 bytes"), "{talk}");
        assert_eq!((other.verified().len(), names(&place.path("other/tmp")).len()), (0, 0));
        // Whoever exports is told that nobody took it, too.
        let (code, _, talk) =
            shell(&format!("{export} | head -c 1000 > /dev/null; exit ${{PIPESTATUS[0]}}"));
        assert_eq!(code, Some(7), "{talk}");
        let (code, said, talk) = shell(&format!("set -o pipefail; {export} | {import}"));
        assert_eq!(code, Some(0), "{talk}");
        assert!(said.contains("is imported with the 2 it builds on"), "{said}");
        assert_eq!(other.verified(), rekindle.verified());
        let (code, said, talk) = shell(&format!("{export} --format json"));
        assert_eq!((code, said.as_str()), (Some(2), ""), "{talk}");
        let (code, _, talk) = shell(&format!("{import} --dry-run < /dev/null"));
        assert_eq!(code, Some(2), "{talk}");
        let (code, said, _) = shell(&format!("{export} | tar tvf -"));
        assert!(code == Some(0) && said.contains("/manifest"), "{said}");
    });
}

/// An import that has half of the stream and waits for more.
fn half_way(place: &Place, other: &Rekindle, stream: &[u8], words: &[&str]) -> (Running, fs::File) {
    let fifo = place.path("fifo");
    let _ = fs::remove_file(&fifo);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let words: Vec<&str> =
        ["import", fifo.to_str().unwrap()].iter().chain(words).copied().collect();
    let running = other.start(&words);
    let mut pipe = fs::File::options().write(true).open(&fifo).unwrap();
    pipe.write_all(&stream[..stream.len() / 2]).unwrap();
    wait::until_true("something of it to lie there", PATIENCE, || {
        !names(&place.path("other/tmp")).is_empty()
    });
    (running, pipe)
}

#[test]
fn an_import_that_ends_half_way_leaves_nothing_to_be_seen() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        three(place, &rekindle);
        let file: PathBuf = place.path("stream.tar");
        rekindle.run(&["export", "latest", "-o", file.to_str().unwrap()]).expect_ok();
        let stream = fs::read(&file).unwrap();
        let other = other_store(place, &rekindle);
        // Killed: what it leaves is not seen, and prune removes it.
        let (running, _pipe) = half_way(place, &other, &stream, &[]);
        assert!(running.kill());
        assert_eq!(other.verified().len(), 0);
        assert_eq!(names(&place.path("other/lines")).len(), 0);
        assert!(!names(&place.path("other/tmp")).is_empty());
        let pruned = other.run(&["prune"]);
        pruned.expect_ok();
        assert!(!pruned.json["leftovers"].as_array().unwrap().is_empty(), "{pruned}");
        assert_eq!(names(&place.path("other/tmp")).len(), 0);
        // Killed once more: the next import finds what lies there, and needs no prune.
        let (running, _pipe) = half_way(place, &other, &stream, &[]);
        assert!(running.kill());
        // On request, and when time is up although nothing comes.
        let (running, _pipe) = half_way(place, &other, &stream, &[]);
        running.signal(rustix::process::Signal::INT);
        let _ = running.finish().expect_failure(&[7], "rolled_back", &["receive", "interrupted"]);
        let (running, _pipe) = half_way(place, &other, &stream, &["--timeout", "2s"]);
        let _ = running.finish().expect_failure(&[8], "rolled_back", &["receive"]);
        assert_eq!(names(&place.path("other/tmp")).len(), 0);
        // A failure of any phase.
        for phase in ["receive", "verify", "publish"] {
            let failing = other.clone().through(&["env", &format!("REKINDLE_FAIL_PHASE={phase}")]);
            let failed = failing.run(&["import", file.to_str().unwrap()]);
            let _ = failed.expect_failure(&[7], "rolled_back", &[phase]);
            assert_eq!((other.verified().len(), names(&place.path("other/tmp")).len()), (0, 0));
        }
        other.run(&["import", file.to_str().unwrap()]).expect_ok();
        assert_eq!(other.verified(), rekindle.verified());
        // An altered one: the exit code of what is damaged.
        let mut altered = stream.clone();
        let at = altered.len() - 5000;
        altered[at] ^= 1;
        fs::write(&file, &altered).unwrap();
        let third = rekindle.clone().with_store(&place.path("third"));
        let refused = third.run(&["import", file.to_str().unwrap()]);
        let _ = refused.expect_failure(&[5], "refused", &[]);
        assert_eq!(third.verified().len(), 0);
        // A file that is there stays as it is when the export fails.
        let failing = rekindle.clone().through(&["env", "REKINDLE_FAIL_PHASE=send"]);
        let failed = failing.run(&["export", "latest", "-o", file.to_str().unwrap()]);
        let _ = failed.expect_failure(&[7], "rolled_back", &["send"]);
        assert_eq!(fs::read(&file).unwrap(), altered);
    });
}
