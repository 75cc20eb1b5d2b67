//! What can be wrong, and how the witness says so and ends.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a kind could not go on.
#[derive(Debug)]
pub enum Flaw {
    /// The host cannot offer this state; legal during set-up only.
    Absent(String),
    /// The state is not what it must be.
    Wrong(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(reason) => write!(f, "not available: {reason}"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

/// The result of a set-up, a check or a change.
pub type Outcome<T = ()> = Result<T, Flaw>;

/// Returns a [`Flaw::Wrong`] with a formatted message.
#[macro_export]
macro_rules! wrong {
    ($($arg:tt)*) => { return Err($crate::flaw::Flaw::Wrong(format!($($arg)*))) };
}

/// Returns a [`Flaw::Wrong`] unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($arg:tt)*) => { if !$holds { $crate::wrong!($($arg)*) } };
}

/// Returns a [`Flaw::Wrong`] that shows both values unless they are equal.
#[macro_export]
macro_rules! same {
    ($what:expr, $expected:expr, $found:expr) => {{
        let (expected, found) = (&$expected, &$found);
        if expected != found {
            $crate::wrong!("{}: expected {:?}, found {:?}", $what, expected, found)
        }
    }};
}

static REPORT: OnceLock<PathBuf> = OnceLock::new();
static FAILING: AtomicBool = AtomicBool::new(false);

/// Names the file that [`fail`] writes to. It is opened at that moment only, so that no descriptor
/// of it is part of the state under test.
pub fn report_to(path: PathBuf) {
    let _ = REPORT.set(path);
}

/// Says what was off, to stderr and to the report file, and ends the program with code 1.
pub fn fail(kind: &str, flaw: &Flaw) -> ! {
    end(&format!("witness: {kind}: {flaw}\n"), 1)
}

/// Writes `message` where failures go and ends the program with `code`; the first caller wins.
pub fn end(message: &str, code: i32) -> ! {
    if FAILING.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    let _ = std::io::stderr().write_all(message.as_bytes());
    if let Some(path) = REPORT.get() {
        let _ = std::fs::write(path, message);
    }
    crate::kinds::shared::clean_up();
    // SAFETY: `_exit` takes no pointers; other threads may be anywhere, so no destructor may run.
    unsafe { libc::_exit(code) }
}
