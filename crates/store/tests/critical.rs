//! Where critical pages lie: together, whole, and in the checkpoint that first needed them so, however
//! they were stored before.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use codec::Want;
use common::{PRIVATE, begin_on, instance, new_store, summary};
use image::Frame;
use mem::{PageRange, PageSink, PageSource};
use plan::{Extent, Plan, Tier, Treatment};
use rekindle_store::{Checkpoint, Store};

/// Pages of the memory: four chunks.
const PAGES: u64 = 64;
/// One page of each chunk.
const HOT: [u64; 4] = [3, 20, 37, 63];

/// The pages of [`HOT`] in one tier, the others in another.
fn divided(hot: Tier, others: Tier) -> Plan {
    let mut ends: Vec<(u64, u64)> = HOT.iter().map(|page| (*page, page + 1)).collect();
    ends.push((PAGES, PAGES));
    let mut plan = Plan::default();
    let mut next = 0;
    for (start, end) in ends {
        for (pages, tier) in [((next, start), others), ((start, end), hot)] {
            if pages.0 < pages.1 {
                plan.extents.push(Extent {
                    memory: PRIVATE,
                    pages: PageRange::new(pages.0, pages.1),
                    tier,
                    treatment: Treatment::Zstd,
                    load_order: 0,
                    reason: "".into(),
                });
            }
        }
        next = end;
    }
    plan
}

/// The memory after `round` changes of a few bytes in each page of [`HOT`]; one page is zero.
fn content(round: u64) -> Vec<u8> {
    let mut bytes = common::pages(PRIVATE, PageRange::new(0, PAGES));
    for page in HOT {
        let at = usize::try_from(page * 4096).unwrap();
        bytes[at..at + 8].copy_from_slice(&(round + 1).to_le_bytes());
    }
    bytes[20 * 4096..21 * 4096].fill(0);
    bytes
}

fn publish(store: &Store, round: u64, plan: &Plan, parent: Option<Checkpoint>) -> Checkpoint {
    let mut writer = begin_on(store, 1, Want::Zstd(1), parent);
    writer.divide(plan).unwrap();
    let all = PageRange::new(0, PAGES);
    writer.put(PRIVATE, all, &content(round)).unwrap();
    let id = writer.finish(&instance(1), plan, &summary(round + 1)).unwrap().id;
    let checkpoint = store.checkpoint(id).unwrap();
    let mut found = vec![1; content(round).len()];
    checkpoint.read(PRIVATE, all, &mut found).unwrap();
    assert!(found == content(round), "round {round}");
    checkpoint.verify().unwrap();
    checkpoint
}

/// The frames with bytes that `checkpoint` has for `pages`.
fn stored(checkpoint: &Checkpoint, pages: &[u64]) -> Vec<Frame> {
    let holds =
        |frame: &Frame| pages.iter().any(|page| frame.pages.contains(mem::PageIndex(*page)));
    let frames = checkpoint.frames_in_load_order().into_iter();
    frames.filter(|frame| frame.stored_bytes > 0 && holds(frame)).collect()
}

/// Page 20 is zero, and so nowhere.
const SOLID: [u64; 3] = [3, 37, 63];

#[test]
fn what_becomes_critical_is_stored_among_critical_pages_once() {
    for before in [Tier::Warm, Tier::Cold] {
        let (_dir, store) = new_store();
        let first = publish(&store, 0, &divided(before, before), None);
        let hot = divided(Tier::Critical, Tier::Warm);
        // Nothing has changed but what is needed first.
        let second = publish(&store, 0, &hot, Some(first));
        let frames = stored(&second, &SOLID);
        assert_eq!(frames.len(), 3, "{frames:?}");
        let whole = |frame: &Frame| frame.tier == Tier::Critical && frame.held.count() == 1;
        assert!(frames.iter().all(whole), "{frames:?}");
        let third = publish(&store, 0, &hot, Some(second));
        assert_eq!(stored(&third, &SOLID), []);
    }
}

#[test]
fn critical_pages_are_no_differences() {
    let (_dir, store) = new_store();
    let hot = divided(Tier::Critical, Tier::Warm);
    let mut last = publish(&store, 0, &hot, None);
    for round in 1..4 {
        last = publish(&store, round, &hot, Some(last));
        let frames = stored(&last, &SOLID);
        assert_eq!(frames.len(), 3, "{frames:?}");
        assert!(frames.iter().all(|frame| frame.treatment != Treatment::Delta), "{frames:?}");
    }
    // What nobody stands still for is.
    let warm = divided(Tier::Warm, Tier::Warm);
    let changed = publish(&store, 9, &warm, Some(last));
    let frames = stored(&changed, &SOLID);
    assert!(frames.iter().all(|frame| frame.treatment == Treatment::Delta), "{frames:?}");
}
