//! Who an instance is.

use std::fmt;
use std::str::FromStr;

/// A stable name of an instance: the first 12 hex digits of
/// blake3(boot id, pid namespace, pid, start time) at first sight, carried on by resume.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// Hex digits in an id.
    pub const DIGITS: usize = 12;

    /// The id whose digits `hash` begins with.
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        Self(hash[..Self::DIGITS / 2].iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceId {
    type Err = NotAnInstanceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == Self::DIGITS && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnInstanceId)
        }
    }
}

/// The text is not 12 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instance id has 12 lower-case hex digits")]
pub struct NotAnInstanceId;

/// Which run of which instance a checkpoint shows: enough to refuse a second run of one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineIdentity {
    /// The instance's id.
    pub instance: InstanceId,
    /// Boot id of the host at the capture.
    pub boot_id: String,
    /// Inode of the pid namespace the pid below is seen in (the capturer's).
    pub pid_namespace: u64,
    /// The pid in that namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `proc_pid_stat(5)`.
    pub start_time_ticks: u64,
}
