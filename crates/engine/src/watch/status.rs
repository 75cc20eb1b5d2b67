//! What a watch says of itself: to `status`, to metrics.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use crate::loan::{self, Told};
use crate::registry::Registry;

/// What a watch says of itself. Sizes in bytes, times in microseconds, counts since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchStatus {
    /// The instance.
    pub instance: String,
    /// Its pid.
    pub pid: i32,
    /// Our pid.
    pub watch_pid: u32,
    /// `watching`, `planning`, `checkpoint`, `lent`, `waiting`, `starting`, `away`.
    pub state: String,
    /// The verb that has the program, when it is lent or waited for.
    pub verb: Option<String>,
    /// Periods that have ended.
    pub periods: u64,
    /// Pages of the tiers.
    pub critical_pages: u64,
    /// The same.
    pub warm_pages: u64,
    /// The same.
    pub cold_pages: u64,
    /// Pages that became hotter.
    pub promoted_pages: u64,
    /// Pages that became colder.
    pub demoted_pages: u64,
    /// Pages seen written a second, in the last period.
    pub written_pages_a_second: u64,
    /// What it costs the program, in thousandths of its CPU time, so far.
    pub slowdown_permille: u64,
    /// Our CPU time in the last period, in thousandths of a processor.
    pub own_cpu_permille: u64,
    /// Our memory.
    pub own_memory_bytes: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Checkpoints that failed.
    pub failures: u64,
    /// The last one's id.
    pub checkpoint: Option<String>,
    /// When it was published, nanoseconds since the epoch.
    pub checkpoint_ns: u64,
    /// The longest stop of the program for it.
    pub checkpoint_pause_us: u64,
    /// What was newly written for it.
    pub checkpoint_stored_bytes: u64,
    /// What the instance's checkpoints take in the store.
    pub disk_bytes: u64,
    /// How long a checkpoint would stop the program, as expected.
    pub expected_pause_us: u64,
    /// Times that other verbs had the program.
    pub loans: u64,
    /// Planning is done once in so many periods: more than one when our own time was short.
    pub plan_every: u64,
    /// What does not work at the moment.
    pub trouble: Option<String>,
}

impl WatchStatus {
    /// Says it to whoever asks from now on.
    pub(super) fn tell(&self, told: &Told) {
        let text = serde_json::to_string(self).unwrap_or_default();
        *told.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// What was told last.
    pub(super) fn of(told: &Told) -> Option<Self> {
        let text = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        serde_json::from_str(&text).ok()
    }
}

/// Every watch that runs here.
pub(crate) fn watches(registry: &Registry) -> Vec<WatchStatus> {
    let folders = registry.folders().into_iter();
    let told = folders.filter_map(|folder| loan::status(&folder));
    told.filter_map(|text| serde_json::from_str(&text).ok()).collect()
}
