//! Progress on a terminal: the phase, bytes, rate and time left.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::events::Observer;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Progress;

/// Of a phase that moves nothing, or nothing yet.
const PHASE: &str = "{msg}";
/// Of bytes that are moved. The bar takes what room the terminal has left.
const BYTES: &str = "{msg:<10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
/// Of time that passes.
const TIME: &str = "{msg:<10} {wide_bar} {eta} left";

/// Draws a verb's progress on stderr when that is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    verbose: bool,
    /// The phase at hand has a measure: bytes or time.
    measured: AtomicBool,
}

impl Bar {
    /// A bar, hidden unless `choice` and the terminal allow it.
    pub(crate) fn new(choice: Progress, verbose: bool) -> Self {
        let shown = choice == Progress::Auto && std::io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let bar = Self { bar, verbose, measured: AtomicBool::new(false) };
        bar.style(PHASE);
        bar
    }

    /// Shows how far the phase is. Rate and time left count from the first that is known of it.
    fn measure(&self, template: &str, done: u64, total: u64) {
        if !self.measured.swap(true, Ordering::Relaxed) {
            self.style(template);
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }
}

impl Observer for Bar {
    fn phase(&self, name: &'static str) {
        self.measured.store(false, Ordering::Relaxed);
        self.style(PHASE);
        self.bar.set_message(name);
    }

    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.measure(BYTES, done_bytes, total_bytes);
    }

    fn time(&self, done: Duration, total: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.measure(TIME, micros(done), micros(total));
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
