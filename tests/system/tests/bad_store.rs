//! Stores that cannot be written and checkpoints that must not be used: one clear message, the
//! documented exit code, nothing started, nothing half-written to see.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::witness::Witness;
use rekindle_system_tests::{rounds, wait};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(900);
/// Where the manifest's header has the format version: see docs/FORMAT.md.
const VERSION_OFFSET: u64 = 8;

fn rekindle(place: &Place) -> Rekindle {
    Rekindle::new(&place.store(), place.dir())
}

fn mount(arguments: &[&str], target: &Path) {
    let status = Command::new("mount").args(arguments).arg(target).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

/// A small tmpfs to be a store.
fn small_store(place: &Place, options: &str) -> PathBuf {
    let dir = place.path("small");
    std::fs::create_dir(&dir).unwrap();
    mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &dir);
    dir
}

/// Both kinds of checkpoint fail into `store`; the witness goes on; nothing can be listed.
fn cannot_be_written(witness: &Witness, rekindle: &Rekindle, codes: &[i32], words: &[&str]) {
    let pid = witness.program.pid().to_string();
    for arguments in [&["checkpoint", pid.as_str()] as &[&str], &["checkpoint", &pid, "--stop"]] {
        let report = rekindle.run(arguments);
        let outcome = report.json["outcome"].as_str().unwrap_or_default().to_owned();
        assert!(["refused", "rolled_back"].contains(&outcome.as_str()), "{report}");
        let _ = report.expect_failure(codes, &outcome, words);
        witness.moves();
    }
    let list = rekindle.run(&["list"]);
    assert!(!list.json.to_string().contains("\"id\""), "something is listed: {list}");
}

#[test]
fn a_store_that_is_full() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "48"]);
        let dir = small_store(place, "size=8m,mode=0700");
        let rekindle = rekindle(place).with_store(&dir.join("store"));
        cannot_be_written(&witness, &rekindle, &[7], &["small/store", "space"]);
        witness.goes_on(1);
        witness.program.kill();
    });
}

#[test]
fn a_store_that_is_read_only() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        let dir = small_store(place, "size=64m,mode=0700");
        std::fs::create_dir(dir.join("store")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(dir.join("store"), private).unwrap();
        mount(&["-o", "remount,ro"], &dir);
        let rekindle = rekindle(place).with_store(&dir.join("store"));
        cannot_be_written(&witness, &rekindle, &[6], &["small/store", "ead-only"]);
        witness.program.kill();
    });
}

#[test]
fn a_store_that_is_no_directory() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        let file = place.path("file");
        std::fs::write(&file, "not a store").unwrap();
        let rekindle = rekindle(place).with_store(&file);
        let pid = witness.program.pid().to_string();
        let report = rekindle.run(&["checkpoint", &pid]);
        assert!(matches!(report.code, Some(2..=7)), "{report}");
        assert!(report.talk.contains("file"), "{report}");
        assert_eq!(std::fs::read(&file).unwrap(), b"not a store");
        witness.moves();
        witness.program.kill();
    });
}

/// Two writers at once: each succeeds or is refused with a clear message, and what is listed
/// afterwards is whole.
#[test]
fn a_store_that_is_in_use() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "256"]);
        let rekindle = rekindle(place);
        let pid = witness.program.pid().to_string();
        let first = rekindle.start(&["checkpoint", &pid]);
        let second = rekindle.start(&["checkpoint", &pid]);
        let reports = [first.finish(), second.finish()];
        let done = reports.iter().filter(|report| report.code == Some(0)).count();
        assert!(done >= 1, "{} {}", reports[0], reports[1]);
        for report in reports.iter().filter(|report| report.code != Some(0)) {
            assert_eq!(report.code, Some(3), "{report}");
            assert_eq!(report.json["outcome"], "refused", "{report}");
        }
        for report in reports.iter().filter(|report| report.code == Some(0)) {
            rekindle.run(&["verify", report.text("id")]).expect_ok();
        }
        witness.goes_on(1);
        witness.program.kill();
    });
}

