//! What a kind of state is, and what all kinds are given.

use crate::flaw::Outcome;
use std::path::PathBuf;
use std::time::Duration;

/// What a run was asked for; the same for all kinds.
#[derive(Debug, Clone)]
pub struct Context {
    /// Everything that is not derived from the kernel is derived from this.
    pub seed: u64,
    /// How much heap to fill, in MiB.
    pub megabytes: usize,
    /// The folder that files are made in; it is also the working directory.
    pub dir: PathBuf,
    /// Whether a stop may end the calls that the kernel ends with EINTR after any stop.
    pub stop_may_interrupt: bool,
    /// Whether threads spin instead of sleeping.
    pub busy: bool,
    /// Whether files stay as they are after set-up.
    pub still_files: bool,
    /// How long the checker sleeps between two passes.
    pub pause: Duration,
}

/// How much a check covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Everything the kind holds.
    Whole,
    /// A part; the next check goes on from there.
    Part,
}

/// One kind of state, set up and known byte by byte.
pub trait Kind {
    /// Compares the state with what it must be.
    fn check(&mut self) -> Outcome<Pass>;

    /// Changes the state to something else that is known. `step` counts from 1.
    fn mutate(&mut self, _step: u64) -> Outcome {
        Ok(())
    }

    /// Spoils the state in place in the way of `variant`, so that a check must notice.
    fn sabotage(&mut self, variant: &str) -> Outcome;
}

/// A kind as the command line knows it.
pub struct Entry {
    /// Its name on the command line and in messages.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// Whether `--all` includes it.
    pub by_default: bool,
    /// The ways it can be spoiled.
    pub variants: &'static [&'static str],
    /// Fills the state.
    pub set_up: fn(&Context) -> Outcome<Box<dyn Kind>>,
}

/// For a sabotage variant that the kind does not have.
#[macro_export]
macro_rules! no_variant {
    ($variant:expr) => {
        $crate::wrong!("has no sabotage named {}", $variant)
    };
}
