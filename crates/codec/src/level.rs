//! How hard to compress: as hard as makes storing and bringing back soonest, by what encoding and
//! the disk were measured to take while a checkpoint is written.

/// The levels of zstd there are to choose from, from the fastest to the smallest result. LZ4 and
/// faster levels are left out: encoding goes on while the program runs, so what they save nobody
/// waits for, and they store a tenth more.
pub const LEVELS: [i32; 3] = [-3, 1, 3];

/// What each level typically takes and leaves of a MiB of heap, for those not measured yet: time
/// to encode and to decode on one core in ns, bytes stored.
const TYPICAL: [Typical; LEVELS.len()] = [
    Typical { encode_ns: 2_690_000, decode_ns: 1_060_000, stored_bytes: 452_000 },
    Typical { encode_ns: 3_180_000, decode_ns: 1_520_000, stored_bytes: 391_000 },
    Typical { encode_ns: 4_190_000, decode_ns: 1_440_000, stored_bytes: 379_000 },
];

/// No level that takes longer than this for a MiB on one core is chosen but the first: 4.5 s a GB.
const ENCODE_NS_MAX: u64 = 4_700_000;

/// A level is only left for one that is better by this much: measurements are noisy, and more
/// compression is more work.
const BETTER_PERCENT: u64 = 10;

const MIB: u64 = 1 << 20;

struct Typical {
    encode_ns: u64,
    decode_ns: u64,
    stored_bytes: u64,
}

/// What was measured of one level; nothing when `raw_bytes` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCost {
    /// Bytes of pages that were encoded.
    pub raw_bytes: u64,
    /// Bytes that they became.
    pub stored_bytes: u64,
    /// Time it took, the sum over all threads.
    pub encode_ns: u64,
}

/// What was measured of the disk; nothing when `bytes` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCost {
    /// Bytes that were written and synced.
    pub bytes: u64,
    /// Time it took.
    pub ns: u64,
}

/// The position in [`LEVELS`] to go on with, after `now`. Without a measured disk, or anything
/// measured of a level, it is `now`.
///
/// For each level: encoding and writing go on side by side, so do reading and decoding; the sum
/// of the longer one of each pair decides. Levels not measured are taken to differ from a
/// measured one as they typically do.
pub fn choose_level(
    now: usize,
    measured: &[LevelCost; LEVELS.len()],
    disk: DiskCost,
    workers: u64,
) -> usize {
    let now = now.min(LEVELS.len() - 1);
    // Where most was measured.
    let like = (0..LEVELS.len()).max_by_key(|at| measured[*at].raw_bytes).unwrap_or(now);
    if disk.bytes == 0 || measured[like].raw_bytes == 0 {
        return now;
    }
    let total = |at: usize| {
        let cost = Cost::of(at, like, measured);
        let disk_ns = scaled(cost.stored_bytes, disk.ns, disk.bytes);
        let workers = workers.max(1);
        (cost.encode_ns / workers).max(disk_ns) + (cost.decode_ns / workers).max(disk_ns)
    };
    let affordable =
        |at: &usize| *at == 0 || Cost::of(*at, like, measured).encode_ns <= ENCODE_NS_MAX;
    let better =
        |one: usize, than: usize| scaled(total(one), 100 + BETTER_PERCENT, 100) <= total(than);
    // Each step up has to be worth its while.
    let best = (1..LEVELS.len())
        .filter(affordable)
        .fold(0, |best, next| if better(next, best) { next } else { best });
    if better(best, now) || !affordable(&now) { best } else { now }
}

/// What a MiB of pages takes.
struct Cost {
    encode_ns: u64,
    decode_ns: u64,
    stored_bytes: u64,
}

