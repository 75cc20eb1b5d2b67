//! The address space: emptied, then laid out as the instance's.

use inject::Arg;
use mem::{AddrRange, Backing, Mapping, PageSet, Protection, Sharing, SpecialMapping};
use process::{AddressSpace, SharedObject, SharedObjectKind, TaskGroup};
use sys::arch::ARCH_MAP_VDSO_64;

use super::room::Room;
use super::script::Script;
use super::slots::Slots;
use crate::ResumeError;

/// The first address after user memory with four-level page tables.
const USER_END: u64 = 0x7fff_ffff_f000;
/// `MAP_DROPPABLE` (Linux >= 6.11).
const MAP_DROPPABLE: i32 = 0x08;
const RSEQ_UNREGISTER: u64 = 1;
const SEAL_SEAL: u32 = 1;
const SEAL_EXEC: u32 = 0x20;
/// Share of a mapping's pages with content, in percent, from which huge pages are asked for
/// before it is filled: below it they would take more memory than they speed up.
const DENSE_PERCENT: u64 = 50;

/// Takes everything out of the process but `room`.
pub(super) fn clear(script: &mut Script<'_>, room: &Room, rseq: Option<sys::ptrace::RseqConfig>) {
    if let Some(rseq) = rseq {
        // The kernel writes to the area on every return to user code, so it must forget it
        // before it is unmapped.
        let args: [Arg; 4] = [
            rseq.area.0.into(),
            u64::from(rseq.area_bytes).into(),
            RSEQ_UNREGISTER.into(),
            u64::from(rseq.signature).into(),
        ];
        script.call("unregister our own rseq area", libc::SYS_rseq, &args);
    }
    let step = "unmap our own memory";
    let below = room.whole.start.0;
    script.call(step, libc::SYS_munmap, &[0_u64.into(), below.into()]);
    let above = room.whole.end.0;
    script.call(step, libc::SYS_munmap, &[above.into(), (USER_END - above).into()]);
}

/// Registers for the kinds of membarrier(2) that the program had registered for. Where the record
/// does not tell (a kernel before 6.3), for all expedited kinds within a process: without, a
/// program that had registered would fail, and one that had not does not notice. While the process
/// has one thread this costs nothing.
pub(super) fn barriers(script: &mut Script<'_>, space: &AddressSpace) {
    /// Private expedited: plain, with core serialisation, for restartable sequences.
    const PRIVATE: u32 = 1 << 4 | 1 << 6 | 1 << 8;
    for kind in (0..u32::BITS).map(|bit| 1_u32 << bit) {
        let args = [u64::from(kind).into(), 0_u64.into(), 0_u64.into()];
        match space.membarrier {
            Some(registered) if registered & kind != 0 => {
                script.call("register for memory barriers", libc::SYS_membarrier, &args);
            }
            // A kernel without a kind has no program that uses it.
            None if PRIVATE & kind != 0 => {
                script.attempt(libc::SYS_membarrier, &args);
            }
            _ => {}
        }
    }
}

/// Maps the vdso and its data where the instance has them.
pub(super) fn vdso(script: &mut Script<'_>, space: &AddressSpace) {
    let first = space.mappings.iter().find(|m| {
        matches!(
            m.backing,
            Backing::Special(
                SpecialMapping::Vvar | SpecialMapping::VvarVclock | SpecialMapping::Vdso
            )
        )
    });
    if let Some(first) = first {
        let at = first.range.start.0;
        let step = format!("map the vdso at {at:#x}");
        script.call(step, libc::SYS_arch_prctl, &[ARCH_MAP_VDSO_64.into(), at.into()]);
    }
}

/// Makes shared object `index` and keeps it at its slot.
pub(super) fn object(
    script: &mut Script<'_>,
    (slots, group): (&Slots, &TaskGroup),
    index: u32,
    object: &SharedObject,
    hole: u64,
) {
    let slot = slots.object(index);
    let size = object.size_bytes;
    match &object.kind {
        SharedObjectKind::Memfd { name, seals } => {
            let mut flags = libc::MFD_CLOEXEC;
            if *seals & SEAL_EXEC != 0 {
                flags |= libc::MFD_NOEXEC_SEAL;
            } else if *seals != SEAL_SEAL {
                flags |= libc::MFD_ALLOW_SEALING;
            }
            let shown = name.strip_prefix(b"memfd:").unwrap_or(name);
            let step = format!("make memfd {}", shown.escape_ascii());
            let name = script.text(shown);
            let args: [Arg; 2] = [name.into(), u64::from(flags).into()];
            let made = script.call(step, libc::SYS_memfd_create, &args);
            keep(script, made.into(), slot);
            let step = format!("size memfd {}", shown.escape_ascii());
            script.call(step, libc::SYS_ftruncate, &[slot.into(), size.into()]);
        }
        SharedObjectKind::PosixShm { .. } => super::shm::open(script, group, slot, object),
        SharedObjectKind::Anonymous => {
            // The object exists as a mapping only; the kernel's link to the mapping's file gives
            // a descriptor of it.
            let step = format!("make shared anonymous memory of {size} bytes");
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let flags = flags | libc::MAP_NORESERVE;
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let length = size.next_multiple_of(mem::PAGE_SIZE);
            let args: [Arg; 6] =
                [hole.into(), length.into(), both.into(), flags.into(), (-1).into(), 0_u64.into()];
            script.call(step, libc::SYS_mmap, &args);
            let link = format!("map_files/{:x}-{:x}", hole, hole + length);
            let path = script.text(link.as_bytes());
            let args: [Arg; 3] = [slots.proc_self().into(), path.into(), libc::O_RDWR.into()];
            let step = "open shared anonymous memory (needs CAP_CHECKPOINT_RESTORE)";
            let opened = script.call(step, libc::SYS_openat, &args);
            keep(script, opened.into(), slot);
            let step = "unmap shared anonymous memory";
            script.call(step, libc::SYS_munmap, &[hole.into(), length.into()]);
        }
    }
}

