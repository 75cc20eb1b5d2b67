//! The grammar of the command line.

mod resume;
mod values;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use resume::{Eager, Resume};
use values::{CpuSet, cpus, duration, limit, permille, place, rehearse, shadow, window};
pub(crate) use watch::{OnTerm, Watch};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rekindle check 4711                   what stands in the way of a checkpoint of process 4711
  rekindle checkpoint 4711              take a checkpoint; the program keeps running
  rekindle checkpoint 4711 --stop       take a checkpoint and end the program
  rekindle resume latest                bring it back, here, as if it had been started here
  rekindle resume latest --detach       bring it back in the background
  rekindle heatmap X.heat               what a profile found out, in the terminal
  rekindle profile 4711 --for 10s       see which memory it really needs; it keeps running
  rekindle demo                         see all of it on a sample service

TARGET is a pid or an instance id. REF is a checkpoint id, a unique prefix of one, `latest`,
`latest:INSTANCE`, or a path. `resume` brings a program back from a checkpoint (CRIU and DMTCP
say restore); it is not the counterpart of a pause.";

/// Pause a running Linux program, keep the memory it needs, bring it back.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, about, before_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Directory that holds the checkpoints [default: the user's state directory].
    #[arg(long, global = true, env = "REKINDLE_STORE", value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// What stdout gets.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone.
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long to wait for blockers that pass by themselves.
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) wait: Duration,
    /// Say what would be done, and do nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// More talk on stderr; repeat for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Whether to draw progress.
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
}

/// What stdout gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// One HTML file that needs nothing else (only `heatmap`).
    Html,
    /// Comma-separated values (only `heatmap`).
    Csv,
}

