//! Referenced bits: how much of every mapping was touched, read or written, counted by the
//! processor itself. The bits are cleared once at the beginning and counted once at the end
//! (`clear_refs` and `smaps`, proc(5)): a total that no other collector has a part in.
//!
//! Both hold the lock of the program's memory for as long as it has pages, 50 ms a gigabyte, and
//! neither can be done in pieces. So it is done only where that is short; `--exact` may take longer.

use std::time::{Duration, Instant};

use mem::AddrRange;
use sys::proc::parse_smaps;
use target::Process;

use crate::Costs;

/// Longest that the lock of the program's memory may be held for it.
const LOCK_MAX: Duration = Duration::from_millis(10);
/// The same in the exact mode, which costs what it costs.
const LOCK_MAX_EXACT: Duration = Duration::from_millis(250);

/// What was touched of a mapping since the gauge was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referenced {
    /// Where.
    pub range: AddrRange,
    /// The mapping's name in maps.
    pub name: Vec<u8>,
    /// Bytes in RAM at the end.
    pub resident_bytes: u64,
    /// Bytes of them that were touched.
    pub referenced_bytes: u64,
}

/// Bits that were cleared.
#[derive(Debug)]
pub(crate) struct Gauge(());

impl Gauge {
    /// Clears the bits, if that is expected to be quick. Says how long it took.
    pub(crate) fn set(
        process: &Process,
        costs: &Costs,
        exact: bool,
    ) -> Result<(Self, Duration), String> {
        let pages = resident_pages(process)?;
        let expected = Duration::from_nanos(pages.saturating_mul(costs.clear_page_ns));
        let most = if exact { LOCK_MAX_EXACT } else { LOCK_MAX };
        if expected > most {
            return Err(format!(
                "{pages} pages are in RAM, and to clear their bits would hold the lock of the \
                 program's memory for about {} ms, more than {} ms",
                expected.as_millis(),
                most.as_millis()
            ));
        }
        let begun = Instant::now();
        process.dir().clear_referenced().map_err(|e| e.to_string())?;
        Ok((Self(()), begun.elapsed()))
    }

    /// Counts the bits that were set since, mapping by mapping; and how long that took.
    pub(crate) fn read(self, process: &Process) -> Result<(Vec<Referenced>, Duration), String> {
        let begun = Instant::now();
        let smaps = process.dir().parse("smaps", &mut Vec::new(), parse_smaps);
        let smaps = smaps.map_err(|e| e.to_string())?;
        let took = begun.elapsed();
        let known = smaps.into_iter().filter(|entry| entry.rss_bytes > 0);
        let rows = known.map(|entry| Referenced {
            range: entry.range,
            name: entry.name,
            resident_bytes: entry.rss_bytes,
            referenced_bytes: entry.referenced_bytes,
        });
        Ok((rows.collect(), took))
    }
}

/// Pages in RAM (`/proc/PID/statm`, second number).
fn resident_pages(process: &Process) -> Result<u64, String> {
    let mut text = Vec::new();
    process.dir().read("statm", &mut text).map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.ok_or_else(|| "statm has no second number".to_owned())
}
