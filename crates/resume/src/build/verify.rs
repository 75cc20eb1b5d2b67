//! The built process, compared with the instance before it may run.

use std::collections::BTreeSet;

use mem::{AddrRange, Backing, Mapping, Protection, Sharing};
use process::{Credentials, DescriptionKind, MmLayout, TaskGroup};
use sys::proc::{
    MapsEntry, ProcDir, ProcError, StatMemory, maps_entries, parse_fdinfo, parse_stat, parse_status,
};
use sys::task::Pid;

use super::descriptions::Files;
use super::room::Room;
use super::slots::StandIn;
use super::takeover;
use crate::paths::ours;
use crate::{FilesPolicy, Phase, ResumeError};

/// A stretch of address space with one protection and one kind of content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    range: AddrRange,
    protection: Protection,
    sharing: Sharing,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Anonymous,
    File { name: String, inode: u64, offset: u64 },
    Object { offset: u64 },
    Special(String),
}

impl Stretch {
    /// The kernel may draw the line between two like mappings elsewhere or not at all.
    fn continues(&self, next: &Self) -> bool {
        let offset = self.range.len();
        let content = match (&self.content, &next.content) {
            (Content::Anonymous, Content::Anonymous) => true,
            (
                Content::File { name, inode, offset: first },
                Content::File { name: n, inode: i, offset: second },
            ) => name == n && inode == i && first + offset == *second,
            (Content::Object { offset: first }, Content::Object { offset: second }) => {
                first + offset == *second
            }
            _ => false,
        };
        content
            && self.range.end == next.range.start
            && self.protection == next.protection
            && self.sharing == next.sharing
    }
}

fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

fn merged(stretches: impl Iterator<Item = Stretch>) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for next in stretches {
        match all.last_mut() {
            Some(last) if last.continues(&next) => last.range.end = next.range.end,
            _ => all.push(next),
        }
    }
    all
}

fn wanted(mapping: &Mapping, group: &TaskGroup, inodes: bool) -> Option<Stretch> {
    let content = match &mapping.backing {
        Backing::Anonymous => Content::Anonymous,
        Backing::File { file, offset_bytes } => Content::File {
            name: shown(&ours(group, &file.path)),
            inode: if inodes { file.inode } else { 0 },
            offset: *offset_bytes,
        },
        Backing::SharedObject { offset_bytes, .. } => Content::Object { offset: *offset_bytes },
        Backing::Special(mem::SpecialMapping::Vsyscall) => return None,
        Backing::Special(_) => Content::Special(shown(&mapping.name)),
    };
    let (protection, sharing) = (mapping.protection, mapping.sharing);
    Some(Stretch { range: mapping.range, protection, sharing, content })
}

fn found(entry: &MapsEntry<'_>, wanted: &[Stretch], inodes: bool) -> Option<Stretch> {
    const SPECIAL: [&[u8]; 4] = [b"[vdso]", b"[vvar]", b"[vvar_vclock]", b"[uprobes]"];
    let name = entry.name();
    let is_object = || {
        let mut there = overlapping(wanted, entry.range).iter();
        there.any(|s| matches!(s.content, Content::Object { .. }))
    };
    let content = if name == b"[vsyscall]" {
        return None;
    } else if SPECIAL.contains(&name.as_slice()) {
        Content::Special(shown(&name))
    } else if !entry.has_inode() {
        Content::Anonymous
    } else if is_object() {
        Content::Object { offset: entry.offset_bytes }
    } else {
        let inode = if inodes { entry.inode } else { 0 };
        Content::File { name: shown(&name), inode, offset: entry.offset_bytes }
    };
    let (protection, sharing) = (entry.protection, entry.sharing);
    Some(Stretch { range: entry.range, protection, sharing, content })
}

/// Those of `all`, which ascend and do not overlap, that overlap `range`.
fn overlapping(all: &[Stretch], range: AddrRange) -> &[Stretch] {
    let first = all.partition_point(|stretch| stretch.range.end <= range.start);
    let rest = &all[first..];
    &rest[..rest.partition_point(|stretch| stretch.range.start < range.end)]
}

/// Whether `stretch` is one of `all`, which ascend and do not overlap.
fn is_among(stretch: &Stretch, all: &[Stretch]) -> bool {
    overlapping(all, stretch.range).contains(stretch)
}

/// What differs between the mappings in `maps` and the instance's; `room` is ours.
fn compare_maps(
    maps: &[u8],
    (mappings, group): (&[Mapping], &TaskGroup),
    room: &Room,
    inodes: bool,
) -> Result<Vec<String>, sys::proc::Malformed> {
    let mut wanted: Vec<_> = mappings.iter().filter_map(|m| wanted(m, group, inodes)).collect();
    // As the kernel lists them.
    wanted.sort_by_key(|stretch| stretch.range.start);
    let wanted = merged(wanted.into_iter());
    let mut entries = Vec::new();
    for entry in maps_entries(maps) {
        let entry = entry?;
        if !entry.range.overlaps(room.whole) {
            entries.extend(found(&entry, &wanted, inodes));
        }
    }
    let built = merged(entries.into_iter());
    let lacking = wanted
        .iter()
        .filter(|w| !is_among(w, &built))
        .map(|w| format!("mapping {} is not there as {:?} {:?}", w.range, w.protection, w.content));
    let extra = built
        .iter()
        .filter(|b| !is_among(b, &wanted))
        .map(|b| format!("mapping {} is there as {:?} {:?}", b.range, b.protection, b.content));
    Ok(lacking.chain(extra).collect())
}

