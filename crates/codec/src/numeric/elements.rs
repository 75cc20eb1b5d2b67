//! Bytes as elements of a type that is known only at run time.

use pco::data_types::Number;
use plan::NumericType;

/// A type of element.
pub(crate) trait Element: Number + PartialEq {
    /// Bytes of one.
    const WIDTH: usize;
    /// The element in the first bytes of `bytes`, of which there are at least [`Self::WIDTH`].
    fn load(bytes: &[u8]) -> Self;
    /// The other way round.
    fn store(self, bytes: &mut [u8]);
    /// Whether the element has to come back bit by bit whatever loss is allowed: NaN,
    /// infinities, -0 and subnormal numbers.
    fn is_special(self) -> bool;
    /// The element as a number; exact but for 64-bit integers.
    fn value(self) -> f64;
    /// How far `decoded` is from this element, or `None` if that is not surely at most
    /// `allowed`, or one of the two is special.
    fn error(self, decoded: Self, allowed: f64) -> Option<f64>;
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl Element for $type {
            const WIDTH: usize = size_of::<Self>();

            fn load(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<Self>()];
                array.copy_from_slice(&bytes[..size_of::<Self>()]);
                Self::from_le_bytes(array)
            }

            fn store(self, bytes: &mut [u8]) {
                bytes[..size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
            }

            fn is_special(self) -> bool {
                false
            }

            #[allow(clippy::cast_lossless, reason = "not for every type")]
            fn value(self) -> f64 {
                self as f64
            }

            fn error(self, decoded: Self, allowed: f64) -> Option<f64> {
                let far = u64::from(self.abs_diff(decoded));
                // As whole numbers, since no floating-point number holds all of 64 bits.
                (far <= whole(allowed)).then_some(far as f64)
            }
        }
    )+};
}

/// The largest whole number up to `value`, at most that of 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted here"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.floor() as u64
}

/// Errors are compared with a bound that is this much tighter: the comparison itself rounds.
pub(crate) const SURELY: f64 = 1.0 - 1.0 / 1_125_899_906_842_624.0;
/// Bounds below this are kept by keeping every bit: so near to 0 the comparison would not be
/// exact enough.
pub(crate) const BOUND_MIN: f64 = 1e-290;

macro_rules! float {
    ($($type:ty),+) => {$(
        impl Element for $type {
            const WIDTH: usize = size_of::<Self>();

            fn load(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<Self>()];
                array.copy_from_slice(&bytes[..size_of::<Self>()]);
                Self::from_le_bytes(array)
            }

            fn store(self, bytes: &mut [u8]) {
                bytes[..size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
            }

            fn is_special(self) -> bool {
                !self.is_finite() || self.is_subnormal() || (self == 0.0 && self.is_sign_negative())
            }

            #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "not for every type")]
            fn value(self) -> f64 {
                self as f64
            }

            fn error(self, decoded: Self, allowed: f64) -> Option<f64> {
                let error = (decoded.value() - self.value()).abs();
                let is_kept = allowed >= BOUND_MIN && error <= allowed * SURELY;
                (is_kept && !self.is_special() && !decoded.is_special()).then_some(error)
            }
        }
    )+};
}

integer!(u8, u16, u32, u64, i8, i16, i32, i64);
float!(f32, f64);

/// `$body` with `$name` as the element type of `$numeric`.
macro_rules! with_element {
    ($numeric:expr, $name:ident => $body:expr) => {
        match $numeric {
            plan::NumericType::U8 => {
                type $name = u8;
                $body
            }
            plan::NumericType::U16 => {
                type $name = u16;
                $body
            }
            plan::NumericType::U32 => {
                type $name = u32;
                $body
            }
            plan::NumericType::U64 => {
                type $name = u64;
                $body
            }
            plan::NumericType::I8 => {
                type $name = i8;
                $body
            }
            plan::NumericType::I16 => {
                type $name = i16;
                $body
            }
            plan::NumericType::I32 => {
                type $name = i32;
                $body
            }
            plan::NumericType::I64 => {
                type $name = i64;
                $body
            }
            plan::NumericType::F32 => {
                type $name = f32;
                $body
            }
            plan::NumericType::F64 => {
                type $name = f64;
                $body
            }
        }
    };
}
pub(crate) use with_element;

/// All whole elements of `bytes`.
pub(crate) fn load_all<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(T::WIDTH).map(T::load).collect()
}

/// Writes elements one after the other; `bytes` has room for all.
pub(crate) fn store_all<T: Element>(elements: &[T], bytes: &mut [u8]) {
    for (element, place) in elements.iter().zip(bytes.chunks_exact_mut(T::WIDTH)) {
        element.store(place);
    }
}

/// Whether elements of the type are floating-point numbers.
pub(crate) const fn is_float(numeric: NumericType) -> bool {
    matches!(numeric, NumericType::F32 | NumericType::F64)
}
