//! `watch`: options in, events out as they come.

use std::process::ExitCode;

use engine::{ExitClass, Happened, WatchEvent, WatchLog, WatchRequest};

use crate::args::{Format, OnTerm, Tcp, Watch};
use crate::context::{Context, exit, externals, interruptible, to_stdout};
use crate::draw::{bytes as size, time, utc};
use crate::tui::{Board, Live};

/// Prints events.
struct Printer {
    format: Format,
}

impl WatchLog for Printer {
    fn event(&self, event: &WatchEvent) {
        let line = match self.format {
            Format::Json => serde_json::to_string(event).unwrap_or_default(),
            _ => text(event),
        };
        // Whoever read it has gone: the watch goes on, it is not there for its log.
        if let Err(error) = to_stdout(&format!("{line}\n")) {
            tracing::debug!(%error, "an event was not printed");
        }
    }
}

/// Runs the verb.
pub(crate) fn run(context: &Context, arguments: &Watch) -> ExitCode {
    let external = match externals(&arguments.descriptors) {
        Ok(external) => external,
        Err(code) => return code,
    };
    if let Err(code) = interruptible() {
        return code;
    }
    let request = WatchRequest {
        target: arguments.target.clone(),
        every: arguments.every,
        checkpoint_every: arguments.checkpoint_every,
        keep: usize::from(arguments.keep),
        disk_bytes_max: arguments.max_disk,
        follow: arguments.follow,
        on_term: match arguments.on_term {
            OnTerm::Checkpoint => engine::OnTerm::Checkpoint,
            OnTerm::Leave => engine::OnTerm::Leave,
        },
        metrics: arguments.metrics,
        time: arguments.time,
        slowdown_permille_max: arguments.max_slowdown,
        exact: arguments.exact,
        max_pause: arguments.max_pause,
        rehearse: arguments.rehearse,
        record_input: arguments.record_input,
        lossy: arguments.lossy.clone(),
        twins: engine::TwinChoice { auto: true, named: Vec::new() },
        tcp_close: arguments.descriptors.tcp == Some(Tcp::Close),
        external,
    };
    let watch =
        |log: &dyn WatchLog| engine::watch(&context.settings, &request, &context.registry, log);
    let result = match arguments.tui {
        false => watch(&Printer { format: context.format }),
        true => {
            let live = Live::<Board>::default();
            let result = live.during("--tui", || watch(&live));
            if let Some(words) = live.last_words() {
                eprintln!("rekindle: {words}");
            }
            match result {
                Ok(result) => result,
                Err(error) => {
                    eprintln!("rekindle: failed to show the watch: {error}");
                    return exit(ExitClass::Usage);
                }
            }
        }
    };
    match result {
        Ok(()) => exit(ExitClass::Done),
        Err(error) => context.fail(&error),
    }
}

fn text(event: &WatchEvent) -> String {
    format!("{} {}", utc(event.time_ns), words(event))
}

/// What an event says, without its time. Names that a program gave to its memory do nothing to a
/// terminal.
pub(crate) fn words(event: &WatchEvent) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    told(event).chars().map(plain).collect()
}

fn told(event: &WatchEvent) -> String {
    match &event.what {
        Happened::Attached { pid, stop_us, missing } => {
            let mut text = format!(
                "watching process {pid}, instance {}; it stood still for {}",
                event.instance,
                time(*stop_us)
            );
            for missing in missing {
                text.push_str(&format!("\n         without {missing}"));
            }
            text
        }
        Happened::Period(row) => {
            let mut text = format!(
                "period {}: critical {}, warm {}, cold {}",
                row.period,
                size(row.critical_bytes),
                size(row.warm_bytes),
                size(row.cold_bytes)
            );
            if row.moves > 0 {
                let (up, down) = (size(row.promoted_bytes), size(row.demoted_bytes));
                text.push_str(&format!("; {up} hotter, {down} colder"));
            }
            text.push_str(&format!("; cost {} of its CPU time", share(row.slowdown_permille)));
            text
        }
        Happened::Moved(row) => {
            let name = if row.name.is_empty() { "anonymous" } else { row.name.as_str() };
            let long = size(row.end - row.start);
            format!(
                "  {} -> {}: {long} at {:x} ({name}): {}",
                row.from, row.to, row.start, row.reason
            )
        }
        Happened::Checkpointed(row) => {
            let mut text = format!(
                "checkpoint {}: {} written, the program stood still for {} at most",
                row.id,
                size(row.stored_bytes),
                time(row.pause_max_us)
            );
            for (what, ids) in [("removed", &row.removed), ("rewritten whole:", &row.rewritten)] {
                if !ids.is_empty() {
                    text.push_str(&format!("; {what} {}", ids.join(", ")));
                }
            }
            text
        }
        Happened::Lent { verb } => format!("made way for {verb}"),
        Happened::Returned { verb, lent_us } => format!("{verb} is done after {}", time(*lent_us)),
        Happened::Away { text } | Happened::Degraded { text } => text.clone(),
        Happened::Trouble { text } => format!("trouble: {text}"),
        Happened::Ended { text, .. } => format!("the watch is over: {text}"),
    }
}

fn share(permille: u64) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}
