//! What earlier resumes of a line had to wait for: one file for each of the last few. What the
//! bytes mean is not known here.

use std::io::{Read, Write};
use std::time::SystemTime;

use process::InstanceId;

use crate::dir::{Dir, check_private};
use crate::error::{IoFailure, WriteError};
use crate::store::Store;

const FOLDER: &str = "faults";
/// A log while it is written.
const NEW: &str = "new";
/// Logs that are kept.
const KEPT: usize = 4;
/// A log that is longer is left out.
const BYTES_MAX: u64 = 64 << 20;

impl Store {
    /// Keeps the fault log of one resume of `instance`, which `name` tells from others: one of the
    /// same name is replaced, whole. The oldest goes when there are too many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_faults(
        &self,
        instance: &InstanceId,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), WriteError> {
        let heat = self.lock_heat(instance)?;
        let folder = self.dirs.lines.child(instance.as_str())?.child_or_make(FOLDER)?;
        let mut file = folder.open_or_create(NEW)?;
        let fail = |action| IoFailure::on(action, folder.join(NEW));
        file.set_len(0).map_err(fail("write"))?;
        file.write_all(bytes).map_err(fail("write"))?;
        // Advice: one that a crash of the machine leaves cut short is read as far as it goes.
        folder.rename(NEW, &folder, name)?;
        for (_, name) in by_age(&folder)?.into_iter().skip(KEPT) {
            folder.remove(&name)?;
        }
        drop(heat);
        Ok(())
    }

    /// The fault logs of `instance`, each with its name, the newest first.
    ///
    /// # Errors
    /// When one cannot be read, or is not private.
    pub fn faults(&self, instance: &InstanceId) -> Result<Vec<(String, Vec<u8>)>, WriteError> {
        let folder = match self.dirs.lines.child(instance.as_str()) {
            Ok(line) => line.child(FOLDER),
            Err(error) => Err(error),
        };
        let folder = match folder {
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            other => other?,
        };
        let mut logs = Vec::new();
        for (_, name) in by_age(&folder)? {
            let file = match folder.open(&name) {
                Ok(file) => file,
                // Somebody kept another one meanwhile.
                Err(error) if error.is_missing() => continue,
                Err(error) => return Err(error.into()),
            };
            let path = folder.join(&name);
            check_private(&file, &path)?;
            let mut bytes = Vec::new();
            file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(IoFailure::on("read", &path))?;
            logs.push((name, bytes));
        }
        Ok(logs)
    }
}

/// The logs in `folder`, the newest first.
fn by_age(folder: &Dir) -> Result<Vec<(SystemTime, String)>, IoFailure> {
    let mut logs = Vec::new();
    for name in folder.names()?.into_iter().filter(|name| name != NEW) {
        let modified = folder.open(&name).and_then(|file| {
            let metadata = file.metadata().and_then(|metadata| metadata.modified());
            metadata.map_err(IoFailure::on("stat", folder.join(&name)))
        });
        match modified {
            Ok(modified) => logs.push((modified, name)),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    logs.sort_unstable_by(|a, b| b.cmp(a));
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let instance = InstanceId::from_hash(&[7; 32]);
        assert_eq!(store.faults(&instance).unwrap(), []);
        for n in 0..6u8 {
            store.keep_faults(&instance, &format!("log-{n}"), &[n]).unwrap();
            // File times are as fine as the kernel's clock tick.
            std::thread::sleep(std::time::Duration::from_millis(12));
        }
        store.keep_faults(&instance, "log-3", b"again").unwrap();
        let found = store.faults(&instance).unwrap();
        let named = |n: u8, bytes: &[u8]| (format!("log-{n}"), bytes.to_vec());
        let expected = [named(3, b"again"), named(5, &[5]), named(4, &[4]), named(2, &[2])];
        assert_eq!(found, expected);
    }
}
