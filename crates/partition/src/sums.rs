//! What the pages of a region tell of each other.

use crate::walk::Piece;

/// What is usual counts as much as this many watched intervals of the page itself: few where
/// the pages of a region differ, many where they are all alike. In between is what is taken
/// where nothing is known.
const USUAL_INTERVALS: (f64, f64, f64) = (0.5, 2.0, 100.0);
/// What is usual for a kind counts as much as this many watched intervals of pages of the
/// region.
const USUAL_WATCHED: f64 = 128.0;
/// Sightings by chance of pages whose touches are known, below which chance says nothing.
const SIGHTINGS_MIN: f64 = 20.0;

/// What is likely for the pages of a region.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RegionOdds {
    pub(crate) usual: f64,
    /// Of a page of which nothing is known.
    pub(crate) unseen: f64,
    /// Of a page that was never seen, while its writes were watched.
    pub(crate) unwritten: f64,
    /// How many watched intervals `usual` counts as much as.
    pub(crate) weight: f64,
}

/// What is summed up over a region.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    watched_pages: f64,
    watched_rate: f64,
    watched_rate_squared: f64,
    watched_chances: f64,
    watched_hits: f64,
    sampled_pages_rate: f64,
    sampled_hits: f64,
    sampled_once: f64,
    unknown_pages: f64,
    /// Of pages that were seen to be written: how likely they are touched, and sightings by chance.
    written_rate: f64,
    written_sampled: f64,
    /// Pages whose writes were watched and that were not written, and sightings of those.
    unwritten_pages: f64,
    unwritten_sampled: f64,
}

/// How many sightings by chance a touch of a page in an interval makes, as the pages show whose
/// touches are known; `None` when there are too few.
pub(crate) fn sample_weight(regions: &[Sums]) -> Option<f64> {
    let sampled: f64 = regions.iter().map(|sums| sums.written_sampled).sum();
    let touches: f64 = regions.iter().map(|sums| sums.written_rate).sum();
    (sampled >= SIGHTINGS_MIN && touches > 0.0).then(|| sampled / touches)
}

impl Sums {
    /// Adds a piece, of which something is known over `intervals`.
    pub(crate) fn add(&mut self, piece: &Piece<'_>, intervals: f64) {
        let pages = piece.pages.count().0 as f64;
        let heat = &piece.heat;
        if heat.write_count == Some(0) {
            self.unwritten_pages += pages;
            self.unwritten_sampled += f64::from(heat.sampled) * pages;
        }
        let Some(count) = heat.access_count.filter(|_| intervals > 0.0) else {
            self.unknown_pages += pages;
            return;
        };
        let rate = f64::from(count) / intervals;
        if heat.write_count.is_some_and(|count| count > 0) {
            self.written_rate += rate * pages;
            self.written_sampled += f64::from(heat.sampled) * pages;
        }
        if heat.sampled > 0 {
            self.sampled_pages_rate += rate * pages;
            self.sampled_hits += f64::from(heat.sampled) * pages;
            self.sampled_once += if heat.sampled == 1 { pages } else { 0.0 };
        } else {
            self.watched_pages += pages;
            self.watched_rate += rate * pages;
            self.watched_rate_squared += rate * rate * pages;
            let chances = f64::from(heat.chances.max(1)) * pages;
            self.watched_chances += chances;
            self.watched_hits += rate.min(1.0) * chances;
        }
    }

    /// What is likely, where `usual` is usual for the kind of memory and a touch makes
    /// `sample_weight` sightings.
    pub(crate) fn odds(&self, usual: f64, sample_weight: Option<f64>) -> RegionOdds {
        // Pages that were watched stand for those that were not.
        let usual =
            (usual * USUAL_WATCHED + self.watched_hits) / (USUAL_WATCHED + self.watched_chances);
        // Good and Turing: the share of all accesses that go to pages never seen is about the
        // share of sightings that were a page's only one.
        let missed = self.sampled_once / self.sampled_hits.max(1.0);
        let unseen = if self.sampled_hits > 0.0 && missed < 1.0 && self.unknown_pages > 0.0 {
            let rate = self.sampled_pages_rate * missed / (1.0 - missed) / self.unknown_pages;
            rate.min(usual)
        } else {
            usual
        };
        // Chance sees pages that are only read as well as those that are written. How often it saw
        // pages that were not written tells how much those are read, all together; half a sighting
        // more than there were, since none is not never.
        let unwritten = match sample_weight {
            Some(weight) if self.unwritten_pages > 0.0 => {
                let touches = (self.unwritten_sampled + 0.5) / weight;
                unseen.min(touches / self.unwritten_pages)
            }
            _ => unseen,
        };
        RegionOdds { usual, unseen, unwritten, weight: self.weight() }
    }

    /// How much the mean of the region tells of one of its pages: the strength of the beta
    /// distribution whose variance is what the rates vary beyond what chance alone makes.
    fn weight(&self) -> f64 {
        let (least, unknown, most) = USUAL_INTERVALS;
        if self.watched_pages < 2.0 {
            return unknown;
        }
        let mean = self.watched_rate / self.watched_pages;
        let chances = self.watched_chances / self.watched_pages;
        let by_chance = mean * (1.0 - mean) / chances;
        let varies = self.watched_rate_squared / self.watched_pages - mean * mean - by_chance;
        if varies <= 0.0 {
            return most;
        }
        (mean * (1.0 - mean) / varies - 1.0).clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_seen_is_less_likely_the_better_one_looked() {
        let looked = |once, hits| {
            let sums = Sums {
                sampled_pages_rate: 100.0,
                sampled_hits: hits,
                sampled_once: once,
                unknown_pages: 10_000.0,
                ..Sums::default()
            };
            sums.odds(0.5, None).unseen
        };
        assert!(looked(10.0, 1000.0) < looked(300.0, 1000.0));
        // All sightings were first ones: nothing is known of the rest.
        assert!((looked(1000.0, 1000.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_neither_written_nor_met_by_chance_is_hardly_touched() {
        let region = |unwritten_sampled| Sums {
            watched_pages: 1000.0,
            watched_chances: 5000.0,
            watched_hits: 5000.0,
            written_rate: 1000.0,
            written_sampled: 300.0,
            unwritten_pages: 20_000.0,
            unwritten_sampled,
            ..Sums::default()
        };
        let odds = |sums: Sums| sums.odds(0.004, sample_weight(&[sums]));
        assert!(odds(region(0.0)).unwritten < 0.001);
        // As many sightings as of the written ones: about as many touches, on more pages.
        let half = odds(region(300.0)).unwritten;
        assert!((half - 0.05).abs() < 0.001, "{half}");
        // With few sightings nothing is to be told.
        let few = Sums { written_sampled: 10.0, ..region(0.0) };
        assert!((odds(few).unwritten - odds(few).unseen).abs() < 1e-12);
    }
}
