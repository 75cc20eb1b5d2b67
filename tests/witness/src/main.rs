//! The witness: a program that knows every byte of its own state and checks it for ever.
//!
//! It fills every kind of state that rekindle carries ([`registry`] lists them, `kinds/` holds one
//! file per subject) with content that can be computed again from a seed, checks it pass after
//! pass, changes it, and ends at once with code 1 and a message naming what was off. It never
//! repairs anything and never retries a call that was interrupted.

mod area;
mod args;
mod board;
mod crew;
mod flaw;
mod kind;
mod kinds;
mod pattern;
mod privilege;
mod probe;
mod raw;
mod registry;
mod run;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("--help" | "-h") => println!("{}", args::HELP),
        Some("--list") => print!("{}", registry::list()),
        _ => match args::Args::parse(arguments) {
            Ok(args) => run::run(&args),
            Err(message) => {
                eprintln!("witness: {message}");
                std::process::exit(2);
            }
        },
    }
}
