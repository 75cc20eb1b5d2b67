//! Listing unix sockets with their peers, see `sock_diag(7)`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// A unix socket of the caller's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSocketInfo {
    /// Its inode.
    pub inode: u32,
    /// `SOCK_` type.
    pub kind: u8,
    /// State: 1 connected, 7 unconnected, 10 listening.
    pub state: u8,
    /// The inode of the socket it is connected to. A connected stream without one has lost its
    /// peer when it is shut down, else the peer has not accepted it yet.
    pub peer: Option<u32>,
    /// Device (kernel encoding) and inode of the file it is bound to.
    pub file: Option<(u32, u32)>,
    /// For a listener the connections that wait to be accepted, else bytes to read.
    pub receive_queue: u32,
    /// For a listener its backlog, else bytes the peer has not read.
    pub send_queue: u32,
    /// Bit 0: reading is shut down; bit 1: writing is.
    pub shutdown: u8,
}

const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Every unix socket of the caller's network namespace.
///
/// # Errors
/// When the kernel has no unix_diag, or a reply cannot be understood.
pub fn unix_sockets() -> io::Result<Vec<UnixSocketInfo>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0u8; 64 * 1024];
    while take_reply(&socket, &mut buffer, &mut found)? {}
    Ok(found)
}

/// `struct unix_diag_req` behind a netlink header: a dump of sockets in every state, with the
/// file, the peer and the queues.
fn request() -> Vec<u8> {
    const LENGTH: u32 = 16 + 24;
    const REQUEST_DUMP: u16 = 0x301;
    const SHOW_FILE_PEER_QUEUES: u32 = 0x2 | 0x4 | 0x10;
    let mut bytes = Vec::new();
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([1u32, 0].iter().flat_map(|n| n.to_ne_bytes()));
    bytes.extend([1u8, 0, 0, 0]); // AF_UNIX
    bytes.extend([u32::MAX, 0, SHOW_FILE_PEER_QUEUES, 0, 0].iter().flat_map(|n| n.to_ne_bytes()));
    bytes
}

/// Takes one datagram of replies. Says whether more are to come.
fn take_reply(
    socket: &OwnedFd,
    buffer: &mut [u8],
    found: &mut Vec<UnixSocketInfo>,
) -> io::Result<bool> {
    let (count, _) = recv(socket, &mut *buffer, RecvFlags::empty())?;
    let mut rest = &buffer[..count];
    while let Some((kind, body, next)) = split_message(rest) {
        match kind {
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR => {
                let code = i32::from_ne_bytes(take(body, 0).unwrap_or_default());
                return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
            }
            _ => found.extend(parse(body)),
        }
        rest = next;
    }
    Ok(true)
}

/// The type and the body of the first netlink message, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(take(bytes, 0)?)).ok()?;
    let kind = u16::from_ne_bytes(take(bytes, 4)?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// `struct unix_diag_msg` and its attributes.
fn parse(body: &[u8]) -> Option<UnixSocketInfo> {
    let mut info = UnixSocketInfo {
        kind: *body.get(1)?,
        state: *body.get(2)?,
        inode: u32::from_ne_bytes(take(body, 4)?),
        ..UnixSocketInfo::default()
    };
    let mut rest = body.get(MESSAGE_BYTES..)?;
    while let (Some(length), Some(kind)) = (take(rest, 0), take(rest, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(value) = rest.get(4..length) else { break };
        let word = |at: usize| take(value, at).map(u32::from_ne_bytes);
        match u16::from_ne_bytes(kind) {
            1 => info.file = word(4).zip(word(0)),
            2 => info.peer = word(0).filter(|inode| *inode != 0),
            4 => {
                info.receive_queue = word(0)?;
                info.send_queue = word(4)?;
            }
            6 => info.shutdown = *value.first()?,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(info)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use proptest::prelude::*;

    use super::*;

    fn inode(socket: impl std::os::fd::AsFd) -> u32 {
        u32::try_from(rustix::fs::fstat(socket).unwrap().st_ino).unwrap()
    }

    #[test]
    fn peers_and_listeners() {
        let (a, b) = UnixStream::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let client = UnixStream::connect(folder.path().join("s")).unwrap();
        let all = unix_sockets().unwrap();
        let of = |n: u32| all.iter().find(|s| s.inode == n).unwrap();
        assert_eq!(of(inode(&a)).peer, Some(inode(&b)));
        assert_eq!(of(inode(&b)).peer, Some(inode(&a)));
        let waiting = of(inode(&listener));
        assert_eq!((waiting.state, waiting.receive_queue), (10, 1));
        assert!(waiting.send_queue >= 1 && waiting.file.is_some());
        drop(client);
        drop(b);
        let all = unix_sockets().unwrap();
        let alone = all.iter().find(|s| s.inode == inode(&a)).unwrap();
        assert_eq!(alone.peer, None);
        assert_ne!(alone.shutdown, 0);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = split_message(&bytes);
        }
    }
}
