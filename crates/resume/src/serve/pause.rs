//! How long what failed is left before it is tried again.

use std::time::Duration;

/// A pause that doubles from one failure to the next, up to a longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    /// One that begins with `first` and never gets longer than `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause after one more failure.
    pub fn grow(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause
    }

    /// It worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest_and_begins_anew() {
        let ms = Duration::from_millis;
        let mut pause = Pause::new(ms(50), ms(300));
        let mut four = || [pause.grow(), pause.grow(), pause.grow(), pause.grow()];
        assert_eq!(four(), [ms(50), ms(100), ms(200), ms(300)]);
        assert_eq!(pause.grow(), ms(300));
        pause.reset();
        assert_eq!(pause.grow(), ms(50));
    }
}
