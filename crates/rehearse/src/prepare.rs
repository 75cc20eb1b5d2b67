//! The clone's memory is taken away from it, to be given back page by page.

use inject::{Arg, Batch, CallId, Stub};
use mem::{AddrRange, Backing, Mapping, PAGE_SIZE, Sharing};
use process::{Instance, TaskGroup};
use sys::remote::ProcMem;
use sys::task::{Pid, PidFd};
use sys::userfault::{Features, Kind, Modes, Userfault};

use crate::RehearseError;
use crate::fork::unfit;
use crate::pages::{Pages, Watched};

/// Mappings that are moved in one batch.
const MOVED_AT_ONCE: usize = 500;
/// So that page tables can be moved whole.
const ALIGNED_BYTES: u64 = 2 << 20;

/// What is done about a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// It is watched.
    Watch,
    /// It is watched, and must not stay where the program can reach it: others share it.
    Part,
    /// It stays: nothing is written there, or it cannot be watched.
    Stay,
}

/// Moves everything that the program may write out of the way, and watches the places where it
/// was. Gives also how many mappings stay that are written to.
pub(crate) fn take_away(
    stub: &mut Stub,
    pid: Pid,
    instance: &Instance,
    group: &TaskGroup,
) -> Result<(Pages, usize), RehearseError> {
    let space = usize::try_from(group.space.0).ok().and_then(|at| instance.spaces.get(at));
    let mappings = space.map_or(&[][..], |space| &space.mappings);
    let mut moved: Vec<(&Mapping, Treatment, u64)> = Vec::new();
    let mut unwatched = 0;
    let mut room_bytes = 0;
    for mapping in mappings {
        match treatment(mapping)? {
            Treatment::Stay => unwatched += usize::from(is_written(mapping)),
            treatment => {
                // The place has the same alignment as the original.
                let offset = mapping.range.start.0 % ALIGNED_BYTES;
                moved.push((mapping, treatment, room_bytes + offset));
                room_bytes += (offset + mapping.range.len()).next_multiple_of(ALIGNED_BYTES);
            }
        }
    }
    let base = reserve(stub, room_bytes + ALIGNED_BYTES)?;
    let mut watched = Vec::new();
    for some in moved.chunks(MOVED_AT_ONCE) {
        let there: Vec<_> = some.iter().map(|(m, t, offset)| (*m, *t, base + offset)).collect();
        let gone = move_away(stub, &there)?;
        let gone: Vec<_> = there.into_iter().zip(gone).collect();
        for ((mapping, treatment, _), gone) in &gone {
            if !gone && *treatment == Treatment::Part {
                return Err(unfit("memory that it shares with others cannot be parted from them"));
            }
            unwatched += usize::from(!gone && is_written(mapping));
        }
        let gone = gone.into_iter().filter(|(_, gone)| *gone).map(|(there, _)| there);
        let gone: Vec<_> = gone.collect();
        replace(stub, &gone)?;
        let watch = |(mapping, _, kept_at): &(&Mapping, Treatment, u64)| Watched {
            range: mapping.range,
            kept_at: *kept_at,
        };
        watched.extend(gone.iter().map(watch));
    }
    let userfault = userfault(stub, pid)?;
    for watched in &watched {
        userfault.register(watched.range, Modes::Missing)?;
    }
    let mem = ProcMem::open_writable(pid).map_err(RehearseError::io("open the clone's memory"))?;
    Ok((Pages::new(userfault, mem, watched), unwatched))
}

fn is_written(mapping: &Mapping) -> bool {
    mapping.holds_private_pages() && mapping.protection.write
}

/// What is done about `mapping`.
fn treatment(mapping: &Mapping) -> Result<Treatment, RehearseError> {
    // Not there in a child; zero in a child; huge pages of their own.
    const STAY: [&[u8; 2]; 3] = [b"dc", b"wf", b"ht"];
    const DEVICE: [&[u8; 2]; 2] = [b"io", b"pf"];
    let has = |flags: &[&[u8; 2]]| flags.iter().any(|flag| mapping.has_flag(flag));
    if matches!(mapping.backing, Backing::Special(_)) || mapping.has_flag(b"dc") {
        return Ok(Treatment::Stay);
    }
    if mapping.sharing == Sharing::Shared {
        return match has(&DEVICE) || mapping.has_flag(b"ht") {
            true => Err(unfit("it shares memory with a device, or huge pages")),
            false => Ok(Treatment::Part),
        };
    }
    let is_file = matches!(mapping.backing, Backing::File { .. });
    let is_used = mapping.protection.read && (mapping.protection.write || !is_file);
    Ok(if is_used && !has(&STAY) && !has(&DEVICE) { Treatment::Watch } else { Treatment::Stay })
}

