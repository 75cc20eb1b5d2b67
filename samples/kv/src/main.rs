//! The sample key-value service as a program of its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    rekindle_sample_kv::run(std::env::args_os().skip(1))
}
