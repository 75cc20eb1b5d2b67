//! Names and keys.

use std::fmt;
use std::str::FromStr;

/// The name of a checkpoint: 64 random bits, written as 16 lower-case hex digits.
///
/// Ids are drawn at random and carry no time; when a checkpoint was made stands in its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// Hex digits in an id.
    pub const DIGITS: usize = 16;
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for CheckpointId {
    type Err = NotACheckpointId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != Self::DIGITS || !text.bytes().all(hex) {
            return Err(NotACheckpointId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotACheckpointId)
    }
}

/// The text is not 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint id has 16 lower-case hex digits")]
pub struct NotACheckpointId;

/// The secret of a line: every hash in its checkpoints is keyed with it, so that nobody who only
/// controls the content of pages can make two of them look alike. One for all checkpoints of an
/// instance, never stored inside a checkpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct LineKey([u8; 32]);

impl LineKey {
    /// Bytes in a key.
    pub const BYTES: usize = 32;

    /// The key made of these (random) bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored where only the owner can read them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A name of the key that does not give it away: tells "another key" from "damaged".
    pub fn fingerprint(&self) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.0, b"rekindle line key");
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        short
    }

    /// The keyed hash of a whole file or manifest.
    pub(crate) fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, bytes).as_bytes()
    }
}

impl fmt::Debug for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineKey(secret)")
    }
}