/// Whether to draw progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// On a terminal.
    Auto,
    /// Not at all.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What this host can do; every blocker of TARGET.
    Check {
        /// A pid or an instance id; without one only the host is looked at.
        target: Option<String>,
        /// Measure what profiling costs on this host, on ourselves, and keep it.
        #[arg(long)]
        calibrate: bool,
        /// Look as a checkpoint with `--stop` would.
        #[arg(long)]
        stop: bool,
        /// Look as `update` would.
        #[arg(long, conflicts_with = "stop")]
        update: bool,
        #[command(flatten)]
        descriptors: Descriptors,
    },
    /// Start CMD under a stable outer pid: signals and exit status pass through.
    Run {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Store the state of a running program; it keeps running unless `--stop` is given.
    Checkpoint {
        /// A pid or an instance id.
        target: String,
        /// End the program once the checkpoint is safe on disk.
        #[arg(long)]
        stop: bool,
        /// Checkpoint of this program to build on: what is the same there is not stored again.
        /// `latest` is its newest, if it has one; `none` stores everything.
        #[arg(long, value_name = "REF", default_value = "latest")]
        parent: String,
        #[command(flatten)]
        planning: Planning,
        /// Store numbers only as exactly as this asks for: `range=START-END` (hexadecimal) or
        /// `symbol=NAME`, `type=f64` (or f32, u8 to u64, i8 to i64), and a bound for each number's
        /// error: `abs=E`, `rel=E` (times the number itself), `range-rel=E` (times largest minus
        /// smallest). The program itself keeps what it has; a resume gets the approximation. Can be
        /// given several times.
        #[arg(long, value_name = "SPEC")]
        lossy: Vec<String>,
        /// Give up, thaw and undo if the program would stand still longer than this.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        max_pause: Option<Duration>,
        /// Fork the paused program and copy it from the fork while it runs, so that it stands still no
        /// longer than a fork takes; `auto`: where copying would take longer by far.
        #[arg(long, value_name = "auto|on|off", value_parser = shadow, default_value = "auto")]
        shadow: engine::ShadowChoice,
        /// Run a clone of the paused program, without any effect, for this much CPU time, to see
        /// which memory it touches first; `auto`: 50ms where it can pay. The pause grows by a fork.
        #[arg(long, value_name = "auto|off|TIME", value_parser = rehearse, default_value = "off")]
        rehearse: engine::Rehearse,
        /// Record for this long before the pause what the program receives by sockets and pipes, and
        /// play it to the clone, so that a server does its work there. It is kept in memory alone, for
        /// as long as the rehearsal takes. Meanwhile every system call on the host takes a
        /// little longer.
        #[arg(long, value_name = "TIME", value_parser = window, requires = "rehearse")]
        record_input: Option<Duration>,
        #[command(flatten)]
        descriptors: Descriptors,
    },
    /// Watch which memory a running program touches, how often, as what and from which code.
    Profile(Profile),
    /// Bring a program back from a checkpoint (restore). In the foreground it is the program:
    /// its stdio and its exit status.
    Resume(Resume),
    /// Have another process take a running program over, with its memory, its descriptors and its
    /// connections.
    Update(Update),
    /// Keep the division of a running program's memory up to date, period after period, and take
    /// checkpoints now and then.
    Watch(Watch),
    /// Show what is known of a program's memory: how often it is used, from which code, as what.
    Heatmap {
        /// A `.heat` file, a pid or an instance id, or a checkpoint.
        #[arg(value_name = "TARGET|X.heat|REF")]
        subject: String,
        /// File that gets it, instead of stdout.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Profile the program, and draw what was seen so far on the terminal every two seconds, until
        /// `q` or Ctrl-C. What was seen is added to its heat, as by `profile`.
        #[arg(long, conflicts_with = "output")]
        live: bool,
        /// With `--live`: how long, at most.
        #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "live")]
        time: Option<Duration>,
    },
    /// Show how memory would be divided into critical, warm and cold, without doing anything.
    Plan(Plan),
    /// Show what a checkpoint holds, or what a running program is made of: that is looked at while it
    /// runs, and not stopped.
    Inspect {
        /// A pid or an instance id, or a checkpoint.
        #[arg(value_name = "TARGET|REF")]
        subject: String,
        /// Which part.
        #[arg(value_enum)]
        part: Option<Part>,
    },
    /// Read a checkpoint whole and check every byte of it.
    Verify {
        /// Which checkpoint.
        reference: String,
        /// Also check whether it can be resumed here.
        #[arg(long)]
        for_this_host: bool,
    },
    /// Write a checkpoint, and those it builds on, as one stream: a tar archive of a store that holds
    /// nothing else, for `rekindle import` or tar(1). It holds the memory of the program, secrets
    /// included. Pages that are read from other files of this host do not come along.
    #[command(after_help = "\
To another host:    rekindle export latest | ssh HOST rekindle import -")]
    Export {
        /// Which checkpoint.
        reference: String,
        /// File that gets it, whole or not at all; without it, or with `-`, stdout.
        #[arg(short, long, value_name = "FILE|-")]
        output: Option<PathBuf>,
    },
    /// Take the checkpoints of a stream in that `export` wrote. Everything is checked before
    /// anything is visible. Take in only what you trust: what is resumed runs as you.
    Import {
        /// The file, or `-` for stdin.
        #[arg(value_name = "FILE|-")]
        input: PathBuf,
    },
    /// How far resumed programs are loaded, what of ours stays with them, and what is watched.
    Status {
        /// A pid or an instance id; without one every resumed or watched program.
        target: Option<String>,
    },
    /// List the checkpoints of the store.
    List,
    /// Remove checkpoints, or store them in less space; bare, it removes only what crashed writers
    /// left behind.
    Prune {
        /// How many of the newest checkpoints of each line to keep.
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
        /// Store pages that older checkpoints hold anew, so that these can go; without `--keep`
        /// those of the newest checkpoint of each line.
        #[arg(long)]
        consolidate: bool,
        /// Store what stays in less space: every checkpoint of the store that is not used just now,
        /// once, at the lowest priority, in about 12 s of processor time for each GB. Critical pages
        /// keep the form that is read soonest. On expiry of `--timeout` and on Ctrl-C the checkpoint at
        /// hand is as it was; those before it stay done. One that is damaged stays as it is and is named
        /// (exit 10).
        #[arg(long)]
        recompress: bool,
    },
    /// See all of it on a sample service, with a report.
    Demo {
        /// How much the service holds, in MB.
        #[arg(long, default_value_t = 512)]
        mb: u64,
    },
    /// Completions of the command line for a shell, on stdout.
    #[command(after_help = "\
For the shell at hand:      source <(rekindle completions bash)
For every shell to come:    rekindle completions bash > /etc/bash_completion.d/rekindle")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// A manual page on stdout, or all of them in a folder:
    /// `rekindle manual checkpoint | man -l -`.
    Manual {
        /// The verb that it is about; without one the page about rekindle.
        verb: Option<String>,
        /// Folder that gets every page: `/usr/local/share/man/man1` for man(1) to find them.
        #[arg(short, long, value_name = "DIR", conflicts_with = "verb")]
        output: Option<PathBuf>,
    },
    /// CRIU's words: checkpoint and stop.
    #[command(hide = true)]
    Dump {
        /// The pid.
        #[arg(short = 't', long = "tree", value_name = "PID")]
        target: String,
        /// Directory that holds the checkpoints.
        #[arg(short = 'D', long = "images-dir", value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Leave the program running.
        #[arg(short = 'R', long)]
        leave_running: bool,
        /// Close established TCP connections in the checkpoint.
        #[arg(long)]
        tcp_close: bool,
    },
    /// CRIU's words: resume the latest checkpoint.
    #[command(hide = true)]
    Restore {
        /// Directory that holds the checkpoints.
        #[arg(short = 'D', long = "images-dir", value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Do not wait for the program.
        #[arg(short = 'd', long = "restore-detached")]
        detach: bool,
    },
    /// The process that stays with a resumed program; started by `resume`.
    #[command(hide = true)]
    Agent {
        /// Goes on from the ledger open under this number.
        #[arg(long, value_name = "FD")]
        ledger: Option<i32>,
        /// Goes on from what this process holds open.
        #[arg(long, value_name = "PID", conflicts_with = "ledger")]
        from: Option<i32>,
    },
    /// The service that `demo` works on.
    #[command(hide = true, name = "sample-kv")]
    SampleKv {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// How a checkpoint divides memory.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Planning {
    /// What is known of accesses: a `.heat` file, `auto` (what `profile` has learned of the
    /// program), or `none`.
    #[arg(long, value_name = "FILE|auto|none")]
    pub(crate) heat: Option<PathBuf>,
    /// How to divide, as in `plan`; by default `adaptive` where anything is known of accesses.
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Accessed in more intervals than this is warm; the policy is `threshold`.
    #[arg(long, value_name = "N")]
    pub(crate) threshold_warm: Option<u32>,
    /// Accessed in more intervals than this is critical; the policy is `threshold`.
    #[arg(long, value_name = "N")]
    pub(crate) threshold_critical: Option<u32>,
    /// Divide as this file says, which `plan -o` wrote.
    #[arg(long, value_name = "FILE", conflicts_with_all =
        ["heat", "policy", "threshold_warm", "threshold_critical"])]
    pub(crate) plan: Option<PathBuf>,
    /// Memory that has the bytes of a file is not stored but read there. `auto` looks at files
    /// that the program has open for reading or mapped, with `--stop` also at those it knows by
    /// name. The checkpoint needs those files as they are.
    #[arg(long, value_name = "auto|off", value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) twins: Twins,
    /// Look for the bytes of this file, too; can be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) twin: Vec<PathBuf>,
}

