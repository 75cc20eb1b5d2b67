//! A setting of the whole host that is put back, also when we are killed.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;

/// What waits for our end and puts the old value back: a shell, because it has to outlive us and
/// nothing of ours may be in it. It reads until nobody holds the other end of the pipe.
const WATCHER: &str = "trap '' HUP INT TERM; while read -r _; do :; done; echo \"$1\"";

/// A file such as `/proc/sys/kernel/numa_balancing` with a value that is not its own, until
/// dropped. A second process, which holds nothing but that file, puts the old value back if we
/// die. Only one at a time can hold a file so (flock(2) on the file itself).
#[derive(Debug)]
pub struct Switch {
    path: PathBuf,
    /// Holds the lock until it is looked whether the old value is back, also when the watcher, which
    /// holds it too, has ended by then.
    file: File,
    old: String,
    watcher: Child,
}

/// Why a setting could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// It cannot be opened.
    #[error("set {path}: {cause}; run as root")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Somebody else of us holds it.
    #[error("set {path}: another rekindle has set it; try again when it is done")]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// It could not be read, written or watched over.
    #[error("set {path}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl Switch {
    /// Sets the one-line file at `path` to `value`.
    ///
    /// # Errors
    /// When it may not be written, or is held by another [`Switch`]. Nothing is changed then.
    pub fn set(path: &Path, value: &str) -> Result<Self, SwitchError> {
        let io = |cause| SwitchError::Io { path: path.to_owned(), cause };
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|cause| SwitchError::Open { path: path.to_owned(), cause })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(SwitchError::Busy { path: path.to_owned() });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        let old = read_line(&file).map_err(io)?;
        // Settings take a write at position 0 only, which is where the file stands.
        let watcher = Command::new("/bin/sh")
            .args(["-c", WATCHER, "sh", &old])
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(io)?)
            .stderr(Stdio::null())
            .current_dir("/")
            // Not where Ctrl-C goes.
            .process_group(0)
            .spawn()
            .map_err(io)?;
        let switch = Self { path: path.to_owned(), file, old, watcher };
        switch.file.write_all_at(value.as_bytes(), 0).map_err(io)?;
        Ok(switch)
    }

    /// The value that is put back.
    pub fn old(&self) -> &str {
        &self.old
    }
}

fn read_line(file: &File) -> io::Result<String> {
    let mut bytes = [0; 256];
    let length = file.read_at(&mut bytes, 0)?;
    let text = std::str::from_utf8(&bytes[..length]).map_err(io::Error::other)?;
    Ok(text.trim().to_owned())
}

impl Drop for Switch {
    fn drop(&mut self) {
        // The watcher writes the old value as soon as the pipe has ended.
        drop(self.watcher.stdin.take());
        // However it ended: what counts is what stands there, which is ours alone until the lock goes.
        let _ = self.watcher.wait();
        if read_line(&self.file).is_ok_and(|now| now == self.old) {
            return;
        }
        // The watcher was killed or could not write: the last try is ours.
        if let Err(cause) = self.file.write_all_at(self.old.as_bytes(), 0) {
            eprint_failure(&self.path, &self.old, &cause);
        }
    }
}

/// Says what is left different: there is nobody to return an error to.
fn eprint_failure(path: &Path, old: &str, cause: &io::Error) {
    let text = format!("rekindle: {} could not be set back to {old}: {cause}\n", path.display());
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_put_back_and_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("setting");
        std::fs::write(&path, "3\n").unwrap();
        let switch = Switch::set(&path, "7").unwrap();
        assert_eq!(switch.old(), "3");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with('7'));
        assert!(matches!(Switch::set(&path, "8"), Err(SwitchError::Busy { .. })));
        drop(switch);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "3");
        drop(Switch::set(&path, "8").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "3");
    }

    /// Nobody gets between the watcher's end and our look.
    #[test]
    fn a_killed_watcher_does_not_let_another_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("setting");
        std::fs::write(&path, "3\n").unwrap();
        let mut switch = Switch::set(&path, "7").unwrap();
        switch.watcher.kill().unwrap();
        switch.watcher.wait().unwrap();
        assert!(matches!(Switch::set(&path, "8"), Err(SwitchError::Busy { .. })));
        drop(switch);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "3");
    }
}
