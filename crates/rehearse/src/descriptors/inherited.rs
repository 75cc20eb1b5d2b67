//! The clone's descriptors begin as the instance's.

use std::collections::{BTreeMap, VecDeque};

use process::{DescriptionKind, Instance, PipeEnd, SocketState, TaskGroup};
use target::Process;

use super::{Descriptors, Interest, Kind, Open, Slot};
use crate::files::{REGULAR, Source, TYPE};

impl<'a> Descriptors<'a> {
    /// Those of `group`, which `process` has open.
    pub(crate) fn new(process: &'a Process, instance: &'a Instance, group: &TaskGroup) -> Self {
        let table = instance.tables.get(index(group.table.0));
        let slots = table.map_or(&[][..], |table| &table.descriptors);
        let number = |fd: i32| u64::try_from(fd).unwrap_or(u64::MAX);
        let mut made = Self {
            process,
            slots: BTreeMap::new(),
            open: Vec::new(),
            streams: Vec::new(),
            arrived: BTreeMap::new(),
            changes: 0,
        };
        let pipes: Vec<usize> =
            instance.pipes.iter().map(|pipe| made.stream(pipe.content.concat())).collect();
        let sockets: Vec<usize> = instance
            .sockets
            .iter()
            .map(|socket| made.stream(socket.receive_queue.concat()))
            .collect();
        for (id, description) in instance.descriptions.iter().enumerate() {
            let fd = slots.iter().find(|slot| index(slot.description.0) == id);
            let fd = fd.map_or(u64::MAX, |slot| number(slot.fd));
            let kind = kind(&description.kind, fd, instance, &pipes, &sockets);
            made.open.push(Open {
                kind,
                flags: description.flags,
                position_bytes: description.position_bytes,
                news: 0,
            });
        }
        for slot in slots {
            let (id, close_on_exec) = (index(slot.description.0), slot.close_on_exec);
            made.slots.insert(number(slot.fd), Slot { id, close_on_exec });
        }
        made
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the instance has open at `fd`.
fn kind<'a>(
    kind: &'a DescriptionKind,
    fd: u64,
    instance: &'a Instance,
    pipes: &[usize],
    sockets: &[usize],
) -> Kind<'a> {
    let own = |at: u32| sockets.get(index(at)).copied();
    match kind {
        DescriptionKind::File(file) if file.mode & TYPE == REGULAR => {
            Kind::File(Source::Theirs(fd, file))
        }
        DescriptionKind::StatelessDevice { path } if path == b"/dev/null" => {
            Kind::File(Source::Text(Vec::new()))
        }
        DescriptionKind::Pipe { pipe, end } => {
            let stream = pipes.get(index(pipe.0)).copied();
            let reads = matches!(end, PipeEnd::Read | PipeEnd::Both);
            let writes = matches!(end, PipeEnd::Write | PipeEnd::Both);
            Kind::Stream {
                from: stream.filter(|_| reads),
                into: stream.filter(|_| writes),
                socket: None,
            }
        }
        DescriptionKind::EventFd { count, semaphore } => {
            Kind::Event { count: *count, semaphore: *semaphore }
        }
        DescriptionKind::Epoll { interests } => Kind::Epoll(
            interests
                .iter()
                .map(|interest| Interest {
                    fd: u64::try_from(interest.fd).unwrap_or(u64::MAX),
                    id: index(interest.description.0),
                    events: interest.events,
                    data: interest.data,
                    told: Some(0),
                })
                .collect(),
        ),
        DescriptionKind::Socket(at) => match instance.sockets.get(index(*at)) {
            Some(socket) if socket.state == SocketState::Listening => {
                Kind::Listening { socket, waiting: VecDeque::new() }
            }
            Some(socket) => Kind::Stream {
                from: own(*at),
                into: socket.peer.and_then(own),
                socket: Some(socket),
            },
            None => Kind::Silent,
        },
        _ => Kind::Silent,
    }
}
