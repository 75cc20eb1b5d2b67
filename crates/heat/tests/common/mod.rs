//! Small programs, and windows that looked at them.
#![allow(dead_code, clippy::unwrap_used, reason = "tests")]

use mem::{AddrRange, PageIndex, PageRange, Protection, Sharing, VirtAddr};
use proptest::prelude::*;
use rekindle_heat::{
    AccessKind, Accumulator, Heat, Layout, Operand, OperandClass, Sample, Seen, Source, Start,
    Watched,
};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const DAY: u64 = 86_400 * SECOND;
/// Some day in 2026.
pub(crate) const THEN: u64 = 1_780_000_000 * SECOND;

/// Program text, its data and .bss, a heap, 64 anonymous pages, a memfd and a stack, all moved up
/// by `slide` pages as address randomisation would.
pub(crate) fn layout(slide: u64) -> Layout {
    let line =
        |start: u64, pages: u64, access: &str, name: &'static str, inode: u64, offset: u64| Seen {
            range: AddrRange::new((start + slide) * 4096, (start + slide + pages) * 4096),
            protection: Protection {
                read: access.contains('r'),
                write: access.contains('w'),
                exec: access.contains('x'),
            },
            sharing: if access.ends_with('s') { Sharing::Shared } else { Sharing::Private },
            offset_bytes: offset * 4096,
            device: if inode == 0 { (0, 0) } else { (8, 1) },
            inode,
            name: name.as_bytes(),
            build_id: if inode == 7 { b"build" } else { b"" },
        };
    Layout::new([
        line(0x400, 16, "r-xp", "/usr/bin/sample", 7, 0),
        line(0x410, 4, "rw-p", "/usr/bin/sample", 7, 16),
        line(0x414, 4, "rw-p", "", 0, 0),
        line(0x1000, 32, "rw-p", "[heap]", 0, 0),
        line(0x7f000, 64, "rw-p", "", 0, 0),
        line(0x7f100, 8, "rw-s", "/memfd:ring (deleted)", 9, 0),
        line(0x7f200, 16, "r--p", "/srv/model.bin", 11, 0),
        line(0x7ff00, 8, "rw-p", "[stack]", 0, 0),
    ])
}

/// Starts of the regions of [`layout`] with their pages.
pub(crate) const REGIONS: [(u64, u64); 8] = [
    (0x400, 16),
    (0x410, 4),
    (0x414, 4),
    (0x1000, 32),
    (0x7f000, 64),
    (0x7f100, 8),
    (0x7f200, 16),
    (0x7ff00, 8),
];

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Seen {
        region: usize,
        page: u64,
        kind: AccessKind,
        at_ms: u64,
        code: Option<u64>,
        class: u8,
        source: Source,
    },
    Watched {
        region: usize,
        from: u64,
        pages: u64,
        reads: bool,
        writes: bool,
        from_ms: u64,
        until_ms: u64,
    },
    Sampled {
        from_ms: u64,
        until_ms: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    /// `CLOCK_REALTIME` at the window's start.
    pub(crate) start_ns: u64,
    pub(crate) length_ms: u64,
    pub(crate) slide: u64,
    pub(crate) ordered: bool,
    pub(crate) events: Vec<Event>,
}

/// On the samples' clock windows begin here.
pub(crate) const CLOCK: u64 = 5 * SECOND;

pub(crate) fn heat(plan: &Plan) -> Heat {
    let start =
        Start { id: plan.id, clock_ns: CLOCK, realtime_ns: plan.start_ns, ordered: plan.ordered };
    let mut window = Accumulator::new(start, layout(plan.slide));
    let at = |ms: u64| CLOCK + ms * 1_000_000;
    for event in &plan.events {
        match *event {
            Event::Seen { region, page, kind, at_ms, code, class, source } => {
                let (start, pages) = REGIONS[region];
                window.add(&Sample {
                    page: PageIndex(start + plan.slide + page % pages),
                    kind,
                    weight: 1,
                    instruction: code.map(|c| VirtAddr((0x400 + plan.slide) * 4096 + c)),
                    operand: Operand {
                        class: OperandClass::from_code(class).unwrap(),
                        width_bytes: 8,
                    },
                    thread: 1,
                    time_ns: at(at_ms),
                    source,
                });
            }
            Event::Watched { region, from, pages, reads, writes, from_ms, until_ms } => {
                let (start, count) = REGIONS[region];
                let from = from % count;
                let start = start + plan.slide + from;
                let pages = PageRange::new(start, start + pages.min(count - from));
                window.watched(pages, Watched { reads, writes }, at(from_ms), at(until_ms));
            }
            Event::Sampled { from_ms, until_ms } => window.sampled(at(from_ms), at(until_ms)),
        }
    }
    window.finish(at(plan.length_ms))
}

pub(crate) fn event(length_ms: u64) -> impl Strategy<Value = Event> {
    let kind =
        prop_oneof![Just(AccessKind::Read), Just(AccessKind::Write), Just(AccessKind::ReadWrite)];
    let source = prop_oneof![Just(Source::Clock), Just(Source::Fault)];
    let code = proptest::option::of(0..200_u64);
    let seen = (0..8_usize, 0..12_u64, kind, 0..length_ms, code, 0..17_u8, source).prop_map(
        |(region, page, kind, at_ms, code, class, source)| Event::Seen {
            region,
            page,
            kind,
            at_ms,
            code,
            class,
            source,
        },
    );
    let spans = (0..length_ms, 0..length_ms / 2);
    let watched = (0..8_usize, 0..12_u64, 1..10_u64, any::<bool>(), any::<bool>(), spans.clone())
        .prop_map(|(region, from, pages, reads, writes, (from_ms, ms))| Event::Watched {
            region,
            from,
            pages,
            reads,
            writes,
            from_ms,
            until_ms: from_ms + ms,
        });
    let sampled =
        spans.prop_map(|(from_ms, ms)| Event::Sampled { from_ms, until_ms: from_ms + ms });
    prop_oneof![6 => seen, 3 => watched, 1 => sampled]
}

/// Windows from seconds to half a year apart.
pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let start = prop_oneof![0..200 * SECOND, 0..2 * 3600 * SECOND, 0..10 * DAY, 0..180 * DAY,];
    (any::<u64>(), start, 100..4000_u64, 0..3_u64, any::<bool>()).prop_flat_map(
        |(id, start, length_ms, slide, ordered)| {
            proptest::collection::vec(event(length_ms), 0..40).prop_map(move |events| Plan {
                id,
                start_ns: THEN + start,
                length_ms,
                slide: slide * 0x40,
                ordered,
                events,
            })
        },
    )
}
