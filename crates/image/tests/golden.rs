//! Checkpoints of every format version, made by the programs of their time, must load for ever.
//!
//! A new version gets a folder of its own, written once with
//! `REKINDLE_WRITE_GOLDEN=v2 cargo test -p rekindle-image --test golden`; the folders of old
//! versions are never written again. Until the first release version 1 may still be replaced.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};

use common::{
    Files4, golden_instance, key, noise, small, small_child, small_solid, solid_pages, text,
};
use mem::{MemoryId, PageIndex, PageRange};
use plan::{Tier, Treatment};
use rekindle_image::{CheckpointId, Index, LineKey, Manifest, Opener, check_hashes_header};

const PARENT: u64 = 0x0123_4567_89ab_cdef;
const CHILD: u64 = 0xfedc_ba98_7654_3210;
const SOLID: u64 = 0x5011_d000_5011_d000;

/// A file of one of the golden checkpoints.
fn golden(id: u64, name: &str) -> Vec<u8> {
    std::fs::read(folder("v1").join(format!("{id:016x}")).join(name)).unwrap()
}

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

#[test]
fn a_new_version_is_written_on_request() {
    let Some(version) = std::env::var_os("REKINDLE_WRITE_GOLDEN") else { return };
    let folder = folder(version.to_str().unwrap());
    std::fs::create_dir(&folder).expect("the folder of a version is written once");
    std::fs::write(folder.join("key"), key().as_bytes()).unwrap();
    // Each lies under its id, so that the child finds its parent beside it.
    let of = golden_instance;
    for (id, files) in
        [(PARENT, small(of())), (CHILD, small_child(of())), (SOLID, small_solid(of()))]
    {
        let folder = folder.join(format!("{id:016x}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("manifest"), files.manifest).unwrap();
        std::fs::write(folder.join("index"), files.index).unwrap();
        std::fs::write(folder.join("hashes"), files.hashes).unwrap();
        std::fs::write(folder.join("pages"), files.pages).unwrap();
    }
}

#[test]
fn version_1_loads() {
    let read = |name: &str| golden(PARENT, name);
    let key = std::fs::read(folder("v1").join("key")).unwrap();
    let key = LineKey::new(key.try_into().unwrap());
    let manifest = Manifest::decode(&read("manifest"), &key).unwrap();
    assert_eq!(manifest.instance, golden_instance());
    assert_eq!(manifest.id, CheckpointId(PARENT));
    assert_eq!(manifest.summary.command, [b"sleep".to_vec(), b"1000".to_vec()]);
    assert_eq!(manifest.summary.figures["pause_us"], 12_345);
    assert_eq!(manifest.summary.changes.len(), 1);
    assert!(manifest.summary.stopped);
    assert_eq!(manifest.plan.extents.len(), 4);
    assert_eq!(&*manifest.plan.extents[1].reason, "no heat yet");

    let index = Index::decode(read("index"), manifest.id, &manifest.files, &key).unwrap();
    let pages = read("pages");
    let mut opener = Opener::new(&key);
    let mut open = |memory, page| {
        let frame = index.find(memory, PageIndex(page)).unwrap();
        assert_eq!(frame.tier, Tier::Critical);
        let start = usize::try_from(frame.offset_bytes).unwrap();
        let stored = &pages[start..start + usize::try_from(frame.stored_bytes).unwrap()];
        let mut bytes = vec![1; usize::try_from(frame.pages.bytes()).unwrap()];
        opener.open(&frame, stored, None, &mut bytes).unwrap();
        (frame.pages, frame.treatment, bytes)
    };
    let text = text(16384);
    let private = MemoryId::Private(0);
    let raw = open(private, 0x402);
    assert!(raw == (PageRange::new(0x401, 0x403), Treatment::Raw, noise(1, 8192)));
    let lz4 = open(private, 0x40e);
    assert!(lz4 == (PageRange::new(0x40e, 0x410), Treatment::Lz4, text[..8192].to_vec()));
    let lz4 = open(private, 0x411);
    assert!(lz4 == (PageRange::new(0x410, 0x412), Treatment::Lz4, text[8192..16384].to_vec()));
    let zero = open(private, 0x7f_fff1);
    assert!(zero == (PageRange::new(0x7f_fff0, 0x7f_fff2), Treatment::Zero, vec![0; 8192]));
    let zstd = open(MemoryId::Shared(0), 2);
    assert!(zstd == (PageRange::new(0, 3), Treatment::Zstd, text[..12288].to_vec()));
}

#[test]
fn children_of_version_1_load() {
    let read = |name: &str| golden(CHILD, name);
    let manifest = Manifest::decode(&read("manifest"), &key()).unwrap();
    let parent = Manifest::decode(&golden(PARENT, "manifest"), &key()).unwrap();
    assert_eq!((manifest.id, manifest.depth), (CheckpointId(CHILD), 1));
    let entry = manifest.files.parent.unwrap();
    assert_eq!((entry.id, entry.content), (parent.id, parent.files.content));
    assert_ne!(manifest.files.content, parent.files.content);
    assert_eq!(manifest.referenced_bytes, (1 + 4 + 2) * 4096);

    let index = Index::decode(read("index"), manifest.id, &manifest.files, &key()).unwrap();
    let hashes = read("hashes");
    let length = u64::try_from(hashes.len()).unwrap();
    check_hashes_header(&hashes[..64], length, manifest.id, index.hash_count()).unwrap();
    let pages = read("pages");
    let mut opener = Opener::new(&key());
    let mut open = |memory, page, base: Option<&[u8]>| {
        let entry = index.entries(memory, PageRange::new(page, page + 1)).next().unwrap();
        let frame = entry.frame;
        let start = usize::try_from(frame.offset_bytes).unwrap();
        let stored = &pages[start..start + usize::try_from(frame.stored_bytes).unwrap()];
        let mut bytes = vec![1; frame.held_bytes()];
        opener.open(&frame, stored, base, &mut bytes).unwrap();
        let at = 64 + 16 * usize::try_from(entry.hashes_before).unwrap();
        assert_eq!(opener.hashes()[0].0, hashes[at..at + 16]);
        (frame.pages, frame.held.0, frame.treatment, bytes)
    };
    let private = MemoryId::Private(0);
    let mut changed = noise(1, 8192)[4096..].to_vec();
    changed[100..108].fill(9);
    let delta = open(private, 0x402, Some(&noise(1, 8192)[4096..]));
    assert!(delta == (PageRange::new(0x401, 0x403), 0b100, Treatment::Delta, changed));
    let patch = open(MemoryId::Shared(0), 1, None);
    assert!(patch == (PageRange::new(0, 3), 0b010, Treatment::Raw, noise(2, 4096)));
    let run = index.find(private, PageIndex(0x40f)).unwrap();
    assert_eq!((run.treatment, run.pages), (Treatment::Parent, PageRange::new(0x40e, 0x412)));
    let zero = index.find(private, PageIndex(0x7f_fff1)).unwrap();
    assert_eq!(zero.treatment, Treatment::Zero);
}

#[test]
fn chunks_stored_together_of_version_1_load() {
    let read = |name: &str| golden(SOLID, name);
    let manifest = Manifest::decode(&read("manifest"), &key()).unwrap();
    let index = Index::decode(read("index"), manifest.id, &manifest.files, &key()).unwrap();
    let pages = read("pages");
    let mut opener = Opener::new(&key());
    let private = MemoryId::Private(0);
    let parts =
        [(private, 0x402, 3, 0), (private, 0x410, 16, 3 * 4096), (MemoryId::Shared(0), 1, 1, 0)];
    for (slot, (memory, page, count, from)) in (0..).zip(parts) {
        let frame = index.find(memory, PageIndex(page)).unwrap();
        assert_eq!((frame.treatment, frame.slot, frame.offset_bytes), (Treatment::Solid, slot, 0));
        assert_eq!(usize::try_from(frame.stored_bytes).unwrap(), pages.len());
        let mut bytes = vec![1; frame.held_bytes()];
        opener.open(&frame, &pages, None, &mut bytes).unwrap();
        assert!(bytes == solid_pages(slot, count, from));
        // Another's part is not its own, and there is no fourth.
        for slot in (0..4).filter(|other| *other != slot) {
            let other = rekindle_image::Frame { slot, ..frame };
            assert!(opener.open(&other, &pages, None, &mut bytes).is_err());
        }
    }
}

/// What a program of an older version says to a treatment that it does not know: the index is
/// refused, by its number.
#[test]
fn unknown_treatments_are_refused() {
    let read = |name: &str| golden(SOLID, name);
    let mut manifest = Manifest::decode(&read("manifest"), &key()).unwrap();
    let mut index = read("index");
    index[64 + 18] = 17;
    let checksum = crc32c::crc32c(&index[64..124]);
    index[124..128].copy_from_slice(&checksum.to_le_bytes());
    manifest.files.index = rekindle_image::IndexFile::new("index", &index, &key());
    let refused = Index::decode(index, manifest.id, &manifest.files, &key()).unwrap_err();
    assert!(refused.to_string().contains("code 17 is not known to this version"), "{refused}");
}

/// Fails when a change to the code changes the bytes of metadata: then the section's version has
/// to go up, and with it comes a golden checkpoint of its own.
#[test]
fn the_metadata_is_still_written_as_in_version_1() {
    let golden = golden(PARENT, "manifest");
    let Files4 { manifest, .. } = small(golden_instance());
    let sections = |manifest: &[u8]| {
        let decoded = Manifest::decode(manifest, &key()).unwrap();
        // The files section tells of encoded lengths, which may change with a codec.
        Manifest { files: rekindle_image::Files::default(), ..decoded }
    };
    assert_eq!(sections(&manifest), sections(&golden));
    let instance = |manifest: &[u8]| {
        let place = |at: usize| {
            usize::try_from(u64::from_le_bytes(manifest[at..at + 8].try_into().unwrap())).unwrap()
        };
        let (offset, length) = (place(128 + 8), place(128 + 16));
        manifest[offset..offset + length].to_vec()
    };
    assert!(instance(&manifest) == instance(&golden), "the section \"instance\" has other bytes");
}
