//! Referenced bits: how much of every mapping was touched, read or written, counted by the
//! processor itself. The bits are cleared once at the beginning and counted once at the end
//! (`clear_refs` and `smaps`, proc(5)): a total that no other collector has a part in.
//!
//! Both hold the lock of the program's memory for as long as it has pages, 50 ms a gigabyte, and
//! neither can be done in pieces. So it is done only where that is short; `--exact` may take
//! longer.

use std::time::Duration;

use mem::AddrRange;
use sys::proc::parse_smaps;
use sys::task::Pid;
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
    /// Clears the bits, if that is expected to be quick. Says how much work it was.
    pub(crate) fn set(
        process: &Process,
        costs: &Costs,
        exact: bool,
    ) -> Result<(Self, Duration), String> {
        let pages = process.stat().map_err(|e| e.to_string())?.resident_pages;
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
        let (cleared, work) = work_of(|| process.dir().clear_referenced());
        cleared.map_err(|e| e.to_string())?;
        Ok((Self(()), work))
    }

    /// Counts the bits that were set since, mapping by mapping; and how much work that was.
    pub(crate) fn read(self, process: &Process) -> Result<(Vec<Referenced>, Duration), String> {
        let (smaps, work) = work_of(|| process.dir().parse("smaps", &mut Vec::new(), parse_smaps));
        let smaps = smaps.map_err(|e| e.to_string())?;
        let known = smaps.into_iter().filter(|entry| entry.rss_bytes > 0);
        let rows = known.map(|entry| Referenced {
            range: entry.range,
            name: entry.name,
            resident_bytes: entry.rss_bytes,
            referenced_bytes: entry.referenced_bytes,
        });
        Ok((rows.collect(), work))
    }
}

/// CPU time of ours that `work` takes: for so long it holds the lock. Time in which others had the
/// processor says how busy the host is, not what this costs, and would starve other collectors.
fn work_of<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let cpu_ns = || sys::clock::process_cpu_ns(Pid::current()).unwrap_or_default();
    let before_ns = cpu_ns();
    let result = work();
    (result, Duration::from_nanos(cpu_ns().saturating_sub(before_ns)))
}
