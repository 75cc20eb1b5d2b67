//! What processes outside the instance share with it.

use std::collections::{BTreeMap, BTreeSet};

use sys::kcmp::{TaskObject, tasks_share};
use sys::proc::{ProcDir, ProcError, maps_entries, parse_stat, parse_status, pids};
use sys::task::{Pid, Tid};
use target::Process;

use crate::findings::text;

/// An object by which processes can be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Link {
    /// A pipe, by inode.
    Pipe(u64),
    /// A socket, by inode.
    Socket(u64),
    /// Any other file, by `st_dev` and inode.
    File(u64, u64),
    /// A shared mapping, by the device numbers of maps and inode.
    Mapping((u32, u32), u64),
}

/// A descriptor of a process outside.
#[derive(Clone, Debug)]
pub(crate) struct OutsideDescriptor {
    /// The process.
    pub(crate) pid: i32,
    /// Its number there.
    pub(crate) fd: i32,
    /// The process in words.
    pub(crate) holder: String,
}

/// Who outside the instance holds what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    has_looked: bool,
    asked: BTreeSet<Link>,
    holders: BTreeMap<Link, Vec<String>>,
    /// Descriptors of files.
    descriptors: BTreeMap<Link, Vec<OutsideDescriptor>>,
    /// Processes we may not look into.
    hidden: usize,
    /// Processes that share the address space or the descriptor table.
    sharers: Vec<String>,
    /// Processes that the instance traces.
    tracees: Vec<String>,
}

impl Outside {
    /// Whether anybody outside holds `link`. One that was never asked for is held by nobody
    /// known; ask first.
    pub(crate) fn holders(&self, link: Link) -> &[String] {
        self.holders.get(&link).map(Vec::as_slice).unwrap_or_default()
    }

    /// The descriptors that processes outside have of a file.
    pub(crate) fn descriptors(&self, file: Link) -> &[OutsideDescriptor] {
        self.descriptors.get(&file).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether `link` has been asked for.
    pub(crate) fn has_asked(&self, link: Link) -> bool {
        self.asked.contains(&link)
    }

    /// Whether there are processes we may not look into.
    pub(crate) fn has_hidden(&self) -> bool {
        self.hidden > 0
    }

    /// Processes that share the instance's address space or descriptor table.
    pub(crate) fn sharers(&self) -> &[String] {
        &self.sharers
    }

    /// Processes that the instance traces.
    pub(crate) fn tracees(&self) -> &[String] {
        &self.tracees
    }

    /// Makes sure that `links` have been asked for, looking at every process again when one has
    /// not been. `opened`: descriptors of ours that were opened to look, and do not count.
    pub(crate) fn ask(
        &mut self,
        process: &Process,
        links: &BTreeSet<Link>,
        opened: &[i32],
    ) -> Result<(), ProcError> {
        if self.has_looked && links.is_subset(&self.asked) {
            return Ok(());
        }
        *self = scan(process, links, opened)?;
        Ok(())
    }
}

fn scan(process: &Process, links: &BTreeSet<Link>, opened: &[i32]) -> Result<Outside, ProcError> {
    let asked = links.clone();
    let mut outside = Outside { has_looked: true, asked, ..Outside::default() };
    let wants_files = links.iter().any(|link| matches!(link, Link::File(..)));
    let wants_mappings = links.iter().any(|link| matches!(link, Link::Mapping(..)));
    let tids = process.dir().tids()?;
    let mut buffer = Vec::new();
    for pid in pids()? {
        if pid == process.pid().raw() {
            continue;
        }
        let Ok(dir) = ProcDir::open(pid) else { continue };
        let skipped = if pid == Pid::current().raw() { opened } else { &[] };
        let found = look_at(&dir, links, skipped, (wants_files, wants_mappings), &mut buffer);
        let name = || match dir.parse("stat", &mut Vec::new(), parse_stat) {
            Ok(stat) => format!("process {pid} ({})", text(&stat.name)),
            Err(_) => format!("process {pid}"),
        };
        match found {
            Ok(found) => {
                for (link, fds) in found {
                    let holder = name();
                    if matches!(link, Link::File(..)) {
                        let each = fds.iter().map(|fd| OutsideDescriptor {
                            pid,
                            fd: *fd,
                            holder: holder.clone(),
                        });
                        outside.descriptors.entry(link).or_default().extend(each);
                    }
                    outside.holders.entry(link).or_default().push(holder);
                }
            }
            Err(cause) if cause.is_denied() => outside.hidden += 1,
            // It has ended, or is a kernel thread.
            Err(_) => continue,
        }
        if shares_whole_objects(process, pid) {
            outside.sharers.push(name());
        }
        let tracer = dir.parse("status", &mut buffer, parse_status).map(|s| s.tracer_pid);
        if tracer.is_ok_and(|tracer| tids.contains(&tracer)) {
            outside.tracees.push(name());
        }
    }
    Ok(outside)
}

fn shares_whole_objects(process: &Process, pid: i32) -> bool {
    let (target, Some(other)) = (process.pid().main_thread(), Tid::new(pid)) else { return false };
    [TaskObject::Vm, TaskObject::Files]
        .into_iter()
        .any(|object| tasks_share(target, other, object).unwrap_or(false))
}

/// What of `links` the process behind `dir` holds, and by which descriptors.
fn look_at(
    dir: &ProcDir,
    links: &BTreeSet<Link>,
    skipped: &[i32],
    (wants_files, wants_mappings): (bool, bool),
    buffer: &mut Vec<u8>,
) -> Result<BTreeMap<Link, Vec<i32>>, ProcError> {
    let mut found: BTreeMap<Link, Vec<i32>> = BTreeMap::new();
    for fd in dir.descriptors()? {
        if skipped.contains(&fd) {
            continue;
        }
        let name = format!("fd/{fd}");
        let Ok(target) = dir.link(&name) else { continue };
        let link = if let Some(inode) = inode_in(&target, b"pipe:[") {
            Link::Pipe(inode)
        } else if let Some(inode) = inode_in(&target, b"socket:[") {
            Link::Socket(inode)
        } else if (wants_files || target.starts_with(b"/")) && !target.starts_with(b"anon_inode") {
            // A FIFO is a pipe with a name.
            let Ok(stat) = dir.stat(&name) else { continue };
            match stat.file_type() {
                libc::S_IFIFO => Link::Pipe(stat.inode),
                _ => Link::File(stat.device, stat.inode),
            }
        } else {
            continue;
        };
        if links.contains(&link) {
            found.entry(link).or_default().push(fd);
        }
    }
    if wants_mappings {
        dir.read("maps", buffer)?;
        for entry in maps_entries(buffer).flatten() {
            let link = Link::Mapping(entry.device, entry.inode);
            if entry.sharing == mem::Sharing::Shared && links.contains(&link) {
                found.entry(link).or_default();
            }
        }
    }
    Ok(found)
}

/// N of `pipe:[N]`.
pub(crate) fn inode_in(link: &[u8], prefix: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(prefix)?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_of_links() {
        assert_eq!(inode_in(b"pipe:[12]", b"pipe:["), Some(12));
        assert_eq!(inode_in(b"pipe:[x]", b"pipe:["), None);
        assert_eq!(inode_in(b"/pipe:[12]", b"pipe:["), None);
    }
}