/// Seals a memfd that has its content, its mappings and its descriptors.
pub(super) fn seal(script: &mut Script<'_>, slots: &Slots, index: u32, object: &SharedObject) {
    const F_ADD_SEALS: i32 = 1033;
    if let SharedObjectKind::Memfd { name, seals } = &object.kind {
        let made_with = u64::from(*seals & (SEAL_SEAL | SEAL_EXEC));
        let left = u64::from(*seals);
        if left != made_with || left == u64::from(SEAL_SEAL | SEAL_EXEC) {
            let step = format!("seal memfd {}", name.escape_ascii());
            let args: [Arg; 3] = [slots.object(index).into(), F_ADD_SEALS.into(), left.into()];
            script.call(step, libc::SYS_fcntl, &args);
        }
    }
}

/// Moves the descriptor `opened` to `slot`, closed on exec.
pub(super) fn keep(script: &mut Script<'_>, opened: Arg, slot: u64) {
    let step = "keep a descriptor";
    let args = [opened, slot.into(), libc::O_CLOEXEC.into()];
    script.call(step, libc::SYS_dup3, &args);
    script.call(step, libc::SYS_close, &[opened]);
}

/// How a mapping is made, and what is done to it once it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Making {
    first: Protection,
    last: Protection,
    flags: i32,
}

impl Making {
    fn of(mapping: &Mapping, filled: bool) -> Self {
        let private = mapping.sharing == Sharing::Private;
        let last = mapping.protection;
        // A private mapping that was ever writable is accounted for ("ac"), and stays so.
        let writable = private && (filled || mapping.has_flag(b"ac"));
        let first = if writable { Protection { read: true, write: true, ..last } } else { last };
        let mut flags = libc::MAP_FIXED_NOREPLACE;
        flags |= match (mapping.sharing, mapping.has_flag(b"dp")) {
            (Sharing::Private, true) => MAP_DROPPABLE,
            (Sharing::Private, false) => libc::MAP_PRIVATE,
            (Sharing::Shared, _) => libc::MAP_SHARED,
        };
        if mapping.backing == Backing::Anonymous {
            flags |= libc::MAP_ANONYMOUS;
        }
        if mapping.has_flag(b"gd") {
            // Not MAP_STACK: since Linux 6.7 that means no huge pages for ever ("nh").
            flags |= libc::MAP_GROWSDOWN;
        }
        if mapping.has_flag(b"nr") {
            flags |= libc::MAP_NORESERVE;
        }
        Self { first, last, flags }
    }
}

/// Makes one mapping, ready to be filled. `private` is every page of private memory that has
/// content.
pub(super) fn map(script: &mut Script<'_>, slots: &Slots, mapping: &Mapping, private: &PageSet) {
    let filled = pages_filled(mapping, private);
    let making = Making::of(mapping, filled > 0);
    let range = mapping.range;
    let (file, offset): (Arg, u64) = match &mapping.backing {
        Backing::Special(_) => return,
        Backing::Anonymous => ((-1).into(), 0),
        Backing::File { file, offset_bytes } => {
            let write = mapping.sharing == Sharing::Shared && mapping.has_flag(b"mw");
            let mode = if write { libc::O_RDWR } else { libc::O_RDONLY };
            let step = format!("open {} to map it", file.path.escape_ascii());
            let path = script.text(&file.path);
            let args: [Arg; 3] = [libc::AT_FDCWD.into(), path.into(), mode.into()];
            (script.call(step, libc::SYS_openat, &args).into(), *offset_bytes)
        }
        Backing::SharedObject { object, offset_bytes } => {
            (shared(script, slots, mapping, *object), *offset_bytes)
        }
    };
    let step = format!("map {range}{}", shown(mapping));
    let args: [Arg; 6] = [
        range.start.0.into(),
        range.len().into(),
        bits(making.first).into(),
        making.flags.into(),
        file,
        offset.into(),
    ];
    script.call(step, libc::SYS_mmap, &args);
    if matches!(file, Arg::Result(_)) {
        script.call("close a mapped file", libc::SYS_close, &[file]);
    }
    let pages = range.pages().count().0;
    let dense = filled.saturating_mul(100) >= pages.saturating_mul(DENSE_PERCENT);
    if mapping.has_flag(b"nh") {
        advise(script, range, libc::MADV_NOHUGEPAGE);
    } else if mapping.has_flag(b"hg") && dense {
        advise(script, range, libc::MADV_HUGEPAGE);
    }
}

