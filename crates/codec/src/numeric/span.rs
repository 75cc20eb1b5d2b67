//! Smallest and largest value of a range, and what of it is no number.

use plan::NumericType;

use super::elements::{Element, with_element};

/// Smallest and largest finite value of all elements that were looked at, and how many of them
/// were not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FiniteSpan {
    ends: Option<(f64, f64)>,
    not_finite: u64,
}

impl FiniteSpan {
    /// Nothing looked at yet.
    pub const fn new() -> Self {
        Self { ends: None, not_finite: 0 }
    }

    /// Looks at the whole elements of `bytes`.
    pub fn add(&mut self, bytes: &[u8], numeric: NumericType) {
        with_element!(numeric, T => {
            for element in bytes.chunks_exact(T::WIDTH).map(T::load) {
                let value = element.value();
                if value.is_finite() {
                    let (low, high) = self.ends.unwrap_or((value, value));
                    self.ends = Some((low.min(value), high.max(value)));
                } else {
                    self.not_finite += 1;
                }
            }
        });
    }

    /// NaN and infinities.
    pub const fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// Largest minus smallest; 0 if there was nothing finite. Infinite when the difference is
    /// more than a number can hold: then no bound can be made of it.
    pub fn span(&self) -> f64 {
        self.ends.map_or(0.0, |(low, high)| high - low)
    }
}
