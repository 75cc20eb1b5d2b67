//! How hard a writer compresses: chosen again whenever something was synced, by what encoding and
//! the disk were measured to take since it began.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use codec::{DiskCost, LEVELS, LevelCost, Want, choose_level};

/// Measured costs and the level chosen by them. Shared by all threads of a writer; the counters
/// are sums of their own, so that being a little apart is no harm.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    workers: u64,
    level: AtomicUsize,
    levels: [Sums; LEVELS.len()],
    disk_bytes: AtomicU64,
    disk_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Sums {
    raw_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    encode_ns: AtomicU64,
}

impl Pace {
    /// Begins with the fastest level, for `workers` threads that encode.
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: u64::try_from(workers).unwrap_or(1), ..Self::default() }
    }

    /// How to encode now.
    pub(crate) fn want(&self) -> Want {
        let at = self.level.load(Ordering::Relaxed);
        Want::Zstd(LEVELS.get(at).copied().unwrap_or(LEVELS[0]))
    }

    /// Pages were encoded as `want` said, without a base.
    pub(crate) fn encoded(&self, want: Want, raw: usize, stored: usize, took: Duration) {
        let at = LEVELS.iter().position(|level| Want::Zstd(*level) == want);
        let Some(sums) = at.and_then(|at| self.levels.get(at)) else { return };
        let count = |bytes: usize| u64::try_from(bytes).unwrap_or(0);
        sums.raw_bytes.fetch_add(count(raw), Ordering::Relaxed);
        sums.stored_bytes.fetch_add(count(stored), Ordering::Relaxed);
        sums.encode_ns.fetch_add(ns(took), Ordering::Relaxed);
    }

    /// `bytes` were written and synced. Chooses the level to go on with.
    pub(crate) fn synced(&self, bytes: u64, took: Duration) {
        let bytes = self.disk_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let ns = self.disk_ns.fetch_add(ns(took), Ordering::Relaxed) + ns(took);
        let measured = std::array::from_fn(|at| {
            let sums = &self.levels[at];
            LevelCost {
                raw_bytes: sums.raw_bytes.load(Ordering::Relaxed),
                stored_bytes: sums.stored_bytes.load(Ordering::Relaxed),
                encode_ns: sums.encode_ns.load(Ordering::Relaxed),
            }
        });
        let now = self.level.load(Ordering::Relaxed);
        let next = choose_level(now, &measured, DiskCost { bytes, ns }, self.workers);
        if next != now {
            tracing::debug!("{bytes} bytes synced in {ns} ns: zstd level {}", LEVELS[next]);
        }
        self.level.store(next, Ordering::Relaxed);
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_follows_the_disk() {
        let pace = Pace::new(2);
        assert_eq!(pace.want(), Want::Zstd(-3));
        for _ in 0..100 {
            pace.encoded(pace.want(), 65_536, 28_000, Duration::from_micros(170));
        }
        // 64 MiB in two seconds, then in 40 ms for long enough.
        pace.synced(64 << 20, Duration::from_secs(2));
        assert_eq!(pace.want(), Want::Zstd(1));
        for _ in 0..500 {
            pace.encoded(pace.want(), 65_536, 24_500, Duration::from_micros(200));
            pace.synced(64 << 20, Duration::from_millis(40));
        }
        assert_eq!(pace.want(), Want::Zstd(-3));
        // What is not of its making is not counted.
        pace.encoded(Want::Lz4, 1, 1, Duration::from_secs(9));
        assert_eq!(pace.want(), Want::Zstd(-3));
    }
}
