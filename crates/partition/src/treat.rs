//! Which form the bytes of a page take, once its tier is known.

use plan::{Tier, Treatment};

use crate::walk::Piece;
use crate::{HostCosts, ParentState, Provenance};

/// Treatments that depend on the host alone, worked out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forms {
    /// Whichever is loaded soonest.
    soonest: Treatment,
}

impl Forms {
    pub(crate) fn new(costs: &HostCosts) -> Self {
        let load_us = |treatment: &Treatment| costs.load_us(*treatment, 1 << 20);
        let soonest = [Treatment::Raw, Treatment::Lz4, Treatment::Zstd]
            .into_iter()
            .min_by(|a, b| load_us(a).total_cmp(&load_us(b)))
            .unwrap_or(Treatment::Raw);
        Self { soonest }
    }

    /// The treatment of a page of this tier.
    ///
    /// Critical is lossless and stored, and as soon back as can be; warm is as small as can be
    /// outside of the pause; cold is stored nowhere if there is another way, else spilled.
    pub(crate) fn treatment(self, piece: &Piece<'_>, tier: Tier) -> Treatment {
        let unchanged = piece.parent == Some(ParentState::Unchanged);
        match (piece.provenance, tier) {
            (Some(Provenance::Excluded), _) => return Treatment::Excluded,
            (Some(Provenance::Zero), _) => return Treatment::Zero,
            (Some(Provenance::File), _) => return Treatment::File,
            (Some(Provenance::Same), _) => return Treatment::Same,
            (Some(Provenance::Twin), Tier::Warm | Tier::Cold) => return Treatment::Twin,
            (Some(Provenance::Rule), Tier::Cold) => return Treatment::Rule,
            (Some(Provenance::Dead), Tier::Cold) => return Treatment::Dead,
            _ if unchanged => return Treatment::Parent,
            _ => {}
        }
        let lossy = piece.numbers.is_some_and(|numbers| numbers.lossy);
        match tier {
            Tier::Critical => self.soonest,
            Tier::Warm | Tier::Cold if lossy => Treatment::Lossy,
            Tier::Warm if piece.parent == Some(ParentState::Base) => Treatment::Delta,
            Tier::Warm if piece.numbers.is_some() => Treatment::Typed,
            Tier::Warm => Treatment::Zstd,
            Tier::Cold => Treatment::Spill,
        }
    }
}

/// The hottest tier that a page may have where the policy is free to choose: what somebody
/// named for a loss is not to be kept without one, what a file holds is streamed from there,
/// what is of no use is not loaded.
pub(crate) fn hottest(piece: &Piece<'_>) -> Tier {
    match piece.provenance {
        Some(Provenance::Dead | Provenance::Excluded | Provenance::Rule) => Tier::Cold,
        Some(Provenance::Twin) => Tier::Warm,
        _ if piece.numbers.is_some_and(|numbers| numbers.lossy) => Tier::Warm,
        _ => Tier::Critical,
    }
}
