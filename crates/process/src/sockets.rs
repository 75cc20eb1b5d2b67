//! Sockets.

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Inode at the capture.
    pub inode: u64,
    /// Address family.
    pub family: SocketFamily,
    /// Stream, datagram, sequenced packets.
    pub kind: SocketType,
    /// `SO_PROTOCOL`.
    pub protocol: i32,
    /// What it is doing.
    pub state: SocketState,
    /// The address it is bound to.
    pub local: Option<SocketAddress>,
    /// The address it is connected to.
    pub remote: Option<SocketAddress>,
    /// Backlog of a listening socket.
    pub backlog: u32,
    /// Options that differ from a new socket's, in the order they must be set.
    pub options: Vec<SocketOption>,
    /// The other socket of a socketpair inside the instance, index into `Instance::sockets`.
    pub peer: Option<u32>,
    /// Data received and not yet read: one element a datagram or packet, one element for a
    /// stream.
    pub receive_queue: Vec<Vec<u8>>,
    /// Permission bits and owner (mode, uid, gid) of a unix socket's file.
    pub file_mode: Option<(u32, u32, u32)>,
}

/// Address families known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketFamily {
    /// `AF_UNIX`.
    #[default]
    Unix,
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
}

/// Socket types known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketType {
    /// `SOCK_STREAM`.
    #[default]
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_SEQPACKET`.
    SeqPacket,
}

/// What a socket is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketState {
    /// Neither bound to a peer nor listening.
    #[default]
    Idle,
    /// listen(2).
    Listening,
    /// Connected with a peer inside the instance (a socketpair), which is rebuilt.
    Pair,
    /// A connected TCP or unix stream whose peer is outside: it comes back as closed by the
    /// peer, so that the program takes its normal path for that (`--tcp close`).
    ClosedByPeer,
    /// A datagram socket with a default peer.
    Connected,
}

/// A socket address as the kernel gives it: `struct sockaddr_*` bytes without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAddress {
    /// The bytes, family included.
    pub bytes: Vec<u8>,
}

/// One setsockopt(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// `SOL_SOCKET`, `IPPROTO_TCP`, ...
    pub level: i32,
    /// `SO_*`, `TCP_*`, ...
    pub name: i32,
    /// The value's bytes.
    pub value: Vec<u8>,
}
