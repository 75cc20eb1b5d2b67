//! A line: all checkpoints of one instance. Its directory holds the key of all their hashes and
//! the lock that keeps two writers apart.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use image::LineKey;
use process::InstanceId;
use rustix::fs::FlockOperation;

use crate::dir::{Dir, check_private};
use crate::error::{IoFailure, WriteError};

pub(crate) const KEY: &str = "key";
const NEW_KEY: &str = "key.new";
const LOCK: &str = "lock";

/// The exclusive right to write checkpoints of one instance; given back on drop, and by the
/// kernel when the holder dies.
#[derive(Debug)]
pub struct LineLock {
    instance: InstanceId,
    key: LineKey,
    /// Holds the lock as long as it is open.
    file: File,
}

impl Drop for LineLock {
    fn drop(&mut self) {
        // Closing is not enough: what another thread forks at this moment has the file open until
        // it executes something.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl LineLock {
    /// Whose line it is.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The key of every hash in this line, also for page identity across checkpoints.
    pub fn key(&self) -> &LineKey {
        &self.key
    }
}

/// Locks the line of `instance` under `lines`, making directory and key when they are new: `given`,
/// or one that is drawn.
pub(crate) fn lock(
    lines: &Dir,
    instance: &InstanceId,
    given: Option<&LineKey>,
) -> Result<LineLock, WriteError> {
    if instance.as_str().is_empty() {
        return Err(WriteError::NoInstance);
    }
    let line = lines.child_or_make(instance.as_str())?;
    line.check_private()?;
    let file = line.open_or_create(LOCK)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(WriteError::Locked {
                instance: instance.to_string(),
                holder: holder(&file),
            });
        }
        Err(e) => return Err(IoFailure::on("lock", line.join(LOCK))(e).into()),
    }
    write_holder(&file).map_err(IoFailure::on("write", line.join(LOCK)))?;
    let key = match read_key(&line)? {
        Some(key) => key,
        None => {
            let key = given.map_or_else(draw_key, |key| Ok(key.clone()))?;
            store_key(lines, &line, &key)?;
            key
        }
    };
    Ok(LineLock { instance: instance.clone(), key, file })
}

/// The key of the line of `instance`; `None` when there is none.
pub(crate) fn key(lines: &Dir, instance: &InstanceId) -> Result<Option<LineKey>, WriteError> {
    if instance.as_str().is_empty() {
        return Ok(None);
    }
    match lines.child(instance.as_str()) {
        Ok(line) => read_key(&line),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Where the key of `instance` lies, for messages.
pub(crate) fn key_path(lines: &Dir, instance: &InstanceId) -> PathBuf {
    lines.join(instance.as_str()).join(KEY)
}

fn write_holder(mut file: &File) -> std::io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// Who has the lock, as the holder wrote it.
fn holder(file: &File) -> String {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).unwrap_or(0);
    let pid = std::str::from_utf8(&text[..length]).ok().and_then(|t| t.trim().parse::<u32>().ok());
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn read_key(line: &Dir) -> Result<Option<LineKey>, WriteError> {
    let mut file = match line.open(KEY) {
        Ok(file) => file,
        Err(e) if e.is_missing() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let path = line.join(KEY);
    check_private(&file, &path)?;
    let mut bytes = Vec::new();
    (&mut file).take(64).read_to_end(&mut bytes).map_err(IoFailure::on("read", &path))?;
    let found = bytes.len();
    let bytes = bytes.try_into().map_err(|_| WriteError::Key { path, found })?;
    Ok(Some(LineKey::new(bytes)))
}

fn draw_key() -> Result<LineKey, WriteError> {
    let mut bytes = [0; LineKey::BYTES];
    getrandom::fill(&mut bytes).map_err(WriteError::Random)?;
    Ok(LineKey::new(bytes))
}

/// Stores a key so that it survives a crash, before anything is hashed with it. The caller holds
/// the line's lock.
fn store_key(lines: &Dir, line: &Dir, key: &LineKey) -> Result<(), WriteError> {
    line.replace(KEY, NEW_KEY, key.as_bytes())?;
    Ok(lines.sync()?)
}
