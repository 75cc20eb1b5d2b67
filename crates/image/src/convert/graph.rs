//! The instance itself, its identity and its host.

use process::{
    Clocks, CredentialsId, DescriptionId, Host, Instance, InstanceId, LineIdentity, NamespacesId,
    PipeId, SignalSet, SpaceId, TableId, Terminal, TerminalId,
};

use super::wire::{Invalid, Wire, wire_index, wire_struct};
use crate::generated as proto;

wire_index! {
    SpaceId => u32,
    TableId => u32,
    CredentialsId => u32,
    NamespacesId => u32,
    TerminalId => u32,
    DescriptionId => u32,
    PipeId => u32,
    SignalSet => u64,
}

wire_struct!(Instance => proto::Instance {
    line: one,
    host: one,
    groups: many,
    spaces: many,
    objects: many,
    tables: many,
    descriptions: many,
    pipes: many,
    sockets: many,
    credentials: many,
    namespaces: many,
    terminals: many,
});

wire_struct!(LineIdentity => proto::Line {
    instance: scalar,
    boot_id: same,
    pid_namespace: same,
    pid: same,
    start_time_ticks: same,
});

impl Wire for InstanceId {
    type Message = String;

    fn to_wire(&self) -> Result<String, Invalid> {
        Ok(self.as_str().to_owned())
    }

    fn from_wire(digits: String) -> Result<Self, Invalid> {
        if digits.is_empty() {
            return Ok(Self::default());
        }
        digits.parse().map_err(|e| Invalid::new(format!("{digits:?}: {e}")))
    }
}

wire_struct!(Host => proto::Host {
    boot_id: same,
    kernel_release: same,
    host_name: same,
    cpu_name: same,
    xcr0: same,
    xstate_in_use: same,
    hwcap: fixed,
    cpu_flags: same,
    clocks: one,
});

wire_struct!(Clocks => proto::Clocks {
    realtime_ns: time,
    monotonic_ns: time,
    boottime_ns: time,
});

wire_struct!(Terminal => proto::Terminal {
    device: same,
    path: same,
});
