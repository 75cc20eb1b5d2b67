//! Heat that a window gathered becomes pages, regions and counts.
#![allow(clippy::unwrap_used, reason = "a test")]

use heat::{AccessKind, Accumulator, Heat, Layout, Operand, Sample, Seen, Source, Start, Watched};
use mem::{AddrRange, MemoryId, PageIndex, PageRange, Protection, Sharing};
use plan::{Thresholds, Tier};
use rekindle_partition::{
    Budget, HeatPages, HeatView, HostCosts, Input, NoHeat, POLICY_NAMES, policy,
};

const HEAP: u64 = 0x1000;
const INTERVAL_NS: u64 = 100_000_000;

fn line(start: u64, pages: u64, name: &'static str, inode: u64, sharing: Sharing) -> Seen<'static> {
    Seen {
        range: AddrRange::new(start * 4096, (start + pages) * 4096),
        protection: Protection { read: true, write: true, exec: false },
        sharing,
        offset_bytes: 0,
        device: if inode == 0 { (0, 0) } else { (8, 1) },
        inode,
        name: name.as_bytes(),
        build_id: b"",
    }
}

/// Ten intervals in which everything was watched; heap page 3 was written in all of them, page 5
/// in one, and a page of a memfd in half.
fn heat() -> Heat {
    let layout = Layout::new([
        line(0x400, 8, "/usr/bin/sample", 7, Sharing::Private),
        line(HEAP, 16, "[heap]", 0, Sharing::Private),
        line(0x8000, 8, "/memfd:ring (deleted)", 9, Sharing::Shared),
        line(0x9000, 2, "[vdso]", 0, Sharing::Private),
    ]);
    let start = Start { id: 1, clock_ns: 0, realtime_ns: 1 << 60, ordered: false };
    let mut window = Accumulator::new(start, layout);
    let end_ns = 10 * INTERVAL_NS;
    window.watched(PageRange::new(0, 0x10000), Watched { reads: true, writes: true }, 0, end_ns);
    let mut touch = |page: u64, interval: u64| {
        window.add(&Sample {
            page: PageIndex(page),
            kind: AccessKind::Write,
            weight: 1,
            instruction: None,
            operand: Operand::UNKNOWN,
            thread: 0,
            time_ns: interval * INTERVAL_NS + 1,
            source: Source::WriteTracking,
        });
    };
    for interval in 0..10 {
        touch(HEAP + 3, interval);
        touch(0x9000, interval);
        if interval % 2 == 0 {
            touch(0x8002, interval);
        }
    }
    touch(HEAP + 5, 4);
    window.finish(end_ns)
}

#[test]
fn heat_alone_is_enough_for_a_plan() {
    let pages = HeatPages::new(&heat()).unwrap();
    assert_eq!(pages.heat.window_intervals(), 10);
    let mut counts = Vec::new();
    let heap = PageRange::new(HEAP, HEAP + 16);
    pages.heat.visit(MemoryId::Private(0), heap, &mut |run, heat| {
        counts.extend((run.start.0..run.end.0).map(|_| heat.access_count));
    });
    assert_eq!(counts.len(), 16);
    assert_eq!((counts[3], counts[5], counts[9]), (Some(10), Some(1), Some(0)));
    // The heap and the memfd; nobody wrote to the file, and the vdso is the kernel's.
    assert_eq!(pages.inventory.pages(), 16 + 8);
    let (costs, budget) = (HostCosts::default(), Budget::default());
    let input = Input {
        inventory: &pages.inventory,
        heat: &pages.heat,
        costs: &costs,
        budget,
        previous: None,
        faults: &[],
    };
    for name in &POLICY_NAMES[..2] {
        let planned = policy(name, Thresholds { warm: 2, critical: 8 }).unwrap().plan(&input);
        let tier = |memory, page| {
            let holds = |e: &&plan::Extent| e.memory == memory && e.pages.contains(PageIndex(page));
            planned.plan.extents.iter().find(holds).unwrap().tier
        };
        assert_eq!(tier(MemoryId::Private(0), HEAP + 3), Tier::Critical, "{name}");
        assert_eq!(tier(MemoryId::Private(0), HEAP + 9), Tier::Cold, "{name}");
        assert_ne!(tier(MemoryId::Shared(0), 2), Tier::Cold, "{name}");
    }
}

#[test]
fn no_heat_gives_no_pages() {
    assert!(HeatPages::new(&Heat::default()).is_none());
    assert_eq!(NoHeat.window_intervals(), 0);
}
