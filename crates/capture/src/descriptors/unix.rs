//! Unix sockets.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use process::{Socket, SocketAddress, SocketState, SocketType, StateKind};
use sys::proc::FdDetail;
use sys::sock_diag::UnixSocketInfo;
use sys::socket::peek;

use super::slots::Slot;
use super::socket::{Found, stream_queue};
use super::{DescriptorError, Reader};
use crate::outside::Link;

impl Reader<'_> {
    pub(super) fn unix(
        &mut self,
        slot: &Slot,
        copy: &OwnedFd,
        mut socket: Socket,
    ) -> Result<Found, DescriptorError> {
        if let FdDetail::Socket { descriptors_in_flight: 1.. } = slot.info.detail {
            return Ok(Found::Blocked(StateKind::InFlightDescriptors, WAIT_READ));
        }
        let Some(info) = self.unix.get(&slot.stat.inode).cloned() else {
            // A running program may have made it since the list was read.
            if !self.context.frozen {
                return Ok(Found::Node(socket));
            }
            let lift = "sockets of another network namespace cannot be looked into";
            return Ok(Found::Blocked(StateKind::UnixSocket, lift));
        };
        if !self.name_still_there(&mut socket) {
            let lift = "the socket's file is gone; restart the program";
            return Ok(Found::Blocked(StateKind::UnixSocket, lift));
        }
        const LISTENING: u8 = 10;
        if info.state == LISTENING {
            socket.state = SocketState::Listening;
            socket.backlog = info.send_queue;
            if info.receive_queue > 0 && !self.context.options.takeover {
                let object = format!("{} connections that wait at {slot}", info.receive_queue);
                let lift = "wait until the program has accepted them";
                self.context.findings.block_for_now(StateKind::UnixSocket, object, "", lift);
            }
            return Ok(Found::Node(socket));
        }
        self.unix_peer(slot, copy, socket, &info)
    }

    /// A unix socket that does not listen: alone, half of a pair, or connected to somebody else.
    fn unix_peer(
        &mut self,
        slot: &Slot,
        copy: &OwnedFd,
        mut socket: Socket,
        info: &UnixSocketInfo,
    ) -> Result<Found, DescriptorError> {
        const CONNECTED: u8 = 1;
        let is_datagram = socket.kind == SocketType::Datagram;
        match info.peer {
            Some(peer) if self.slots.iter().any(|s| is_socket(s, peer)) => {
                if info.shutdown != 0 {
                    let lift = "the program has to close the half-closed socket";
                    return Ok(Found::Blocked(StateKind::UnixSocket, lift));
                }
                socket.state = SocketState::Pair;
            }
            // A datagram socket such as a logger's: it can be connected again by name.
            Some(_) if is_datagram && socket.remote.as_ref().is_some_and(is_named) => {
                socket.state = SocketState::Connected;
            }
            Some(peer) => {
                let holders = self.context.outside.holders(Link::Socket(u64::from(peer)));
                return Ok(Found::Outside(StateKind::UnixSocket, holders.to_vec()));
            }
            None if info.state == CONNECTED && !is_datagram && info.shutdown == 0 => {
                return Ok(Found::Outside(StateKind::UnixSocket, Vec::new()));
            }
            None if info.state == CONNECTED && !is_datagram => {
                socket.state = SocketState::ClosedByPeer;
            }
            None => socket.state = SocketState::Idle,
        }
        self.unix_queue(slot, copy, socket)
    }

    fn unix_queue(
        &mut self,
        slot: &Slot,
        copy: &OwnedFd,
        mut socket: Socket,
    ) -> Result<Found, DescriptorError> {
        let failed = |cause| slot.failed(cause);
        let seen = peek(copy, 1).map_err(failed)?;
        if seen.has_control && seen.bytes.len() + usize::from(seen.truncated) > 0 {
            return Ok(Found::Blocked(StateKind::InFlightDescriptors, WAIT_READ));
        }
        let has_data = !seen.would_block && (seen.truncated || !seen.bytes.is_empty());
        if socket.kind == SocketType::Stream {
            if self.context.frozen && has_data {
                socket.receive_queue = stream_queue(copy).map_err(failed)?.into_iter().collect();
            }
        } else if has_data && !self.context.options.takeover {
            // Only the first of several messages can be looked at without taking it.
            let object = format!("messages that wait to be read from {slot}");
            self.context.findings.block_for_now(StateKind::UnixSocket, object, "", WAIT_READ);
        }
        Ok(Found::Node(socket))
    }

    /// Whether the file that a unix socket is bound to is still there. Takes its mode and owner.
    fn name_still_there(&self, socket: &mut Socket) -> bool {
        let Some(local) = &socket.local else { return true };
        let path = local.bytes[2..].split(|b| *b == 0).next().unwrap_or_default();
        // An abstract name begins with a zero. A relative one cannot be looked up afterwards.
        if !path.starts_with(b"/") {
            return true;
        }
        match self.context.process.dir().stat_in_root(path) {
            Ok(stat) if stat.file_type() == libc::S_IFSOCK => {
                socket.file_mode = Some((stat.mode & 0o7777, stat.uid, stat.gid));
                true
            }
            _ => false,
        }
    }

    /// Fills in which sockets are pairs, once every socket is known.
    pub(super) fn pair_sockets(&mut self) {
        let numbers: BTreeMap<u64, u32> =
            self.found.sockets.iter().map(|socket| socket.inode).zip(0..).collect();
        for socket in &mut self.found.sockets {
            if socket.state == SocketState::Pair {
                let peer = self.unix.get(&socket.inode).and_then(|info| info.peer);
                socket.peer = peer.and_then(|peer| numbers.get(&u64::from(peer)).copied());
            }
        }
    }
}

const WAIT_READ: &str = "wait until the program has read what waits in the socket";

fn is_socket(slot: &Slot, inode: u32) -> bool {
    slot.is_socket() && slot.stat.inode == u64::from(inode)
}

/// Whether an address has more than its family.
fn is_named(address: &SocketAddress) -> bool {
    address.bytes.len() > 2
}
