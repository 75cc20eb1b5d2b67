//! A checkpoint that is not as it was written is refused, and nothing that is no checkpoint
//! makes the readers panic.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use codec::Want;
use common::{Files4, arbitrary_instance, key, noise, small, write};
use mem::{MemoryId, PageRange};
use process::Instance;
use proptest::prelude::*;
use rekindle_image::{
    CheckpointId, FormatError, Header, Index, Manifest, Opener, Summary, check_hashes_header,
};

/// Reads and checks all of a checkpoint, as `store` does.
fn read(files: &Files4) -> Result<Vec<u8>, String> {
    let manifest = Manifest::decode(&files.manifest, &key()).map_err(|e| e.to_string())?;
    let index = Index::decode(&files.index[..], manifest.id, &manifest.files, &key())
        .map_err(|e| e.to_string())?;
    if files.pages.len() != usize::try_from(manifest.files.data[0].length_bytes).unwrap() {
        return Err("the data file has another length".to_owned());
    }
    let mut opener = Opener::new(&key());
    let mut all = Vec::new();
    let length = u64::try_from(files.hashes.len()).unwrap();
    let header = &files.hashes[..files.hashes.len().min(64)];
    check_hashes_header(header, length, manifest.id, index.hash_count())
        .map_err(|e| e.to_string())?;
    let mut hashes = files.hashes[64..].chunks(16);
    for frame in index.frames() {
        let start = usize::try_from(frame.offset_bytes).unwrap();
        let stored = &files.pages[start..start + usize::try_from(frame.stored_bytes).unwrap()];
        let mut pages = vec![0; usize::try_from(frame.pages.bytes()).unwrap()];
        opener.open(&frame, stored, None, &mut pages).map_err(|e| e.to_string())?;
        if frame.hash_count() > 0
            && !opener.hashes().iter().all(|hash| hashes.next() == Some(&hash.0[..]))
        {
            return Err("the page hashes are others".to_owned());
        }
        all.extend(pages);
    }
    Ok(all)
}

fn some_instance() -> Instance {
    arbitrary_instance(&mut common::Draw::new(noise(3, 1500)))
}

/// The files, one after the other, as mutable bytes.
fn parts(files: &mut Files4) -> [(&'static str, &mut Vec<u8>); 4] {
    [
        ("manifest", &mut files.manifest),
        ("index", &mut files.index),
        ("hashes", &mut files.hashes),
        ("pages", &mut files.pages),
    ]
}

#[test]
fn every_altered_byte_is_detected() {
    let intact = small(some_instance());
    read(&intact).unwrap();
    let mut files = intact.clone();
    for part in 0..4 {
        let length = parts(&mut files)[part].1.len();
        for at in 0..length {
            for flip in [0x01, 0x80, 0xff] {
                let (name, bytes) = &mut parts(&mut files)[part];
                bytes[at] ^= flip;
                let name = *name;
                assert!(read(&files).is_err(), "{name}: byte {at} ^ {flip:#x} passes");
                parts(&mut files)[part].1[at] ^= flip;
            }
        }
    }
    read(&files).unwrap();
}

#[test]
fn every_truncation_is_refused() {
    let intact = small(some_instance());
    for part in 0..4 {
        let mut files = intact.clone();
        while parts(&mut files)[part].1.pop().is_some() {
            let left = parts(&mut files)[part].1.len();
            assert!(read(&files).is_err(), "part {part} cut to {left} bytes passes");
        }
        let mut files = intact.clone();
        parts(&mut files)[part].1.push(0);
        assert!(read(&files).is_err(), "part {part} with a byte more passes");
    }
}

/// Sets a field of the header and makes the header's checksum fit.
fn with_header_field(manifest: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut manifest = manifest.to_vec();
    manifest[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&manifest[..124]);
    manifest[124..128].copy_from_slice(&crc.to_le_bytes());
    manifest
}

/// Bit by bit, so that the test shares nothing with what it tests.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

#[test]
fn newer_and_foreign_files_are_named() {
    let files = small(Instance::default());
    let orphan = with_header_field(&files.manifest, 104, &7u64.to_le_bytes());
    assert!(matches!(Header::read(&orphan), Err(FormatError::Invalid { .. })));
    let deep = with_header_field(&files.manifest, 120, &64u16.to_le_bytes());
    assert!(matches!(Header::read(&deep), Err(FormatError::Limit { .. })));
    let newer = with_header_field(&files.manifest, 8, &2u32.to_le_bytes());
    let refused = Header::read(&newer).unwrap_err();
    let expected = FormatError::NewerVersion { what: "the manifest", version: 2, known: 1 };
    assert_eq!(refused, expected);
    let flags = with_header_field(&files.manifest, 24, &(1u64 << 3).to_le_bytes());
    assert_eq!(Header::read(&flags), Err(FormatError::UnknownFlags { flags: 8 }));
    // A flag of the upper half may be ignored.
    let flags = with_header_field(&files.manifest, 24, &(1u64 << 40).to_le_bytes());
    assert!(Header::read(&flags).is_ok());
    let huge = with_header_field(&files.manifest, 16, &u64::MAX.to_le_bytes());
    assert!(matches!(Header::read(&huge), Err(FormatError::Limit { .. })));
    let many = with_header_field(&files.manifest, 96, &65u32.to_le_bytes());
    assert!(matches!(Header::read(&many), Err(FormatError::Limit { .. })));
    assert!(matches!(Header::read(b"\x7fELF\x02\x01\x01\0"), Err(FormatError::Magic { .. })));
    assert!(matches!(Header::read(b""), Err(FormatError::Length { .. })));
}

/// An index is only read beside its own manifest.
#[test]
fn an_index_of_another_checkpoint_is_refused() {
    let files = small(Instance::default());
    let run = (MemoryId::Private(0), PageRange::new(0, 2), noise(1, 8192), Want::Raw);
    let other = write(Instance::default(), Summary::default(), &[run]);
    let mixed = Files4 { index: other.index, ..files.clone() };
    assert!(read(&mixed).is_err());
    let manifest = Manifest::decode(&files.manifest, &key()).unwrap();
    let id = CheckpointId(1);
    let refused = Index::decode(&files.index[..], id, &manifest.files, &key());
    assert!(matches!(refused, Err(FormatError::Invalid { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        is_like_one in any::<bool>(),
    ) {
        let files = small(Instance::default());
        if is_like_one {
            // Past the header, so that the bytes get further.
            bytes.splice(0..0, files.manifest[..128].iter().copied());
        }
        prop_assert!(Manifest::decode(&bytes, &key()).is_err());
        let manifest = Manifest::decode(&files.manifest, &key()).unwrap();
        if is_like_one {
            bytes.splice(..128, files.index[..64].iter().copied());
        }
        prop_assert!(Index::decode(&bytes[..], manifest.id, &manifest.files, &key()).is_err());
    }
}
