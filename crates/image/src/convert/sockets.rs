//! Sockets.

use process::{Socket, SocketAddress, SocketFamily, SocketOption, SocketState, SocketType};

use super::wire::{Invalid, Wire, wire_enum, wire_struct};
use crate::generated as proto;

wire_struct!(Socket => proto::Socket {
    inode: same,
    family: scalar,
    kind: scalar,
    protocol: same,
    state: scalar,
    local: maybe,
    remote: maybe,
    backlog: same,
    options: many,
    peer: same,
    receive_queue: same,
    file_mode: maybe,
});

wire_enum!(SocketFamily => proto::SocketFamily {
    Unix,
    Inet,
    Inet6,
});

wire_enum!(SocketType => proto::SocketType {
    Stream,
    Datagram,
    SeqPacket,
});

wire_enum!(SocketState => proto::SocketState {
    Idle,
    Listening,
    Pair,
    ClosedByPeer,
    Connected,
});

impl Wire for SocketAddress {
    type Message = Vec<u8>;

    fn to_wire(&self) -> Result<Vec<u8>, Invalid> {
        Ok(self.bytes.clone())
    }

    fn from_wire(bytes: Vec<u8>) -> Result<Self, Invalid> {
        Ok(Self { bytes })
    }
}

wire_struct!(SocketOption => proto::SocketOption {
    level: same,
    name: same,
    value: same,
});

/// Mode, owner and group of a unix socket's file.
impl Wire for (u32, u32, u32) {
    type Message = proto::FileMode;

    fn to_wire(&self) -> Result<proto::FileMode, Invalid> {
        Ok(proto::FileMode { mode: self.0, uid: self.1, gid: self.2 })
    }

    fn from_wire(message: proto::FileMode) -> Result<Self, Invalid> {
        Ok((message.mode, message.uid, message.gid))
    }
}
