//! What is kept of descriptors from one look to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use sys::proc::{FileStat, ProcDir, ProcError};

use super::socket_options::Fresh;

/// What was found once and holds as long as what it was found for is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownDescriptors {
    /// Files that were found under their names, as they were then. Giving a file another name
    /// changes its ctime.
    named: BTreeSet<(Vec<u8>, u64, u64, i128)>,
    /// The magic numbers of file systems, by device.
    magics: BTreeMap<u64, u64>,
    /// The options of new sockets, by family, type and protocol.
    fresh: BTreeMap<(i32, i32, i32), Arc<Fresh>>,
}

impl KnownDescriptors {
    /// Whether the file is under `name`; `look` finds out.
    pub(super) fn is_named(
        &mut self,
        name: &[u8],
        stat: &FileStat,
        look: impl FnOnce() -> bool,
    ) -> bool {
        let key = (name.to_vec(), stat.device, stat.inode, stat.ctime_ns);
        if self.named.contains(&key) {
            return true;
        }
        let found = look();
        if found {
            self.named.insert(key);
        }
        found
    }

    /// The magic number of the file system that the file behind `link` lies on.
    pub(super) fn magic(
        &mut self,
        dir: &ProcDir,
        link: &str,
        stat: &FileStat,
    ) -> Result<u64, ProcError> {
        if let Some(known) = self.magics.get(&stat.device) {
            return Ok(*known);
        }
        let magic = dir.file_system_magic(link)?;
        self.magics.insert(stat.device, magic);
        Ok(magic)
    }

    /// The options of a new socket of this kind.
    pub(super) fn fresh(&mut self, kind: (i32, i32, i32)) -> io::Result<Arc<Fresh>> {
        if let Some(known) = self.fresh.get(&kind) {
            return Ok(Arc::clone(known));
        }
        let fresh = Arc::new(Fresh::read(kind)?);
        self.fresh.insert(kind, Arc::clone(&fresh));
        Ok(fresh)
    }
}
