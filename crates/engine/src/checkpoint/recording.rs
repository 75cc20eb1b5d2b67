//! What the program receives before its pause is recorded, for its clone.

use std::thread::sleep;
use std::time::{Duration, Instant};

use sys::receive::{Receipts, Recording, Whose};
use target::Process;

use crate::phase::{Stopped, Watch};

/// Memory for what is recorded.
const BYTES: u32 = 4 << 20;
/// How often somebody is asked whether to go on.
const LOOK: Duration = Duration::from_millis(20);

/// A recording, or why there is none. What it holds is data of the program's: it is in memory alone,
/// and goes with this value.
pub(super) enum Recorded {
    /// It goes on.
    Going(Recording),
    /// There is none.
    Not(String),
}

impl Recorded {
    /// Records what `process` receives, from `time` before this returns until [`Self::end`].
    pub(super) fn begin(process: &Process, time: Duration, watch: &Watch) -> Result<Self, Stopped> {
        let whose = match whose(process) {
            Ok(whose) => whose,
            Err(why) => return Ok(Self::Not(why)),
        };
        let recording = match Recording::begin(whose, BYTES) {
            Ok(recording) => recording,
            Err(error) => return Ok(Self::Not(error.to_string())),
        };
        let until = Instant::now() + time;
        loop {
            watch.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Self::Going(recording));
            }
            sleep(left.min(LOOK));
        }
    }

    /// Whether something may have been recorded.
    pub(super) fn is_going(&self) -> bool {
        matches!(self, Self::Going(_))
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<Receipts, String> {
        match self {
            Self::Going(recording) => recording.end().map_err(|error| error.to_string()),
            Self::Not(why) => Err(why),
        }
    }
}

fn whose(process: &Process) -> Result<Whose, String> {
    let namespace = process.dir().stat("ns/pid").map_err(|error| error.to_string())?;
    let status = process.status().map_err(|error| error.to_string())?;
    let pid = status.ns_tgid.last().copied().unwrap_or(status.tgid);
    Ok(Whose { namespace: (namespace.device, namespace.inode), pid })
}
