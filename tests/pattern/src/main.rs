//! A program that touches its memory in a known pattern, page by page: what a profile of it must
//! find is written to a file before it begins.
//!
//! `mixed`: 5% of the pages are read and written all the time (as i64, f64 and vectors of f32),
//! 15% are read as u32 now and then, 80% are never touched after they were filled. `model`: 5%
//! are only read, inside of a random tenth of the 2 MB regions; 15% inside of another 30% of the
//! regions are scanned every second; the rest is never touched. `moving`: three sets of 5% are read
//! and written in turn, each for a phase; the number of the phase is the second number of the
//! counter file, and with `--phase-ms 0` it is the one that is the third.
#![cfg(target_arch = "x86_64")]

mod arena;
mod args;
mod touch;
mod truth;
mod work;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match args::Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(problem) => return fail(&problem),
    };
    match work::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem.to_string()),
    }
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("rekindle-pattern: {problem}");
    ExitCode::from(2)
}
