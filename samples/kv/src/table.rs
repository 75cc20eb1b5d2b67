//! The table: keys and values in shards, each behind its own lock.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::fill::{Fill, fill_key};
use crate::request::number;

const SHARDS: usize = 64;
/// What an entry costs beyond its bytes: two boxes and a slot of the map, about.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

type Shard = HashMap<Box<[u8]>, Box<[u8]>>;

/// Why the table refuses to change, or is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The memory limit would be passed.
    #[error("used memory would pass the limit of {0} bytes, raise --memory-max-mb or delete keys")]
    Full(u64),
    /// `INCR` on a value that is no number.
    #[error("value is not an integer or out of range")]
    NotANumber,
    /// `CHECK` found other bytes than `FILL` wrote.
    #[error("{wrong} of {keys} keys are wrong or missing, the first is number {first}")]
    Wrong {
        /// How many keys differ.
        wrong: u64,
        /// How many were compared.
        keys: u64,
        /// Index of the first one that differs.
        first: u64,
    },
}

/// An order-independent sum over all keys and values; equal tables have equal digests. It guards
/// against accidents, not against somebody who wants a collision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    sum: u128,
    keys: u64,
}

impl Digest {
    /// Adds one entry.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let key_hash = hash(0x243f_6a88_85a3_08d3, key);
        let low = hash(key_hash, value);
        let high = hash(key_hash ^ 0x1319_8a2e_0370_7344, value);
        self.sum = self.sum.wrapping_add(u128::from(high) << 64 | u128::from(low));
        self.keys += 1;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}{:032x}", self.keys, self.sum)
    }
}

/// A multiply-and-rotate hash over 8-byte words; the length is part of it. Each step is a bijection
/// of the state, so two values of one length that differ in one word never collide.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let step =
        |state: u64, word: u64| (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut state = step(seed, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = step(state, u64::from_le_bytes(word));
    }
    step(step(state, seed), seed)
}

/// A sharded map from byte strings to byte strings with a bound on its memory.
#[derive(Debug)]
pub struct Table {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    bytes: AtomicU64,
    bytes_max: u64,
}

impl Table {
    /// An empty table that holds at most `bytes_max` bytes of entries.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), bytes: AtomicU64::new(0), bytes_max }
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.shard(key).get(key).map(|value| value.to_vec())
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.shard(key).contains_key(key)
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`TableError::Full`] when the memory limit would be passed; nothing changes then.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        self.put(&mut self.shard(key), key, value)
    }

    /// Removes `key`; whether it was there.
    pub fn remove(&self, key: &[u8]) -> bool {
        let Some((key, value)) = self.shard(key).remove_entry(key) else { return false };
        self.bytes.fetch_sub(entry_bytes(&key, &value), Ordering::Relaxed);
        true
    }

    /// Adds one to the number at `key`, an absent key counting as zero, and returns the sum.
    ///
    /// # Errors
    /// [`TableError::NotANumber`] when the value is no 64-bit number or the sum is none.
    pub fn increment(&self, key: &[u8]) -> Result<i64, TableError> {
        let mut shard = self.shard(key);
        let value = match shard.get(key) {
            None => 0,
            Some(text) => number(text).ok_or(TableError::NotANumber)?,
        };
        let sum = value.checked_add(1).ok_or(TableError::NotANumber)?;
        self.put(&mut shard, key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    /// Removes everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let removed = std::mem::take(&mut *lock(shard));
            let bytes = removed.iter().map(|(key, value)| entry_bytes(key, value)).sum();
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Number of keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).len() as u64).sum()
    }

    /// Bytes of all entries with about what a map needs to hold them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The digest of all entries. Shards are locked one after the other: while somebody writes,
    /// the digest is of no single moment.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        for shard in &self.shards {
            for (key, value) in &*lock(shard) {
                digest.add(key, value);
            }
        }
        digest
    }

    /// Writes every key of `fill`.
    ///
    /// # Errors
    /// [`TableError::Full`] when the memory limit is reached; the keys before it stay.
    pub fn fill(&self, fill: &Fill) -> Result<(), TableError> {
        (0..fill.keys()).try_for_each(|index| self.set(&fill_key(index), &fill.value(index)))
    }

    /// Compares every key of `fill` byte by byte. Keys outside `fill` are not looked at.
    ///
    /// # Errors
    /// [`TableError::Wrong`] when any differs.
    pub fn check(&self, fill: &Fill) -> Result<(), TableError> {
        let differs = |index: &u64| {
            let (key, expected) = (fill_key(*index), fill.value(*index));
            self.shard(&key).get(key.as_slice()).map(|value| &**value) != Some(&expected)
        };
        let mut wrong = (0..fill.keys()).filter(differs);
        match wrong.next() {
            None => Ok(()),
            Some(first) => {
                let rest = wrong.count() as u64;
                Err(TableError::Wrong { wrong: rest + 1, keys: fill.keys(), first })
            }
        }
    }

    fn put(&self, shard: &mut Shard, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        let after = entry_bytes(key, value);
        let before = shard.get(key).map_or(0, |value| entry_bytes(key, value));
        let used = self.bytes.fetch_add(after, Ordering::Relaxed);
        if used.saturating_add(after).saturating_sub(before) > self.bytes_max && after > before {
            self.bytes.fetch_sub(after, Ordering::Relaxed);
            return Err(TableError::Full(self.bytes_max));
        }
        match shard.get_mut(key) {
            Some(slot) => *slot = value.into(),
            None => {
                shard.insert(key.into(), value.into());
            }
        }
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        Ok(())
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) % SHARDS as u64;
        lock(&self.shards[usize::try_from(index).unwrap_or(0)])
    }
}

