//! A shadow: a fork of the frozen instance, which keeps the memory as it was while the instance goes
//! on. It never runs; it is read, and ended.
//!
//! A fork costs the pause what it takes to copy the page tables, however much was written. So it is
//! made where the last copy would take longer by far: of a program that writes as fast as it can
//! be copied, or one whose writes cannot be tracked. Afterwards each page that the program writes
//! while the shadow lives costs it a fault and the host a page: there has to be room for all of them.

use std::time::Duration;

use capture::{Captured, CopyError, Left, PageList};
use mem::{Mapping, MemoryId, PAGE_SIZE, PageSet, PageSink, VirtAddr};
use rehearse::Fork;
use target::{Frozen, Memory, Process};

use crate::host::memory_left_for;
use crate::report::{ShadowReport, micros};

/// What a fork is expected to take for each page; up to 300 ns were seen (decision 0021).
const FORK_NS_PER_PAGE: u64 = 200;
/// A copy that takes less than this is not worth a fork.
const WORTH: Duration = Duration::from_millis(20);
/// By how much faster than a copy a fork has to be.
const FASTER: u32 = 2;
/// Memory that has to be free besides what the program may write.
const SPARE_BYTES: u64 = 64 << 20;

/// How long a fork of so many pages is expected to take.
pub(super) fn fork_time(pages: u64) -> Duration {
    Duration::from_nanos(pages.saturating_mul(FORK_NS_PER_PAGE))
}

/// Whether a fork that takes `fork` is better than a copy that takes `copy`, or the only way to
/// keep within `allowed`.
pub(super) fn is_better(copy: Duration, fork: Duration, allowed: Option<Duration>) -> bool {
    let is_faster = copy > WORTH && copy > fork * FASTER;
    is_faster || allowed.is_some_and(|max| copy > max && fork <= max)
}

/// Whether there is room for all of `bytes` a second time, in these control groups.
pub(super) fn has_room(bytes: u64, cgroups: &[Vec<u8>]) -> bool {
    memory_left_for(cgroups).is_some_and(|left| left >= bytes + bytes / 16 + SPARE_BYTES)
}

/// Whether the program is forked in its pause, to be copied from the fork while it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShadowChoice {
    /// Where copying it would take longer by far.
    #[default]
    Auto,
    /// It is, where it can be.
    On,
    /// It is not.
    Off,
}

/// The fork, and what is to be copied from it.
pub(super) struct Shadow {
    memory: Memory,
    list: PageList,
    fork: Fork,
}

impl Shadow {
    /// Makes a fork of the frozen instance, and takes from `left` what is copied from that. When this
    /// fails the instance is as it was.
    ///
    /// # Errors
    /// In words, when it is of a kind that cannot be forked, or the kernel refuses.
    pub(super) fn take(
        frozen: &mut Frozen<'_>,
        captured: &Captured,
        left: &mut Left,
    ) -> Result<Self, String> {
        let fork = Fork::take(frozen, &captured.instance).map_err(|error| error.to_string())?;
        let process = Process::open(fork.pid()).map_err(|error| error.to_string())?;
        let private = captured.memory.private_ranges().to_vec();
        let memory = Memory::frozen(&process, private, Vec::new());
        let memory = memory.map_err(|error| error.to_string())?;
        let (now, list) = std::mem::take(&mut left.list).divide(&not_inherited(captured));
        left.list = now;
        // What was found in the instance is in its fork, which is not to be listed for that.
        memory.know(MemoryId::Private(0), list.of(MemoryId::Private(0)));
        Ok(Self { memory, list, fork })
    }

    /// Copies what it is there for to `sink`, with threads of nice value `nice`, and ends.
    ///
    /// # Errors
    /// As [`capture::copy_behind`]; the instance runs on.
    pub(super) fn copy(
        self,
        sink: &dyn PageSink,
        workers: usize,
        nice: i32,
        stop: &(dyn Fn(u64) -> Option<String> + Sync),
    ) -> Result<ShadowReport, CopyError> {
        let copied = capture::copy_behind(&self.memory, &self.list, sink, workers, nice, stop)?;
        Ok(ShadowReport { fork_us: micros(self.fork.took()), copied_bytes: copied.bytes })
    }

    /// Bytes that are copied from it.
    pub(super) fn bytes(&self) -> u64 {
        self.list.bytes()
    }
}

/// Private pages that a fork does not have as they were.
fn not_inherited(captured: &Captured) -> PageSet {
    // Not there in a child; zero in a child.
    const LACKING: [&[u8; 2]; 2] = [b"dc", b"wf"];
    let is_lacking = |mapping: &&Mapping| LACKING.iter().any(|flag| mapping.has_flag(flag));
    let mappings = captured.instance.spaces.iter().flat_map(|space| &space.mappings);
    let lacking = mappings.filter(is_lacking).map(|mapping| mapping.range.pages());
    // The kernel writes to the area for restartable sequences of the thread that forks (rseq(2)).
    let threads = captured.instance.groups.iter().flat_map(|group| &group.threads);
    let areas = threads.filter_map(|thread| thread.rseq.as_ref()).flat_map(|rseq| {
        let last = rseq.address.saturating_add(PAGE_SIZE - 1);
        [rseq.address, last].map(|address| {
            let page = VirtAddr(address).page();
            mem::PageRange { start: page, end: page.offset(1) }
        })
    });
    lacking.chain(areas).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_made_where_it_is_better_by_far() {
        let ms = Duration::from_millis;
        assert!(is_better(ms(250), ms(50), None));
        assert!(!is_better(ms(90), ms(50), None));
        assert!(is_better(ms(90), ms(50), Some(ms(60))));
        assert!(!is_better(ms(90), ms(50), Some(ms(100))));
        assert!(!is_better(ms(90), ms(70), Some(ms(60))));
        assert!(!is_better(ms(15), ms(1), None));
        // However little the copy takes: it is more than was allowed.
        assert!(is_better(ms(18), ms(3), Some(ms(10))));
        assert!(!is_better(ms(18), ms(12), Some(ms(10))));
    }
}