/// Whether files that the program leads to are looked for in its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Twins {
    /// They are.
    #[default]
    Auto,
    /// They are not.
    Off,
}

impl Planning {
    /// Which files to look for.
    pub(crate) fn twins(&self) -> engine::TwinChoice {
        engine::TwinChoice { auto: self.twins == Twins::Auto, named: self.twin.clone() }
    }

    /// What is asked for, or why it makes no sense.
    pub(crate) fn choice(&self) -> Result<engine::PlanChoice, String> {
        let heat = match self.heat.as_ref().map(|path| (path, path.to_str())) {
            None | Some((_, Some("auto"))) => engine::HeatChoice::Line,
            Some((_, Some("none"))) => engine::HeatChoice::None,
            Some((path, _)) => engine::HeatChoice::File(path.clone()),
        };
        let given = self.threshold_warm.or(self.threshold_critical).is_some();
        let policy = match self.policy.as_deref() {
            None if given => Some("threshold".to_owned()),
            Some(name) if given && name != "threshold" => {
                return Err(format!("use thresholds: they are for --policy threshold, not {name}"));
            }
            other => other.map(str::to_owned),
        };
        let thresholds = engine::Thresholds {
            warm: self.threshold_warm.unwrap_or(THRESHOLD_WARM),
            critical: self.threshold_critical.unwrap_or(THRESHOLD_CRITICAL),
        };
        Ok(engine::PlanChoice { file: self.plan.clone(), watched: None, heat, policy, thresholds })
    }
}

