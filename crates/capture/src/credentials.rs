//! Credentials, filters, namespaces: what a program may do and see.

use process::{
    Capabilities, Credentials, Namespace, NamespaceKind, Namespaces, SeccompFilter, StateKind,
};
use sys::proc::{Mount, ProcDir, ProcError, Status, parse_mountinfo};
use sys::ptrace::StoppedThread;
use sys::task::Pid;

use crate::StateError;
use crate::findings::Findings;
use crate::outside::inode_in;

/// The credentials in a thread's status. Securebits and filters are added by the caller.
pub(crate) fn of_status(status: &Status) -> Credentials {
    let (uid, gid, caps) = (status.uid, status.gid, status.capabilities);
    Credentials {
        uids: [uid.real, uid.effective, uid.saved, uid.file_system],
        gids: [gid.real, gid.effective, gid.saved, gid.file_system],
        groups: status.groups.clone(),
        capabilities: Capabilities {
            inheritable: caps.inheritable,
            permitted: caps.permitted,
            effective: caps.effective,
            bounding: caps.bounding,
            ambient: caps.ambient,
        },
        securebits: 0,
        no_new_privs: status.no_new_privs,
        seccomp_filters: Vec::new(),
    }
}

/// Refuses threads whose credentials differ from the first one's.
pub(crate) fn refuse_mixed(threads: &[(i32, Credentials)], findings: &mut Findings) {
    let Some(((_, first), others)) = threads.split_first() else { return };
    for (tid, credentials) in others {
        let same = Credentials { no_new_privs: first.no_new_privs, ..credentials.clone() };
        if same != *first {
            let object = format!("thread {tid}, whose credentials differ from the first thread's");
            let lift = "the program has to give all its threads the same credentials";
            findings.block(StateKind::MixedCredentials, object, lift);
        }
    }
}

/// The seccomp filters of a stopped thread, the oldest first.
pub(crate) fn seccomp_filters(
    thread: &StoppedThread,
    findings: &mut Findings,
) -> Result<Vec<SeccompFilter>, StateError> {
    let tid = thread.tid().raw();
    let mut filters = Vec::new();
    for index in 0.. {
        match sys::seccomp::filter(thread, index) {
            Ok(Some(filter)) => {
                if asks_somebody(&filter.program) {
                    let object = format!(
                        "thread {tid}, whose seccomp filter asks another process what to do"
                    );
                    let lift = "run the program without a seccomp supervisor or tracer";
                    findings.block(StateKind::Seccomp, object, lift);
                }
                filters.push(SeccompFilter { program: filter.program, flags: filter.flags });
            }
            Ok(None) => break,
            Err(cause) => return Err(StateError::Seccomp { tid, cause }),
        }
    }
    Ok(filters)
}

/// Whether a filter program can return `SECCOMP_RET_USER_NOTIF` or `SECCOMP_RET_TRACE`.
fn asks_somebody(program: &[u8]) -> bool {
    const RETURN_CONSTANT: u16 = 0x06;
    const ACTION: u32 = 0xffff_0000;
    const USER_NOTIF: u32 = 0x7fc0_0000;
    const TRACE: u32 = 0x7ff0_0000;
    program.as_chunks::<8>().0.iter().any(|[c0, c1, _, _, k0, k1, k2, k3]| {
        let action = u32::from_ne_bytes([*k0, *k1, *k2, *k3]) & ACTION;
        u16::from_ne_bytes([*c0, *c1]) == RETURN_CONSTANT && matches!(action, USER_NOTIF | TRACE)
    })
}

const NAMES: [(NamespaceKind, &str); 10] = [
    (NamespaceKind::Cgroup, "cgroup"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Mount, "mnt"),
    (NamespaceKind::Network, "net"),
    (NamespaceKind::Pid, "pid"),
    (NamespaceKind::PidForChildren, "pid_for_children"),
    (NamespaceKind::Time, "time"),
    (NamespaceKind::TimeForChildren, "time_for_children"),
    (NamespaceKind::User, "user"),
    (NamespaceKind::Uts, "uts"),
];

/// What about ourselves a program is compared with. It does not change.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// The links of our namespaces, in the order of [`NAMES`].
    namespaces: Vec<Option<Vec<u8>>>,
    /// Our label of a security module; empty without one.
    pub(crate) lsm_label: Vec<u8>,
}

