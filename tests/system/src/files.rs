//! Numbered lines that a program appends to a file: a gap, a repetition or a wrong value shows.

use crate::program::whole_lines;
use crate::wait::{self, PATIENCE};
use std::path::{Path, PathBuf};

/// The multiplier and increment of the sequence that every test program computes.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 1_442_695_040_888_963_407;

/// A file of lines `number value`, where each value follows from the one before.
#[derive(Debug)]
pub struct Sequence {
    path: PathBuf,
}

impl Sequence {
    /// The sequence in a file.
    pub fn in_file(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Checks every line there is and says how many.
    ///
    /// # Panics
    /// When a line is not the one that must follow.
    pub fn check(&self) -> u64 {
        let mut value = 0u64;
        let mut count = 0u64;
        for line in whole_lines(&self.path) {
            count += 1;
            value = value.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
            let expected = format!("{count} {value:016x}");
            assert_eq!(line, expected, "line {count} of {}", self.path.display());
        }
        count
    }

    /// Waits until `more` lines were added, all of them right.
    pub fn grows(&self, more: u64) {
        let goal = self.check() + more;
        let what = format!("line {goal} of {}", self.path.display());
        wait::until_true(&what, PATIENCE, || self.check() >= goal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> std::thread::Result<u64> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, text).unwrap();
        std::panic::catch_unwind(|| Sequence::in_file(&path).check())
    }

    #[test]
    fn a_wrong_line_is_noticed() {
        let (one, two) = ("1 14057b7ef767814f\n", "2 1a08ee1184ba6d32\n");
        assert_eq!(check("").unwrap(), 0);
        assert_eq!(check(&format!("{one}{two}3 half")).unwrap(), 2);
        for bad in [two.to_owned(), format!("{one}{one}"), format!("{one}\0\0\n")] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
