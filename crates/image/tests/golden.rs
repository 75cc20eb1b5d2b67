//! Checkpoints of every format version, made by the programs of their time, must load for ever.
//!
//! A new version gets a folder of its own, written once with
//! `REKINDLE_WRITE_GOLDEN=v2 cargo test -p rekindle-image --test golden`; the folders of old
//! versions are never written again. Until the first release version 1 may still be replaced.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};

use common::{Files3, golden_instance, key, noise, small};
use mem::{MemoryId, PageIndex, PageRange};
use plan::{Tier, Treatment};
use rekindle_image::{CheckpointId, Index, LineKey, Manifest, Opener};

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

#[test]
fn a_new_version_is_written_on_request() {
    let Some(version) = std::env::var_os("REKINDLE_WRITE_GOLDEN") else { return };
    let folder = folder(version.to_str().unwrap());
    std::fs::create_dir(&folder).expect("the folder of a version is written once");
    let files = small(golden_instance());
    std::fs::write(folder.join("key"), key().as_bytes()).unwrap();
    std::fs::write(folder.join("manifest"), files.manifest).unwrap();
    std::fs::write(folder.join("index"), files.index).unwrap();
    std::fs::write(folder.join("pages"), files.pages).unwrap();
}

#[test]
fn version_1_loads() {
    let read = |name: &str| std::fs::read(folder("v1").join(name)).unwrap();
    let key = LineKey::new(read("key").try_into().unwrap());
    let manifest = Manifest::decode(&read("manifest"), &key).unwrap();
    assert_eq!(manifest.instance, golden_instance());
    assert_eq!(manifest.id, CheckpointId(0x0123_4567_89ab_cdef));
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
        opener.open(&frame, stored, &mut bytes).unwrap();
        (frame.pages, frame.treatment, bytes)
    };
    let text: Vec<u8> =
        std::iter::repeat_n(&b"the quick brown fox "[..], 1000).flatten().copied().collect();
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

/// Fails when a change to the code changes the bytes of metadata: then the section's version has
/// to go up, and with it comes a golden checkpoint of its own.
#[test]
fn the_metadata_is_still_written_as_in_version_1() {
    let golden = std::fs::read(folder("v1").join("manifest")).unwrap();
    let Files3 { manifest, .. } = small(golden_instance());
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
