//! The specification's own rule.

use plan::{Planned, Thresholds, Tier};

use crate::builder::{Builder, Decision};
use crate::odds::Odds;
use crate::walk::Walker;
use crate::{Input, Policy};

/// `partitionMemory(memoryMap, threshold_warm, threshold_critical)`: a page that was accessed in
/// more than `threshold_critical` intervals of the window is critical, else in more than
/// `threshold_warm` warm, else cold. Pages of which nothing is known count as never accessed:
/// the rule knows no third case.
#[derive(Clone, Copy, Debug)]
pub struct Threshold(pub Thresholds);

impl Policy for Threshold {
    fn name(&self) -> &'static str {
        "threshold"
    }

    fn plan(&self, input: &Input<'_>) -> Planned {
        let walker = Walker::new(input);
        let odds = Odds::new(input, &walker);
        let Thresholds { warm, critical } = self.0;
        let mut builder = Builder::new(input);
        let above_critical = builder.reason(format!("accessed in more than {critical} intervals"));
        let above_warm = builder.reason(format!("accessed in more than {warm} intervals"));
        let below = builder.reason(format!("accessed in at most {} intervals", warm.min(critical)));
        let unknown = builder.reason("never seen, which this policy takes for never".to_owned());
        let mut unknown_pages = 0;
        walker.walk(|piece| {
            let access_count = piece.heat.access_count.unwrap_or(0);
            let (tier, reason) = if access_count > critical {
                (Tier::Critical, above_critical)
            } else if access_count > warm {
                (Tier::Warm, above_warm)
            } else if piece.heat.access_count.is_none() {
                unknown_pages += piece.pages.count().0;
                (Tier::Cold, unknown)
            } else {
                (Tier::Cold, below)
            };
            // Within a tier the hotter ones come first, by powers of two: extents stay long.
            let priority = if tier == Tier::Cold { 0 } else { access_count.leading_zeros() };
            let probability = odds.probability(piece);
            builder.add(piece, Decision { tier, priority, reason, probability });
        });
        if unknown_pages > 0 {
            let pages = input.inventory.pages();
            builder.note(format!(
                "{unknown_pages} of {pages} pages were never seen and never watched; they are \
                 cold by this policy's rule, not by evidence"
            ));
        }
        if warm > critical {
            builder.note(format!(
                "threshold_warm {warm} is above threshold_critical {critical}: nothing is warm"
            ));
        }
        builder.finish(self.name(), self.0, &odds)
    }
}
