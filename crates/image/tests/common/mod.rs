//! Arbitrary instances, plans and checkpoints for the tests of the format.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod draw;
mod golden;
mod instance;

use codec::{FRAME_PAGES_MAX, Want};
use mem::{AddrRange, MemoryId, PageIndex, PageRange};
use plan::{Extent, LossBound, LossEntry, LossyRange, NumericType, Plan, Tier, Treatment};
use process::{Change, ChangeKind, Instance};
use rekindle_image::{
    CheckpointId, ContentHash, ContentHasher, DataFile, Files, Frame, IndexFile, LineKey,
    LossRecord, Manifest, PageHash, PageMask, ParentEntry, Sealer, Summary, arrange, encode_index,
    hashes_header,
};

pub(crate) use draw::{Draw, draw};
pub(crate) use golden::golden_instance;
pub(crate) use instance::arbitrary_instance;

pub(crate) fn key() -> LineKey {
    LineKey::new(std::array::from_fn(|i| u8::try_from(i * 7 + 1).unwrap()))
}

/// A checkpoint as the bytes of its files.
#[derive(Clone, Debug)]
pub(crate) struct Files4 {
    pub(crate) manifest: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) hashes: Vec<u8>,
    pub(crate) pages: Vec<u8>,
}

/// A frame to be, with its pages: those stored in it, and the base of a delta.
pub(crate) struct Part {
    pub(crate) frame: Frame,
    pub(crate) bytes: Vec<u8>,
    pub(crate) base: Option<Vec<u8>>,
    pub(crate) want: Want,
}

impl Part {
    /// Pages that are all stored.
    pub(crate) fn whole(memory: MemoryId, pages: PageRange, bytes: &[u8], want: Want) -> Self {
        let frame = Frame::without_bytes(memory, pages, Treatment::Zero);
        Self { frame, bytes: bytes.to_vec(), base: None, want }
    }
}

