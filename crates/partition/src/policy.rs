//! What a policy is given, and what it has to do.

use plan::{Plan, Planned, Thresholds};

use crate::{
    Adaptive, AddressOrder, FaultLog, HeatView, HostCosts, Inventory, LastFaults, Lru, Sizes,
    Threshold,
};

/// What may be spent. What is `None` is not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// From the start of a resume to its first answer.
    pub first_answer_us: Option<u64>,
    /// How long a checkpoint may stop the instance.
    pub pause_us: Option<u64>,
    /// Bytes of critical and warm as stored.
    pub stored_bytes: Option<u64>,
    /// How long the instance runs, faults not counted, until it has given its first answer.
    pub answer_window_us: u64,
    /// How long the first seconds are: pages touched in them should be there before.
    pub horizon_us: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            first_answer_us: None,
            pause_us: None,
            stored_bytes: None,
            answer_window_us: 20_000,
            horizon_us: 5_000_000,
        }
    }
}

/// What a policy is given.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The pages.
    pub inventory: &'a Inventory,
    /// What is known of accesses to them.
    pub heat: &'a dyn HeatView,
    /// What things cost here.
    pub costs: &'a HostCosts,
    /// What may be spent.
    pub budget: Budget,
    /// The plan of the checkpoint before, which is changed only for good reasons.
    pub previous: Option<&'a Plan>,
    /// What faulted in earlier resumes of the line, the newest first.
    pub faults: &'a [FaultLog],
}

/// A way to divide memory.
pub trait Policy {
    /// Its name, as `--policy` takes it.
    fn name(&self) -> &'static str;

    /// Divides all pages of the input: every page is in exactly one extent.
    fn plan(&self, input: &Input<'_>) -> Planned;
}

/// Names of the policies that [`policy`] knows.
pub const POLICY_NAMES: &[&str] = &["adaptive", "threshold", "lru", "address-order", "last-faults"];

/// The policy of this name. `thresholds` are those of `threshold`; the others choose their own.
pub fn policy(name: &str, thresholds: Thresholds) -> Option<Box<dyn Policy>> {
    Some(match name {
        "adaptive" => Box::new(Adaptive),
        "threshold" => Box::new(Threshold(thresholds)),
        "lru" => Box::new(Lru(Sizes::default())),
        "address-order" => Box::new(AddressOrder(Sizes::default())),
        "last-faults" => Box::new(LastFaults(Sizes::default())),
        _ => return None,
    })
}
