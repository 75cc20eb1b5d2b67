//! Mantissas cut to as many bits as a pointwise relative bound needs.

use super::elements::Element;

/// A floating-point element whose mantissa can be rounded.
pub(crate) trait Rounded: Element {
    /// The element with its mantissa rounded to `keep` bits, ties to even.
    fn rounded(self, keep: u32) -> Self;
    /// Bits of the mantissa that are stored.
    const MANTISSA: u32;
}

macro_rules! rounded {
    ($type:ty, $mantissa:literal) => {
        impl Rounded for $type {
            const MANTISSA: u32 = $mantissa;

            fn rounded(self, keep: u32) -> Self {
                let drop = $mantissa - keep.min($mantissa);
                if drop == 0 {
                    return self;
                }
                let bits = self.to_bits();
                let half = (1 << (drop - 1)) - 1 + ((bits >> drop) & 1);
                Self::from_bits(bits.wrapping_add(half) >> drop << drop)
            }
        }
    };
}

rounded!(f32, 23);
rounded!(f64, 52);

/// The fewest mantissa bits with which rounding keeps `|y - x| <= bound * |x|`.
pub(crate) fn bits_for<T: Rounded>(bound: f64) -> u32 {
    // Rounding to k bits errs by at most 2^-(k+1) of the number.
    (0..T::MANTISSA)
        .find(|k| 0.5_f64.powi(i32::try_from(k + 1).unwrap_or(0)) <= bound)
        .unwrap_or(T::MANTISSA)
}

/// Rounds every element for which that is allowed; the others stay as they are.
pub(crate) fn round_all<T: Rounded>(elements: &mut [T], bound: f64) {
    let keep = bits_for::<T>(bound);
    for element in elements.iter_mut().filter(|e| !e.is_special()) {
        let rounded = element.rounded(keep);
        if element.error(rounded, bound * element.value().abs()).is_some() {
            *element = rounded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_the_bound() {
        assert_eq!(bits_for::<f32>(0.5), 0);
        assert_eq!(bits_for::<f32>(0.25), 1);
        assert_eq!(bits_for::<f64>(1e-3), 9);
        assert_eq!(bits_for::<f32>(1e-30), 23);
        assert_eq!(bits_for::<f64>(0.0), 52);
    }
}
