//! Sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use process::{
    ChangeKind, DescriptionKind, Socket, SocketAddress, SocketFamily, SocketState, SocketType,
    StateKind,
};
use sys::proc::{MulticastGroup, parse_igmp, parse_igmp6};
use sys::socket::{
    bytes_to_read, has_filter, is_member, local_address, option_bytes, option_int, peek,
    peer_address,
};

use super::slots::Slot;
use super::{CLOSE, DescriptorError, Reader};
use crate::TcpPolicy;
use crate::outside::Link;

const IPPROTO_MPTCP: i32 = 262;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// What a look at a socket led to.
pub(super) enum Found {
    /// A node.
    Node(Socket),
    /// Its other end is outside.
    Outside(StateKind, Vec<String>),
    /// It cannot be carried.
    Blocked(StateKind, &'static str),
}

impl Reader<'_> {
    pub(super) fn socket(
        &mut self,
        slot: &Slot,
        fds: &[i32],
    ) -> Result<DescriptionKind, DescriptorError> {
        let holders = self.context.outside.holders(Link::Socket(slot.stat.inode)).to_vec();
        if !holders.is_empty() {
            let kind = self.copy_of(slot).map_or(StateKind::OtherSocket, |copy| kind_of(&copy));
            return Ok(self.external(slot, fds, kind, &holders));
        }
        let found = self.copy_of(slot).and_then(|copy| self.look_at_socket(slot, fds, &copy));
        Ok(match found {
            Ok(Found::Node(mut socket)) => {
                socket.inode = slot.stat.inode;
                self.found.sockets.push(socket);
                let number = u32::try_from(self.found.sockets.len() - 1).unwrap_or(u32::MAX);
                DescriptionKind::Socket(number)
            }
            Ok(Found::Outside(kind, holders)) => self.external(slot, fds, kind, &holders),
            Ok(Found::Blocked(kind, _)) if self.context.options.takeover => {
                self.external(slot, fds, kind, &[])
            }
            Ok(Found::Blocked(kind, lift)) => self.blocked(slot, kind, lift),
            // A running program may have closed it.
            Err(DescriptorError::Look { .. }) if !self.context.frozen => {
                DescriptionKind::External { name: slot.name.clone() }
            }
            Err(cause) => return Err(cause),
        })
    }

    fn look_at_socket(
        &mut self,
        slot: &Slot,
        fds: &[i32],
        copy: &OwnedFd,
    ) -> Result<Found, DescriptorError> {
        let option =
            |name| option_int(copy, libc::SOL_SOCKET, name).map_err(|cause| slot.failed(cause));
        let family_number = option(libc::SO_DOMAIN)?;
        let kind_number = option(libc::SO_TYPE)?;
        let protocol = option(libc::SO_PROTOCOL)?;
        let family = match family_number {
            libc::AF_UNIX => SocketFamily::Unix,
            libc::AF_INET => SocketFamily::Inet,
            libc::AF_INET6 => SocketFamily::Inet6,
            _ => return Ok(Found::Blocked(StateKind::OtherSocket, CLOSE)),
        };
        let kind = match kind_number {
            libc::SOCK_STREAM => SocketType::Stream,
            libc::SOCK_DGRAM => SocketType::Datagram,
            libc::SOCK_SEQPACKET => SocketType::SeqPacket,
            _ => return Ok(Found::Blocked(StateKind::OtherSocket, CLOSE)),
        };
        let failed = |cause| slot.failed(cause);
        if has_filter(copy).map_err(failed)? {
            let lift = "the program has to take the socket's filter off (SO_DETACH_FILTER)";
            return Ok(Found::Blocked(StateKind::OtherSocket, lift));
        }
        let mut socket = Socket {
            family,
            kind,
            protocol,
            local: bound(local_address(copy).map_err(failed)?),
            remote: peer_address(copy).map_err(failed)?.map(|bytes| SocketAddress { bytes }),
            ..Socket::default()
        };
        let found = match (family, kind, protocol) {
            (SocketFamily::Unix, ..) => self.unix(slot, copy, socket),
            (_, SocketType::Stream, libc::IPPROTO_TCP | IPPROTO_MPTCP) => {
                self.tcp(slot, fds, copy, socket)
            }
            (_, SocketType::Datagram, libc::IPPROTO_UDP) => {
                if socket.remote.is_some() {
                    socket.state = SocketState::Connected;
                }
                if self.is_in_a_group(slot, copy)? {
                    let lift = "the program has to leave the multicast group (IP_DROP_MEMBERSHIP)";
                    return Ok(Found::Blocked(StateKind::OtherSocket, lift));
                }
                self.drops_datagrams(slot, copy)?;
                Ok(Found::Node(socket))
            }
            _ => Ok(Found::Blocked(StateKind::OtherSocket, CLOSE)),
        };
        match found? {
            // What stands in for a closed connection is another kind of socket.
            Found::Node(mut socket) if socket.state != SocketState::ClosedByPeer => {
                let kind = (family_number, kind_number, protocol);
                let fresh = self.context.known.fresh(kind).map_err(failed)?;
                socket.options = fresh.changed(copy).map_err(failed)?;
                Ok(Found::Node(socket))
            }
            other => Ok(other),
        }
    }