/// Compares mappings, threads, descriptors and credentials.
pub(super) fn compare(
    (dir, pid): (&ProcDir, Pid),
    files: Files<'_>,
    credentials: &Credentials,
    room: &Room,
) -> Result<Vec<String>, ResumeError> {
    let failed = |error: ProcError| ResumeError::Step {
        phase: Phase::Verify,
        step: "look at the new process".to_owned(),
        cause: std::io::Error::other(error),
    };
    let mut buffer = Vec::new();
    let inodes = files.options.files == FilesPolicy::Strict;
    let space = files.instance.spaces.get(files.group.space.0 as usize);
    let mappings = space.map(|s| s.mappings.as_slice()).unwrap_or_default();
    let parse = |text: &[u8]| compare_maps(text, (mappings, files.group), room, inodes);
    let mut all = dir.parse("maps", &mut buffer, parse).map_err(failed)?;
    let threads = dir.tids().map_err(failed)?.len();
    if threads != files.group.threads.len() {
        all.push(format!("{threads} threads are not {}", files.group.threads.len()));
    }
    let descriptors = match files.takeover {
        Some(old) => takeover::compare((dir, pid), files, old, &mut buffer),
        None => compare_descriptors(dir, files, &mut buffer),
    };
    all.extend(descriptors.map_err(failed)?);
    let stat = dir.parse("stat", &mut buffer, parse_stat).map_err(failed)?;
    all.extend(space.and_then(|space| compare_layout(&stat.memory, &space.layout)));
    for (link, wanted) in [("exe", &files.group.exe), ("cwd", &files.group.cwd)] {
        let found = dir.link(link).map_err(failed)?;
        let wanted = ours(files.group, wanted);
        if found != wanted {
            let (found, wanted) = (shown(&found), shown(&wanted));
            all.push(format!("{link} leads to {found} instead of {wanted}"));
        }
    }
    let status = dir.parse("status", &mut buffer, parse_status).map_err(failed)?;
    all.extend(compare_status(&status, files.group, credentials));
    Ok(all)
}

/// What `/proc/PID/stat` tells of the memory layout; the break is not among it.
fn compare_layout(found: &StatMemory, wanted: &MmLayout) -> Option<String> {
    let found = MmLayout {
        start_code: found.start_code,
        end_code: found.end_code,
        start_data: found.start_data,
        end_data: found.end_data,
        start_brk: found.start_brk,
        brk: wanted.brk,
        start_stack: found.start_stack,
        arg_start: found.arg_start,
        arg_end: found.arg_end,
        env_start: found.env_start,
        env_end: found.env_end,
    };
    (found != *wanted).then(|| format!("memory layout {found:x?} is not {wanted:x?}"))
}

