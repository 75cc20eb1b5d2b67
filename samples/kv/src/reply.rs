//! Replies: RESP2 values, written and read.

use std::io::{self, BufRead, Read};

use thiserror::Error;

use crate::request::{BULK_BYTES_MAX, number};

/// Longest line of a reply, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Largest number of elements in an array.
const ARRAY_MAX: i64 = 1_000_000;
/// Deepest nesting of arrays.
const DEPTH_MAX: usize = 8;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+text`
    Simple(String),
    /// `-text`
    Error(String),
    /// `:number`
    Integer(i64),
    /// `$length`, then that many bytes.
    Bulk(Vec<u8>),
    /// `$-1`: no value.
    Null,
    /// `*count`, then that many replies.
    Array(Vec<Self>),
}

/// Why bytes are not a reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The connection failed or ended in the middle.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The bytes are no RESP2 reply, or one above the limits.
    #[error("not a reply: {0}")]
    Malformed(&'static str),
}

impl Reply {
    /// The reply `+OK`.
    #[must_use]
    pub fn ok() -> Self {
        Self::Simple("OK".into())
    }

    /// A count as a reply.
    #[must_use]
    pub fn count(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Appends the reply as it goes over the wire. Line ends in one-line texts become blanks.
    pub fn encode(&self, output: &mut Vec<u8>) {
        let mut line = |kind: char, text: &str| {
            let text = text.replace(['\r', '\n'], " ");
            output.extend_from_slice(format!("{kind}{text}\r\n").as_bytes());
        };
        match self {
            Self::Simple(text) => line('+', text),
            Self::Error(text) => line('-', text),
            Self::Integer(integer) => line(':', &integer.to_string()),
            Self::Null => line('$', "-1"),
            Self::Bulk(bytes) => {
                line('$', &bytes.len().to_string());
                output.extend_from_slice(bytes);
                output.extend_from_slice(b"\r\n");
            }
            Self::Array(replies) => {
                line('*', &replies.len().to_string());
                replies.iter().for_each(|reply| reply.encode(output));
            }
        }
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// [`ReplyError`] when the input ends or is no reply; the connection is of no more use then.
    pub fn read(input: &mut impl BufRead) -> Result<Self, ReplyError> {
        Self::read_nested(input, DEPTH_MAX)
    }

    fn read_nested(input: &mut impl BufRead, depth: usize) -> Result<Self, ReplyError> {
        let line = read_line(input)?;
        let (kind, text) = line.split_first().ok_or(ReplyError::Malformed("empty line"))?;
        let integer = || number(text).ok_or(ReplyError::Malformed("bad number"));
        let string = || String::from_utf8_lossy(text).into_owned();
        match kind {
            b'+' => Ok(Self::Simple(string())),
            b'-' => Ok(Self::Error(string())),
            b':' => Ok(Self::Integer(integer()?)),
            b'$' => match integer()? {
                -1 => Ok(Self::Null),
                length @ 0..=BULK_BYTES_MAX => read_bulk(input, length.unsigned_abs()),
                _ => Err(ReplyError::Malformed("bulk length out of range")),
            },
            b'*' => match integer()? {
                -1 => Ok(Self::Null),
                count @ 0..=ARRAY_MAX => {
                    let depth = depth.checked_sub(1).ok_or(ReplyError::Malformed("too deep"))?;
                    (0..count).map(|_| Self::read_nested(input, depth)).collect()
                }
                _ => Err(ReplyError::Malformed("array length out of range")),
            },
            _ => Err(ReplyError::Malformed("unknown kind")),
        }
    }
}

impl FromIterator<Reply> for Reply {
    fn from_iter<T: IntoIterator<Item = Self>>(replies: T) -> Self {
        Self::Array(replies.into_iter().collect())
    }
}

fn read_line(input: &mut impl BufRead) -> Result<Vec<u8>, ReplyError> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let text = line.strip_suffix(b"\r\n").ok_or(ReplyError::Malformed("line without end"))?;
    Ok(text.to_vec())
}

fn read_bulk(input: &mut impl BufRead, length: u64) -> Result<Reply, ReplyError> {
    let mut bytes = Vec::new();
    let read = input.take(length + 2).read_to_end(&mut bytes)?;
    if (read as u64) < length + 2 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let end = bytes.split_off(read - 2);
    if end != b"\r\n" {
        return Err(ReplyError::Malformed("bulk without end"));
    }
    Ok(Reply::Bulk(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replies() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[ -~]{0,20}".prop_map(Reply::Simple),
            "[ -~]{0,20}".prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            prop::collection::vec(any::<u8>(), 0..100).prop_map(Reply::Bulk),
            Just(Reply::Null),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop::collection::vec(inner, 0..5).prop_map(Reply::Array)
        })
    }

    proptest! {
        #[test]
        fn replies_come_back(reply in replies()) {
            let mut bytes = Vec::new();
            reply.encode(&mut bytes);
            let mut input = bytes.as_slice();
            prop_assert_eq!(Reply::read(&mut input).unwrap(), reply);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = Reply::read(&mut bytes.as_slice());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let bytes = "*1\r\n".repeat(100_000);
        assert!(matches!(Reply::read(&mut bytes.as_bytes()), Err(ReplyError::Malformed(_))));
    }

    #[test]
    fn one_line_texts_stay_one_line() {
        let mut bytes = Vec::new();
        Reply::Error("ERR a\r\nb".into()).encode(&mut bytes);
        assert_eq!(bytes, b"-ERR a  b\r\n");
    }
}
