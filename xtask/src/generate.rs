//! Generated files: the Rust side of the checkpoint's `.proto`. They are committed, so that
//! building needs neither this program nor a protobuf compiler; CI fails on a difference.

use std::fs;
use std::path::Path;

use anyhow::Context;

const PROTO_FOLDER: &str = "crates/image/proto";
const PROTO: &str = "rekindle.proto";
const GENERATED: &str = "crates/image/src/generated/rekindle.rs";
const NOTE: &str =
    "// Generated from proto/rekindle.proto by `cargo xtask generate`. Do not edit.\n\n";

/// Rebuilds every generated file in place. A file whose content does not change is not touched.
///
/// # Errors
/// When the schema does not compile or a file cannot be written.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = crate::root();
    write_if_changed(&root.join(GENERATED), &rust_of_proto(&root.join(PROTO_FOLDER))?)
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
