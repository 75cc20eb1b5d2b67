//! How likely a page is touched.
//!
//! All of it is in one number, the probability that a page is touched in an interval of 100 ms.
//! It is estimated from the intervals in which it was and was not seen and, where few or none
//! were watched, from what is usual for its kind of memory and for the pages round it: unknown
//! is not never.

use crate::sums::{RegionOdds, Sums, sample_weight};
use crate::walk::{Piece, Walker};
use crate::{Budget, Input, Kind};

const INTERVAL_US: f64 = 100_000.0;
/// No page is certain to be touched, and none is certain not to be.
const LEAST: f64 = 1.0 / 16_777_216.0;
const MOST: f64 = 1.0 - LEAST;

/// The estimates for an input.
#[derive(Clone, Debug)]
pub(crate) struct Odds {
    intervals: f64,
    answer_intervals: f64,
    horizon_intervals: f64,
    /// For each region: of its pages that were watched, and of those nobody ever saw.
    regions: Vec<RegionOdds>,
}

/// The odds of a class of probabilities, worked out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassOdds {
    /// Of being touched before the first answer.
    pub(crate) early: f64,
    /// Of being touched in the first seconds.
    pub(crate) soon: f64,
    /// `ln(1 - p)`.
    log_missed: f64,
}

impl ClassOdds {
    /// Of being touched within `time_us`, but not later than in the first seconds.
    pub(crate) fn within_us(&self, time_us: f64) -> f64 {
        let touched = -(self.log_missed * time_us / INTERVAL_US).exp_m1();
        touched.min(self.soon)
    }
}

impl Odds {
    pub(crate) fn new(input: &Input<'_>, walker: &Walker<'_>) -> Self {
        let Budget { answer_window_us, horizon_us, .. } = input.budget;
        let mut odds = Self {
            intervals: f64::from(input.heat.window_intervals()),
            answer_intervals: answer_window_us as f64 / INTERVAL_US,
            horizon_intervals: horizon_us as f64 / INTERVAL_US,
            regions: Vec::new(),
        };
        let mut sums = vec![Sums::default(); input.inventory.regions.len()];
        walker.walk(|piece| sums[piece.region_number].add(piece, odds.intervals));
        let weight = sample_weight(&sums);
        odds.regions = sums
            .iter()
            .zip(&input.inventory.regions)
            .map(|(sums, region)| {
                let passing = if region.value.passing { 0.2 } else { 1.0 };
                sums.odds(usual(region.value.kind) * passing, weight)
            })
            .collect();
        odds
    }

    /// The probability that one page of `piece` is touched in an interval.
    pub(crate) fn probability(&self, piece: &Piece<'_>) -> f64 {
        let faulted = piece.faulted.map_or(0.0, |faulted| {
            let early = at_least_once_in(faulted.early, self.answer_intervals);
            early.max(at_least_once_in(faulted.soon, self.horizon_intervals))
        });
        self.unless_missed(piece).max(faulted).clamp(LEAST, MOST)
    }

    /// The same, were it not for the resumes that missed it.
    pub(crate) fn unless_missed(&self, piece: &Piece<'_>) -> f64 {
        let region = &self.regions[piece.region_number];
        let seen = match piece.heat.access_count.filter(|_| self.intervals > 0.0) {
            Some(count) => {
                let chances = f64::from(piece.heat.chances.max(1));
                let hits = f64::from(count) / self.intervals * chances;
                let usual = region.usual * region.weight;
                (hits.min(chances) + usual) / (chances + region.weight)
            }
            None if piece.heat.write_count == Some(0) => region.unwritten,
            None => region.unseen,
        };
        seen.clamp(LEAST, MOST)
    }

    /// The probability that a page is touched before the first answer.
    pub(crate) fn early(&self, probability: f64) -> f64 {
        within(probability, self.answer_intervals)
    }