/// What is damaged, or has lost what it builds on, is named by `prune --recompress`, and everything else is
/// done, newer ones too.
#[test]
fn what_cannot_be_recompressed_holds_nothing_up() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8"]);
        let rekindle = rekindle(place);
        let pid = witness.program.pid();
        let parents = ["none", "none", "latest", "none"];
        let made: Vec<String> = parents
            .iter()
            .map(|on| rekindle.checkpoint(pid, &["--parent", on]).text("id").to_owned())
            .collect();
        witness.program.kill();
        let pages = directory_of(rekindle.store(), &made[0]).join("pages");
        let middle = std::fs::metadata(&pages).unwrap().len() / 2;
        // Whatever lies there: a whole block.
        for offset in middle..middle + 4096 {
            flip(&pages, offset);
        }
        let parent = directory_of(rekindle.store(), &made[1]);
        std::fs::rename(&parent, place.path("away")).unwrap();
        let ids = |report: &Report, key: &str| -> Vec<String> {
            let rows = report.json[key].as_array().unwrap().iter();
            rows.map(|row| row["id"].as_str().or(row.as_str()).unwrap().to_owned()).collect()
        };
        for (code, done) in [(10, &made[3..]), (7, &[])] {
            let pruned = rekindle.run(&["prune", "--recompress"]);
            assert_eq!(pruned.code, Some(code), "{pruned}");
            assert_eq!(ids(&pruned, "failed"), [&made[0][..], &made[2]], "{pruned}");
            assert_eq!(ids(&pruned, "recompressed"), done, "{pruned}");
            assert!(pruned.json["failed"][1]["error"].as_str().unwrap().contains(&made[1]));
            assert!(pruned.talk.contains(&made[0]), "{pruned}");
        }
        std::fs::rename(place.path("away"), &parent).unwrap();
        let pruned = rekindle.run(&["prune", "--recompress"]);
        assert_eq!(pruned.code, Some(10), "{pruned}");
        assert_eq!(ids(&pruned, "recompressed"), &made[1..3], "{pruned}");
        for id in &made[1..] {
            rekindle.run(&["verify", id]).expect_ok();
        }
    });
}

/// The directory of a checkpoint: the one whose name contains its id.
fn directory_of(store: &Path, id: &str) -> PathBuf {
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name().to_string_lossy().contains(id) {
                    return path;
                }
                folders.push(path);
            }
        }
    }
    panic!("no directory of {id} in {}", store.display());
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut files: Vec<_> = entries.map(|e| e.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files.retain(|path| std::fs::metadata(path).is_ok_and(|data| data.len() > 0));
    assert!(!files.is_empty(), "no files in {}", dir.display());
    files
}

/// A witness that was ended by a checkpoint.
struct Saved {
    witness: Witness,
    rekindle: Rekindle,
    id: String,
}

impl Saved {
    fn make(place: &Place, megabytes: &str) -> Self {
        let witness = Witness::start(place, &["--mb", megabytes]);
        witness.goes_on(1);
        let rekindle = rekindle(place);
        let id = rekindle.stop(witness.program.pid(), &[]).text("id").to_owned();
        witness.program.wait_gone();
        Self { witness, rekindle, id }
    }

    fn files(&self) -> Vec<PathBuf> {
        files_of(&directory_of(self.rekindle.store(), &self.id))
    }

    /// `verify` and `resume` both say no, and nothing was started.
    fn is_refused(&self, what: &str, codes: &[i32]) {
        let verify = self.rekindle.run(&["verify", &self.id]);
        let refused = |report: &Report| report.code.is_some_and(|code| codes.contains(&code));
        assert!(refused(&verify), "{what}, wanted {codes:?}: {verify}");
        // The hashes of pages are for checkpoints that build on this one; a resume reads none.
        if !what.contains("hashes") {
            self.cannot_be_resumed(what, codes);
        }
    }

