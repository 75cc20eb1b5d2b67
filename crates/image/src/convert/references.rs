//! Whether every index of an instance points to something.

use mem::Backing;
use process::{DescriptionKind, Instance, TaskGroup};

use super::wire::Invalid;

/// Checks all indices, so that nobody behind this has to.
pub(crate) fn check(instance: &Instance) -> Result<(), Invalid> {
    for (i, group) in instance.groups.iter().enumerate() {
        check_group(instance, group).map_err(|e| e.inside(&format!("groups[{i}]")))?;
    }
    for (i, space) in instance.spaces.iter().enumerate() {
        for mapping in &space.mappings {
            if let Backing::SharedObject { object, .. } = mapping.backing {
                points(object, instance.objects.len(), "object")
                    .map_err(|e| e.inside(&format!("spaces[{i}] {}", mapping.range)))?;
            }
        }
    }
    for (i, table) in instance.tables.iter().enumerate() {
        for descriptor in &table.descriptors {
            points(descriptor.description.0, instance.descriptions.len(), "description")
                .map_err(|e| e.inside(&format!("tables[{i}] descriptor {}", descriptor.fd)))?;
        }
    }
    for (i, description) in instance.descriptions.iter().enumerate() {
        check_kind(instance, &description.kind)
            .map_err(|e| e.inside(&format!("descriptions[{i}]")))?;
    }
    for (i, socket) in instance.sockets.iter().enumerate() {
        if let Some(peer) = socket.peer {
            points(peer, instance.sockets.len(), "peer")
                .map_err(|e| e.inside(&format!("sockets[{i}]")))?;
        }
    }
    Ok(())
}

fn check_group(instance: &Instance, group: &TaskGroup) -> Result<(), Invalid> {
    points(group.space.0, instance.spaces.len(), "space")?;
    points(group.table.0, instance.tables.len(), "table")?;
    points(group.credentials.0, instance.credentials.len(), "credentials")?;
    points(group.namespaces.0, instance.namespaces.len(), "namespaces")?;
    match group.terminal {
        Some(terminal) => points(terminal.0, instance.terminals.len(), "terminal"),
        None => Ok(()),
    }
}

fn check_kind(instance: &Instance, kind: &DescriptionKind) -> Result<(), Invalid> {
    match kind {
        DescriptionKind::SharedObject(object) => {
            points(*object, instance.objects.len(), "shared object")
        }
        DescriptionKind::Pipe { pipe, .. } => points(pipe.0, instance.pipes.len(), "pipe"),
        DescriptionKind::Socket(socket) => points(*socket, instance.sockets.len(), "socket"),
        DescriptionKind::Epoll { interests } => interests.iter().try_for_each(|interest| {
            points(interest.description.0, instance.descriptions.len(), "watched description")
        }),
        _ => Ok(()),
    }
}

fn points(index: u32, items: usize, what: &str) -> Result<(), Invalid> {
    if usize::try_from(index).is_ok_and(|index| index < items) {
        return Ok(());
    }
    Err(Invalid::new(format!("{what} {index} of {items} does not exist")))
}
