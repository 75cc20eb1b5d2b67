//! `rekindle heatmap` on a stored heat file: no kernel feature, no running program.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};

fn golden() -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.join("heat/tests/golden/v1.heat").display().to_string()
}

/// Runs it with a store that does not exist, in a plain environment.
fn rekindle(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekindle"))
        .args(arguments)
        .env_clear()
        .env("REKINDLE_STORE", folder.join("store"))
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_heat_file_is_shown_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let heat = golden();
    let plain = rekindle(folder.path(), &["heatmap", &heat], &[("COLUMNS", "60")]);
    assert!(plain.status.success() && plain.stdout.is_ascii(), "no locale, no characters");
    assert!(text(&plain.stdout).lines().all(|l| l.len() <= 60 && !l.contains('\u{1b}')));
    let utf8 = rekindle(folder.path(), &["heatmap", &heat], &[("LANG", "C.UTF-8")]);
    assert!(text(&utf8.stdout).contains('▆') && text(&utf8.stdout).contains("multiply+0x23"));

    let json = rekindle(folder.path(), &["heatmap", &heat, "--format", "json"], &[]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["schema"], "rekindle.heatmap/1");
    let csv = rekindle(folder.path(), &["heatmap", &heat, "--format", "csv"], &[]);
    assert!(text(&csv.stdout).starts_with("start,end,pages,"));

    let page = folder.path().join("map.html");
    let name = page.display().to_string();
    let html = rekindle(folder.path(), &["heatmap", &heat, "--format", "html", "-o", &name], &[]);
    assert!(html.status.success() && html.stdout.is_empty());
    assert!(std::fs::read_to_string(page).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn what_is_no_heat_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (arguments, expected) in [
        (vec!["heatmap", "no/such.heat"], "failed to read no/such.heat"),
        (vec!["heatmap", manifest], "does not begin with the magic number of a heat file"),
        (vec!["heatmap", "0123456789ab"], "nothing was learned about instance 0123456789ab yet"),
        (vec!["list", "--format", "html"], "only `heatmap` has html and csv"),
    ] {
        let refused = rekindle(folder.path(), &arguments, &[]);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
    }
    let damaged = folder.path().join("damaged.heat");
    let mut bytes = std::fs::read(golden()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let refused = rekindle(folder.path(), &["heatmap", &damaged.display().to_string()], &[]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
}
