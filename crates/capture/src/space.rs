//! The address space: mappings, what is behind them, and which of them hold private pages.

use std::collections::BTreeMap;

use mem::{AddrRange, Backing, FileIdentity, Mapping, Sharing, SpecialMapping};
use process::StateKind;
use sys::proc::{FileStat, ProcDir, ProcError, SmapsEntry};
use target::PrivateRange;

use crate::binary;
use crate::findings::{Findings, text};
use crate::objects::Objects;
use crate::outside::Link;

/// What was read of the address space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) private: Vec<PrivateRange>,
    /// Mappings whose missing pages are served from outside, when that is allowed.
    pub(crate) served: Vec<AddrRange>,
}

impl Space {
    /// Where the vdso is mapped.
    pub(crate) fn vdso(&self) -> Option<AddrRange> {
        self.mappings.iter().find(|mapping| mapping.is_vdso()).map(|mapping| mapping.range)
    }
}

/// What is known of mapped files since a look, so that the freeze need not ask again.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownFiles {
    build_ids: BTreeMap<(u64, u64, i128, i128), Vec<u8>>,
    /// Files that were found under their names, by name, as they were then.
    named: BTreeMap<Vec<u8>, (FileStat, FileIdentity)>,
}

impl KnownFiles {
    /// The build id of the regular file behind the magic link `name`.
    fn build_id(&mut self, dir: &ProcDir, name: &str, stat: &FileStat) -> Vec<u8> {
        let key = (stat.device, stat.inode, stat.mtime_ns, stat.ctime_ns);
        if let Some(known) = self.build_ids.get(&key) {
            return known.clone();
        }
        let flags = sys::proc::open_flags::READ_WITHOUT_WAITING;
        // A file that cannot be read is identified by the rest.
        let id = dir
            .open_file(name, flags)
            .ok()
            .and_then(|file| binary::read(file).ok())
            .map(|binary| binary.build_id)
            .unwrap_or_default();
        self.build_ids.insert(key, id.clone());
        id
    }

    /// The identity of the file that was found under `name` when it was just as `stat` says.
    fn unchanged(&self, name: &[u8], stat: &FileStat) -> Option<&FileIdentity> {
        self.named.get(name).filter(|(known, _)| known == stat).map(|(_, identity)| identity)
    }
}

/// Makes the mappings out of `entries`. Shared objects go to `objects`.
pub(crate) fn read(
    dir: &ProcDir,
    entries: &[SmapsEntry],
    objects: &mut Objects,
    known: &mut KnownFiles,
    allow_served: bool,
    findings: &mut Findings,
) -> Result<Space, ProcError> {
    let root = dir.link("root")?;
    let seen = BTreeMap::new();
    let mut reader = Reader { dir, root: &root, objects, known, allow_served, seen, findings };
    let mut space = Space::default();
    for entry in entries {
        if allow_served && entry.has_flag(b"um") {
            space.served.push(entry.range);
        }
        let Some(mapping) = reader.mapping(entry)? else { continue };
        if mapping.holds_private_pages() {
            let readable = mapping.protection.read;
            space.private.push(PrivateRange { range: mapping.range, readable });
        }
        space.mappings.push(mapping);
    }
    Ok(space)
}

/// Device, inode, and whether the mapping shares.
type FileKey = ((u32, u32), u64, bool);

/// What a file is known to be once one of its mappings was looked at.
#[derive(Clone)]
enum Seen {
    Object(u32),
    File(FileIdentity),
}