    /// Whether it is a member of one of the multicast groups of which anybody here is one.
    fn is_in_a_group(&mut self, slot: &Slot, copy: &OwnedFd) -> Result<bool, DescriptorError> {
        let groups = self.multicast_groups()?;
        for MulticastGroup { interface, group } in &*groups {
            if is_member(copy, *interface, *group).map_err(|cause| slot.failed(cause))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The groups that somebody in the program's network is a member of, listed once in a look.
    fn multicast_groups(&mut self) -> Result<Arc<[MulticastGroup]>, DescriptorError> {
        if let Some(known) = &self.groups {
            return Ok(Arc::clone(known));
        }
        let dir = self.context.process.dir();
        let mut groups = dir.parse("net/igmp", &mut Vec::new(), parse_igmp)?;
        // Not there without IPv6.
        match dir.parse("net/igmp6", &mut Vec::new(), parse_igmp6) {
            Ok(more) => groups.extend(more),
            Err(cause) if cause.is_gone() => {}
            Err(cause) => return Err(cause.into()),
        }
        groups.retain(|group| !group.is_the_kernels());
        let groups: Arc<[MulticastGroup]> = groups.into();
        self.groups = Some(Arc::clone(&groups));
        Ok(groups)
    }

    /// Datagrams in the queue are lost, as a network may lose them.
    fn drops_datagrams(&mut self, slot: &Slot, copy: &OwnedFd) -> Result<(), DescriptorError> {
        let waiting = bytes_to_read(copy).map_err(|cause| slot.failed(cause))?;
        if waiting > 0 && self.context.frozen && !self.context.options.takeover {
            let what = format!("{slot}: datagrams that wait to be read are dropped");
            self.context.findings.change(ChangeKind::Connection, what);
        }
        Ok(())
    }

    fn tcp(
        &mut self,
        slot: &Slot,
        fds: &[i32],
        copy: &OwnedFd,
        mut socket: Socket,
    ) -> Result<Found, DescriptorError> {
        let failed = |cause| slot.failed(cause);
        let info = TcpInfo::read(copy).map_err(failed)?;
        if info.state == TCP_LISTEN {
            if info.unacked > 0 {
                self.connections_waiting(slot, info.unacked);
            }
            socket.state = SocketState::Listening;
            socket.backlog = info.sacked;
            return Ok(Found::Node(socket));
        }
        if info.state == TCP_CLOSE && info.segments_out == 0 {
            socket.state = SocketState::Idle;
            return Ok(Found::Node(socket));
        }
        let is_over = info.state == TCP_CLOSE;
        match self.context.options.tcp {
            TcpPolicy::Refuse if !is_over => {
                if fds.iter().any(|fd| self.context.options.external.contains(fd)) {
                    return Ok(Found::Outside(StateKind::TcpConnection, Vec::new()));
                }
                let lift = "--tcp close lets the program see it closed by its peer when it is \
                            resumed";
                return Ok(Found::Blocked(StateKind::TcpConnection, lift));
            }
            _ => {}
        }
        if !is_over && !self.context.options.takeover {
            let what = format!("{slot}: the connection is closed");
            self.context.findings.change(ChangeKind::Connection, what);
        }
        socket.state = SocketState::ClosedByPeer;
        if self.context.frozen {
            socket.receive_queue = stream_queue(copy).map_err(failed)?.into_iter().collect();
        }
        Ok(Found::Node(socket))
    }

    fn connections_waiting(&mut self, slot: &Slot, count: u32) {
        if self.context.options.takeover {
            return;
        }
        let findings = &mut *self.context.findings;
        match self.context.options.tcp {
            TcpPolicy::Close => {
                let what = format!("{slot}: {count} connections not yet accepted are closed");
                findings.change(ChangeKind::Connection, what);
            }
            TcpPolicy::Refuse => {
                let object = format!("{count} connections that wait at {slot}");
                let lift = "wait until the program has accepted them, or close them with \
                            --tcp close";
                findings.block_for_now(StateKind::TcpConnection, object, "", lift);
            }
        }
    }
}

/// Whether it is a TCP socket that does not listen.
pub(super) fn is_connection(socket: &OwnedFd) -> bool {
    let option = |name| option_int(socket, libc::SOL_SOCKET, name).unwrap_or(-1);
    matches!(option(libc::SO_DOMAIN), libc::AF_INET | libc::AF_INET6)
        && option(libc::SO_TYPE) == libc::SOCK_STREAM
        && option(libc::SO_ACCEPTCONN) == 0
}

/// The kind of state that a socket is which another process holds as well.
fn kind_of(socket: &OwnedFd) -> StateKind {
    let option = |name| option_int(socket, libc::SOL_SOCKET, name).unwrap_or(0);
    match (option(libc::SO_DOMAIN), option(libc::SO_ACCEPTCONN)) {
        (_, 1) => StateKind::ListeningSocket,
        (libc::AF_UNIX, _) => StateKind::UnixSocket,
        (libc::AF_INET | libc::AF_INET6, _) => StateKind::TcpConnection,
        _ => StateKind::OtherSocket,
    }
}

/// A bound address, or `None` for what getsockname(2) gives of an unbound socket.
fn bound(bytes: Vec<u8>) -> Option<SocketAddress> {
    let family = i32::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
    let has_name = match family {
        libc::AF_UNIX => bytes.len() > 2,
        // Port 0 is no port.
        _ => bytes.get(2..4).is_some_and(|port| port != [0, 0]),
    };
    has_name.then_some(SocketAddress { bytes })
}

/// All that waits in a stream, left there.
pub(super) fn stream_queue(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let waiting = usize::try_from(bytes_to_read(socket)?).map_err(io::Error::other)?;
    if waiting == 0 {
        return Ok(None);
    }
    let seen = peek(socket, waiting)?;
    if seen.bytes.len() == waiting {
        Ok(Some(seen.bytes))
    } else {
        Err(io::Error::other("its receive queue changed while it was read"))
    }
}

/// The start of `struct tcp_info`.
struct TcpInfo {
    state: u8,
    /// For a listener: connections that wait to be accepted.
    unacked: u32,
    /// For a listener: its backlog.
    sacked: u32,
    segments_out: u32,
}

impl TcpInfo {
    fn read(socket: &OwnedFd) -> io::Result<Self> {
        let bytes = option_bytes(socket, libc::IPPROTO_TCP, libc::TCP_INFO, 232)?;
        let word = |at: usize| {
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        Ok(Self {
            state: bytes.first().copied().unwrap_or(TCP_CLOSE),
            unacked: word(24),
            sacked: word(28),
            segments_out: word(136),
        })
    }
}
