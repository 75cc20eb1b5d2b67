//! The options of `resume`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::duration;
use super::{Descriptors, Files};

/// `resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Which checkpoint.
    pub(crate) reference: String,
    /// Return as soon as the program runs; it gets a session of its own.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Load everything before the first instruction (the default where that takes less than 50 ms);
    /// `--eager=warm`: critical and warm memory before it, cold memory when it is touched.
    #[arg(long, value_enum, value_name = "all|warm", num_args = 0..=1, require_equals = true,
        default_missing_value = "all", hide_possible_values = true,
        conflicts_with_all = ["lazy", "on_demand"])]
    pub(crate) eager: Option<Eager>,
    /// Run at once; memory follows on demand and in the background (the default for larger programs).
    #[arg(long, conflicts_with = "on_demand")]
    pub(crate) lazy: bool,
    /// As `--lazy`, but load nothing that the program does not ask for.
    #[arg(long)]
    pub(crate) on_demand: bool,
    /// Command that succeeds once the program answers; run until it does.
    #[arg(long, value_name = "CMD")]
    pub(crate) probe: Option<String>,
    /// How long the probe may fail.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) probe_timeout: Duration,
    /// Resume although the original or another resume is alive; only without writable files. All
    /// memory is loaded first.
    #[arg(long, conflicts_with_all = ["lazy", "on_demand"])]
    pub(crate) as_copy: bool,
    /// File that gets the JSON report of a foreground resume.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) descriptors: Descriptors,
}

/// What `--eager` loads before the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Eager {
    /// Everything.
    All,
    /// All but cold memory.
    Warm,
}

impl Resume {
    /// The resume that CRIU's `restore` means: the latest checkpoint, nothing special.
    pub(crate) fn of_latest(detach: bool) -> Self {
        Self {
            reference: "latest".to_owned(),
            detach,
            eager: None,
            lazy: false,
            on_demand: false,
            probe: None,
            probe_timeout: Duration::from_secs(5),
            as_copy: false,
            report: None,
            descriptors: Descriptors { files: Files::Strict, tcp: None, external: Vec::new() },
        }
    }
}