fn entry_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_OVERHEAD_BYTES
}

/// Locks a shard. A thread that panicked inside leaves whole entries behind, so the shard is good.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_their_bytes() {
        let table = Table::new(1 << 20);
        table.set(b"a", b"one").unwrap();
        table.set(b"a", b"three").unwrap();
        assert_eq!(table.get(b"a").unwrap(), b"three");
        assert_eq!((table.keys(), table.bytes()), (1, 6 + ENTRY_OVERHEAD_BYTES));
        assert_eq!(table.increment(b"n"), Ok(1));
        assert_eq!(table.increment(b"n"), Ok(2));
        assert_eq!(table.increment(b"a"), Err(TableError::NotANumber));
        table.set(b"n", i64::MAX.to_string().as_bytes()).unwrap();
        assert_eq!(table.increment(b"n"), Err(TableError::NotANumber));
        assert!(table.remove(b"n") && !table.remove(b"n"));
        table.clear();
        assert_eq!((table.keys(), table.bytes()), (0, 0));
    }

    #[test]
    fn the_limit_holds_and_changes_nothing() {
        let table = Table::new(200);
        table.set(b"a", &[0; 100]).unwrap();
        assert_eq!(table.set(b"b", &[0; 100]), Err(TableError::Full(200)));
        assert_eq!(table.set(b"a", &[0; 200]), Err(TableError::Full(200)));
        table.set(b"a", &[1; 50]).unwrap();
        assert_eq!((table.keys(), table.bytes()), (1, 51 + ENTRY_OVERHEAD_BYTES));
    }

    #[test]
    fn a_filling_is_checked_byte_by_byte() {
        let (table, fill) = (Table::new(1 << 20), Fill::new(50, 1, 200, 9).unwrap());
        table.fill(&fill).unwrap();
        assert_eq!(table.check(&fill), Ok(()));
        let digest = table.digest();
        let mut value = fill.value(30);
        value[0] ^= 1;
        table.set(&fill_key(30), &value).unwrap();
        table.remove(&fill_key(40));
        assert_eq!(table.check(&fill), Err(TableError::Wrong { wrong: 2, keys: 50, first: 30 }));
        assert_ne!(table.digest(), digest);
        table.fill(&fill).unwrap();
        assert_eq!(table.digest(), digest);
        let mut outside = Digest::default();
        (0..50).rev().for_each(|index| outside.add(&fill_key(index), &fill.value(index)));
        assert_eq!(outside, digest);
    }
}
