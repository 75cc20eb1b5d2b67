//! Credentials and namespaces.

use process::{Capabilities, Credentials, Namespace, NamespaceKind, Namespaces, SeccompFilter};

use super::wire::{wire_enum, wire_struct};
use crate::generated as proto;

wire_struct!(Credentials => proto::Credentials {
    uids: fixed,
    gids: fixed,
    groups: same,
    capabilities: one,
    securebits: same,
    no_new_privs: same,
    seccomp_filters: many,
});

wire_struct!(Capabilities => proto::Capabilities {
    inheritable: same,
    permitted: same,
    effective: same,
    bounding: same,
    ambient: same,
});

wire_struct!(SeccompFilter => proto::SeccompFilter {
    program: same,
    flags: same,
});

wire_struct!(Namespaces => proto::Namespaces {
    entries: many,
});

wire_struct!(Namespace => proto::Namespace {
    kind: scalar,
    inode: same,
    is_callers: same,
});

wire_enum!(NamespaceKind => proto::NamespaceKind {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    PidForChildren,
    Time,
    TimeForChildren,
    User,
    Uts,
});