/// Writes a checkpoint of `runs` of pages with the treatments wanted.
pub(crate) fn write(
    instance: Instance,
    summary: Summary,
    runs: &[(MemoryId, PageRange, Vec<u8>, Want)],
) -> Files4 {
    let mut parts = Vec::new();
    for (memory, range, bytes, want) in runs {
        let mut rest = &bytes[..];
        for chunk in range.aligned_chunks(FRAME_PAGES_MAX) {
            let (these, others) = rest.split_at(usize::try_from(chunk.bytes()).unwrap());
            rest = others;
            parts.push(Part::whole(*memory, chunk, these, *want));
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
    let manifest = Manifest {
        id: CheckpointId(0x0123_4567_89ab_cdef),
        instance,
        plan,
        summary,
        ..Manifest::default()
    };
    write_parts(manifest, parts, ContentHash([7; 32]))
}

/// Writes a checkpoint of `parts`; `manifest` has all that does not follow from these.
pub(crate) fn write_parts(
    mut manifest: Manifest,
    parts: Vec<Part>,
    content: ContentHash,
) -> Files4 {
    let mut sealer = Sealer::new(&key());
    let (mut pages, mut frames, mut hashed) = (Vec::new(), Vec::new(), Vec::new());
    for Part { mut frame, bytes, base, want } in parts {
        if frame.treatment != Treatment::Parent {
            let mut hashes = Vec::new();
            sealer.hash(&bytes, &mut hashes);
            let sealed = sealer.seal(&bytes, &hashes, base.as_deref(), want).unwrap();
            frame.treatment = sealed.treatment;
            frame.delta_depth = u8::from(sealed.treatment == Treatment::Delta);
            if sealed.treatment != Treatment::Zero {
                frame.offset_bytes = u64::try_from(pages.len()).unwrap();
                hashed.push(((frame.memory, frame.pages.start), hashes));
            }
            frame.stored_bytes = u32::try_from(sealed.bytes.len()).unwrap();
            (frame.hash, frame.stored_crc32c) = (sealed.hash, sealed.stored_crc32c);
            pages.extend_from_slice(sealed.bytes);
        }
        frames.push(frame);
    }
    hashed.sort_by_key(|(place, _)| *place);
    let hashes: Vec<PageHash> = hashed.into_iter().flat_map(|(_, hashes)| hashes).collect();
    let frames = arrange(frames, &manifest.plan.by_place()).unwrap();
    let index = encode_index(manifest.id, &frames).unwrap();
    let count = u64::try_from(hashes.len()).unwrap();
    let mut hashes_file = hashes_header(manifest.id, count);
    hashes.iter().for_each(|hash| hashes_file.extend_from_slice(&hash.0));
    let hashes = hashes_file;
    let file = |name: &str, bytes: &[u8]| DataFile {
        name: name.to_owned(),
        length_bytes: u64::try_from(bytes.len()).unwrap(),
    };
    manifest.page_bytes = frames.iter().map(|frame| frame.pages.bytes()).sum();
    manifest.referenced_bytes = frames.iter().map(Frame::referenced_bytes).sum();
    manifest.files = Files {
        index: IndexFile::new("index", &index, &key()),
        data: vec![file("pages", &pages)],
        hashes: file("hashes", &hashes),
        content,
        ..manifest.files
    };
    Files4 { manifest: manifest.encode(&key()).unwrap(), index, hashes, pages }
}

/// The content hash of these pages, which are in order.
pub(crate) fn content(runs: &[(MemoryId, PageRange, &[u8])]) -> ContentHash {
    let mut hasher = ContentHasher::new(&key());
    for (memory, range, bytes) in runs {
        let mut hashes = Vec::new();
        Sealer::new(&key()).hash(bytes, &mut hashes);
        for (page, hash) in (range.start.0..range.end.0).zip(hashes) {
            hasher.add(*memory, PageIndex(page), hash);
        }
    }
    hasher.finish()
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

/// The same text again and again.
pub(crate) fn text(bytes: usize) -> Vec<u8> {
    std::iter::repeat_n(&b"the quick brown fox "[..], 1000).flatten().copied().take(bytes).collect()
}

const PRIVATE: MemoryId = MemoryId::Private(0);
const SHARED: MemoryId = MemoryId::Shared(0);

fn small_summary() -> Summary {
    Summary {
        created_ns: 1_700_000_000_000_000_001,
        tool_version: "0.1.0".to_owned(),
        parent: None,
        stopped: true,
        command: vec![b"sleep".to_vec(), b"1000".to_vec()],
        changes: vec![Change { kind: ChangeKind::Session, what: "another session".to_owned() }],
        figures: [("pause_us".to_owned(), 12_345), ("resident_bytes".to_owned(), 45_056)].into(),
    }
}

/// What the small checkpoint holds.
fn small_content() -> ContentHash {
    content(&[
        (PRIVATE, PageRange::new(0x401, 0x403), &noise(1, 8192)),
        (PRIVATE, PageRange::new(0x40e, 0x412), &text(16384)),
        (PRIVATE, PageRange::new(0x7f_fff0, 0x7f_fff2), &[0; 8192]),
        (SHARED, PageRange::new(0, 3), &text(12288)),
    ])
}

/// A small checkpoint with every treatment that needs no parent.
pub(crate) fn small(instance: Instance) -> Files4 {
    let runs = [
        (PRIVATE, PageRange::new(0x401, 0x403), noise(1, 8192), Want::Raw),
        (PRIVATE, PageRange::new(0x40e, 0x412), text(16384), Want::Lz4),
        (PRIVATE, PageRange::new(0x7f_fff0, 0x7f_fff2), vec![0; 8192], Want::Lz4),
        (SHARED, PageRange::new(0, 3), text(12288), Want::Zstd(3)),
    ];
    let mut files = write(instance, small_summary(), &runs);
    let mut manifest = Manifest::decode(&files.manifest, &key()).unwrap();
    manifest.files.content = small_content();
    files.manifest = manifest.encode(&key()).unwrap();
    files
}

/// A child of the small checkpoint: a delta, pages changed beside pages that were not, a run of
/// the parent's, and zeros.
pub(crate) fn small_child(instance: Instance) -> Files4 {
    let mut changed = noise(1, 8192);
    changed[4096 + 100..4096 + 108].fill(9);
    let other = noise(2, 4096);
    let patch = |mut part: Part, mask, base| {
        part.frame.held = PageMask(mask);
        part.base = base;
        part
    };
    let whole = |memory, start, end, bytes: &[u8], want| {
        Part::whole(memory, PageRange::new(start, end), bytes, want)
    };
    let run = Frame::without_bytes(PRIVATE, PageRange::new(0x40e, 0x412), Treatment::Parent);
    let run = Part { frame: run, bytes: Vec::new(), base: None, want: Want::Raw };
    let parts = vec![
        patch(
            whole(PRIVATE, 0x401, 0x403, &changed[4096..], Want::Zstd(1)),
            0b100,
            Some(noise(1, 8192)[4096..].to_vec()),
        ),
        run,
        whole(PRIVATE, 0x7f_fff0, 0x7f_fff2, &[0; 8192], Want::Raw),
        patch(whole(SHARED, 0, 3, &other, Want::Zstd(1)), 0b010, None),
    ];
    let extent = |memory, start, end, load_order| Extent {
        memory,
        pages: PageRange::new(start, end),
        tier: Tier::Critical,
        treatment: Treatment::Zstd,
        load_order,
        reason: "no heat yet".into(),
    };
    let extents = vec![
        extent(PRIVATE, 0x401, 0x403, 0),
        extent(PRIVATE, 0x40e, 0x412, 1),
        extent(PRIVATE, 0x7f_fff0, 0x7f_fff2, 2),
        extent(SHARED, 0, 3, 3),
    ];
    let id = CheckpointId(0x0123_4567_89ab_cdef);
    let manifest = Manifest {
        id: CheckpointId(0xfedc_ba98_7654_3210),
        depth: 1,
        instance,
        plan: Plan { extents },
        summary: Summary {
            parent: Some(id),
            created_ns: 1_700_000_000_000_000_002,
            ..small_summary()
        },
        files: Files {
            parent: Some(ParentEntry { id, content: small_content() }),
            ..Files::default()
        },
        ..Manifest::default()
    };
    let shared = [&text(4096)[..], &other, &text(12288)[8192..]].concat();
    let content = content(&[
        (PRIVATE, PageRange::new(0x401, 0x403), &changed),
        (PRIVATE, PageRange::new(0x40e, 0x412), &text(16384)),
        (PRIVATE, PageRange::new(0x7f_fff0, 0x7f_fff2), &[0; 8192]),
        (SHARED, PageRange::new(0, 3), &shared),
    ]);
    write_parts(manifest, parts, content)
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
    let file = |draw: &mut Draw| DataFile { name: name(draw), length_bytes: draw.u64() >> 8 };
    let content = |draw: &mut Draw| ContentHash(std::array::from_fn(|_| draw.u8()));
    Files {
        index: IndexFile {
            name: name(draw),
            length_bytes: draw.u64() >> 8,
            hash: std::array::from_fn(|_| draw.u8()),
        },
        data: draw.list(4, file),
        hashes: file(draw),
        parent: draw
            .maybe(|draw| ParentEntry { id: CheckpointId(draw.u64()), content: content(draw) }),
        content: content(draw),
        twins: Vec::new(),
    }
}

pub(crate) fn arbitrary_loss(draw: &mut Draw) -> Vec<LossRecord> {
    draw.list(4, |draw| {
        let (start, length) = (draw.u64() >> 8 << 3, u64::from(draw.u32()) + 8);
        let small = |draw: &mut Draw| f64::from(draw.u32()) / 1e6;
        let bound = match draw.u8() % 3 {
            0 => LossBound::Absolute(small(draw)),
            1 => LossBound::Relative(small(draw)),
            _ => LossBound::RangeRelative { fraction: small(draw), span: small(draw) },
        };
        let named = LossyRange {
            memory: MemoryId::Private(draw.u32()),
            range: AddrRange::new(start, start + length),
            numeric: draw.one_of(NumericType::ALL),
            bound,
        };
        let elements_lossy = draw.u64() % (named.elements() + 1);
        let entry = LossEntry {
            named,
            largest_error: bound.allowed(0.0) / 2.0,
            elements_lossy,
            elements_exact: named.elements() - elements_lossy,
            elements_not_finite: draw.u64(),
            page_bytes: draw.u64(),
            stored_bytes: draw.u64(),
        };
        LossRecord { entry, made_in: draw.maybe(|draw| CheckpointId(draw.u64())) }
    })
}

/// A checkpoint of two chunks of one memory and some pages of another that share their stored bytes.
pub(crate) fn small_solid(instance: Instance) -> Files4 {
    let runs = [
        (PRIVATE, PageRange::new(0x402, 0x405), 0),
        (PRIVATE, PageRange::new(0x410, 0x420), 3 * 4096),
        (SHARED, PageRange::new(1, 2), 0),
    ];
    let (mut bytes, mut hashes, mut extents) = (Vec::new(), Vec::new(), Vec::new());
    let mut hasher = ContentHasher::new(&key());
    let mut frames = Vec::new();
    let mut counts = Vec::new();
    for (slot, (memory, pages, from)) in (0..).zip(runs) {
        let count = usize::try_from(pages.count().0).unwrap();
        let these = solid_pages(slot, count, from);
        let first = hashes.len();
        Sealer::new(&key()).hash(&these, &mut hashes);
        let chunk = PageIndex(pages.start.0 / 16 * 16);
        for (page, hash) in (pages.start.0..).zip(&hashes[first..]) {
            hasher.add(memory, PageIndex(page), *hash);
        }
        frames.push(Frame {
            held: PageMask::of(pages, chunk),
            slot,
            hash: rekindle_image::FrameHash::of(&key(), &hashes[first..]),
            ..Frame::without_bytes(memory, pages, Treatment::Solid)
        });
        counts.push(u8::try_from(pages.count().0).unwrap());
        bytes.extend_from_slice(&these);
        extents.push(Extent {
            memory,
            pages,
            tier: Tier::Warm,
            treatment: Treatment::Zstd,
            load_order: u32::from(slot),
            reason: "neighbours".into(),
        });
    }
    let mut encoder = codec::SolidEncoder::new();
    let stored = encoder.encode(&counts, &bytes, 7).unwrap().unwrap();
    let seal = Sealer::new(&key()).seal_encoded(Treatment::Solid, stored, &[]).stored_crc32c;
    for frame in &mut frames {
        frame.stored_bytes = u32::try_from(stored.len()).unwrap();
        frame.stored_crc32c = seal;
    }
    let plan = Plan { extents };
    let frames = arrange(frames, &plan.by_place()).unwrap();
    let id = CheckpointId(0x5011_d000_5011_d000);
    let index = encode_index(id, &frames).unwrap();
    let mut all = hashes_header(id, u64::try_from(hashes.len()).unwrap());
    hashes.iter().for_each(|hash| all.extend_from_slice(&hash.0));
    let file = |name: &str, bytes: &[u8]| DataFile {
        name: name.to_owned(),
        length_bytes: u64::try_from(bytes.len()).unwrap(),
    };
    let manifest = Manifest {
        id,
        instance,
        plan,
        summary: small_summary(),
        page_bytes: u64::try_from(bytes.len()).unwrap(),
        files: Files {
            index: IndexFile::new("index", &index, &key()),
            data: vec![file("pages", stored)],
            hashes: file("hashes", &all),
            content: hasher.finish(),
            ..Files::default()
        },
        ..Manifest::default()
    };
    let manifest = manifest.encode(&key()).unwrap();
    Files4 { manifest, index, hashes: all, pages: stored.to_vec() }
}

/// The pages that [`small_solid`] has in its part `slot`, `count` of them, from byte `from` of the text
/// on.
pub(crate) fn solid_pages(slot: u8, count: usize, from: usize) -> Vec<u8> {
    let mut pages: Vec<u8> =
        text(16 * 4096).into_iter().cycle().skip(from).take(count * 4096).collect();
    pages[0] ^= slot + 1;
    pages
}
