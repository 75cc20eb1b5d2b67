//! Index records behind checksums that fit.
#![no_main]

use image::{CheckpointId, DataFile, Files, Index, IndexFile, LineKey, ParentEntry, encode_index};
use libfuzzer_sys::fuzz_target;
use mem::{MemoryId, PageIndex, PageRange};

fuzz_target!(|bytes: &[u8]| {
    let (key, id) = (LineKey::new([7; 32]), CheckpointId(3));
    let mut index = encode_index(id, &[]).unwrap();
    let records = bytes.chunks_exact(60);
    let count = u64::try_from(records.len()).unwrap();
    index[24..32].copy_from_slice(&count.to_le_bytes());
    let header = crc32c::crc32c(&index[..60]);
    index[60..64].copy_from_slice(&header.to_le_bytes());
    for record in records {
        index.extend_from_slice(record);
        index.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
    }
    let files = Files {
        index: IndexFile::new("index", &index, &key),
        data: vec![DataFile { name: "pages".to_owned(), length_bytes: u64::MAX }],
        parent: Some(ParentEntry::default()),
        ..Files::default()
    };
    let Ok(index) = Index::decode(index, id, &files, &key) else { return };
    let frames: Vec<_> = index.frames().collect();
    assert_eq!(frames.len(), index.len());
    for frame in &frames {
        assert_eq!(index.find(frame.memory, frame.pages.start), Some(*frame));
        let entry = index.entries(frame.memory, frame.pages).next().unwrap();
        assert_eq!(entry.frame, *frame);
        assert!(entry.hashes_before + frame.hash_count() <= index.hash_count());
        assert_eq!(frame.runs(true).chain(frame.runs(false)).map(|r| r.count().0).sum::<u64>(), frame.pages.count().0);
        assert!(index.pages(frame.memory).contains(frame.pages.start));
    }
    let _ = index.find(MemoryId::Private(u32::MAX), PageIndex(u64::MAX - 1));
    let _ = index.overlapping(MemoryId::Shared(0), PageRange::new(0, u64::MAX)).count();
    encode_index(id, &frames).unwrap();
});
