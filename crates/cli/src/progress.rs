//! Progress on a terminal: the phase, bytes, rate and time left.

use std::io::IsTerminal;

use engine::events::Observer;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Progress;

/// Draws a verb's progress on stderr when that is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    verbose: bool,
}

impl Bar {
    /// A bar, hidden unless `choice` and the terminal allow it.
    pub(crate) fn new(choice: Progress, verbose: bool) -> Self {
        let shown = choice == Progress::Auto && std::io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{msg:<10} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, verbose }
    }
}

impl Observer for Bar {
    fn phase(&self, name: &'static str) {
        self.bar.set_message(name);
    }

    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.bar.set_length(total_bytes);
        self.bar.set_position(done_bytes);
    }

    fn note(&self, text: &str) {
        if self.verbose {
            self.warn(text);
        }
    }

    fn warn(&self, text: &str) {
        self.bar.suspend(|| eprintln!("rekindle: {text}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
