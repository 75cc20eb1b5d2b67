//! The list of mappings with their flags, by the cheapest way that is exact.

use std::collections::BTreeMap;
use std::sync::Arc;

use mem::AddrRange;
use sys::proc::{ProcDir, ProcError, SmapsEntry, maps_entries, parse_smaps};
use sys::task::Tid;
use sys::vma::{FlagWords, VmaError, VmaReader};

/// Lists the mappings of one process.
///
/// `/proc/PID/maps` lacks their flags, and `/proc/PID/smaps` takes some 30 ms per GB, for which it
/// holds the lock of the address space. So flags are read by a BPF iterator where the kernel lets
/// us, and from smaps else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lister {
    reader: Option<(Arc<VmaReader>, &'static FlagWords)>,
}

impl Lister {
    /// For the process whose first thread is `tid`.
    pub(crate) fn new(tid: Tid) -> Self {
        let open = || Ok::<_, VmaError>((Arc::new(VmaReader::open(tid)?), FlagWords::learn()?));
        match open() {
            Ok(reader) => Self { reader: Some(reader) },
            Err(cause) => {
                tracing::debug!(%cause, "flags of mappings are read from smaps");
                Self::default()
            }
        }
    }

    /// Whether a list costs no walk over the page tables.
    pub(crate) fn is_cheap(&self) -> bool {
        self.reader.is_some()
    }

    /// The mappings, ascending, without smaps' figures where they are not needed for the flags.
    pub(crate) fn list(&self, dir: &ProcDir) -> Result<Vec<SmapsEntry>, ProcError> {
        const TRIES: usize = 3;
        // The two lists of a running process may be of different times.
        for _ in 0..TRIES {
            match self.cheap(dir)? {
                Some(entries) => return Ok(entries),
                None if self.is_cheap() => {}
                None => break,
            }
        }
        tracing::debug!("smaps is read");
        dir.parse("smaps", &mut Vec::new(), parse_smaps)
    }

    /// `None` when the flags of a mapping are not known.
    fn cheap(&self, dir: &ProcDir) -> Result<Option<Vec<SmapsEntry>>, ProcError> {
        let Some((reader, words)) = &self.reader else { return Ok(None) };
        let Ok(bits) = reader.read() else { return Ok(None) };
        let bits: BTreeMap<AddrRange, u64> = bits.iter().map(|vma| (vma.range, vma.bits)).collect();
        let mut entries: Vec<SmapsEntry> = dir.parse("maps", &mut Vec::new(), |text| {
            maps_entries(text).map(|line| Ok(SmapsEntry::from_line(&line?))).collect()
        })?;
        let mut taken = 0;
        for entry in &mut entries {
            match bits.get(&entry.range).map(|bits| words.words(*bits)) {
                Some(Some(words)) => {
                    entry.vm_flags = words;
                    taken += 1;
                }
                // The kernel's gate is in no process's list.
                None if entry.name == b"[vsyscall]" => entry.vm_flags = vec![*b"ex"],
                _ => return Ok(None),
            }
        }
        Ok((taken == bits.len()).then_some(entries))
    }
}

#[cfg(test)]
mod tests {
    use sys::task::Pid;

    use super::*;

    #[test]
    fn both_ways_list_the_same() {
        // A child sleeps while it is listed.
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let dir = ProcDir::open(pid.raw()).unwrap();
        while dir.link("exe").is_ok_and(|exe| !exe.ends_with(b"sleep")) {
            std::thread::yield_now();
        }
        let lister = Lister::new(pid.main_thread());
        assert!(lister.is_cheap(), "this kernel has no BTF, or bpf(2) is not allowed");
        // It may still be on its way to its sleep.
        let same = (0..1000).any(|_| {
            let cheap = lister.cheap(&dir).unwrap();
            let whole = dir.parse("smaps", &mut Vec::new(), parse_smaps).unwrap();
            let key = |e: &SmapsEntry| {
                (e.range, e.protection, e.sharing, e.inode, e.name.clone(), e.vm_flags.clone())
            };
            cheap.is_some_and(|cheap| cheap.iter().map(key).eq(whole.iter().map(key)))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(same);
    }
}
