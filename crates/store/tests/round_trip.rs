//! What is put comes back, through every way of reading.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;

use codec::Want;
use common::{PRIVATE, SHARED, new_store, page, pages, publish, publish_in_rounds, sample};
use mem::{MemoryId, PageRange, PageSource, PageSourceError};
use plan::Treatment;
use rekindle_store::{BatchReader, Checkpoint, Published, Store};

fn every_page(checkpoint: &Checkpoint) -> BTreeMap<(MemoryId, u64), Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut reader = BatchReader::default();
    for batch in checkpoint.batches_in_load_order(100_000) {
        checkpoint
            .read_batch(&batch, &mut reader, |frame, bytes| {
                let held = frame.held.places().zip(bytes.chunks(4096));
                for (place, page) in held.filter(|(place, _)| frame.own().has(*place)) {
                    let number = frame.chunk().0 + u64::try_from(place).unwrap();
                    assert!(found.insert((frame.memory, number), page.to_vec()).is_none());
                }
                Ok::<(), PageSourceError>(())
            })
            .unwrap();
    }
    found
}

#[test]
fn pages_come_back() {
    for want in [Want::Raw, Want::Lz4, Want::Zstd(1)] {
        let (_dir, store) = new_store();
        for published in [publish(&store, 1, 7, want), publish_in_rounds(&store, 1, want)] {
            holds_the_sample(&store, &published, &format!("{want:?}"));
        }
    }
}

fn holds_the_sample(store: &Store, published: &Published, want: &str) {
    let checkpoint = store.checkpoint(published.id).unwrap();
    let mut expected = BTreeMap::new();
    for (memory, set) in sample() {
        assert_eq!(checkpoint.pages(memory).unwrap(), set);
        for number in set.runs().iter().flat_map(|run| run.start.0..run.end.0) {
            expected.insert((memory, number), page(memory, number));
        }
    }
    assert!(every_page(&checkpoint) == expected, "{want}");
    for run in [PageRange::new(5, 100), PageRange::new(17, 18), PageRange::new(30, 34)] {
        let mut buffer = vec![1; usize::try_from(run.bytes()).unwrap()];
        checkpoint.read(PRIVATE, run, &mut buffer).unwrap();
        assert!(buffer == pages(PRIVATE, run), "{want} {run}");
    }
    assert_eq!(checkpoint.memories(), [PRIVATE, SHARED]);
    assert_eq!(published.page_bytes, (95 + 300 + 77) * 4096);
    assert_eq!(published.tiers.map(|t| t.page_bytes), [published.page_bytes, 0, 0]);
    let folder = store.root().join("checkpoints").join(published.id.to_string());
    let in_files: usize = common::files(&folder).iter().map(|(_, b)| b.len()).sum();
    assert_eq!(published.stored_bytes, u64::try_from(in_files).unwrap());
    let verified = checkpoint.verify().unwrap();
    assert_eq!(verified.page_bytes, published.page_bytes);
    assert_eq!(verified.stored_bytes, published.stored_bytes);
    assert_eq!(checkpoint.instance(), &common::instance(1));
    assert_eq!(checkpoint.plan(), &common::plan());
    assert_eq!(checkpoint.summary(), &common::summary(7));
}

#[test]
fn raw_frames_are_aligned_and_encoded_ones_are_smaller() {
    let (_dir, store) = new_store();
    let published = publish(&store, 1, 7, Want::Lz4);
    let checkpoint = store.checkpoint(published.id).unwrap();
    let frames = checkpoint.frames_in_load_order();
    assert!(frames.windows(2).all(|pair| pair[0].load_order <= pair[1].load_order));
    for treatment in [Treatment::Raw, Treatment::Lz4, Treatment::Zero] {
        assert!(frames.iter().any(|frame| frame.treatment == treatment), "{treatment:?}");
    }
    for frame in frames {
        match frame.treatment {
            Treatment::Raw => assert!(frame.offset_bytes.is_multiple_of(4096)),
            Treatment::Zero => assert_eq!(frame.stored_bytes, 0),
            _ => assert!(u64::from(frame.stored_bytes) * 20 <= frame.pages.bytes() * 19),
        }
    }
}

#[test]
fn pages_that_are_not_there_are_refused() {
    let (_dir, store) = new_store();
    let checkpoint = store.checkpoint(publish(&store, 1, 7, Want::Lz4).id).unwrap();
    let cases = [
        (PRIVATE, PageRange::new(4, 6), PageRange::new(4, 6)),
        (PRIVATE, PageRange::new(99, 102), PageRange::new(100, 102)),
        (SHARED, PageRange::new(77, 78), PageRange::new(77, 78)),
        (MemoryId::Shared(1), PageRange::new(0, 1), PageRange::new(0, 1)),
    ];
    for (memory, range, lacking) in cases {
        let mut buffer = vec![0; usize::try_from(range.bytes()).unwrap()];
        match checkpoint.read(memory, range, &mut buffer) {
            Err(PageSourceError::Absent { pages, .. }) => assert_eq!(pages, lacking),
            other => panic!("{memory} {range}: {other:?}"),
        }
    }
    assert!(checkpoint.read(PRIVATE, PageRange::new(5, 6), &mut [0; 7]).is_err());
}
