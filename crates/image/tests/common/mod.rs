//! Arbitrary instances, plans and checkpoints for the tests of the format.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod draw;
mod golden;
mod instance;

use codec::{FRAME_PAGES_MAX, Want};
use mem::{MemoryId, PageRange};
use plan::{Extent, Plan, Tier, Treatment};
use process::{Change, ChangeKind, Instance};
use rekindle_image::{
    CheckpointId, DataFile, Files, Frame, FrameSource, IndexFile, LineKey, Manifest, Sealer,
    Summary, arrange, encode_index,
};

pub(crate) use draw::{Draw, draw};
pub(crate) use golden::golden_instance;
pub(crate) use instance::arbitrary_instance;

pub(crate) fn key() -> LineKey {
    LineKey::new(std::array::from_fn(|i| u8::try_from(i * 7 + 1).unwrap()))
}

/// A checkpoint as the bytes of its files.
#[derive(Clone, Debug)]
pub(crate) struct Files3 {
    pub(crate) manifest: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) pages: Vec<u8>,
}

/// Writes a checkpoint of `runs` of pages with the treatments wanted.
pub(crate) fn write(
    instance: Instance,
    summary: Summary,
    runs: &[(MemoryId, PageRange, Vec<u8>, Want)],
) -> Files3 {
    let mut sealer = Sealer::new(&key());
    let mut pages = Vec::new();
    let mut frames = Vec::new();
    for (memory, range, bytes, want) in runs {
        let mut rest = &bytes[..];
        for chunk in range.aligned_chunks(FRAME_PAGES_MAX) {
            let (these, others) = rest.split_at(usize::try_from(chunk.bytes()).unwrap());
            rest = others;
            let sealed = sealer.seal(these, *want).unwrap();
            let is_zero = sealed.treatment == Treatment::Zero;
            frames.push(Frame {
                memory: *memory,
                pages: chunk,
                held: chunk,
                tier: Tier::Critical,
                treatment: sealed.treatment,
                source: FrameSource::Here,
                file: 0,
                offset_bytes: if is_zero { 0 } else { u64::try_from(pages.len()).unwrap() },
                stored_bytes: u32::try_from(sealed.bytes.len()).unwrap(),
                load_order: 0,
                hash: sealed.hash,
                stored_crc32c: sealed.stored_crc32c,
            });
            pages.extend_from_slice(sealed.bytes);
        }
    }
    let extents = (0..).zip(runs).map(|(load_order, (memory, pages, _, want))| Extent {
        memory: *memory,
        pages: *pages,
        tier: Tier::Critical,
        treatment: match want {
            Want::Raw => Treatment::Raw,
            Want::Lz4 => Treatment::Lz4,
            Want::Zstd(_) => Treatment::Zstd,
        },
        load_order,
        reason: "no heat yet".into(),
    });
    let plan = Plan { extents: extents.collect() };
    let frames = arrange(frames, &plan).unwrap();
    let id = CheckpointId(0x0123_4567_89ab_cdef);
    let index = encode_index(id, &frames).unwrap();
    let manifest = Manifest {
        id,
        page_bytes: frames.iter().map(|frame| frame.pages.bytes()).sum(),
        instance,
        plan,
        summary,
        files: Files {
            index: IndexFile::new("index", &index, &key()),
            data: vec![DataFile {
                name: "pages".to_owned(),
                length_bytes: u64::try_from(pages.len()).unwrap(),
            }],
            parents: Vec::new(),
        },
    };
    Files3 { manifest: manifest.encode(&key()).unwrap(), index, pages }
}

/// Bytes that no codec shrinks, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// A small checkpoint with every treatment there is a coder for.
pub(crate) fn small(instance: Instance) -> Files3 {
    let text: Vec<u8> =
        std::iter::repeat_n(&b"the quick brown fox "[..], 1000).flatten().copied().collect();
    let runs = [
        (MemoryId::Private(0), PageRange::new(0x401, 0x403), noise(1, 8192), Want::Raw),
        (MemoryId::Private(0), PageRange::new(0x40e, 0x412), text[..16384].to_vec(), Want::Lz4),
        (MemoryId::Private(0), PageRange::new(0x7f_fff0, 0x7f_fff2), vec![0; 8192], Want::Lz4),
        (MemoryId::Shared(0), PageRange::new(0, 3), text[..12288].to_vec(), Want::Zstd(3)),
    ];
    let summary = Summary {
        created_ns: 1_700_000_000_000_000_001,
        tool_version: "0.1.0".to_owned(),
        parent: None,
        stopped: true,
        command: vec![b"sleep".to_vec(), b"1000".to_vec()],
        changes: vec![Change { kind: ChangeKind::Session, what: "another session".to_owned() }],
        figures: [("pause_us".to_owned(), 12_345), ("resident_bytes".to_owned(), 45_056)].into(),
    };
    write(instance, summary, &runs)
}

pub(crate) fn arbitrary_plan(draw: &mut Draw) -> Plan {
    let extents = draw.list(20, |draw| {
        let start = draw.u64() >> 13;
        let memory = match draw.bool() {
            true => MemoryId::Private(draw.u32()),
            false => MemoryId::Shared(draw.u32()),
        };
        Extent {
            memory,
            pages: PageRange::new(start, start + u64::from(draw.u32() >> 4)),
            tier: draw.one_of(Tier::ALL),
            treatment: draw.one_of(Treatment::ALL),
            load_order: draw.u32(),
            reason: draw.one_of(&["stack", "heap", ""]).into(),
        }
    });
    Plan { extents }
}

pub(crate) fn arbitrary_summary(draw: &mut Draw) -> Summary {
    const KINDS: &[ChangeKind] = &[
        ChangeKind::Session,
        ChangeKind::Parent,
        ChangeKind::Connection,
        ChangeKind::PidNamespace,
        ChangeKind::Timer,
        ChangeKind::Descriptor,
        ChangeKind::Placement,
    ];
    Summary {
        created_ns: draw.u64(),
        tool_version: draw.text(),
        parent: draw.maybe(|draw| CheckpointId(draw.u64())),
        stopped: draw.bool(),
        command: draw.list(3, Draw::bytes),
        changes: draw.list(3, |draw| Change { kind: draw.one_of(KINDS), what: draw.text() }),
        figures: draw.list(4, |draw| (draw.text(), draw.u64())).into_iter().collect(),
    }
}

pub(crate) fn arbitrary_files(draw: &mut Draw) -> Files {
    let name = |draw: &mut Draw| draw.one_of(&["pages", "pages-1", "a.b_c", "Z9"]).to_owned();
    Files {
        index: IndexFile {
            name: name(draw),
            length_bytes: draw.u64() >> 8,
            hash: std::array::from_fn(|_| draw.u8()),
        },
        data: draw.list(4, |draw| DataFile { name: name(draw), length_bytes: draw.u64() >> 8 }),
        parents: draw.list(3, |draw| CheckpointId(draw.u64())),
    }
}
