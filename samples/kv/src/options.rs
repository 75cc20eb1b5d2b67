//! The command line of the service, for its own binary and for whoever embeds it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use thiserror::Error;

use crate::fill::{Fill, FillError};
use crate::server::{Config, ServeError, Server};

/// The help text.
pub const USAGE: &str = "\
usage: rekindle-sample-kv [--address IP] [--port N] [--fill-mb N] [--seed N] [--memory-max-mb N]

A small key-value service that speaks the redis protocol. Prints one line
`ready IP:PORT pid PID` when it listens.

  --address IP        where to listen (127.0.0.1)
  --port N            port, 0 takes a free one (0)
  --fill-mb N         load about N MiB of values before listening (0)
  --seed N            seed of the values (1)
  --memory-max-mb N   refuse to hold more than N MiB (8192)

commands: PING ECHO GET SET DEL EXISTS MGET INCR DBSIZE FLUSHALL INFO COMMAND QUIT SHUTDOWN,
  FILL KEYS VALUE_MIN VALUE_MAX SEED    load deterministic values
  CHECK KEYS VALUE_MIN VALUE_MAX SEED   compare every one of them
  DIGEST                                sum of all keys and values
  HEARTBEAT                             longest time a thread could not run, in microseconds
";

/// Why arguments are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Not an option.
    #[error("unknown option '{0}', see --help")]
    Unknown(String),
    /// An option without its value.
    #[error("{0} needs a value, see --help")]
    Missing(String),
    /// A value that is no number of its range, or no address.
    #[error("{option} takes {expected}, not '{value}'")]
    Value {
        /// The option.
        option: String,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        value: String,
    },
    /// The filling is impossible.
    #[error("--fill-mb: {0}")]
    Fill(#[from] FillError),
}

/// Reads arguments, program name not included; `None` when help is asked for.
///
/// # Errors
/// [`OptionsError`] names the first argument that is not understood.
pub fn parse_options(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Option<Config>, OptionsError> {
    let mut config = Config::default();
    let (mut ip, mut port) = (config.address.ip(), 0);
    let (mut fill_mb, mut seed) = (0_u32, 1);
    let mut arguments = arguments.into_iter().map(|text| text.to_string_lossy().into_owned());
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--help" | "-h" => return Ok(None),
            "--address" | "--port" | "--fill-mb" | "--seed" | "--memory-max-mb" => {}
            _ => return Err(OptionsError::Unknown(option)),
        }
        let value = arguments.next().ok_or_else(|| OptionsError::Missing(option.clone()))?;
        match option.as_str() {
            "--address" => ip = read::<IpAddr>(&option, "an IP address", &value)?,
            "--port" => port = read::<u16>(&option, "a port from 0 to 65535", &value)?,
            "--fill-mb" => fill_mb = read(&option, "a number of MiB", &value)?,
            "--seed" => seed = read(&option, "a number", &value)?,
            _ => {
                let mebibytes: u32 = read(&option, "a number of MiB", &value)?;
                config.memory_bytes_max = u64::from(mebibytes) << 20;
            }
        }
    }
    config.address = SocketAddr::new(ip, port);
    if fill_mb > 0 {
        config.fill = Some(Fill::of_bytes(u64::from(fill_mb) << 20, seed)?);
    }
    Ok(Some(config))
}

fn read<T: std::str::FromStr>(
    option: &str,
    expected: &'static str,
    value: &str,
) -> Result<T, OptionsError> {
    let refuse = |_| OptionsError::Value { option: option.into(), expected, value: value.into() };
    value.parse().map_err(refuse)
}

/// Runs the service as a program: parses `arguments` (program name not included), prints the
/// ready line, serves until `SHUTDOWN`. Returns 0, 1 when the service cannot run, 2 for arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match parse_options(arguments) {
        Ok(Some(config)) => config,
        Ok(None) => {
            say(&mut io::stdout(), USAGE.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&mut io::stderr(), &format!("rekindle-sample-kv: {error}"));
            return ExitCode::from(2);
        }
    };
    match announce_and_run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("rekindle-sample-kv: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn announce_and_run(config: &Config) -> Result<(), ServeError> {
    let server = Server::bind(config)?;
    say(&mut io::stdout(), &format!("ready {} pid {}", server.address(), std::process::id()));
    server.run()
}

/// Writes a line for whoever listens; nobody may, as when output goes to a closed pipe.
fn say(output: &mut impl Write, line: &str) {
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Config>, OptionsError> {
        parse_options(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let config = parse("--port 7000 --fill-mb 2 --seed 9 --memory-max-mb 64").unwrap().unwrap();
        assert_eq!(config.address, "127.0.0.1:7000".parse().unwrap());
        assert_eq!(config.fill, Some(Fill::of_bytes(2 << 20, 9).unwrap()));
        assert_eq!(config.memory_bytes_max, 64 << 20);
        assert_eq!(parse("").unwrap().unwrap().fill, None);
        assert!(parse("--port 1 --help").unwrap().is_none());
    }

    #[test]
    fn nonsense_is_named() {
        for (line, expected) in [
            ("--nonsense", "unknown option '--nonsense', see --help"),
            ("--port", "--port needs a value, see --help"),
            ("--port 70000", "--port takes a port from 0 to 65535, not '70000'"),
            ("--address here", "--address takes an IP address, not 'here'"),
            ("--fill-mb -1", "--fill-mb takes a number of MiB, not '-1'"),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), expected);
        }
    }
}
