//! Waiting for something to become true, with a limit and a name.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a program may take for anything in these tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every few milliseconds until `look` finds something.
///
/// # Panics
/// When it does not within `limit`; the message holds `what` and the last reason.
pub fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) if begin.elapsed() >= limit => {
                panic!("{what}: not after {limit:?}: {reason}")
            }
            // Other programs' progress gives no event to wait for.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Waits until `holds` says so.
///
/// # Panics
/// When it does not within `limit`.
pub fn until_true(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    until(what, limit, || if holds() { Ok(()) } else { Err("it does not hold") });
}
