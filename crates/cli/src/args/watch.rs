//! The options of `watch`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Descriptors;
use super::values::{duration, period, permille, rehearse, size, window};

/// `watch`.
#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct Watch {
    /// A pid or an instance id.
    pub(crate) target: String,
    /// Length of a period: after each the memory is divided anew.
    #[arg(long, value_name = "TIME", value_parser = period, default_value = "60s")]
    pub(crate) every: Duration,
    /// Take a checkpoint so often.
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(crate) checkpoint_every: Option<Duration>,
    /// How many of the program's newest checkpoints to keep. A few more stay as long as these hold
    /// pages of theirs.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) keep: u16,
    /// The most that they may take in the store: fewer are kept, then.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_disk: Option<u64>,
    /// When the program has ended, wait until it is resumed, and go on.
    #[arg(long)]
    pub(crate) follow: bool,
    /// What SIGTERM and SIGHUP mean: a last checkpoint, or just the end. Ctrl-C is the end.
    #[arg(long, value_enum, default_value_t = OnTerm::Leave)]
    pub(crate) on_term: OnTerm,
    /// Serve metrics there, for Prometheus, at /metrics.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// End after this time, instead of with the program.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
    /// The most that the program may be slowed down, a share of its CPU time.
    #[arg(long, value_name = "SHARE", value_parser = permille, default_value = "1%")]
    pub(crate) max_slowdown: u32,
    /// Track reads exactly, too: NUMA balancing is turned on for the whole host meanwhile (and put
    /// back), and the slowdown may be more than asked for.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Take no checkpoint for which the program would stand still longer than this.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_pause: Option<Duration>,
    /// As in `checkpoint`, for each checkpoint.
    #[arg(long, value_name = "auto|off|TIME", value_parser = rehearse, default_value = "off")]
    pub(crate) rehearse: engine::Rehearse,
    /// As in `checkpoint`, before each checkpoint.
    #[arg(long, value_name = "TIME", value_parser = window, requires = "rehearse")]
    pub(crate) record_input: Option<Duration>,
    /// Numbers that are stored only as exactly as this asks for, as in `checkpoint`, at each checkpoint.
    /// Whatever lies in a range is taken for such numbers as long as the watch lasts.
    #[arg(long, value_name = "SPEC")]
    pub(crate) lossy: Vec<String>,
    /// Show the tiers over time on the terminal, instead of one line for each event.
    #[arg(long, conflicts_with = "format")]
    pub(crate) tui: bool,
    #[command(flatten)]
    pub(crate) descriptors: Descriptors,
}

const WATCH_EXAMPLES: &str = "\
Examples:
  rekindle watch 4711                          say every minute which memory it needs
  rekindle watch 4711 --tui                    the same, to look at
  rekindle watch 4711 --checkpoint-every 5m    and keep the last five checkpoints
  rekindle watch 4711 --metrics 127.0.0.1:9464 --on-term checkpoint
  rekindle checkpoint 4711 --stop              meanwhile, elsewhere: the watch makes way";

/// `--on-term`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnTerm {
    /// Take a last checkpoint.
    Checkpoint,
    /// End.
    Leave,
}
