//! What the program could notice.

use process::{Change, ChangeKind, DescriptionKind, Instance, Socket, SocketState, TaskGroup};

use super::made::Place;
use super::slots::{StandIn, stand_in};
use super::sockets::{shown, shown_address};
use crate::Options;

fn is_closed(socket: &Socket) -> bool {
    socket.state == SocketState::ClosedByPeer
}

/// Everything that will be different by design.
pub(super) fn expected(
    instance: &Instance,
    group: &TaskGroup,
    options: &Options,
    (place, taken_over): (Place, bool),
) -> Vec<Change> {
    let mut all = Vec::new();
    let mut add = |kind, what: String| all.push(Change { kind, what });
    if group.session != group.pid {
        let of = if options.detach { "one of its own" } else { "the caller's" };
        add(ChangeKind::Session, format!("session {} becomes {of}", group.session));
    } else if group.terminal.is_some() {
        add(ChangeKind::Session, "its session has no controlling terminal any more".into());
    }
    if group.process_group != group.pid {
        let was = group.process_group;
        add(ChangeKind::Session, format!("process group {was} becomes another one"));
    }
    let parent = match place {
        Place::Here => "this process".to_owned(),
        Place::Own(_) => "the init of its pid namespace (1)".to_owned(),
    };
    add(ChangeKind::Parent, format!("parent {} becomes {parent}", group.parent_pid));
    if group.parent_death_signal != 0 && options.detach && place == Place::Here {
        let signal = group.parent_death_signal;
        add(ChangeKind::Parent, format!("signal {signal} on its parent's death is not asked for"));
    }
    if let Place::Own(clocks) = place {
        add(
            ChangeKind::PidNamespace,
            "it lives in a pid namespace of its own with /proc mounted anew".into(),
        );
        if clocks.is_some() {
            add(ChangeKind::PidNamespace, "its clocks go on in a time namespace".into());
        }
    }
    let is_closed = |socket: &&_| !taken_over && is_closed(socket);
    for socket in instance.sockets.iter().filter(is_closed) {
        let what = shown(socket);
        let to = socket
            .remote
            .as_ref()
            .map_or_else(String::new, |remote| format!(" to {}", shown_address(remote)));
        add(ChangeKind::Connection, format!("{what}{to} is closed by its peer"));
    }
    for (index, description) in (0..).zip(&instance.descriptions).filter(|_| !taken_over) {
        let id = process::DescriptionId(index);
        let Some(stand_in) = stand_in(instance, group, id, options) else { continue };
        let name = match &description.kind {
            DescriptionKind::External { name } | DescriptionKind::Terminal { path: name } => {
                name.escape_ascii().to_string()
            }
            _ => "a description".to_owned(),
        };
        let by = match stand_in {
            StandIn::Caller(fd) => format!("descriptor {fd} of the caller"),
            StandIn::Open(path) => path.escape_ascii().to_string(),
            StandIn::Nothing | StandIn::Unsaid(_) => "nothing".to_owned(),
        };
        add(ChangeKind::Descriptor, format!("{name} is replaced by {by}"));
    }
    for timer in group.posix_timers.iter().filter(|t| t.overrun != 0) {
        add(ChangeKind::Timer, format!("timer {} forgets {} overruns", timer.id, timer.overrun));
    }
    let sealed = instance.spaces.iter().flat_map(|s| &s.mappings).filter(|m| m.has_flag(b"sl"));
    for mapping in sealed {
        add(ChangeKind::Placement, format!("mapping {} is not sealed any more", mapping.range));
    }
    all
}