    fn cannot_be_resumed(&self, what: &str, codes: &[i32]) {
        let resume = self.rekindle.run(&["resume", &self.id, "--detach"]);
        assert!(resume.code.is_some_and(|code| codes.contains(&code)), "{what}: {resume}");
        for outcome in ["resumed", "lost"] {
            assert_ne!(resume.json["outcome"], outcome, "{what}: {resume}");
        }
        assert!(!resume.talk.contains("panicked"), "{what}: {resume}");
        let gone = || !self.witness.program.exists();
        wait::until_true(&format!("nothing left running: {what}"), wait::PATIENCE, gone);
    }

    /// It was not the checkpoint's fault: as it was, it can be resumed.
    fn can_be_resumed(&self) {
        self.rekindle.resume(&self.id, &[]);
        self.witness.goes_on(1);
        self.witness.program.kill();
    }
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1 << (offset % 8);
    file.write_all_at(&byte, offset).unwrap();
}

/// Any byte of any file: spread over the whole, with both ends.
#[test]
fn a_checkpoint_altered_in_any_byte() {
    sandbox::run(LIMIT, |place| {
        let saved = Saved::make(place, "8");
        for path in saved.files() {
            let len = std::fs::metadata(&path).unwrap().len();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let count = rounds(8, 60) as u64;
            let inner = (0..count).map(|number| number * len / count + number * 37 % 4096);
            for offset in [0, len - 1].into_iter().chain(inner).filter(|offset| *offset < len) {
                flip(&path, offset);
                saved.is_refused(&format!("byte {offset} of {name} altered"), &[4, 5]);
                flip(&path, offset);
            }
        }
        saved.can_be_resumed();
    });
}

#[test]
fn a_checkpoint_that_is_truncated() {
    sandbox::run(LIMIT, |place| {
        let saved = Saved::make(place, "8");
        for path in saved.files() {
            let whole = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            for len in [whole.len() - 1, whole.len() / 2, 100, 1, 0] {
                std::fs::write(&path, &whole[..len.min(whole.len() - 1)]).unwrap();
                saved.is_refused(&format!("{name} cut to {len}"), &[4, 5]);
            }
            std::fs::remove_file(&path).unwrap();
            saved.is_refused(&format!("{name} removed"), &[2, 4, 5]);
            std::fs::write(&path, &whole).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, private).unwrap();
        }
        saved.can_be_resumed();
    });
}

#[test]
fn a_checkpoint_of_a_newer_format() {
    sandbox::run(LIMIT, |place| {
        let saved = Saved::make(place, "8");
        let files = saved.files();
        let manifest = files.iter().find(|path| path.to_string_lossy().contains("manifest"));
        let manifest = manifest.unwrap_or_else(|| panic!("no manifest among {files:?}"));
        let file = std::fs::File::options().read(true).write(true).open(manifest).unwrap();
        let mut version = [0; 4];
        file.read_exact_at(&mut version, VERSION_OFFSET).unwrap();
        file.write_all_at(&999u32.to_le_bytes(), VERSION_OFFSET).unwrap();
        let report = saved.rekindle.run(&["verify", &saved.id]);
        assert!(report.code == Some(4) && report.talk.contains("999"), "{report}");
        saved.cannot_be_resumed("a newer format", &[4]);
        file.write_all_at(&version, VERSION_OFFSET).unwrap();
        saved.can_be_resumed();
    });
}

#[test]
fn a_file_that_has_changed() {
    sandbox::run(LIMIT, |place| {
        let saved = Saved::make(place, "8");
        let path = place.path("witness/files/data");
        let before = std::fs::read(&path).unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, b"other contents").unwrap();
        let report = saved.rekindle.run(&["resume", &saved.id, "--detach"]);
        let _ = report.expect_failure(&[4], "refused", &["witness/files/data"]);
        assert!(!saved.witness.program.exists());
        // The same bytes and times again, but the change itself cannot be taken back (ctime):
        // whoever knows better says so.
        std::fs::write(&path, &before).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        saved.cannot_be_resumed("a file written again", &[4]);
        saved.rekindle.resume(&saved.id, &["--files", "ignore"]);
        saved.witness.goes_on(1);
        saved.witness.program.kill();
    });
}