struct Reader<'a> {
    dir: &'a ProcDir,
    root: &'a [u8],
    objects: &'a mut Objects,
    known: &'a mut KnownFiles,
    /// Registered memory is no blocker.
    allow_served: bool,
    /// Files of mappings before.
    seen: BTreeMap<FileKey, (Vec<u8>, Seen)>,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    /// The mapping of `entry`, or `None` when it went away meanwhile or blocks.
    fn mapping(&mut self, entry: &SmapsEntry) -> Result<Option<Mapping>, ProcError> {
        self.refuse_flags(entry);
        let in_brackets = entry.name.starts_with(b"[") && !entry.has_inode();
        let backing = match special(&entry.name) {
            _ if !in_brackets && !entry.has_inode() => Some(Backing::Anonymous),
            Some(SpecialMapping::Other) if in_brackets => {
                self.block(entry, StateKind::Unknown, "nothing yet; report it");
                None
            }
            Some(special) if in_brackets => Some(Backing::Special(special)),
            _ if in_brackets => Some(Backing::Anonymous),
            _ => match self.behind(entry) {
                Ok(backing) => backing,
                Err(cause) if cause.is_gone() => None,
                Err(cause) => return Err(cause),
            },
        };
        Ok(backing.map(|backing| Mapping {
            range: entry.range,
            protection: entry.protection,
            sharing: entry.sharing,
            backing,
            name: if in_brackets { entry.name.clone() } else { Vec::new() },
            vm_flags: carried(&entry.vm_flags),
            guards: Vec::new(),
        }))
    }

    fn block(&mut self, entry: &SmapsEntry, kind: StateKind, lift: &str) {
        self.findings.block(kind, describe(entry), lift);
    }

    /// Flags that stand for state we do not carry.
    fn refuse_flags(&mut self, entry: &SmapsEntry) {
        if entry.name.starts_with(b"[v") && !entry.has_inode() {
            return;
        }
        let program = "the program has to give it up before the checkpoint";
        if entry.has_flag(b"ht") {
            self.block(entry, StateKind::HugetlbMapping, program);
        } else if [b"io", b"pf"].iter().any(|flag| entry.has_flag(flag)) {
            self.block(entry, StateKind::DeviceMapping, program);
        }
        let is_missing = entry.has_flag(b"um") && !self.allow_served;
        if is_missing || entry.has_flag(b"ui") {
            self.block(entry, StateKind::UserfaultMapping, program);
        }
        if entry.has_flag(b"ss") {
            let lift =
                "start it without user shadow stacks (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)";
            self.block(entry, StateKind::ShadowStack, lift);
        }
        if entry.protection_key != 0 {
            self.block(entry, StateKind::ProtectionKeys, program);
        }
    }

    /// What a mapping with an inode shows.
    fn behind(&mut self, entry: &SmapsEntry) -> Result<Option<Backing>, ProcError> {
        let key = (entry.device, entry.inode, entry.sharing == Sharing::Shared);
        let offset_bytes = entry.offset_bytes;
        let seen = match self.seen.get(&key) {
            Some((name, seen)) if *name == entry.name => Some(seen.clone()),
            _ => None,
        };
        let file = match seen {
            Some(Seen::Object(object)) => {
                return Ok(Some(Backing::SharedObject { object, offset_bytes }));
            }
            Some(Seen::File(file)) => file,
            None => match self.behind_first(entry)? {
                Some(Backing::File { file, .. }) => {
                    let seen = Seen::File(file.clone());
                    self.seen.insert(key, (entry.name.clone(), seen));
                    file
                }
                Some(Backing::SharedObject { object, offset_bytes }) => {
                    self.seen.insert(key, (entry.name.clone(), Seen::Object(object)));
                    return Ok(Some(Backing::SharedObject { object, offset_bytes }));
                }
                other => return Ok(other),
            },
        };
        Ok(Some(Backing::File { file, offset_bytes }))
    }

    /// The same for the first mapping of a file.
    fn behind_first(&mut self, entry: &SmapsEntry) -> Result<Option<Backing>, ProcError> {
        let link = map_file(entry);
        // What has no path in the file system first: opening or statting it may not be possible.
        if let Some((kind, lift)) = unsupported(&entry.name) {
            self.block(entry, kind, lift);
            return Ok(None);
        }
        let offset_bytes = entry.offset_bytes;
        let stat = self.dir.stat(&link)?;
        if let Some(file) = self.known.unchanged(&entry.name, &stat) {
            return Ok(Some(Backing::File { file: file.clone(), offset_bytes }));
        }
        let name = self.dir.link(&link)?;
        if stat.file_type() == libc::S_IFCHR && name == b"/dev/zero" {
            // A private mapping of /dev/zero is anonymous memory to the kernel too.
            return Ok(Some(Backing::Anonymous));
        }
        if stat.file_type() != libc::S_IFREG {
            let lift = "the program has to unmap the device before the checkpoint";
            self.block(entry, StateKind::DeviceMapping, lift);
            return Ok(None);
        }
        let shares = entry.sharing == Sharing::Shared;
        let mapping = Link::Mapping(entry.device, entry.inode);
        if let Some(object) = self.objects.of_file(self.dir, &link, &name, &stat, shares)? {
            self.objects.mapped(object, mapping);
            return Ok(Some(Backing::SharedObject { object, offset_bytes }));
        }
        let mut file = identity(self.root, &name, &stat);
        let is_named = still_named(self.dir, &file);
        if !is_named {
            file.deleted = true;
            let lift = "the file it has mapped was deleted or replaced; restart the program";
            self.block(entry, StateKind::DeletedFile, lift);
        }
        file.build_id = self.known.build_id(self.dir, &link, &stat);
        if is_named {
            self.known.named.insert(entry.name.clone(), (stat, file.clone()));
        }
        Ok(Some(Backing::File { file, offset_bytes }))
    }
}

