//! The tree's form as a check: edges between rooms, the fence round `unsafe`, purity, length of
//! files, forbidden words.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::edges::{ALLOWED, PURE, UNSAFE};

/// Lines above which a source file has to be split.
const FILE_LINES_MAX: usize = 600;

/// What a pure room may not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
    "rustix::",
    "libc::",
    "nix::",
];

/// Runs every check and reports every finding at once.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    rooms_are_listed(root, &mut findings)?;
    edges_are_allowed(root, &mut findings)?;
    the_page_shows_the_edges(root, &mut findings)?;
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        check_file(&name, &text, &mut findings);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} findings:\n  {}", findings.len(), findings.join("\n  "))
}

fn rooms_are_listed(root: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !ALLOWED.iter().any(|(room, _)| *room == name) {
            findings.push(format!("crates/{name}: the room is not in the table of edges"));
        }
    }
    Ok(())
}

fn edges_are_allowed(root: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    for (room, allowed) in ALLOWED {
        let path = root.join("crates").join(room).join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let manifest: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else {
            continue;
        };
        let is_ours = |name: &str| ALLOWED.iter().any(|(r, _)| *r == name) || name == "sample-kv";
        for name in dependencies.keys().filter(|n| is_ours(n)) {
            if !allowed.contains(&name.as_str()) {
                findings.push(format!("crates/{room}: may not depend on `{name}`"));
            }
        }
    }
    Ok(())
}

/// `docs/ARCHITECTURE.md` has a line `| room | a, b, c |` for each room.
fn the_page_shows_the_edges(root: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md"))?;
    for (room, allowed) in ALLOWED {
        let list = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let line = format!("| `{room}` | {list} |");
        if !page.contains(&line) {
            findings.push(format!("docs/ARCHITECTURE.md: lacks the line `{line}`"));
        }
    }
    Ok(())
}

fn rust_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "samples", "tests", "xtask"].iter().map(|d| root.join(d)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn check_file(name: &str, text: &str, findings: &mut Vec<String>) {
    let room = name.strip_prefix("crates/").and_then(|rest| rest.split('/').next());
    let is_source = room.is_some_and(|r| name.starts_with(&format!("crates/{r}/src/")));
    let generated = name.contains("/generated/");
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX && !generated {
        findings.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    if let Some(room) = room
        && is_source
    {
        if !UNSAFE.contains(&room) && has_unsafe(text) {
            findings.push(format!("{name}: `unsafe` outside of {}", UNSAFE.join(" and ")));
        }
        if name.ends_with("/src/lib.rs")
            && !UNSAFE.contains(&room)
            && !text.contains("#![forbid(unsafe_code)]")
        {
            findings.push(format!("{name}: lacks #![forbid(unsafe_code)]"));
        }
        if PURE.contains(&room) {
            let code = text.split("#[cfg(test)]").next().unwrap_or(text);
            for word in IMPURE.iter().filter(|w| code.contains(**w)) {
                findings.push(format!("{name}: a pure room names `{word}`"));
            }
        }
    }
    for word in ["TODO", "FIXME", "XXX"] {
        let marker = format!("// {word}");
        if text.lines().any(|l| l.contains(&marker)) {
            findings.push(format!("{name}: an open `{word}`"));
        }
    }
}

/// Whether code, not a comment or a string that explains it, uses the keyword.
fn has_unsafe(text: &str) -> bool {
    text.lines().map(str::trim_start).filter(|l| !l.starts_with("//")).any(|l| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| l.contains(w))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        run(&crate::root()).unwrap();
    }

    fn findings(name: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check_file(name, text, &mut found);
        found
    }

    #[test]
    fn each_rule_can_fail() {
        assert_eq!(findings("crates/engine/src/a.rs", "fn a() { unsafe { b() } }\n").len(), 1);
        assert_eq!(findings("crates/sys/src/a.rs", "fn a() { unsafe { b() } }\n").len(), 0);
        assert_eq!(findings("crates/mem/src/a.rs", "use std::fs::File;\n").len(), 1);
        assert_eq!(findings("crates/engine/src/lib.rs", "mod a;\n").len(), 1);
        assert_eq!(findings("crates/engine/src/a.rs", &"//\n".repeat(601)).len(), 1);
        // Put together, so that this very line is none.
        let open = format!("// TO{} later\n", "DO");
        assert_eq!(findings("crates/engine/src/a.rs", &open).len(), 1);
        assert_eq!(findings("crates/engine/src/a.rs", "// unsafe { is a word }\n").len(), 0);
    }
}