/// The original is alive, or another resume is.
#[test]
fn a_program_that_runs_already() {
    sandbox::run(LIMIT, |place| {
        let witness = Witness::start(place, &["--mb", "8", "--still-files"]);
        let rekindle = rekindle(place);
        let pid = witness.program.pid();
        let live = rekindle.checkpoint(pid, &[]);
        let refuse = |id: &str| {
            let report = rekindle.run(&["resume", id, "--detach"]);
            let report = report.expect_failure(&[3], "refused", &[&pid.to_string()]);
            assert!(report.blockers().contains(&"already-running"), "{report}");
            witness.moves();
        };
        refuse(live.text("id"));
        let stopped = rekindle.stop(pid, &[]);
        witness.program.wait_gone();
        rekindle.resume(stopped.text("id"), &[]);
        refuse(stopped.text("id"));
        // An older checkpoint of the same line is refused for the same reason.
        refuse(live.text("id"));
        witness.goes_on(1);
        witness.program.kill();
    });
}

/// Another boot: the host's boot id is not the one of the checkpoint. Either the program's clocks
/// go on in a time namespace (it checks that they do), or the checkpoint is refused.
#[test]
fn a_checkpoint_of_another_boot() {
    sandbox::run(LIMIT, |place| {
        let saved = Saved::make(place, "8");
        let other = place.path("boot_id");
        std::fs::write(&other, "00000000-0000-4000-8000-000000000001\n").unwrap();
        let real = Path::new("/proc/sys/kernel/random/boot_id");
        mount(&["--bind", &other.display().to_string()], real);
        let report = saved.rekindle.run(&["resume", &saved.id, "--detach"]);
        if report.code == Some(0) {
            let changed = report.json["changed"].to_string();
            assert!(changed.contains("time namespace"), "no word of the clocks: {report}");
            saved.witness.goes_on(2);
            // From there it is stored and brought back like any other, in that boot and in ours.
            let instance = saved.rekindle.run(&["list"]).json["checkpoints"][0]["instance"].clone();
            let instance = instance.as_str().unwrap();
            let again = saved.rekindle.run(&["checkpoint", instance, "--stop"]).expect("stopped");
            saved.rekindle.resume(again.text("id"), &[]);
            saved.witness.goes_on(2);
            let again = saved.rekindle.run(&["checkpoint", instance, "--stop"]).expect("stopped");
            assert!(Command::new("umount").arg(real).status().unwrap().success());
            saved.rekindle.resume(again.text("id"), &[]);
            saved.witness.goes_on(2);
            saved.witness.program.kill();
            return;
        }
        let _ = report.expect_failure(&[4], "refused", &["boot"]);
        let status = Command::new("umount").arg(real).status().unwrap();
        assert!(status.success());
        saved.can_be_resumed();
    });
}

#[test]
fn references_that_lead_nowhere() {
    sandbox::run(LIMIT, |place| {
        let rekindle = rekindle(place);
        for words in [
            ["resume", "latest"],
            ["resume", "no such thing"],
            ["verify", "0123456789abcdef"],
            ["inspect", "latest~3"],
        ] {
            let report = rekindle.run(&words);
            assert_eq!(report.code, Some(2), "{report}");
            assert!(!report.talk.contains("panicked") && !report.talk.is_empty(), "{report}");
        }
    });
}

/// A store of root is closed to everybody else, files and folders.
#[test]
fn nobody_else_can_read_a_checkpoint() {
    use std::os::unix::fs::MetadataExt;
    sandbox::run(LIMIT, |place| {
        let saved = Saved::make(place, "8");
        let mut folders = vec![place.store()];
        while let Some(folder) = folders.pop() {
            let mode = std::fs::metadata(&folder).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o700, "{}", folder.display());
            for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let mode = entry.metadata().unwrap().mode() & 0o7777;
                    assert_eq!(mode, 0o600, "{}", entry.path().display());
                }
            }
        }
        saved.can_be_resumed();
    });
}