/// The flags of a mapping without those of a userfaultfd, which is not the program's.
fn carried(flags: &[[u8; 2]]) -> Vec<[u8; 2]> {
    flags.iter().filter(|flag| !matches!(*flag, b"uw" | b"um")).copied().collect()
}

/// The name of the mapping's magic link.
fn map_file(entry: &SmapsEntry) -> String {
    format!("map_files/{:x}-{:x}", entry.range.start.0, entry.range.end.0)
}

fn describe(entry: &SmapsEntry) -> String {
    match entry.name.as_slice() {
        b"" => format!("mapping {}", entry.range),
        name => format!("mapping {} ({})", entry.range, text(name)),
    }
}

/// The kernel's own mappings; `None` for memory of the program that only has a name.
fn special(name: &[u8]) -> Option<SpecialMapping> {
    Some(match name {
        b"[vdso]" => SpecialMapping::Vdso,
        b"[vvar]" => SpecialMapping::Vvar,
        b"[vvar_vclock]" => SpecialMapping::VvarVclock,
        b"[vsyscall]" => SpecialMapping::Vsyscall,
        b"[heap]" | b"[stack]" => return None,
        name if name.starts_with(b"[anon:") || name.starts_with(b"[anon_shmem:") => return None,
        _ => SpecialMapping::Other,
    })
}

/// Mappings that have an inode but no file behind it that could be opened again.
fn unsupported(name: &[u8]) -> Option<(StateKind, &'static str)> {
    const PROGRAM: &str = "the program has to give it up before the checkpoint";
    Some(match name {
        b"/[aio] (deleted)" => (StateKind::AsyncIo, "the program has to call io_destroy(2)"),
        b"anon_inode:[io_uring]" => (StateKind::IoUring, "start the program without io_uring"),
        b"anon_inode:[perf_event]" => (StateKind::PerfEvent, PROGRAM),
        b"/secretmem (deleted)" => (StateKind::SecretMemory, PROGRAM),
        b"/anon_hugepage (deleted)" => (StateKind::HugetlbMapping, PROGRAM),
        name if name.starts_with(b"/SYSV") && name.ends_with(b" (deleted)") => {
            (StateKind::SysvMemory, "use POSIX shared memory or memfd_create(2) instead")
        }
        name if name.starts_with(b"anon_inode:") => (StateKind::Unknown, PROGRAM),
        _ => return None,
    })
}

/// The identity of a file with the link text `name`, its path as the process sees it.
pub(crate) fn identity(root: &[u8], name: &[u8], stat: &FileStat) -> FileIdentity {
    let deleted_mark = b" (deleted)";
    let deleted = stat.links == 0;
    let path = match name.strip_suffix(deleted_mark) {
        Some(path) if deleted => path,
        _ => name,
    };
    FileIdentity {
        path: below_root(root, path),
        device: stat.device,
        inode: stat.inode,
        size_bytes: stat.size_bytes,
        mtime_ns: stat.mtime_ns,
        ctime_ns: stat.ctime_ns,
        build_id: Vec::new(),
        deleted,
    }
}

/// `path` as a process with root directory `root` sees it: the kernel prints it from ours.
pub(crate) fn below_root(root: &[u8], path: &[u8]) -> Vec<u8> {
    match path.strip_prefix(root) {
        Some(b"") => b"/".to_vec(),
        Some(rest) if rest.starts_with(b"/") => rest.to_vec(),
        _ => path.to_vec(),
    }
}

/// Whether the file's path still leads to it.
pub(crate) fn still_named(dir: &ProcDir, file: &FileIdentity) -> bool {
    !file.deleted
        && dir
            .stat_in_root(&file.path)
            .is_ok_and(|found| (found.device, found.inode) == (file.device, file.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_root_of_the_process() {
        assert_eq!(below_root(b"/", b"/usr/bin/x"), b"/usr/bin/x");
        assert_eq!(below_root(b"/jail", b"/jail/bin/x"), b"/bin/x");
        assert_eq!(below_root(b"/jail", b"/jailed/x"), b"/jailed/x");
        assert_eq!(below_root(b"/jail", b"/jail"), b"/");
    }

    #[test]
    fn names_of_the_kernel_and_of_the_program() {
        assert_eq!(special(b"[vdso]"), Some(SpecialMapping::Vdso));
        assert_eq!(special(b"[uprobes]"), Some(SpecialMapping::Other));
        assert_eq!(special(b"[anon:arena]"), None);
        assert!(unsupported(b"/SYSV00000000 (deleted)").is_some());
        assert!(unsupported(b"/SYSV00000000").is_none());
        assert!(unsupported(b"/usr/lib/x.so").is_none());
    }
}
