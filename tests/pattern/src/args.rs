//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// Which pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Hot pages are written, warm ones read.
    Mixed,
    /// Nothing is written.
    Model,
    /// One of three sets of hot pages is written at a time, in turn.
    Moving,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Args {
    /// Which pattern.
    pub pattern: Pattern,
    /// Megabytes (2^20 bytes) of memory.
    pub mb: u64,
    /// Which pages are chosen.
    pub seed: u64,
    /// Where the truth is written to; when it is there the work has begun.
    pub truth: PathBuf,
    /// A file whose first eight bytes count the touches.
    pub counter: Option<PathBuf>,
    /// How many threads share the work.
    pub threads: usize,
    /// How long a set is hot; zero: as the third number of the counter file says.
    pub phase: Duration,
}

const USAGE: &str = "usage: rekindle-pattern mixed|model|moving --truth FILE [--mb N] [--seed N] \
                     [--counter FILE] [--threads N] [--phase-ms N]";

impl Args {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// Says how it is used.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let pattern = match words.next().as_deref() {
            Some("mixed") => Pattern::Mixed,
            Some("model") => Pattern::Model,
            Some("moving") => Pattern::Moving,
            _ => return Err(USAGE.to_owned()),
        };
        let mut args = Self {
            pattern,
            mb: 256,
            seed: 1,
            truth: PathBuf::new(),
            counter: None,
            threads: 1,
            phase: Duration::from_secs(30),
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value; {USAGE}"))?;
            let number = || value.parse::<u64>().map_err(|e| format!("{flag} {value}: {e}"));
            match flag.as_str() {
                "--mb" => args.mb = number()?.max(16),
                "--phase-ms" => args.phase = Duration::from_millis(number()?),
                "--seed" => args.seed = number()?,
                "--threads" => {
                    args.threads = usize::try_from(number()?.clamp(1, 64)).unwrap_or(1);
                }
                "--truth" => args.truth = PathBuf::from(value),
                "--counter" => args.counter = Some(PathBuf::from(value)),
                _ => return Err(format!("{flag} is not known; {USAGE}")),
            }
        }
        if args.truth.as_os_str().is_empty() {
            return Err(USAGE.to_owned());
        }
        Ok(args)
    }
}
