//! Lock lines, of `/proc/locks` (`proc_locks(5)`) and of `lock:` in fdinfo.

use super::text::{Cursor, Malformed, lines};

/// What kind of file lock a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// flock(2): belongs to the open file description.
    Flock,
    /// fcntl(2) `F_SETLK`: belongs to the process.
    Posix,
    /// fcntl(2) `F_OFD_SETLK`: belongs to the open file description.
    OpenFileDescription,
    /// A lease or a delegation (`F_SETLEASE`).
    Lease,
    /// Anything newer.
    Other,
}

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// Its kind.
    pub kind: LockKind,
    /// Whether the lock is exclusive (`WRITE`) rather than shared (`READ`).
    pub exclusive: bool,
    /// The process that took it in the reader's pid namespace; 0 when it is not visible there,
    /// -1 for locks of open file descriptions.
    pub pid: i32,
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
    /// The locked file's inode.
    pub inode: u64,
    /// First locked byte.
    pub start: u64,
    /// Last locked byte, `None` for the end of the file however it grows.
    pub end: Option<u64>,
    /// Whether the line is about a process that waits for the lock before it.
    pub waiting: bool,
}

/// Parses one line, without the `lock:` of fdinfo.
///
/// # Errors
/// When it does not have the documented form.
pub fn parse_lock(line: &[u8]) -> Result<FileLock, Malformed> {
    let mut cursor = Cursor::new(line);
    let _number = cursor.dec("a lock's number")?;
    cursor.literal(b":", "a colon after the lock's number")?;
    let mut kind = cursor.word("a kind of lock")?;
    let waiting = kind == b"->";
    if waiting {
        kind = cursor.word("a kind of lock")?;
    }
    let kind = match kind {
        b"FLOCK" => LockKind::Flock,
        b"POSIX" | b"ACCESS" => LockKind::Posix,
        b"OFDLCK" => LockKind::OpenFileDescription,
        b"LEASE" | b"DELEG" => LockKind::Lease,
        _ => LockKind::Other,
    };
    let _advisory = cursor.word("ADVISORY or another mode")?;
    let exclusive = match cursor.word("READ or WRITE")? {
        b"WRITE" => true,
        b"READ" | b"UNLCK" | b"NONE" => false,
        _ => return Err(cursor.malformed("READ or WRITE")),
    };
    let pid = cursor.signed_as("a process id")?;
    let device = (cursor.hex_as("a major number")?, {
        cursor.literal(b":", "a colon in the device")?;
        cursor.hex_as("a minor number")?
    });
    cursor.literal(b":", "a colon before the inode")?;
    let inode = cursor.dec("an inode")?;
    let start = cursor.dec("the first locked byte")?;
    let end = match cursor.word("the last locked byte or EOF")? {
        b"EOF" => None,
        word => Some(Cursor::new(word).dec("the last locked byte")?),
    };
    Ok(FileLock { kind, exclusive, pid, device, inode, start, end, waiting })
}

/// Parses the text of `/proc/locks`.
///
/// # Errors
/// When a line does not have the documented form.
pub fn parse_locks(text: &[u8]) -> Result<Vec<FileLock>, Malformed> {
    lines(text).map(parse_lock).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds() {
        let text = b"1: POSIX  ADVISORY  WRITE 13182 fe:00:10010817 5 14\n\
            2: FLOCK  ADVISORY  READ 13183 fe:00:10010816 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 13184 fe:00:10010816 0 EOF\n\
            3: OFDLCK ADVISORY  WRITE -1 00:1d:5 0 0\n";
        let locks = parse_locks(text).unwrap();
        assert_eq!(locks[0].kind, LockKind::Posix);
        assert_eq!((locks[0].start, locks[0].end, locks[0].pid), (5, Some(14), 13182));
        assert_eq!((locks[1].kind, locks[1].exclusive), (LockKind::Flock, false));
        assert!(locks[2].waiting && !locks[1].waiting);
        assert_eq!(locks[3].pid, -1);
        assert_eq!((locks[3].device, locks[3].inode), ((0, 0x1d), 5));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9:A-Z ->a-f]{0,80}") {
            let _ = parse_lock(text.as_bytes());
        }
    }
}
