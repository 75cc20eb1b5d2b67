//! Twins are found wherever they lie, and only where every byte is the same.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use rekindle_codec::{Slices, TwinBudget, TwinIndex, TwinRun, TwinSearch};

const PLENTY: TwinBudget = TwinBudget { rolled_bytes: u64::MAX, compared_bytes: u64::MAX };

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn search(files: &[&[u8]], budget: TwinBudget) -> TwinSearch {
    let mut index = TwinIndex::new(42, 1 << 20);
    for (number, file) in (0..).zip(files) {
        assert!(index.add(number, 0, file));
    }
    TwinSearch::new(index, budget)
}

/// Every run is what it says, runs are ascending and apart.
fn check(runs: &[TwinRun], base: u64, memory: &[u8], files: &[&[u8]]) -> u64 {
    let mut end = base;
    for run in runs {
        assert!(run.memory_offset >= end, "{runs:?}");
        end = run.memory_offset + run.length_bytes;
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let here = &memory[at(run.memory_offset - base)..at(end - base)];
        let there = &files[at(run.file.into())][at(run.file_offset)..];
        assert!(here == &there[..here.len()], "{run:?}");
    }
    runs.iter().map(|run| run.length_bytes).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_file_in_memory_is_found_at_any_place(
        before in 0usize..9000,
        skipped in 0usize..5000,
        behind in 0usize..9000,
        piece in 8192usize..70_000,
        base in 0u64..100,
    ) {
        let file = noise(5, 150_001);
        let other = noise(6, 30_000);
        let files: [&[u8]; 2] = [&other, &file];
        let memory = [noise(1, before), file[skipped..].to_vec(), noise(2, behind)].concat();
        let base = base * 4096;
        let mut search = search(&files, PLENTY);
        let runs = search.search(base, &memory, &mut Slices(&files));
        let found = check(&runs, base, &memory, &files);
        // A byte or two beside it may be the same by chance.
        let expected = u64::try_from(file.len() - skipped).unwrap();
        prop_assert!((expected..expected + 4).contains(&found), "{found} of {expected}");
        prop_assert_eq!(runs.len(), 1);
        // In pieces it is found too, but for what a cut in the wrong place hides.
        let mut search = self::search(&files, PLENTY);
        let mut in_pieces = 0;
        for (n, part) in memory.chunks(piece).enumerate() {
            let base = u64::try_from(n * piece).unwrap();
            in_pieces += check(&search.search(base, part, &mut Slices(&files)), base, part, &files);
        }
        prop_assert!(in_pieces + 3 * 4096 >= found, "{in_pieces} of {found}");
    }

    #[test]
    fn changed_bytes_are_never_in_a_run(
        changes in prop::collection::vec(0usize..120_000, 0..6),
        start in 0usize..5000,
    ) {
        let file = noise(9, 130_000);
        let mut memory = file[start..start + 120_000].to_vec();
        for at in &changes {
            memory[*at] ^= 1;
        }
        let files: [&[u8]; 1] = [&file];
        let runs = search(&files, PLENTY).search(0, &memory, &mut Slices(&files));
        let found = check(&runs, 0, &memory, &files);
        // Each change costs itself and, at worst, what is too short between two of them.
        let lost = u64::try_from(changes.len() + 1).unwrap() * 2 * 4096;
        prop_assert!(found + lost >= 120_000, "{found}");
    }
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let file = noise(3, 100_000);
    let files: [&[u8]; 1] = [&file];
    let memory = noise(4, 300_000);
    assert_eq!(search(&files, PLENTY).search(0, &memory, &mut Slices(&files)), []);
    assert_eq!(search(&files, PLENTY).search(0, &[], &mut Slices(&files)), []);
    let zeros = vec![0; 50_000];
    let files: [&[u8]; 1] = [&zeros];
    assert_eq!(search(&files, PLENTY).search(0, &zeros, &mut Slices(&files)), [], "of no value");
}

#[test]
fn a_file_that_changed_after_it_was_indexed_gives_no_wrong_run() {
    let file = noise(3, 100_000);
    let mut changed = file.clone();
    changed[50_000] ^= 1;
    let mut search = search(&[&file], PLENTY);
    let files: [&[u8]; 1] = [&changed];
    let runs = search.search(0, &file, &mut Slices(&files));
    check(&runs, 0, &file, &files);
    // A file that became shorter is read no further than it goes.
    let files: [&[u8]; 1] = [&changed[..30_000]];
    let runs = search.search(0, &file, &mut Slices(&files));
    assert_eq!(check(&runs, 0, &file, &files), 30_000);
}

#[test]
fn the_budget_ends_the_search() {
    let file = noise(3, 100_000);
    let files: [&[u8]; 1] = [&file];
    let memory = [noise(4, 1 << 20), file.clone()].concat();
    let budget = TwinBudget { rolled_bytes: 100_000, compared_bytes: u64::MAX };
    let mut search = search(&files, budget);
    assert_eq!(search.search(0, &memory, &mut Slices(&files)), []);
    assert_eq!(search.budget().rolled_bytes, 0);
}

#[test]
fn pages_of_a_run_are_whole() {
    let run = |memory_offset, length_bytes| {
        TwinRun { memory_offset, length_bytes, file: 0, file_offset: 0 }.pages()
    };
    assert_eq!(run(0, 8192), 0..8192);
    assert_eq!(run(1, 12_288), 4096..12_288);
    assert!(run(1, 4096).is_empty());
}
