//! Elements as multiples of a step, with exceptions.

use super::elements::Element;

/// Elements as whole numbers of steps; those that cannot be are exceptions.
#[derive(Debug, Default)]
pub(crate) struct Quantised {
    pub(crate) steps: Vec<i64>,
    /// Positions of exceptions, ascending.
    pub(crate) exceptions: Vec<u16>,
}

/// How elements become steps and back.
pub(crate) trait Quantise: Element {
    /// The number of steps, or `None` if the element is an exception.
    fn to_steps(self, grid: Grid) -> Option<i64>;
    /// The element that a number of steps stands for.
    fn of_steps(steps: i64, grid: Grid) -> Option<Self>;
}

/// The grid that elements are put on, from the absolute bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// The bound, finite and not negative.
    pub(crate) bound: f64,
}

/// Steps beyond this are not exact as floating-point numbers.
const STEPS_MAX: f64 = 4_503_599_627_370_496.0;

impl Grid {
    /// For floating-point numbers: as far apart as the bound allows.
    fn step(self) -> f64 {
        2.0 * self.bound
    }

    /// For integers: how far an element may move.
    fn whole(self) -> i128 {
        i128::from(super::elements::whole(self.bound).min(1 << 62))
    }
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl Quantise for $type {
            fn to_steps(self, grid: Grid) -> Option<i64> {
                let far = grid.whole();
                let steps = i128::from(self).div_euclid(2 * far + 1);
                let steps = i64::try_from(steps).ok()?;
                Self::of_steps(steps, grid).map(|_| steps)
            }

            fn of_steps(steps: i64, grid: Grid) -> Option<Self> {
                let far = grid.whole();
                Self::try_from(i128::from(steps) * (2 * far + 1) + far).ok()
            }
        }
    )+};
}

macro_rules! float {
    ($($type:ty),+) => {$(
        impl Quantise for $type {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^52")]
            fn to_steps(self, grid: Grid) -> Option<i64> {
                let steps = (self.value() / grid.step()).round();
                (!self.is_special() && steps.abs() < STEPS_MAX).then_some(steps as i64)
            }

            #[allow(
                clippy::cast_possible_truncation,
                clippy::unnecessary_cast,
                reason = "for f32 it rounds, for f64 it does nothing"
            )]
            fn of_steps(steps: i64, grid: Grid) -> Option<Self> {
                Some((steps as f64 * grid.step()) as Self)
            }
        }
    )+};
}

integer!(u8, u16, u32, u64, i8, i16, i32, i64);
float!(f32, f64);

/// Puts elements on the grid. Whatever `fits` refuses is an exception.
pub(crate) fn quantise<T: Quantise>(
    elements: &[T],
    grid: Grid,
    fits: impl Fn(T, T) -> bool,
) -> Quantised {
    let mut all = Quantised { steps: Vec::with_capacity(elements.len()), exceptions: Vec::new() };
    let mut last = 0;
    for (position, element) in (0u32..).zip(elements) {
        let steps = element.to_steps(grid).filter(|steps| {
            T::of_steps(*steps, grid).is_some_and(|decoded| fits(*element, decoded))
        });
        match (steps, u16::try_from(position)) {
            (Some(steps), _) => last = steps,
            // The neighbour's value costs least.
            (None, Ok(position)) => all.exceptions.push(position),
            // A frame has no more elements than a u16 has values.
            (None, Err(_)) => {}
        }
        all.steps.push(last);
    }
    all
}
