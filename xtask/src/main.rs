//! Checks of the tree's own form and its generated files: `cargo xtask tidy`,
//! `cargo xtask generate`, `cargo xtask ci`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever runs it")]

mod edges;
mod generate;
mod tidy;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let result = match verb.as_str() {
        "tidy" => tidy::run(&root()),
        "generate" => generate(),
        "ci" => ci(),
        _ => Err(anyhow::anyhow!(
            "name a task: `tidy` checks the tree's form, `generate` rebuilds generated files, \
             `ci` does what CI does"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {verb}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rebuilds generated files: first what the rest is built from.
fn generate() -> anyhow::Result<()> {
    generate::schema()?;
    cargo(&["build", "--workspace", "--bins"])?;
    generate::share()
}

/// Everything that must hold before a change lands, cheapest first.
fn ci() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run(&root())?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // The binaries that tests start, and the tests, in one build.
    cargo(&["build", "--workspace", "--all-targets"])?;
    generate::schema()?;
    generate::share()?;
    unchanged_in_git(&["crates/image/src/generated", "share"])?;
    cargo(&["test", "--workspace", "--no-fail-fast"])?;
    // A million frames: three properties.
    let numbers = ["test", "--workspace", "--test", "numbers", "frames"];
    cargo_with(&numbers, &[("REKINDLE_CASES", "350000")])
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    cargo_with(arguments, &[])
}

fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<()> {
    println!("== cargo {}", arguments.join(" "));
    let begun = Instant::now();
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root())
        .status()
        .context("start cargo")?;
    println!("== cargo {} took {} s", arguments[0], begun.elapsed().as_secs());
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

/// Fails when a generated file differs from the committed one.
fn unchanged_in_git(paths: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("git")
        .args(["diff", "--exit-code", "--stat", "--"])
        .args(paths)
        .current_dir(root())
        .status()
        .context("start git")?;
    if !status.success() {
        bail!("generated files differ from the committed ones: commit what `generate` wrote");
    }
    Ok(())
}