/// Thresholds that nobody gave, in intervals of 100 ms.
const THRESHOLD_WARM: u32 = 0;
const THRESHOLD_CRITICAL: u32 = 10;

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// A `.heat` file, a pid or an instance id, or a checkpoint.
    #[arg(value_name = "TARGET|X.heat|REF")]
    pub(crate) subject: String,
    /// How to divide: `adaptive` by expected cost, `threshold` by access counts alone; to compare
    /// with: `lru`, `address-order`, `last-faults`.
    #[arg(long, value_name = "NAME", default_value = "adaptive")]
    pub(crate) policy: String,
    /// With `threshold`: accessed in more intervals than this is warm.
    #[arg(long, value_name = "N", default_value_t = THRESHOLD_WARM)]
    pub(crate) threshold_warm: u32,
    /// With `threshold`: accessed in more intervals than this is critical.
    #[arg(long, value_name = "N", default_value_t = THRESHOLD_CRITICAL)]
    pub(crate) threshold_critical: u32,
    /// Where a loss is allowed, as in `checkpoint`: written to the plan, and granted by
    /// `checkpoint --plan`. Of a running program only.
    #[arg(long, value_name = "SPEC")]
    pub(crate) lossy: Vec<String>,
    /// File that gets the plan.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `profile`.
