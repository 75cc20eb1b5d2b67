//! What every verb has: its settings, and how its report or its failure is told.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use engine::registry::Registry;
use engine::report::Outcome;
use engine::{ExitClass, Settings, VerbError};
use serde::Serialize;

use crate::args::{Common, Descriptors, Format, Progress};
use crate::draw;
use crate::progress::Bar;

/// What a verb needs beside its own options.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) format: Format,
    pub(crate) progress: Progress,
    pub(crate) verbose: bool,
    pub(crate) registry: Registry,
}

impl Context {
    /// From the options that all verbs have.
    pub(crate) fn new(common: &Common, started: Instant) -> Self {
        Self {
            settings: Settings {
                passing: None,
                store: common.store.clone().unwrap_or_else(engine::default_store),
                timeout: common.timeout,
                wait: common.wait,
                dry_run: common.dry_run,
                started,
            },
            format: common.format,
            progress: common.progress,
            verbose: common.verbose > 0,
            registry: Registry::of_this_user(),
        }
    }

    /// The progress bar, as it was asked for.
    pub(crate) fn bar(&self) -> Bar {
        Bar::new(self.progress, self.verbose)
    }

    /// Prints a report in the asked form.
    pub(crate) fn print<T: Serialize>(
        &self,
        report: &T,
        text: impl FnOnce(&T) -> String,
    ) -> ExitCode {
        let text = match self.format {
            Format::Text | Format::Html | Format::Csv => Ok(text(report)),
            Format::Json => serde_json::to_string(report).map(|json| json + "\n"),
        };
        printed(text.map_err(io::Error::from).and_then(|text| to_stdout(&text)))
    }

    /// Prints what a verb did, or why it failed.
    pub(crate) fn tell<T: Serialize, E: VerbError>(
        &self,
        result: Result<T, E>,
        text: impl FnOnce(&T) -> String,
    ) -> ExitCode {
        match result {
            Ok(report) => self.print(&report, text),
            Err(error) => self.fail(&error),
        }
    }

    /// Prints why a verb failed, and in which state the instance is.
    pub(crate) fn fail(&self, error: &dyn VerbError) -> ExitCode {
        let report = error.report();
        eprintln!("rekindle: failed to {error}");
        if !report.blockers.is_empty() {
            eprint!("{}", draw::blockers(&report.blockers));
        }
        if let Some(state) = state(report.outcome) {
            eprintln!("rekindle: {state}");
        }
        if self.format == Format::Json
            && let Ok(json) = serde_json::to_string(&report)
        {
            // Exit code and message are the verb's own in any case.
            printed(to_stdout(&(json + "\n")));
        }
        exit(error.class())
    }
}

/// Has Ctrl-C and its kin be a wish that the verb grants in its time; else the exit code.
pub(crate) fn interruptible() -> Result<(), ExitCode> {
    engine::catch_interrupts().map_err(|error| {
        eprintln!("rekindle: failed to catch signals: {error}");
        exit(ExitClass::Unexpected)
    })
}

/// What stands behind descriptors whose other end is outside, as it was asked for; else the exit code
/// for words that make no sense.
pub(crate) fn externals(
    descriptors: &Descriptors,
) -> Result<Vec<(i32, engine::ExternalPolicy)>, ExitCode> {
    descriptors
        .external
        .iter()
        .map(|text| engine::parse_external(text))
        .collect::<Result<_, _>>()
        .map_err(|error| {
            eprintln!("rekindle: failed to {error}");
            exit(ExitClass::Usage)
        })
}

/// What a verb's end means for the instance, in a sentence.
fn state(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Running | Outcome::RolledBack => Some("the program is as it was before"),
        Outcome::Refused => Some("nothing was touched"),
        Outcome::Stopped => Some("the program was ended and its checkpoint is safe"),
        Outcome::Resumed => Some("the program runs"),
        Outcome::Updated => Some("the program runs in its new process"),
        Outcome::Lost => Some("the program is gone; this should never happen, please report it"),
    }
}

/// The exit code of a class of ends.
pub(crate) fn exit(class: ExitClass) -> ExitCode {
    ExitCode::from(class.code())
}

/// The exit code when all of it was written to stdout, or was not.
pub(crate) fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => exit(ExitClass::Done),
        Err(error) => {
            eprintln!("rekindle: failed to write to stdout: {error}");
            exit(ExitClass::Unexpected)
        }
    }
}

/// Writes all of `text` to stdout. A reader that went away (`| head`) is no failure.
///
/// # Errors
/// What the kernel says.
pub(crate) fn to_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
