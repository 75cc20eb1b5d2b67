//! Clocks and namespaces.

use std::fs;
use std::os::unix::fs::MetadataExt;

use process::{Namespace, NamespaceKind};

use super::Check;
use crate::build::clock_offsets;
use crate::{MismatchKind, PidPolicy};

impl Check<'_> {
    pub(super) fn clocks(&mut self) {
        let shifted = clock_offsets(self.instance, self.group).is_some();
        if shifted && self.options.pid == PidPolicy::Same {
            let cause = "its clocks are not ours (another boot), so it needs namespaces of its own";
            let lift = "let it have a pid namespace of its own";
            self.add(MismatchKind::Clock, "CLOCK_MONOTONIC", cause, lift);
        }
        if shifted && fs::metadata("/proc/self/ns/time").is_err() {
            let cause =
                "its clocks are not ours (another boot), and this kernel has no time namespaces";
            self.add(
                MismatchKind::Clock,
                "CLOCK_MONOTONIC",
                cause,
                "use a kernel with CONFIG_TIME_NS",
            );
        }
    }

    pub(super) fn namespaces(&mut self) {
        let all = self.instance.namespaces.get(self.group.namespaces.0 as usize);
        let entries = all.map(|all| all.entries.clone()).unwrap_or_default();
        let made_anew = self.lived_in_a_namespace_of_ours(&entries);
        for entry in entries {
            let name = file_name(entry.kind);
            let fits = match entry.kind {
                // Made anew when needed: what matters of them is the ids and the clocks.
                NamespaceKind::Pid
                | NamespaceKind::PidForChildren
                | NamespaceKind::Time
                | NamespaceKind::TimeForChildren => true,
                NamespaceKind::Mount if made_anew => true,
                _ => entry.is_callers || self.same_boot && inode(name) == Some(entry.inode),
            };
            if !fits {
                let cause = format!("it lived in {name}:[{}], and we do not", entry.inode);
                let lift = "run this command inside that namespace (nsenter(1))";
                self.add(MismatchKind::Namespace, format!("namespace {name}"), cause, lift);
            }
        }
    }

    /// Whether its mount namespace was a mere copy of the caller's that an earlier resume made
    /// for a pid namespace of its own.
    fn lived_in_a_namespace_of_ours(&self, entries: &[Namespace]) -> bool {
        let foreign = |kind| entries.iter().any(|e| e.kind == kind && !e.is_callers);
        let others = [NamespaceKind::User, NamespaceKind::Network, NamespaceKind::Uts];
        self.group.parent_pid == 1
            && foreign(NamespaceKind::Pid)
            && foreign(NamespaceKind::Mount)
            && !others.into_iter().any(foreign)
    }
}

fn inode(name: &str) -> Option<u64> {
    fs::metadata(format!("/proc/self/ns/{name}")).map(|m| m.ino()).ok()
}

fn file_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Network => "net",
        NamespaceKind::Pid => "pid",
        NamespaceKind::PidForChildren => "pid_for_children",
        NamespaceKind::Time => "time",
        NamespaceKind::TimeForChildren => "time_for_children",
        NamespaceKind::User => "user",
        NamespaceKind::Uts => "uts",
    }
}
