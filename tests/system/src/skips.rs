//! Skipping what the host cannot offer, by name and never silently.

use crate::binaries;
use serde::Deserialize;
use std::io::Write;
use std::path::PathBuf;

/// How the line of a skip begins.
pub const MARK: &str = "SKIP";

/// One line of `tests/unavailable.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unavailable {
    kind: String,
    lacks: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    unavailable: Vec<Unavailable>,
}

/// Says that `kind` (a kind of state, a program) is not tested because the host lacks `lacks`,
/// and counts it in `rekindle-skips.txt` beside the binaries (or the file that
/// `REKINDLE_SKIPS` names).
///
/// # Panics
/// Under `CI=true`, unless `tests/unavailable.toml` lists the pair.
#[expect(clippy::print_stdout, reason = "a skip is a line of the test's output")]
pub fn skip(kind: &str, lacks: &str) {
    println!("{MARK} {kind}: {lacks}");
    count(kind, lacks);
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        assert!(
            is_listed(kind, lacks),
            "{kind} was skipped because the host lacks {lacks}, which tests/unavailable.toml \
             does not list"
        );
    }
}

fn count(kind: &str, lacks: &str) {
    let path = match std::env::var_os("REKINDLE_SKIPS") {
        Some(path) => PathBuf::from(path),
        None => binaries::profile_dir().join("rekindle-skips.txt"),
    };
    let file = std::fs::File::options().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let _ = writeln!(file, "{kind}\t{lacks}");
    }
}

fn is_listed(kind: &str, lacks: &str) -> bool {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../unavailable.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    let list: List = toml::from_str(&text)
        .unwrap_or_else(|error| panic!("{} does not parse: {error}", path.display()));
    list.unavailable.iter().any(|one| one.kind == kind && one.lacks == lacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_parses_and_has_no_duplicates() {
        assert!(!is_listed("no such kind", "nothing"));
    }
}
