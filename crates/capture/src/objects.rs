//! Shared objects: memory that is captured once, however often and wherever it is mapped.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use process::{SharedObject, SharedObjectKind, StateKind};
use sys::proc::{FileStat, ProcDir, ProcError};
use target::ObjectFile;

use crate::findings::{Findings, text};
use crate::outside::{Link, Outside};

/// The shared objects found so far.
#[derive(Debug)]
pub(crate) struct Objects {
    kernel_tmpfs: u64,
    by_inode: BTreeMap<(u64, u64), u32>,
    list: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    object: SharedObject,
    file: OwnedFd,
    links: Vec<Link>,
}

impl Objects {
    pub(crate) fn new() -> io::Result<Self> {
        // It is the same as long as the kernel runs.
        static KERNEL_TMPFS: OnceLock<u64> = OnceLock::new();
        let kernel_tmpfs = match KERNEL_TMPFS.get() {
            Some(known) => *known,
            None => {
                let device = sys::file::kernel_tmpfs_device()?;
                *KERNEL_TMPFS.get_or_init(|| device)
            }
        };
        Ok(Self { kernel_tmpfs, by_inode: BTreeMap::new(), list: Vec::new() })
    }

    /// The object that the magic link `link` with the text `name` leads to, or `None` when it
    /// is an ordinary file. `shares`: whether stores through this way reach the object.
    pub(crate) fn of_file(
        &mut self,
        dir: &ProcDir,
        link: &str,
        name: &[u8],
        stat: &FileStat,
        shares: bool,
    ) -> Result<Option<u32>, ProcError> {
        let key = (stat.device, stat.inode);
        if let Some(known) = self.by_inode.get(&key) {
            return Ok(Some(*known));
        }
        let Some(mut kind) = self.kind(name, stat, shares) else { return Ok(None) };
        let file = dir.open_file(link, sys::proc::open_flags::READ_WITHOUT_WAITING)?;
        if let SharedObjectKind::Memfd { seals, .. } = &mut kind {
            // A memfd of hugetlbfs has seals too; the others always have them.
            *seals = sys::file::seals(&file).unwrap_or(0);
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let (device, inode) = key;
        let object = SharedObject { kind, size_bytes: stat.size_bytes, device, inode };
        self.list.push(Entry { object, file, links: vec![Link::File(device, inode)] });
        self.by_inode.insert(key, number);
        Ok(Some(number))
    }

    fn kind(&self, name: &[u8], stat: &FileStat, shares: bool) -> Option<SharedObjectKind> {
        let deleted = stat.links == 0;
        let path = match name.strip_suffix(b" (deleted)") {
            Some(path) if deleted => path,
            _ => name,
        };
        if stat.device == self.kernel_tmpfs {
            return Some(match path.strip_prefix(b"/memfd:") {
                Some(name) => SharedObjectKind::Memfd { name: name.to_vec(), seals: 0 },
                None => SharedObjectKind::Anonymous,
            });
        }
        // A private mapping of a file there that has its name is a file mapping like others.
        (path.starts_with(b"/dev/shm/") && (shares || deleted)).then(|| {
            SharedObjectKind::PosixShm {
                path: path.to_vec(),
                deleted,
                mode: stat.mode & 0o7777,
                uid: stat.uid,
                gid: stat.gid,
            }
        })
    }

    /// Notes that object number `number` is mapped under the numbers in `link`.
    pub(crate) fn mapped(&mut self, number: u32, link: Link) {
        if let Some(entry) = self.entry(number)
            && !entry.links.contains(&link)
        {
            entry.links.push(link);
        }
    }

    fn entry(&mut self, number: u32) -> Option<&mut Entry> {
        usize::try_from(number).ok().and_then(|n| self.list.get_mut(n))
    }

    /// By what processes outside would be connected with the objects.
    pub(crate) fn links(&self) -> impl Iterator<Item = Link> {
        self.list.iter().flat_map(|entry| entry.links.iter().copied())
    }

    /// The descriptors of ours that lead to the objects.
    pub(crate) fn opened(&self) -> Vec<i32> {
        self.list.iter().map(|entry| entry.file.as_raw_fd()).collect()
    }

    /// Refuses objects that processes outside share, or that cannot come back.
    pub(crate) fn refuse(&self, outside: &Outside, takeover: bool, findings: &mut Findings) {
        for entry in &self.list {
            let name = describe(&entry.object);
            if let SharedObjectKind::Memfd { seals, .. } = entry.object.kind
                && takeover
                && seals & F_SEAL_FUTURE_WRITE != 0
            {
                let lift = "memory sealed against mappings to come cannot be mapped once more";
                findings.block(StateKind::SharedMemory, name.clone(), lift);
            }
            let mut holders: Vec<&String> =
                entry.links.iter().flat_map(|link| outside.holders(*link)).collect();
            holders.sort_unstable();
            holders.dedup();
            for holder in holders {
                let lift = "end the other process, or checkpoint at a time when it does not share \
                            the memory";
                findings.block_by(StateKind::SharedMemory, name.clone(), holder.clone(), lift);
            }
        }
    }

    /// Bytes of memory the objects hold, in RAM or swapped out.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pages = self.list.iter().map(|entry| target::content_of_file(&entry.file));
        pages.flatten().map(|set| set.count().bytes()).sum()
    }

    /// The objects as values, and their files in the same order.
    pub(crate) fn into_parts(self) -> (Vec<SharedObject>, Vec<ObjectFile>) {
        self.list
            .into_iter()
            .map(|entry| {
                let size_bytes = entry.object.size_bytes;
                (entry.object, ObjectFile { file: entry.file, size_bytes })
            })
            .unzip()
    }
}

const F_SEAL_FUTURE_WRITE: u32 = 0x10;

fn describe(object: &SharedObject) -> String {
    match &object.kind {
        SharedObjectKind::Memfd { name, .. } => format!("memfd {:?}", text(name)),
        SharedObjectKind::PosixShm { path, .. } => format!("shared memory {}", text(path)),
        SharedObjectKind::Anonymous => format!("shared anonymous memory (inode {})", object.inode),
    }
}