    /// The probability that a page is touched in the first seconds.
    pub(crate) fn soon(&self, probability: f64) -> f64 {
        within(probability, self.horizon_intervals)
    }

    /// The odds of every class, those of its middle.
    pub(crate) fn classes(&self) -> Vec<ClassOdds> {
        let middle = |class| (classes::floor(class) + classes::floor(class + 1)) / 2.0;
        let odds = |class| {
            let probability = f64::min(middle(class), MOST);
            ClassOdds {
                early: self.early(probability),
                soon: self.soon(probability),
                log_missed: (-probability).ln_1p(),
            }
        };
        (0..classes::COUNT).map(odds).collect()
    }

    /// The probability for an interval at which [`Self::early`] gives `early`.
    pub(crate) fn for_early(&self, early: f64) -> f64 {
        at_least_once_in(early, self.answer_intervals).clamp(LEAST, MOST)
    }

    /// The probability for an interval at which [`Self::soon`] gives `soon`.
    pub(crate) fn for_soon(&self, soon: f64) -> f64 {
        at_least_once_in(soon, self.horizon_intervals).clamp(LEAST, MOST)
    }

    /// The access count over the window that comes nearest to this probability.
    pub(crate) fn count(&self, probability: f64) -> u32 {
        let count = crate::costs::whole((probability * self.intervals).floor());
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// What is usual for a kind of memory: how likely a page is touched in an interval.
fn usual(kind: Kind) -> f64 {
    match kind {
        Kind::Tls => 0.5,
        Kind::Stack => 0.3,
        Kind::FileData => 0.1,
        Kind::Anonymous | Kind::Code => 0.02,
        Kind::Heap | Kind::Shared => 0.01,
        Kind::File | Kind::Other => 0.005,
        Kind::LargeAnonymous => 0.004,
    }
}

fn within(probability: f64, intervals: f64) -> f64 {
    -((-probability).ln_1p() * intervals).exp_m1()
}

fn at_least_once_in(probability: f64, intervals: f64) -> f64 {
    within(probability.min(MOST), 1.0 / intervals.max(1e-6))
}

/// Probabilities sorted into 16 classes for each factor of two.
pub(crate) mod classes {
    /// How many there are.
    pub(crate) const COUNT: usize = 386;
    /// Classes for a factor of two.
    pub(crate) const PER_OCTAVE: usize = 16;
    const LOWEST: u32 = 103 << 4;

    /// The class of a probability; higher ones are more probable.
    pub(crate) fn of(probability: f64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is all that happens")]
        let bits = (probability as f32).to_bits() >> 19;
        usize::try_from(bits.saturating_sub(LOWEST)).unwrap_or(0).min(COUNT - 1)
    }

    /// The lowest probability of a class.
    pub(crate) fn floor(class: usize) -> f64 {
        let class = u32::try_from(class.min(COUNT - 1)).unwrap_or(0);
        f64::from(f32::from_bits((class + LOWEST) << 19))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_order_and_narrow() {
        let mut before = None;
        for step in 1..100_000u32 {
            let p = f64::from(step) / 100_000.0;
            let class = classes::of(p);
            assert!(before <= Some(class));
            assert!(classes::floor(class) <= p * 1.000_001, "{p}");
            assert!(classes::floor(class + 1) > p || class + 1 == classes::COUNT, "{p}");
            before = Some(class);
        }
        assert_eq!(classes::of(0.0), 0);
        assert_eq!(classes::of(LEAST), 0);
        assert!(classes::of(1.0) < classes::COUNT);
    }

    #[test]
    fn probabilities_go_back_and_forth() {
        for p in [0.001, 0.02, 0.3, 0.9] {
            for intervals in [0.2, 1.0, 50.0] {
                let back = at_least_once_in(within(p, intervals), intervals);
                assert!((back - p).abs() < 1e-6 || within(p, intervals) > 0.999, "{p} {intervals}");
            }
        }
        assert!((within(0.5, 2.0) - 0.75).abs() < 1e-12);
    }
}
