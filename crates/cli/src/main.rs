//! `rekindle`: parse, call the engine, draw, exit code. Data goes to stdout, talk to stderr.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "this is the face; stdout goes through one function")]

mod archive;
mod args;
mod context;
mod demo;
mod draw;
mod draw_inspect;
mod draw_profile;
mod heatmap;
mod manual;
mod plan;
mod progress;
mod tui;
mod verbs;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = args::Cli::parse();
    talk(cli.common.verbose);
    verbs::run(cli, started)
}

/// Sets up the talk on stderr: warnings, with `-v` what happens, with `-vv` in detail.
fn talk(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("REKINDLE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Where stderr cannot be written to, neither can that it cannot: it would be a panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
