//! The heat of a line: one file, replaced whole, so that a crash leaves the old or the new one.
//! What the bytes mean is not known here.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use process::InstanceId;
use rustix::fs::FlockOperation;

use crate::dir::{Dir, check_private};
use crate::error::{IoFailure, WriteError};
use crate::store::Store;

const HEAT: &str = "heat";
const NEW_HEAT: &str = "heat.new";
const LOCK: &str = "heat.lock";

/// The exclusive right to change the heat of a line; given back on drop, and by the kernel when
/// the holder dies. It is apart from the right to write checkpoints, which is held for longer.
#[derive(Debug)]
pub struct LineHeat {
    line: Dir,
    /// Holds the lock as long as it is open.
    _file: File,
}

impl Store {
    /// The bytes of the heat of `instance`'s line; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is not private.
    pub fn heat(&self, instance: &InstanceId) -> Result<Option<Vec<u8>>, WriteError> {
        if instance.as_str().is_empty() {
            return Ok(None);
        }
        match self.dirs.lines.child(instance.as_str()) {
            Ok(line) => read(&line),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Where the heat of `instance`'s line lies, for messages.
    pub fn heat_path(&self, instance: &InstanceId) -> PathBuf {
        self.dirs.lines.join(instance.as_str()).join(HEAT)
    }

    /// Waits for the right to change the heat of `instance`'s line. Holders merge and write one
    /// file, so it is a short wait.
    ///
    /// # Errors
    /// When the line's directory cannot be made or locked.
    pub fn lock_heat(&self, instance: &InstanceId) -> Result<LineHeat, WriteError> {
        if instance.as_str().is_empty() {
            return Err(WriteError::NoInstance);
        }
        let line = self.dirs.lines.child_or_make(instance.as_str())?;
        line.check_private()?;
        let file = line.open_or_create(LOCK)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(IoFailure::on("lock", line.join(LOCK)))?;
        Ok(LineHeat { line, _file: file })
    }
}

impl LineHeat {
    /// The bytes of the heat; `None` when there is none yet.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is not private.
    pub fn read(&self) -> Result<Option<Vec<u8>>, WriteError> {
        read(&self.line)
    }

    /// Replaces the heat. On return it is on disk; when this fails or the host does, the old one
    /// is still whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace(&self, bytes: &[u8]) -> Result<(), WriteError> {
        Ok(self.line.replace(HEAT, NEW_HEAT, bytes)?)
    }
}

fn read(line: &Dir) -> Result<Option<Vec<u8>>, WriteError> {
    let mut file = match line.open(HEAT) {
        Ok(file) => file,
        Err(e) if e.is_missing() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let path = line.join(HEAT);
    check_private(&file, &path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(IoFailure::on("read", &path))?;
    Ok(Some(bytes))
}