/// A place for `bytes`, as aligned as can be.
fn reserve(stub: &mut Stub, bytes: u64) -> Result<u64, RehearseError> {
    let private_anonymous_noreserve = 0x4022_u64;
    let mut batch = Batch::new();
    let args: [Arg; 6] = [
        0_u64.into(),
        bytes.into(),
        0_u64.into(),
        private_anonymous_noreserve.into(),
        u64::MAX.into(),
        0_u64.into(),
    ];
    let mapped = batch.require(libc::SYS_mmap, &args);
    let start = stub.run(&batch)?.get(mapped)?;
    Ok(start.next_multiple_of(ALIGNED_BYTES))
}

/// Moves mappings to their places; says of each whether it could be.
fn move_away(
    stub: &mut Stub,
    moved: &[(&Mapping, Treatment, u64)],
) -> Result<Vec<bool>, RehearseError> {
    let may_move_fixed = 3_u64;
    let mut batch = Batch::new();
    let mut calls: Vec<CallId> = Vec::new();
    for (mapping, _, to) in moved {
        let AddrRange { start, .. } = mapping.range;
        let bytes = mapping.range.len();
        let args: [Arg; 5] =
            [start.0.into(), bytes.into(), bytes.into(), may_move_fixed.into(), (*to).into()];
        calls.push(batch.call(libc::SYS_mremap, &args));
    }
    let answers = stub.run(&batch)?;
    Ok(calls.into_iter().map(|call| answers.get(call).is_ok()).collect())
}

/// Maps new private memory where mappings were, and locks away what others share.
fn replace(stub: &mut Stub, moved: &[(&Mapping, Treatment, u64)]) -> Result<(), RehearseError> {
    const PRIVATE_ANONYMOUS_FIXED_NORESERVE: u64 = 0x4032;
    const GROWSDOWN: u64 = 0x100;
    let mut batch = Batch::new();
    for (mapping, treatment, at) in moved {
        let AddrRange { start, .. } = mapping.range;
        let bytes = mapping.range.len();
        let rights = mapping.protection;
        let rights =
            u64::from(rights.read) | u64::from(rights.write) << 1 | u64::from(rights.exec) << 2;
        let grows = if mapping.has_flag(b"gd") { GROWSDOWN } else { 0 };
        let flags = PRIVATE_ANONYMOUS_FIXED_NORESERVE | grows;
        let args: [Arg; 6] = [
            start.0.into(),
            bytes.into(),
            rights.into(),
            flags.into(),
            u64::MAX.into(),
            0_u64.into(),
        ];
        batch.require(libc::SYS_mmap, &args);
        if *treatment == Treatment::Part {
            let args: [Arg; 3] = [(*at).into(), bytes.into(), 0_u64.into()];
            batch.require(libc::SYS_mprotect, &args);
        }
    }
    stub.run(&batch)?;
    Ok(())
}

/// A userfaultfd of the clone's memory, which the clone does not hold.
fn userfault(stub: &mut Stub, pid: Pid) -> Result<Userfault, RehearseError> {
    let mut batch = Batch::new();
    // No call of the clone touches memory that is missing: we see to that.
    let flags = Kind::UserModeOnly.flags();
    let open = batch.require(libc::SYS_userfaultfd, &[flags.into()]);
    let number = stub.run(&batch)?.get(open)?;
    let held = PidFd::open(pid)
        .and_then(|pidfd| pidfd.descriptor(i32::try_from(number).unwrap_or(-1)))
        .map_err(RehearseError::io("take over the clone's userfaultfd"))?;
    let mut batch = Batch::new();
    batch.require(libc::SYS_close, &[number.into()]);
    stub.run(&batch)?;
    let userfault = Userfault::from_fd(held);
    userfault.handshake(Features::NONE)?;
    Ok(userfault)
}

/// The pages that `bytes` bytes at `start` lie in.
pub(crate) fn pages_around(start: u64, bytes: u64) -> AddrRange {
    let end = start.saturating_add(bytes).checked_next_multiple_of(PAGE_SIZE);
    AddrRange::new(start - start % PAGE_SIZE, end.unwrap_or(u64::MAX - u64::MAX % PAGE_SIZE))
}
