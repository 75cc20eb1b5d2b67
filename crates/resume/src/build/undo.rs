//! What was created outside the process, and is taken back when it is given up.

use std::fs;
use std::path::PathBuf;

/// Paths to remove unless the build succeeds.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    paths: Vec<PathBuf>,
}

impl Undo {
    /// Notes that `path` is about to be created. One that exists already is left alone.
    pub(crate) fn creates(&mut self, path: PathBuf) {
        if fs::symlink_metadata(&path).is_err() {
            self.paths.push(path);
        }
    }

    /// Keeps everything.
    pub(crate) fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in &self.paths {
            // Not there when the build failed before it came to it.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_created_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::write(&old, "").unwrap();
        let mut undo = Undo::default();
        undo.creates(old.clone());
        undo.creates(new.clone());
        fs::write(&new, "").unwrap();
        drop(undo);
        assert!(old.exists() && !new.exists());
    }
}