/// A descriptor of a shared object that allows what the mapping may be given later.
fn shared(script: &mut Script<'_>, slots: &Slots, mapping: &Mapping, object: u32) -> Arg {
    if mapping.has_flag(b"mw") || mapping.protection.write || mapping.vm_flags.is_empty() {
        return slots.object(object).into();
    }
    let path = script.text(format!("fd/{}", slots.object(object)).as_bytes());
    let args: [Arg; 3] = [slots.proc_self().into(), path.into(), libc::O_RDONLY.into()];
    let step = "open shared memory for reading only";
    script.call(step, libc::SYS_openat, &args).into()
}

/// Gives a mapping that has its content its advice, guards, locks and final protection.
pub(super) fn finish(
    script: &mut Script<'_>,
    mapping: &Mapping,
    private: &PageSet,
) -> Result<(), ResumeError> {
    if matches!(mapping.backing, Backing::Special(_)) {
        return Ok(());
    }
    const ADVICE: [(&[u8; 2], i32); 7] = [
        (b"sr", libc::MADV_SEQUENTIAL),
        (b"rr", libc::MADV_RANDOM),
        (b"dc", libc::MADV_DONTFORK),
        (b"dd", libc::MADV_DONTDUMP),
        (b"wf", libc::MADV_WIPEONFORK),
        (b"mg", libc::MADV_MERGEABLE),
        (b"hg", libc::MADV_HUGEPAGE),
    ];
    for (flag, advice) in ADVICE {
        // Droppable memory is made with these.
        if mapping.has_flag(flag) && !(mapping.has_flag(b"dp") && [b"dd", b"wf"].contains(&flag)) {
            advise(script, mapping.range, advice);
        }
    }
    name(script, mapping);
    for guard in &mapping.guards {
        advise(script, *guard, sys::vma::MADV_GUARD_INSTALL);
    }
    let making = Making::of(mapping, pages_filled(mapping, private) > 0);
    let (start, length) = (mapping.range.start.0, mapping.range.len());
    if making.first != making.last {
        let step = format!("protect {}", mapping.range);
        let args: [Arg; 3] = [start.into(), length.into(), bits(making.last).into()];
        script.call(step, libc::SYS_mprotect, &args);
    }
    if mapping.has_flag(b"lo") {
        const MLOCK_ONFAULT: u64 = 1;
        let on_fault = if mapping.has_flag(b"lf") { MLOCK_ONFAULT } else { 0 };
        let step = format!("lock {} (RLIMIT_MEMLOCK or CAP_IPC_LOCK)", mapping.range);
        let args: [Arg; 3] = [start.into(), length.into(), on_fault.into()];
        script.call(step, libc::SYS_mlock2, &args);
    }
    script.flush()
}

/// `PR_SET_VMA_ANON_NAME`: names that programs give to anonymous memory.
fn name(script: &mut Script<'_>, mapping: &Mapping) {
    const PR_SET_VMA: u64 = 0x5356_4d41;
    let inner = [b"[anon:".as_slice(), b"[anon_shmem:"]
        .iter()
        .find_map(|start| mapping.name.strip_prefix(*start)?.strip_suffix(b"]"));
    if let Some(inner) = inner {
        let text = script.text(inner);
        let args: [Arg; 5] = [
            PR_SET_VMA.into(),
            0_u64.into(),
            mapping.range.start.0.into(),
            mapping.range.len().into(),
            text.into(),
        ];
        script.call(format!("name {}", mapping.range), libc::SYS_prctl, &args);
    }
}

fn advise(script: &mut Script<'_>, range: AddrRange, advice: i32) {
    let step = format!("advise {range} ({advice})");
    let args: [Arg; 3] = [range.start.0.into(), range.len().into(), advice.into()];
    script.call(step, libc::SYS_madvise, &args);
}

fn pages_filled(mapping: &Mapping, private: &PageSet) -> u64 {
    if mapping.sharing == Sharing::Shared {
        return 0;
    }
    private.within(mapping.range.pages()).map(|r| r.count().0).sum()
}

fn bits(protection: Protection) -> i32 {
    let choices = [
        (protection.read, libc::PROT_READ),
        (protection.write, libc::PROT_WRITE),
        (protection.exec, libc::PROT_EXEC),
    ];
    choices.iter().filter(|(on, _)| *on).fold(libc::PROT_NONE, |all, (_, bit)| all | bit)
}

/// What a mapping shows, for messages: " ([heap])", " (/usr/lib/x.so)" or nothing.
fn shown(mapping: &Mapping) -> String {
    let name = match &mapping.backing {
        Backing::File { file, .. } => &file.path,
        _ => &mapping.name,
    };
    if name.is_empty() { String::new() } else { format!(" ({})", name.escape_ascii()) }
}
