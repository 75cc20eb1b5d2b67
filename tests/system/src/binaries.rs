//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// The `rekindle` binary: `REKINDLE_BIN`, or the one that cargo built beside this test.
pub fn rekindle() -> PathBuf {
    find("REKINDLE_BIN", "rekindle")
}

/// The witness: `REKINDLE_WITNESS_BIN`, or the one that cargo built beside this test.
pub fn witness() -> PathBuf {
    find("REKINDLE_WITNESS_BIN", "rekindle-witness")
}

/// The program whose use of memory is known: `REKINDLE_PATTERN_BIN`, or the one beside this test.
pub fn pattern() -> PathBuf {
    find("REKINDLE_PATTERN_BIN", "rekindle-pattern")
}

/// The program with odd properties: `REKINDLE_ODD_BIN`, or the one beside this test.
pub fn odd() -> PathBuf {
    find("REKINDLE_ODD_BIN", "rekindle-odd")
}

fn find(variable: &str, name: &str) -> PathBuf {
    let found = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => beside_this_test(name),
    };
    assert!(
        found.is_file(),
        "no {name} at {}: run `cargo build --workspace --bins` first, or set {variable}",
        found.display()
    );
    found
}

/// Tests lie in `target/PROFILE/deps`, binaries in `target/PROFILE`.
fn beside_this_test(name: &str) -> PathBuf {
    profile_dir().join(name)
}

/// `target/PROFILE` of this test.
pub(crate) fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let deps = test.parent().unwrap_or(Path::new("."));
    deps.parent().unwrap_or(deps).to_owned()
}

/// A program of the host by name, if it is on the path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Debian's python3 where there is one, else the first on the path.
pub fn python() -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/bin/python3");
    if debian.is_file() { Some(debian) } else { on_path("python3") }
}