#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// A pid or an instance id.
    pub(crate) target: String,
    /// How long to watch; Ctrl-C ends it earlier and keeps what was seen.
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) time: Duration,
    /// Write a copy of what was seen to this file.
    #[arg(short, long, value_name = "X.heat")]
    pub(crate) output: Option<PathBuf>,
    /// The most that the program may be slowed down while it is watched, a share of its CPU time.
    #[arg(long, value_name = "SHARE", value_parser = permille, default_value = "1%")]
    pub(crate) max_slowdown: u32,
    /// Track reads exactly, too: NUMA balancing is turned on for the whole host meanwhile (and put
    /// back), and the slowdown may be more than asked for.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Turn collectors off and on again in blocks of this length, to measure what they cost.
    #[arg(long, hide = true, value_name = "TIME", value_parser = duration)]
    pub(crate) alternate: Option<Duration>,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// A pid or an instance id.
    pub(crate) target: String,
    /// Bring all memory into the new process before it runs: a longer pause.
    #[arg(long)]
    pub(crate) eager: bool,
    /// Write nothing to the store: memory goes through one in memory (a tmpfs), which is removed when
    /// the new process has everything. Takes that much more memory meanwhile.
    #[arg(long, conflicts_with = "on_probe_fail")]
    pub(crate) no_store: bool,
    /// Directory of a control group that the new process begins in; once for each hierarchy.
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<PathBuf>,
    /// Processors that all threads of the new process may use (`0-3,8`).
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub(crate) cpus: Option<CpuSet>,
    /// A resource limit of the new process, with the names of prlimit(1): `nofile=4096`,
    /// `core=0:unlimited`; can be given several times.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = limit)]
    pub(crate) rlimit: Vec<engine::LimitChoice>,
    /// Huge pages for the new process's anonymous memory, made when all of it is there.
    #[arg(long)]
    pub(crate) huge: bool,
    /// Memory nodes that pages of a tier are moved to when all of them are there:
    /// `critical=0,cold=1`.
    #[arg(long, value_name = "TIER=NODE", value_parser = place, value_delimiter = ',')]
    pub(crate) place: Vec<(engine::Tier, u32)>,
    /// Command that succeeds once the program answers; run until it does.
    #[arg(long, value_name = "CMD")]
    pub(crate) probe: Option<String>,
    /// How long the probe may fail.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) probe_timeout: Duration,
    /// When the probe kept failing: `rewind` takes the program back to the moment of the update, without
    /// its connections, unless a file or whatever leads outside has moved since.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) on_probe_fail: OnProbeFail,
}

/// `--on-probe-fail`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnProbeFail {
    /// It is told.
    #[default]
    Report,
    /// The program is taken back.
    Rewind,
}

/// What to do with descriptors that cannot simply be rebuilt.
#[derive(Clone, Debug, Args)]
pub(crate) struct Descriptors {
    /// Files that changed since the checkpoint.
    #[arg(long, value_enum, default_value_t = Files::Strict)]
    pub(crate) files: Files,
    /// Established TCP connections. At a resume `refuse` refuses a checkpoint in which the program
    /// finds some closed; without it what the checkpoint was taken with holds.
    #[arg(long, value_enum)]
    pub(crate) tcp: Option<Tcp>,
    /// What stands behind a descriptor whose other end is outside: `fd=N:inherit`, `fd=N:null`,
    /// `fd=N:close`, `fd=N:reopen:PATH`. Descriptors 0 to 2 default to the caller's.
    #[arg(long, value_name = "fd=N:POLICY")]
    pub(crate) external: Vec<String>,
}

/// `--files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Files {
    /// A writable file that changed refuses; append-only files may have grown.
    Strict,
    /// Changed files are taken as they are.
    Ignore,
}

/// `--tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tcp {
    /// The program finds them closed by the peer.
    Close,
    /// They are blockers.
    Refuse,
}

/// Parts of a checkpoint or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Mappings.
    Maps,
    /// Descriptors.
    Fds,
    /// Threads.
    Threads,
    /// Extents: of a running program, private memory as `plan` would divide it now.
    Pages,
    /// What is known of accesses, by tier, and what earlier resumes had to wait for.
    Heat,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_copy_is_loaded_before_it_runs() {
        let parse = |how| Cli::try_parse_from(["rekindle", "resume", "latest", "--as-copy", how]);
        for how in ["--lazy", "--on-demand"] {
            assert_eq!(parse(how).unwrap_err().kind(), clap::error::ErrorKind::ArgumentConflict);
        }
        parse("--eager").unwrap();
    }

    #[test]
    fn eager_is_everything_unless_it_says_what() {
        let eager = |how| match Cli::try_parse_from(["rekindle", "resume", how, "latest"]).unwrap()
        {
            Cli { verb: Verb::Resume(resume), .. } => (resume.eager, resume.reference),
            other => panic!("{other:?}"),
        };
        assert_eq!(eager("--eager"), (Some(Eager::All), "latest".to_owned()));
        assert_eq!(eager("--eager=warm"), (Some(Eager::Warm), "latest".to_owned()));
    }
}
