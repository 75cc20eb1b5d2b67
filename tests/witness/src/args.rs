//! The command line.

use crate::kind::{Context, Entry};
use crate::registry;
use std::path::PathBuf;
use std::time::Duration;

/// What to do.
pub struct Args {
    /// The chosen kinds, in the registry's order.
    pub kinds: Vec<&'static Entry>,
    /// What all kinds are given.
    pub context: Context,
    /// Where a flaw is written.
    pub report: Option<PathBuf>,
    /// Where the status line is written once set-up is through.
    pub ready: Option<PathBuf>,
    /// The port of the first status listener; 0 lets the kernel choose.
    pub port: u16,
    /// The kind to spoil, with the variant.
    pub sabotage: Option<(String, String)>,
    /// The user to become.
    pub drop_to: Option<u32>,
    /// End with code 0 after so many passes; 0 is never.
    pub passes: u64,
}

/// The manual.
pub const HELP: &str = "\
rekindle-witness [--all | --kinds A,B,C] [OPTIONS]
  --list             name every kind, its sabotage variants and what it holds
  --all              every kind that is on by default (the default)
  --kinds A,B,C      these kinds; +A adds to and -A takes from the default
  --mb N             MiB of heap (16)
  --seed N           what every byte is derived from (1)
  --dir DIR          where files are made; the working directory (a new one under the temporary one)
  --port N           port of the TCP status listener (any free one)
  --ready FILE       write one status line there when set-up is through
  --report FILE      write what was off there
  --pause-ms N       sleep between passes (200)
  --passes N         end with code 0 after N passes (never)
  --busy             threads spin
  --still-files      files stay as they are after set-up
  --drop-to UID      become this user (and group) first
  --stop-may-interrupt   a stop may end epoll_wait and its like with EINTR, as SIGSTOP does
  --sabotage KIND[/VARIANT]   spoil that kind after five passes: exit code 1 when noticed,
                     3 when not, 4 when the host does not offer the kind
A connection to a status listener is answered with one line of JSON.";

impl Args {
    /// Parses; the error is a message for stderr.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            kinds: registry::choose("")?,
            context: Context {
                seed: 1,
                megabytes: 16,
                dir: PathBuf::new(),
                stop_may_interrupt: false,
                busy: false,
                still_files: false,
                pause: Duration::from_millis(200),
            },
            report: None,
            ready: None,
            port: 0,
            sabotage: None,
            drop_to: None,
            passes: 0,
        };
        let mut arguments = arguments;
        while let Some(flag) = arguments.next() {
            args.take(&flag, &mut arguments)?;
        }
        if args.context.dir.as_os_str().is_empty() {
            let name = format!("rekindle-witness-{}", std::process::id());
            args.context.dir = std::env::temp_dir().join(name);
        }
        Ok(args)
    }

    fn take(&mut self, flag: &str, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let context = &mut self.context;
        match flag {
            "--all" => self.kinds = registry::choose("")?,
            "--busy" => context.busy = true,
            "--still-files" => context.still_files = true,
            "--stop-may-interrupt" => context.stop_may_interrupt = true,
            "--kinds" => self.kinds = registry::choose(&text(flag, rest)?)?,
            "--mb" => context.megabytes = number(flag, rest)?,
            "--seed" => context.seed = number(flag, rest)?,
            "--dir" => context.dir = PathBuf::from(text(flag, rest)?),
            "--port" => self.port = number(flag, rest)?,
            "--ready" => self.ready = Some(PathBuf::from(text(flag, rest)?)),
            "--report" => self.report = Some(PathBuf::from(text(flag, rest)?)),
            "--pause-ms" => context.pause = Duration::from_millis(number(flag, rest)?),
            "--passes" => self.passes = number(flag, rest)?,
            "--drop-to" => self.drop_to = Some(number(flag, rest)?),
            "--sabotage" => {
                let name = text(flag, rest)?;
                let (kind, variant) = name.split_once('/').unwrap_or((&name, ""));
                self.sabotage = Some(registry::variant(kind, variant)?);
            }
            _ => return Err(format!("unknown argument {flag}; --help shows all")),
        }
        Ok(())
    }
}

fn text(flag: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, String> {
    rest.next().ok_or_else(|| format!("{flag} wants a value"))
}

fn number<T: std::str::FromStr>(
    flag: &str,
    rest: &mut impl Iterator<Item = String>,
) -> Result<T, String> {
    let value = text(flag, rest)?;
    value.parse().map_err(|_| format!("{flag} wants a number, not {value}"))
}
