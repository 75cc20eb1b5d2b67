//! A program to draw: half a gigabyte of model weights, a heap with hot keys, a library, a stack.
#![allow(dead_code, clippy::unwrap_used, reason = "tests")]

use heat::{
    AccessKind, Accumulator, Heat, Layout, Operand, OperandClass, Place, Sample, Seen, Source,
    Start, Symbol, Variable, Watched,
};
use mem::{AddrRange, MemoryId, PageIndex, PageRange, Protection, Sharing, VirtAddr};
use plan::{Extent, Plan, Tier, Treatment};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const THEN: u64 = 1_780_000_000 * SECOND;

fn line(start: u64, pages: u64, access: &str, name: &'static str, inode: u64) -> Seen<'static> {
    Seen {
        range: AddrRange::new(start * 4096, (start + pages) * 4096),
        protection: Protection {
            read: access.contains('r'),
            write: access.contains('w'),
            exec: access.contains('x'),
        },
        sharing: if access.ends_with('s') { Sharing::Shared } else { Sharing::Private },
        offset_bytes: 0,
        device: (8, 1),
        inode,
        name: name.as_bytes(),
        build_id: b"",
    }
}

pub(crate) const TEXT: u64 = 0x55_5555_4000 / 16;
pub(crate) const HEAP: u64 = TEXT + 0x1000;
pub(crate) const BIG: u64 = 0x7_f000_0000;
pub(crate) const MODEL: u64 = 0x7_f100_0000;

pub(crate) fn layout(big: u64) -> Layout {
    Layout::new([
        line(TEXT, 420, "r-xp", "/usr/local/bin/answer-server", 21),
        line(TEXT + 420, 40, "rw-p", "/usr/local/bin/answer-server", 21),
        line(HEAP, 60_000, "rw-p", "[heap]", 0),
        line(BIG, big, "rw-p", "", 0),
        line(MODEL, 131_072, "r--s", "/srv/models/answers-large-q8.bin", 33),
        line(0x7_ffe0_0000, 480, "r-xp", "/usr/lib/x86_64-linux-gnu/libc.so.6", 44),
        line(0x7_ffe0_0200, 60, "rw-p", "/usr/lib/x86_64-linux-gnu/libc.so.6", 44),
        line(0x7_fff0_0000, 33, "rw-p", "[stack]", 0),
    ])
}

pub(crate) fn mix(page: u64) -> u64 {
    let mut x = page.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

struct Draw {
    window: Accumulator,
}

impl Draw {
    #[allow(clippy::too_many_arguments, reason = "one call for each kind of memory")]
    fn see(
        &mut self,
        page: u64,
        kind: AccessKind,
        code: u64,
        class: OperandClass,
        width: u8,
        at: u64,
        weight: u32,
    ) {
        self.window.add(&Sample {
            page: PageIndex(page),
            kind,
            weight,
            instruction: Some(VirtAddr(TEXT * 4096 + code)),
            operand: Operand { class, width_bytes: width },
            thread: 7,
            time_ns: SECOND + at * 100_000_000 + 30_000_000,
            source: if kind.writes() { Source::Fault } else { Source::Clock },
        });
    }
}

/// Ten seconds of it; `big` is the size of its anonymous memory in pages.
pub(crate) fn heat(big: u64) -> Heat {
    let start = Start { id: 1, clock_ns: SECOND, realtime_ns: THEN, ordered: false };
    let mut draw = Draw { window: Accumulator::new(start, layout(big)) };
    let writes = Watched { reads: false, writes: true };
    let both = Watched { reads: true, writes: true };
    for (start, pages) in [(HEAP, 60_000), (BIG, big)] {
        for slice in 0..16 {
            let from = SECOND + slice * 600_000_000;
            let size = pages / 16;
            let range = PageRange::new(start + slice * size, start + (slice + 1) * size);
            draw.window.watched(range, writes, from, from + 500_000_000);
        }
    }
    draw.window.watched(PageRange::new(0x7_fff0_0000, 0x7_fff0_0021), both, SECOND, 11 * SECOND);
    draw.window.sampled(SECOND, 11 * SECOND);
    // The hash table: a hot stretch of the heap, and keys here and there.
    for page in 0..60_000_u64 {
        let slice = page / 3750 * 6;
        let often = match page {
            9_000..12_500 => 5,
            _ if mix(page) % 100 < 4 => 3,
            40_000..52_000 if mix(page) % 10 < 3 => 1,
            _ => 0,
        };
        for i in 0..often {
            draw.see(HEAP + page, AccessKind::Write, 0x12a40, OperandClass::U64, 8, slice + i, 1);
        }
        if often > 2 {
            draw.see(
                HEAP + page,
                AccessKind::Read,
                0x12a10,
                OperandClass::U64,
                8,
                mix(page) % 100,
                3,
            );
        }
    }
    // Activations: doubles and vectors in waves.
    // Large programs are scattered page by page, which is the worst for everything.
    let scattered = if big > 1 << 20 { 150 } else { 8 };
    for page in (0..big).filter(|page| page % 4096 < 700 || mix(*page) % 1000 < scattered) {
        let at = page / (big / 16).max(1) * 6 + page / 700 % 4;
        let (code, class) = if page.is_multiple_of(3) {
            (0x3f00, OperandClass::F64)
        } else {
            (0x3f40, OperandClass::VectorF32)
        };
        draw.see(
            BIG + page,
            AccessKind::Write,
            code,
            class,
            if page.is_multiple_of(3) { 8 } else { 32 },
            at,
            2,
        );
    }
    // Weights: read in part, region by region.
    for page in (0..131_072_u64).filter(|p| mix(p / 512) % 10 < 2 && mix(*p).is_multiple_of(5)) {
        for i in 0..1 + mix(page / 512) % 4 {
            let at = (mix(page / 512) + i * 7) % 100;
            draw.see(MODEL + page, AccessKind::Read, 0x3f80, OperandClass::VectorU8, 32, at, 4);
        }
    }
    for page in 0..12_u64 {
        for at in 0..100 {
            draw.see(
                0x7_fff0_0000 + 20 + page,
                AccessKind::ReadWrite,
                0x900 + page * 16,
                OperandClass::U32,
                4,
                at,
                9,
            );
        }
    }
    for page in 0..30_u64 {
        draw.see(
            TEXT + 425 + page,
            AccessKind::Read,
            0x12b00,
            OperandClass::String,
            1,
            page * 3,
            1,
        );
    }
    let mut heat = draw.window.finish(11 * SECOND);
    let names = [
        (
            0x12a40,
            "dict_insert_or_replace<answers::Key, answers::Value>",
            "dict.cc",
            312,
            "mov [rdi+rax*8],rdx",
        ),
        (0x12a10, "dict_find", "dict.cc", 201, "cmp rsi,[rdi+rax*8]"),
        (
            0x3f00,
            "softmax_inplace(double*, unsigned long)",
            "math/softmax.cc",
            44,
            "movsd [rdi],xmm0",
        ),
        (0x3f40, "gemm_f32_avx2_kernel_6x16", "math/gemm.cc", 871, "vmovaps [rdi+rcx*4],ymm3"),
        (0x3f80, "dequantize_q8_block", "math/quant.cc", 120, "vmovdqu ymm1,[rsi]"),
        (0x12b00, "log_line", "log.cc", 18, "rep movsb"),
    ];
    let places: Vec<Place> = heat.codes().iter().filter_map(|c| c.place.clone()).collect();
    for place in places {
        let address = place.offset_bytes;
        if let Some((code, name, file, line, text)) = names.iter().find(|n| n.0 == address) {
            let symbol = Symbol {
                name: (*name).to_owned(),
                offset_bytes: code % 64,
                source: Some(((*file).to_owned(), *line)),
                instruction: (*text).to_owned(),
            };
            heat.set_symbol(place, symbol);
        }
    }
    let place = layout(big).place(VirtAddr((TEXT + 425) * 4096 + 128)).unwrap();
    heat.add_variable(Variable {
        place,
        size_bytes: 30 * 4096,
        name: "g_log_ring".into(),
        type_name: "char[122880]".into(),
    });
    heat
}

pub(crate) fn plan() -> Plan {
    let extent = |start, pages, tier, treatment, load_order, reason: &str| Extent {
        memory: MemoryId::Private(0),
        pages: PageRange::new(start, start + pages),
        tier,
        treatment,
        load_order,
        reason: reason.into(),
    };
    Plan {
        extents: vec![
            extent(0x7_fff0_0000, 33, Tier::Critical, Treatment::Raw, 0, "stack of thread 4711"),
            extent(HEAP + 9_000, 3_500, Tier::Critical, Treatment::Lz4, 1, "used 50 times in 100"),
            extent(HEAP, 9_000, Tier::Warm, Treatment::Zstd, 2, "used 3 times in 100"),
            extent(HEAP + 12_500, 47_500, Tier::Warm, Treatment::Zstd, 3, "used 1 time in 100"),
            extent(BIG, 262_144, Tier::Cold, Treatment::Spill, 4, "unknown, \"never\" seen"),
        ],
    }
}
