//! The race tells good plans from bad ones, and the default policy wins it.
#![allow(clippy::unwrap_used, reason = "a test")]

use rekindle_partition::race::{Score, WORKLOADS, race, scenario};

fn scores(workload: &str, seed: u64) -> Vec<Score> {
    race(&scenario(workload, 8192, seed).unwrap())
}

#[test]
fn adaptive_has_the_least_regret() {
    for workload in WORKLOADS {
        for seed in 1..4 {
            let scores = scores(workload, seed);
            let adaptive = scores.iter().find(|s| s.policy == "adaptive").unwrap();
            for other in &scores {
                assert!(
                    other.policy == "oracle"
                        // Others may be as good where order says nothing; a tenth is noise.
                        || adaptive.regret_us <= other.regret_us + other.regret_us / 10,
                    "{workload} {seed}: {adaptive:?} {other:?}"
                );
            }
            // Of a scanner nothing can be known.
            let bound = if *workload == "scanner" { 3000 } else { 1700 };
            assert!(adaptive.ahead_permille <= bound, "{workload} {seed}: {adaptive:?}");
        }
    }
}

#[test]
fn nobody_beats_the_oracle() {
    for workload in WORKLOADS {
        let scores = scores(workload, 7);
        assert_eq!(scores[0].policy, "oracle");
        assert_eq!((scores[0].hit_permille, scores[0].wasted_bytes), (1000, 0));
        assert!(scores.iter().all(|s| s.regret_us >= 0), "{workload}: {scores:?}");
    }
}

#[test]
fn the_same_seed_makes_the_same_race() {
    assert_eq!(scores("store", 3), scores("store", 3));
    assert_ne!(scores("store", 3), scores("store", 4));
}
