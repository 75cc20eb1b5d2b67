//! What takes the samples of a profile.

use heat::{Accumulator, INTERVAL_NS, Sample, Watched};

/// Why a profile came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was up, or the caller said so.
    Asked,
    /// The program has ended.
    Ended,
    /// The program executes another one.
    Executed,
}

/// Takes what a profile brings.
pub trait Sink {
    /// Whether to go on. Asked every few dozen milliseconds.
    fn go_on(&mut self) -> bool;

    /// Whether collectors are to be on at `now_ns` (`CLOCK_MONOTONIC`). For measuring what they
    /// cost; else always.
    fn active(&mut self, _now_ns: u64) -> bool {
        true
    }

    /// One sample, as it goes into the window.
    fn sample(&mut self, _sample: &Sample) {}

    /// A window is complete; it ended at `end_ns`.
    fn window(&mut self, window: Accumulator, end_ns: u64);
}

/// Where samples go while a profile runs.
pub(crate) struct Out<'s> {
    pub(crate) window: Accumulator,
    pub(crate) sink: &'s mut dyn Sink,
}

impl Out<'_> {
    pub(crate) fn add(&mut self, sample: &Sample) {
        self.window.add(sample);
        self.sink.sample(sample);
    }

    /// A touch that the exact mode saw: the page was watched until then, if not from
    /// `untouched_since` on, at least in the interval of the touch itself.
    pub(crate) fn hint(&mut self, sample: &Sample, untouched_since: Option<u64>) {
        let kinds = Watched { reads: true, writes: true };
        let pages = mem::PageRange { start: sample.page, end: sample.page.offset(1) };
        let interval = sample.time_ns.saturating_sub(INTERVAL_NS);
        let from = untouched_since.unwrap_or(interval).min(interval);
        self.window.watched(pages, kinds, from, sample.time_ns);
        self.add(sample);
    }
}