impl Own {
    pub(crate) fn read() -> Result<Self, ProcError> {
        let own = ProcDir::open(Pid::current().raw())?;
        let link = |(_, name): (_, &str)| own.link(&format!("ns/{name}")).ok();
        Ok(Self { namespaces: NAMES.into_iter().map(link).collect(), lsm_label: lsm_label(&own) })
    }
}

/// The label that a security module gave the process behind `dir`; empty on a kernel without one.
pub(crate) fn lsm_label(dir: &ProcDir) -> Vec<u8> {
    let mut label = Vec::new();
    dir.read("attr/current", &mut label).map(|()| label).unwrap_or_default()
}

/// The namespaces of a process, next to ours.
pub(crate) fn namespaces(dir: &ProcDir, own: &Own) -> Result<Namespaces, ProcError> {
    let mut entries = Vec::new();
    for ((kind, name), ours) in NAMES.into_iter().zip(&own.namespaces) {
        let link = match dir.link(&format!("ns/{name}")) {
            Ok(link) => link,
            // A kernel without this kind, or a namespace for children that has no process yet.
            Err(cause) if cause.is_gone() => continue,
            Err(cause) => return Err(cause),
        };
        let prefix = format!("{}:[", name.trim_end_matches("_for_children"));
        let inode = inode_in(&link, prefix.as_bytes()).unwrap_or(0);
        let is_callers = ours.as_ref() == Some(&link);
        entries.push(Namespace { kind, inode, is_callers });
    }
    Ok(Namespaces { entries })
}

/// Refuses namespaces that could not be entered again. Pid, time and mount namespaces of a resumed
/// instance's own are made anew, so they do not stand in the way.
pub(crate) fn refuse_namespaces(
    dir: &ProcDir,
    namespaces: &Namespaces,
    findings: &mut Findings,
) -> Result<(), ProcError> {
    let inode = |kind| namespaces.entries.iter().find(|e| e.kind == kind).map(|e| e.inode);
    for entry in &namespaces.entries {
        let name = NAMES.iter().find(|(kind, _)| *kind == entry.kind).map_or("", |(_, n)| n);
        let is_refused = match entry.kind {
            NamespaceKind::PidForChildren => Some(entry.inode) != inode(NamespaceKind::Pid),
            NamespaceKind::TimeForChildren => Some(entry.inode) != inode(NamespaceKind::Time),
            _ if entry.is_callers => false,
            // Its clocks go on from what they showed, in a new one.
            NamespaceKind::Pid | NamespaceKind::Time => false,
            NamespaceKind::Mount => !same_mounts(dir)?,
            _ => true,
        };
        if is_refused {
            let lift = "run rekindle in the program's own namespaces (nsenter -a -t PID), or the \
                        program in rekindle's";
            findings.block(StateKind::Namespace, format!("{name} namespace of its own"), lift);
        }
    }
    Ok(())
}

/// Whether the process sees the same mounts at the same places as we do, `/proc` aside.
fn same_mounts(dir: &ProcDir) -> Result<bool, ProcError> {
    let own = ProcDir::open(Pid::current().raw())?;
    let places = |dir: &ProcDir| -> Result<Vec<_>, ProcError> {
        let mounts = dir.parse("mountinfo", &mut Vec::new(), parse_mountinfo)?;
        let place = |m: Mount| (m.mount_point, m.root, m.device, m.fs_type);
        let mut places: Vec<_> =
            mounts.into_iter().filter(|m| m.fs_type != b"proc").map(place).collect();
        places.sort();
        Ok(places)
    };
    Ok(places(dir)? == places(&own)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, k: u32) -> Vec<u8> {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(k.to_ne_bytes());
        bytes
    }

    #[test]
    fn filters_with_a_supervisor_are_told_apart() {
        let allow = instruction(6, 0x7fff_0000);
        assert!(!asks_somebody(&allow));
        let notify = [allow.clone(), instruction(6, 0x7fc0_0000)].concat();
        assert!(asks_somebody(&notify));
        // A load of the same number is no answer.
        assert!(!asks_somebody(&instruction(0x20, 0x7fc0_0000)));
    }
}
