//! Policies raced offline: what would each plan have cost in a resume whose faults were logged?
//!
//! The log is that of a resume that loaded nothing ahead, so that it shows every page in the
//! order in which the program wants it. Heat and earlier logs are what the policies knew before.

mod play;
mod synthetic;

pub use play::{Score, oracle, play};
pub use synthetic::{Scenario, WORKLOADS, scenario};

use crate::{Adaptive, AddressOrder, LastFaults, Lru, Policy, Sizes, Threshold};
use plan::{Thresholds, Tier};

/// Plans with every policy and plays all plans against the log. The policies that cannot choose
/// how much to load load as much as `adaptive` does. The first line is the oracle, which knows
/// the log.
pub fn race(scenario: &Scenario) -> Vec<Score> {
    let input = scenario.input();
    let best = play("oracle", &oracle(&input, &scenario.actual), scenario, None);
    let adaptive = Adaptive.plan(&input);
    let pages = |tier| adaptive.plan.tier_bytes(tier) / mem::PAGE_SIZE;
    let sizes = Sizes { critical_pages: pages(Tier::Critical), warm_pages: pages(Tier::Warm) };
    let intervals = input.heat.window_intervals();
    let thresholds = Thresholds { warm: intervals / 100, critical: intervals / 2 };
    let policies: [&dyn Policy; 4] =
        [&Threshold(thresholds), &Lru(sizes), &AddressOrder(sizes), &LastFaults(sizes)];
    let mut scores = vec![play(Adaptive.name(), &adaptive.plan, scenario, Some(&best))];
    for policy in policies {
        scores.push(play(policy.name(), &policy.plan(&input).plan, scenario, Some(&best)));
    }
    scores.insert(0, best);
    scores
}
