//! Decisions about pieces to a plan: extents put together, ordered, with predictions.

use std::sync::Arc;

use mem::{MemoryId, PAGE_SIZE, PageRange};
use plan::{Extent, Plan, Planned, Thresholds, Tier, Treatment};

use crate::Input;
use crate::odds::Odds;
use crate::predict::Forecast;
use crate::treat::Forms;
use crate::walk::Piece;

/// What a policy decides about a piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    pub(crate) tier: Tier,
    /// Position inside of the tier's load order; lower is sooner, equals go by address.
    pub(crate) priority: u32,
    /// What [`Builder::reason`] gave.
    pub(crate) reason: u32,
    /// How likely a page of it is touched in an interval.
    pub(crate) probability: f64,
}

/// A row that becomes an extent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) memory: MemoryId,
    pub(crate) pages: PageRange,
    pub(crate) tier: Tier,
    pub(crate) treatment: Treatment,
    pub(crate) priority: u32,
    pub(crate) reason: u32,
    /// Mean over its pages.
    pub(crate) probability: f32,
}

/// Puts a plan together. At most one row of 56 bytes and one extent of 48 for each run of pages
/// that are treated alike.
pub(crate) struct Builder<'a> {
    input: &'a Input<'a>,
    forms: Forms,
    rows: Vec<Row>,
    reasons: Vec<Arc<str>>,
    notes: Vec<String>,
    written_bytes: f64,
}

/// The last round of copying before a freeze takes about this long; what is written meanwhile
/// is copied in the pause.
const LAST_ROUND_INTERVALS: f64 = 0.2;

/// Rows whose number fits beside tier and priority in a sort key.
const ROWS_MAX: usize = 1 << 28;

impl<'a> Builder<'a> {
    pub(crate) fn new(input: &'a Input<'a>) -> Self {
        let forms = Forms::new(input.costs);
        let notes = Vec::new();
        Self { input, forms, rows: Vec::new(), reasons: Vec::new(), notes, written_bytes: 0.0 }
    }

    /// A reason to give in decisions.
    pub(crate) fn reason(&mut self, text: impl Into<Arc<str>>) -> u32 {
        self.reasons.push(text.into());
        u32::try_from(self.reasons.len() - 1).unwrap_or(u32::MAX)
    }

    /// Something the reader of the plan should know.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(crate) fn add(&mut self, piece: &Piece<'_>, decision: Decision) {
        let treatment = self.forms.treatment(piece, decision.tier);
        self.count_writes(piece, decision.probability);
        #[expect(clippy::cast_possible_truncation, reason = "an estimate: rounding is fine")]
        let probability = decision.probability as f32;
        let row = Row {
            memory: piece.memory,
            pages: piece.pages,
            tier: decision.tier,
            treatment,
            priority: decision.priority,
            reason: decision.reason,
            probability,
        };
        if let Some(last) = self.rows.last_mut()
            && last.joins(&row)
        {
            let (old, new) = (last.pages.count().0 as f32, row.pages.count().0 as f32);
            last.probability = (last.probability * old + row.probability * new) / (old + new);
            last.pages.end = row.pages.end;
            return;
        }
        assert!(self.rows.len() < ROWS_MAX, "a plan of an address space has fewer extents");
        self.rows.push(row);
    }

    fn count_writes(&mut self, piece: &Piece<'_>, probability: f64) {
        if !piece.region.writable {
            return;
        }
        let intervals = f64::from(self.input.heat.window_intervals());
        let written = match piece.heat.write_count {
            Some(count) if intervals > 0.0 => (f64::from(count) / intervals).min(0.999_999),
            _ => probability,
        };
        // 1 - (1 - p)^t, for t below 1 hardly more than p t; at most a page once.
        let in_last_round = (written * LAST_ROUND_INTERVALS).min(1.0);
        self.written_bytes += in_last_round * (piece.pages.count().0 * PAGE_SIZE) as f64;
    }

    /// The plan, in load order, with what it is expected to cost.
    pub(crate) fn finish(mut self, policy: &str, thresholds: Thresholds, odds: &Odds) -> Planned {
        let mut order: Vec<u64> = (0u64..)
            .zip(&self.rows)
            .map(|(number, row)| {
                u64::from(row.tier.code()) << 60 | u64::from(row.priority) << 28 | number
            })
            .collect();
        order.sort_unstable();
        let mut forecast = Forecast::new(self.input, odds);
        let mut extents = Vec::with_capacity(order.len());
        for (key, load_order) in order.into_iter().zip(0u32..) {
            let number = usize::try_from(key & ((1 << 28) - 1)).unwrap_or(usize::MAX);
            let row = &self.rows[number];
            let reason = &self.reasons[usize::try_from(row.reason).unwrap_or(usize::MAX)];
            forecast.add(row, reason);
            extents.push(Extent {
                memory: row.memory,
                pages: row.pages,
                tier: row.tier,
                treatment: row.treatment,
                load_order,
                reason: Arc::clone(reason),
            });
        }
        let predictions = forecast.finish(self.written_bytes, &mut self.notes);
        Planned {
            plan: Plan { extents },
            policy: policy.to_owned(),
            thresholds,
            window_intervals: self.input.heat.window_intervals(),
            notes: self.notes,
            predictions,
            lossy: None,
        }
    }
}

impl Row {
    fn joins(&self, next: &Self) -> bool {
        self.memory == next.memory
            && self.pages.end == next.pages.start
            && self.tier == next.tier
            && self.treatment == next.treatment
            && self.priority == next.priority
            && self.reason == next.reason
    }
}
