//! Heat as one of a few levels that the eye can tell apart.

/// How hot, on a scale of powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing is known.
    Unknown,
    /// Known not to be accessed.
    Idle,
    /// Accessed in about 2^(number - 8) of the intervals: 1 to 8.
    Seen(u8),
}

impl Level {
    /// How many numbers there are.
    pub(crate) const COUNT: u8 = 10;

    /// The level of a share of intervals.
    pub(crate) fn of(share: Option<f64>) -> Self {
        match share {
            None => Self::Unknown,
            Some(share) if share <= 0.0 => Self::Idle,
            Some(share) => {
                let steps = [1.0 / 128.0, 1.0 / 64.0, 1.0 / 32.0, 1.0 / 16.0, 0.125, 0.25, 0.5];
                let above = steps.iter().zip(1_u8..).filter(|(step, _)| share > **step);
                Self::Seen(1 + above.map(|(_, number)| number).max().unwrap_or(0))
            }
        }
    }

    /// 0 unknown, 1 idle, 2 to 9 seen.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Idle => 1,
            Self::Seen(level) => 1 + level,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_powers_of_two() {
        assert_eq!(Level::of(None).number(), 0);
        assert_eq!(Level::of(Some(0.0)).number(), 1);
        assert_eq!(Level::of(Some(0.001)).number(), 2);
        assert_eq!(Level::of(Some(0.3)).number(), 8);
        assert_eq!(Level::of(Some(1.0)).number(), Level::COUNT - 1);
    }
}
