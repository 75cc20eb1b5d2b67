//! Which form suits a region. Trying all of them on every frame costs ten times what the best
//! one costs, so it is done on few frames of a region and remembered.

use std::collections::HashMap;

use plan::NumericType;

use crate::frame::FRAME_BYTES_MAX;
use crate::{Effort, EncodeError, Encoder, Frame, NumericEncoder, Want};

/// A way to encode a frame without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As any bytes.
    General(Want),
    /// As numbers.
    Typed(NumericType, Effort),
}

/// What is wanted of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aim {
    /// Encoded and decoded fast: warm frames, while the instance is waiting.
    Fast,
    /// Small: in the background.
    Small,
}

/// Frames of a region that are tried before a form is chosen.
const TRIED_FIRST: u32 = 2;
/// One frame in this many is tried again: regions change.
const TRIED_AGAIN: u32 = 256;
/// How much of what earlier trials found a new one replaces.
const NEWER: f64 = 0.5;
/// Regions that are remembered at most; then all are forgotten.
const REGIONS_MAX: usize = 1 << 16;

/// Encodes frames, each in the form that suits its region; one for each thread.
#[derive(Debug, Default)]
pub struct Chooser {
    encoder: Encoder,
    numeric: NumericEncoder,
    regions: HashMap<(u64, Aim), Region>,
}

#[derive(Clone, Debug, Default)]
struct Region {
    frames: u32,
    /// Stored bytes for one byte of pages, by candidate.
    shares: Vec<(Form, f64)>,
}

impl Region {
    fn is_tried(&self) -> bool {
        self.frames < TRIED_FIRST || self.frames.is_multiple_of(TRIED_AGAIN)
    }

    fn learn(&mut self, form: Form, share: f64) {
        match self.shares.iter_mut().find(|(known, _)| *known == form) {
            Some((_, old)) => *old += (share - *old) * NEWER,
            None => self.shares.push((form, share)),
        }
    }

    /// The form that saves most; raw when none saves 5%.
    fn best(&self) -> Form {
        let least = self.shares.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        least
            .filter(|(_, share)| *share <= 0.95)
            .map_or(Form::General(Want::Raw), |(form, _)| *form)
    }
}

impl Chooser {
    /// A chooser that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes `pages` in the form that suits its region, which the caller names by a number of
    /// its own. `numeric` says what the elements are, where somebody declared or saw it.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode<'a>(
        &'a mut self,
        region: u64,
        pages: &'a [u8],
        numeric: Option<NumericType>,
        aim: Aim,
    ) -> Result<Frame<'a>, EncodeError> {
        if self.regions.len() >= REGIONS_MAX && !self.regions.contains_key(&(region, aim)) {
            self.regions.clear();
        }
        let known = self.regions.entry((region, aim)).or_default();
        let try_all = known.is_tried();
        known.frames = known.frames.wrapping_add(1).max(1);
        let form = if try_all { None } else { Some(known.best()) };
        let form = match form {
            Some(form) => form,
            None => self.try_all(region, pages, numeric, aim)?,
        };
        self.encode_as(pages, form)
    }

    /// The form that a region has at the moment.
    pub fn form(&self, region: u64, aim: Aim) -> Option<Form> {
        self.regions.get(&(region, aim)).map(Region::best)
    }

    fn encode_as<'a>(&'a mut self, pages: &'a [u8], form: Form) -> Result<Frame<'a>, EncodeError> {
        match form {
            Form::General(want) => self.encoder.encode(pages, want),
            Form::Typed(numeric, effort) => self.numeric.encode(pages, numeric, effort),
        }
    }

    fn try_all(
        &mut self,
        region: u64,
        pages: &[u8],
        numeric: Option<NumericType>,
        aim: Aim,
    ) -> Result<Form, EncodeError> {
        let general: &[Want] = match aim {
            Aim::Fast => &[Want::Lz4],
            Aim::Small => &[Want::Zstd(1), Want::Zstd(3)],
        };
        let effort = match aim {
            Aim::Fast => Effort::Fast,
            Aim::Small => Effort::Small,
        };
        let typed = numeric.map(|numeric| Form::Typed(numeric, effort));
        let candidates = general.iter().map(|want| Form::General(*want)).chain(typed);
        let mut best: Option<(Form, usize)> = None;
        for form in candidates {
            let length = self.encode_as(pages, form)?.bytes.len();
            let share = length as f64 / pages.len().clamp(1, FRAME_BYTES_MAX) as f64;
            if let Some(known) = self.regions.get_mut(&(region, aim)) {
                known.learn(form, share);
            }
            if best.is_none_or(|(_, least)| length < least) {
                best = Some((form, length));
            }
        }
        Ok(best.map_or(Form::General(Want::Raw), |(form, _)| form))
    }
}