impl Cost {
    /// That of level `at`, where that of `like` was measured.
    fn of(at: usize, like: usize, measured: &[LevelCost; LEVELS.len()]) -> Self {
        let from = if measured[at].raw_bytes > 0 { at } else { like };
        let LevelCost { raw_bytes, stored_bytes, encode_ns } = measured[from];
        let encode_ns = scaled(encode_ns, MIB, raw_bytes);
        let stored_bytes = scaled(stored_bytes, MIB, raw_bytes).min(MIB);
        let (typical, base) = (&TYPICAL[at], &TYPICAL[from]);
        Self {
            encode_ns: scaled(encode_ns, typical.encode_ns, base.encode_ns),
            // How busy the cores are slows decoding as it slows encoding.
            decode_ns: scaled(encode_ns, typical.decode_ns, base.encode_ns),
            // What hardly shrinks does not shrink more with more effort.
            stored_bytes: MIB
                - scaled(MIB - stored_bytes, MIB - typical.stored_bytes, MIB - base.stored_bytes)
                    .min(MIB),
        }
    }
}

/// `value * by / of`, never more than there can be.
fn scaled(value: u64, by: u64, of: u64) -> u64 {
    let wide = u128::from(value) * u128::from(by) / u128::from(of.max(1));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the first level was measured to be, on a core as they typically are.
    fn typical() -> [LevelCost; LEVELS.len()] {
        let first = LevelCost { raw_bytes: MIB, stored_bytes: 452_000, encode_ns: 2_690_000 };
        [first, LevelCost::default(), LevelCost::default()]
    }

    fn disk(mb_per_second: u64) -> DiskCost {
        DiskCost { bytes: mb_per_second * 1_000_000, ns: 1_000_000_000 }
    }

    #[test]
    fn a_slow_disk_gets_more_and_a_fast_one_less() {
        let choose = |now, disk| choose_level(now, &typical(), disk, 2);
        assert_eq!(LEVELS[choose(0, disk(2000))], -3);
        assert_eq!(LEVELS[choose(2, disk(2000))], -3);
        assert_eq!(LEVELS[choose(0, disk(100))], 1);
        assert_eq!(LEVELS[choose(0, disk(20))], 1);
        assert_eq!(LEVELS[choose(2, disk(20))], 3);
        // A disk of no known speed, or nothing encoded: as it was.
        assert_eq!(choose(1, DiskCost::default()), 1);
        assert_eq!(choose_level(1, &Default::default(), disk(20), 2), 1);
        // Cores that have no time left for more.
        let mut slow = typical();
        slow[0].encode_ns *= 3;
        assert_eq!(LEVELS[choose_level(2, &slow, disk(20), 2)], -3);
        // What does not shrink at all is not worth any effort.
        let mut noise = typical();
        noise[0].stored_bytes = noise[0].raw_bytes;
        assert_eq!(LEVELS[choose_level(0, &noise, disk(20), 2)], -3);
    }

    fn cost() -> impl Strategy<Value = LevelCost> {
        (any::<u64>(), any::<u64>(), any::<u64>(), 0..64u32).prop_map(|(raw, stored, ns, shift)| {
            LevelCost {
                raw_bytes: raw >> shift,
                stored_bytes: stored >> shift,
                encode_ns: ns >> shift,
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_is_measured_there_is_a_level_and_it_stays(
            measured in [cost(), cost(), cost()],
            now in 0..5usize,
            bytes in any::<u64>(),
            ns in any::<u64>(),
            workers in 0..100u64,
        ) {
            let disk = DiskCost { bytes, ns };
            let chosen = choose_level(now, &measured, disk, workers);
            prop_assert!(chosen < LEVELS.len());
            // Nothing new was learned: it does not swing.
            prop_assert_eq!(choose_level(chosen, &measured, disk, workers), chosen);
        }

        /// The slower the disk, the more compression.
        #[test]
        fn less_disk_is_more_compression(
            encode_ns in 1_000_000..4_000_000u64,
            stored_bytes in 100_000..900_000u64,
            workers in 1..16u64,
            slow in 1..5000u64,
            faster in 1..5000u64,
        ) {
            let mut measured = typical();
            measured[0] = LevelCost { raw_bytes: MIB, stored_bytes, encode_ns };
            let choose = |mb| choose_level(0, &measured, disk(mb), workers);
            prop_assert!(choose(slow + faster) <= choose(slow));
        }
    }
}
