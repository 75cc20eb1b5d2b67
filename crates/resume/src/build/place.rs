//! In which pid and time namespace the process lives.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use process::{Clocks, Instance, NamespaceKind, TaskGroup};
use sys::clone::ClockOffsets;
use sys::proc::boot_id;

use super::made::Place;
use crate::{Options, PidPolicy};

/// Chooses the place: our own pid namespace when every id is free in it and the clocks go on,
/// else one of its own.
pub(crate) fn place(instance: &Instance, group: &TaskGroup, options: &Options) -> Place {
    let clocks = clock_offsets(instance, group);
    let own = match options.pid {
        PidPolicy::OwnNamespace => true,
        PidPolicy::Auto => {
            let ids = || std::iter::once(group.pid).chain(group.threads.iter().map(|t| t.tid));
            let in_use = ids().find(|id| taken(*id));
            if let Some(id) = in_use {
                let whose = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
                tracing::info!("id {id} is in use ({})", whose.trim_end());
            }
            in_use.is_some()
        }
        PidPolicy::Same => false,
    };
    if own || clocks.is_some() { Place::Own(clocks) } else { Place::Here }
}

/// Whether a process or thread here has this id.
pub(crate) fn taken(id: i32) -> bool {
    fs::symlink_metadata(format!("/proc/{id}")).is_ok()
}

/// How far the instance's clocks have to be ahead of ours, or `None` when ours will do.
pub(crate) fn clock_offsets(instance: &Instance, group: &TaskGroup) -> Option<ClockOffsets> {
    let own_clocks = instance
        .namespaces
        .get(group.namespaces.0 as usize)
        .and_then(|all| all.entries.iter().find(|n| n.kind == NamespaceKind::Time))
        .is_none_or(|time| time.is_callers);
    let same_boot = boot_id().is_ok_and(|id| id == instance.host.boot_id);
    let then = instance.host.clocks;
    if then == Clocks::default() || (own_clocks && same_boot) {
        return None;
    }
    // Within one boot time has gone on; over a boot it goes on from where it stood.
    let now = now();
    let away = if same_boot { (now.realtime_ns - then.realtime_ns).max(0) } else { 0 };
    Some(ClockOffsets {
        monotonic_ns: then.monotonic_ns + away - now.monotonic_ns,
        boottime_ns: then.boottime_ns + away - now.boottime_ns,
    })
}

fn now() -> Clocks {
    use rustix::time::{ClockId, clock_gettime};
    let read = |id| {
        let time = clock_gettime(id);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    Clocks {
        realtime_ns: read(ClockId::Realtime),
        monotonic_ns: read(ClockId::Monotonic),
        boottime_ns: read(ClockId::Boottime),
    }
}

/// Nanoseconds since the epoch.
pub(super) fn realtime_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
