//! `rekindle inspect` on stored checkpoints: what it prints is a contract, in both forms.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GOLDEN: &str = "0123456789abcdef";
const CHILD: &str = "fedcba9876543210";

fn crates(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// A store with the golden checkpoints, and the folder of their line in it.
fn golden_store() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let make = |path: &Path| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
    };
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let golden = crates("image/tests/golden/v1");
    let mut line = PathBuf::new();
    for id in [GOLDEN, CHILD] {
        let folder = store.join("checkpoints").join(id);
        make(&folder);
        for entry in fs::read_dir(golden.join(id)).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &folder.join(entry.file_name()));
        }
        // The header says whose it is (FORMAT.md).
        let manifest = fs::read(folder.join("manifest")).unwrap();
        line = store.join("lines").join(std::str::from_utf8(&manifest[48..60]).unwrap());
    }
    make(&line);
    make(&store.join("tmp"));
    copy(&golden.join("key"), &line.join("key"));
    fs::write(store.join("layout"), "rekindle store 1\n").unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    (dir, line)
}

fn rekindle(store: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments)
        .env_clear()
        .env("REKINDLE_STORE", store.join("store"))
        .output()
        .unwrap()
}

/// What it prints on stdout, which has to be all.
fn said(store: &Path, arguments: &[&str]) -> String {
    let output = rekindle(store, arguments);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && talk.is_empty(), "{arguments:?}: {talk}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(store: &Path, arguments: &[&str]) -> serde_json::Value {
    let arguments: Vec<&str> = arguments.iter().chain(&["--format", "json"]).copied().collect();
    serde_json::from_str(&said(store, &arguments)).unwrap()
}

#[test]
fn a_checkpoint_is_shown_part_by_part() {
    let (dir, _) = golden_store();
    let mut text = String::new();
    for part in ["threads", "maps", "fds", "pages"] {
        text += &format!("== {part}\n{}", said(dir.path(), &["inspect", GOLDEN, part]));
    }
    text += &format!("== child\n{}", said(dir.path(), &["inspect", CHILD]));
    insta::assert_snapshot!("checkpoint_text", text);
    let object = json(dir.path(), &["inspect", CHILD, "fds"]);
    insta::assert_snapshot!("checkpoint_json", serde_json::to_string_pretty(&object).unwrap());
}

#[test]
fn what_is_known_of_accesses_is_shown_and_nothing_else() {
    let (dir, line) = golden_store();
    let text = said(dir.path(), &["inspect", CHILD, "heat"]);
    insta::assert_snapshot!("heat_unknown_text", text);
    let object = json(dir.path(), &["inspect", CHILD, "heat"]);
    assert!(object["heat"]["line"].is_null() && object["heat"]["hit_rate_permille"].is_null());
    // Heat of another program: of the pages here it knows nothing, and that is what is said.
    let private = |name: &Path, bytes: &[u8]| {
        fs::write(name, bytes).unwrap();
        fs::set_permissions(name, fs::Permissions::from_mode(0o600)).unwrap();
    };
    private(&line.join("heat"), &fs::read(crates("heat/tests/golden/v1.heat")).unwrap());
    fs::DirBuilder::new().mode(0o700).create(line.join("faults")).unwrap();
    let pages = json(dir.path(), &["inspect", CHILD, "pages"]);
    let extent = &pages["pages"][0];
    assert_eq!(extent["memory"], "private memory 0", "{extent}");
    let start = extent["start"].as_str().unwrap().trim_start_matches("0x");
    let page = u64::from_str_radix(start, 16).unwrap() / 4096;
    let mut log = "{\"schema\":\"rekindle.faults.v1\",\"answer_us\":1234}\n".to_owned();
    for page in [page, 1] {
        log += &format!("{{\"memory\":\"p0\",\"page\":{page},\"time_us\":7}}\n");
    }
    private(&line.join("faults/00112233-7"), log.as_bytes());
    private(&line.join("faults/00112233-8"), b"no log\n");
    let object = json(dir.path(), &["inspect", CHILD, "heat"]);
    let heat = serde_json::to_string_pretty(&object["heat"]).unwrap();
    insta::assert_snapshot!("heat_json", heat);
    insta::assert_snapshot!("heat_text", said(dir.path(), &["inspect", CHILD, "heat"]));
}

#[test]
fn what_is_nothing_is_named() {
    let (dir, _) = golden_store();
    for (subject, word) in [
        // Digits that are no process, and the beginning of an id.
        ("4194305", "there is no such process"),
        ("999999999999", "no process of it runs here"),
        ("nothing", "a reference is"),
    ] {
        let refused = rekindle(dir.path(), &["inspect", subject]);
        let talk = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && talk.contains(word), "{subject}: {talk}");
    }
    assert_eq!(json(dir.path(), &["inspect", "0123456"])["id"], GOLDEN);
}
