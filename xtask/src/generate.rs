//! Generated files: the Rust side of the checkpoint's `.proto`, the manual pages and the shells'
//! completions. They are committed, so that building needs neither this program nor a protobuf
//! compiler, and packaging no build; CI fails on a difference.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

const PROTO_FOLDER: &str = "crates/image/proto";
const PROTO: &str = "rekindle.proto";
const GENERATED: &str = "crates/image/src/generated/rekindle.rs";
const COMPLETIONS: &str = "share/completions";
const PAGES: &str = "share/man/man1";
const SHELLS: &[&str] = &["bash", "zsh", "fish"];
const NOTE: &str =
    "// Generated from proto/rekindle.proto by `cargo xtask generate`. Do not edit.\n\n";

/// Rebuilds what building needs: the Rust side of the schema. A file whose content does not change
/// is not touched.
///
/// # Errors
/// When the schema does not compile or the file cannot be written.
pub(crate) fn schema() -> anyhow::Result<()> {
    let root = crate::root();
    write_if_changed(&root.join(GENERATED), &rust_of_proto(&root.join(PROTO_FOLDER))?)
}

/// Rebuilds what the `rekindle` beside us says of itself; it has to be built from the source as it
/// is.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn share() -> anyhow::Result<()> {
    let root = crate::root();
    for shell in SHELLS {
        let path = root.join(COMPLETIONS).join(format!("rekindle.{shell}"));
        write_if_changed(&path, &rekindle(&["completions", shell])?)?;
    }
    // Pages of verbs that are no more go, too.
    let pages = root.join(PAGES);
    fs::remove_dir_all(&pages).with_context(|| format!("clear {}", pages.display()))?;
    rekindle(&["manual", "--output", PAGES]).map(drop)
}

/// What the `rekindle` prints that was built beside us.
fn rekindle(arguments: &[&str]) -> anyhow::Result<String> {
    let binary = std::env::current_exe().context("find our own file")?.with_file_name("rekindle");
    let output = Command::new(&binary)
        .args(arguments)
        .current_dir(crate::root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", binary.display()))?;
    if !output.status.success() {
        bail!("rekindle {} failed", arguments.join(" "));
    }
    String::from_utf8(output.stdout).context("read what rekindle printed")
}

/// The Rust code for the schema, protox instead of `protoc`.
fn rust_of_proto(folder: &Path) -> anyhow::Result<String> {
    // `{:?}` of protox's error draws the offending line of the schema.
    let schema = protox::compile([PROTO], [folder])
        .map_err(|e| anyhow::anyhow!("{e:?}"))
        .with_context(|| format!("compile {PROTO}"))?;
    let mut config = prost_build::Config::new();
    // Comments of the schema would be read as Rust documentation tests.
    config.disable_comments(["."]);
    let requests = schema
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let modules = config.generate(requests).context("generate Rust code")?;
    let code: Vec<String> = modules.into_values().collect();
    Ok(format!("{NOTE}{}", code.join("\n")))
}

fn write_if_changed(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