fn compare_descriptors(
    dir: &ProcDir,
    files: Files<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Vec<String>, ProcError> {
    let mut all = Vec::new();
    let Some(table) = files.table() else { return Ok(all) };
    let left_out =
        |fd: &process::Descriptor| files.stand_in(fd.description) == Some(StandIn::Nothing);
    let kept: Vec<_> = table.descriptors.iter().filter(|d| !left_out(d)).collect();
    let wanted: BTreeSet<i32> = kept.iter().map(|d| d.fd).collect();
    let built: BTreeSet<i32> = dir.descriptors()?.into_iter().collect();
    if wanted != built {
        all.push(format!("descriptors {built:?} are not {wanted:?}"));
        return Ok(all);
    }
    for descriptor in kept {
        let info = dir.parse(&format!("fdinfo/{}", descriptor.fd), buffer, parse_fdinfo)?;
        if info.close_on_exec() != descriptor.close_on_exec {
            all.push(format!("descriptor {} has another FD_CLOEXEC", descriptor.fd));
        }
        let Some(what) = files.instance.descriptions.get(descriptor.description.0 as usize) else {
            continue;
        };
        if files.stand_in(descriptor.description).is_some() {
            continue;
        }
        let (has, wants) = (info.flags & COMPARED_FLAGS, what.flags & COMPARED_FLAGS);
        if has != wants {
            let fd = descriptor.fd;
            all.push(format!("descriptor {fd} has flags {has:#o} instead of {wants:#o}"));
        }
        let has_position = matches!(what.kind, DescriptionKind::File(_));
        if has_position && info.position != what.position_bytes {
            let (fd, has, wants) = (descriptor.fd, info.position, what.position_bytes);
            all.push(format!("descriptor {fd} stands at {has} instead of {wants}"));
        }
    }
    Ok(all)
}

const COMPARED_FLAGS: u32 = (libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_NOATIME
    | libc::O_SYNC
    | libc::O_PATH)
    .cast_unsigned();

fn compare_status(
    status: &sys::proc::Status,
    group: &TaskGroup,
    wanted: &Credentials,
) -> Vec<String> {
    let mut all = Vec::new();
    let mut compare = |what: &str, same: bool| {
        if !same {
            all.push(format!("{what} differ"));
        }
    };
    let ids = |set: sys::proc::IdSet| [set.real, set.effective, set.saved, set.file_system];
    compare("user ids", ids(status.uid) == wanted.uids);
    compare("group ids", ids(status.gid) == wanted.gids);
    let sorted = |groups: &[u32]| groups.iter().copied().collect::<BTreeSet<_>>();
    compare("supplementary groups", sorted(&status.groups) == sorted(&wanted.groups));
    let (has, wants) = (status.capabilities, wanted.capabilities);
    let same = (has.inheritable, has.permitted, has.effective, has.bounding, has.ambient)
        == (wants.inheritable, wants.permitted, wants.effective, wants.bounding, wants.ambient);
    compare("capabilities", same);
    compare("no_new_privs", status.no_new_privs == wanted.no_new_privs);
    let filters = u32::try_from(wanted.seccomp_filters.len()).unwrap_or(u32::MAX);
    compare("seccomp filters", status.seccomp_filters == filters);
    let set = |wants: fn(u64) -> bool| {
        (0..)
            .zip(&group.signal_actions)
            .filter(|(_, a)| wants(a.handler))
            .fold(0, |set, (bit, _)| set | 1_u64 << bit)
    };
    compare("ignored signals", status.signals_ignored == set(|handler| handler == 1));
    compare("caught signals", status.signals_caught == set(|handler| handler > 1));
    all
}

#[cfg(test)]
mod tests {
    use mem::VirtAddr;

    use super::*;

    fn mapping(start: u64, end: u64) -> Mapping {
        Mapping {
            range: AddrRange::new(start, end),
            protection: Protection { read: true, write: true, exec: false },
            sharing: Sharing::Private,
            backing: Backing::Anonymous,
            name: Vec::new(),
            vm_flags: Vec::new(),
            guards: Vec::new(),
        }
    }

    fn room() -> Room {
        let mut room = Room::find(&[], &[], 1).unwrap();
        room.whole = AddrRange { start: VirtAddr(0x9000), end: VirtAddr(0xa000) };
        room
    }

    #[test]
    fn where_the_kernel_draws_lines_does_not_matter() {
        let maps = b"00001000-00003000 rw-p 00000000 00:00 0 \n\
                     00009000-0000a000 r-xp 00000000 00:00 0 \n";
        let mappings = [mapping(0x1000, 0x2000), mapping(0x2000, 0x3000)];
        assert_eq!(
            compare_maps(maps, (&mappings, &TaskGroup::default()), &room(), true).unwrap(),
            [""; 0]
        );
    }

    /// Each mapping looked up among all others would take minutes.
    #[test]
    fn a_million_mappings_are_compared() {
        let count = 1_000_000;
        let start = |n: u64| 0x10_0000 + n * 0x2000;
        let mut maps = String::new();
        let mut mappings = Vec::new();
        for n in (0..count).filter(|n| *n != 77) {
            let mapping = mapping(start(n), start(n) + 0x1000);
            maps += &format!("{:x}-{:x} rw-p 00000000 00:00 0 \n", start(n), start(n) + 0x1000);
            mappings.push(mapping);
        }
        mappings.remove(5000);
        let group = TaskGroup::default();
        let begun = std::time::Instant::now();
        let told = compare_maps(maps.as_bytes(), (&mappings, &group), &room(), true).unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("is there as"), "{told:?}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    }

    #[test]
    fn lookups_find_what_a_look_at_all_finds() {
        let stretch = |start: u64, end: u64| Stretch {
            range: AddrRange::new(start * 0x1000, end * 0x1000),
            protection: Protection { read: true, write: true, exec: false },
            sharing: Sharing::Private,
            content: Content::Anonymous,
        };
        let all = [stretch(1, 3), stretch(3, 4), stretch(6, 9), stretch(12, 13)];
        for (start, end) in (0..15).flat_map(|start| (start + 1..16).map(move |end| (start, end))) {
            let one = stretch(start, end);
            let found = overlapping(&all, one.range);
            let expected: Vec<_> = all.iter().filter(|s| s.range.overlaps(one.range)).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            assert_eq!(is_among(&one, &all), all.contains(&one));
        }
    }

    #[test]
    fn a_missing_and_a_surplus_mapping_are_told() {
        let maps = b"00001000-00003000 r--p 00000000 00:00 0 \n";
        let told =
            compare_maps(maps, (&[mapping(0x1000, 0x3000)], &TaskGroup::default()), &room(), true)
                .unwrap();
        assert_eq!(told.len(), 2);
    }
}
