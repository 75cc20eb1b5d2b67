//! Looking into a socket that another process holds too, without changing it: the descriptor is
//! a copy made by `pidfd_getfd(2)`.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The option that says which buffer sizes are not the kernel's to change: 1 sending, 2 receiving
/// (Linux >= 5.14; libc has no name for it).
pub const SO_BUF_LOCK: i32 = 72;

/// The bytes of a socket option, see getsockopt(2). `bytes_max` is the longest value asked for.
///
/// # Errors
/// `ENOPROTOOPT` for an option the socket does not have.
pub fn option_bytes(
    socket: impl AsFd,
    level: i32,
    name: i32,
    bytes_max: usize,
) -> io::Result<Vec<u8>> {
    let mut value = vec![0u8; bytes_max];
    let mut length = libc::socklen_t::try_from(bytes_max).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to the vector, which is that long, and
    // the length it wrote to `length`; both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    value.truncate(usize::try_from(length).map_err(io::Error::other)?);
    Ok(value)
}

/// A socket option that is an `int`.
///
/// # Errors
/// As for [`option_bytes`].
pub fn option_int(socket: impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    let bytes = option_bytes(socket, level, name, size_of::<i32>())?;
    let bytes = bytes.try_into().map_err(|_| io::Error::other("the option is not an int"))?;
    Ok(i32::from_ne_bytes(bytes))
}

/// Whether the socket is a member of the multicast `group` on `interface` (`MCAST_MSFILTER`, RFC 3678).
///
/// # Errors
/// What getsockopt(2) says, apart from that it is not.
pub fn is_member(socket: impl AsFd, interface: u32, group: IpAddr) -> io::Result<bool> {
    /// `struct group_filter` of `linux/in.h` without its list of sources.
    #[repr(C)]
    struct GroupFilter {
        interface: u32,
        group: libc::sockaddr_storage,
        mode: u32,
        sources: u32,
    }
    const MCAST_MSFILTER: i32 = 48;
    let family = |number: i32| libc::sa_family_t::try_from(number).unwrap_or_default();
    // SAFETY: a sockaddr_storage is bytes for any address; all zero is none.
    let mut filter: GroupFilter = unsafe { std::mem::zeroed() };
    filter.interface = interface;
    let level = match group {
        IpAddr::V4(group) => {
            let address = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than a sockaddr_in and at least as aligned.
            unsafe { (&raw mut filter.group).cast::<libc::sockaddr_in>().write(address) };
            libc::IPPROTO_IP
        }
        IpAddr::V6(group) => {
            let address = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: group.octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: the storage is larger than a sockaddr_in6 and at least as aligned.
            unsafe { (&raw mut filter.group).cast::<libc::sockaddr_in6>().write(address) };
            libc::IPPROTO_IPV6
        }
    };
    let mut length =
        libc::socklen_t::try_from(size_of::<GroupFilter>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes at most `length` bytes of the live filter, and room for
    // no source is asked for.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            MCAST_MSFILTER,
            (&raw mut filter).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Not a member; no such interface any more; a socket of the other family.
        Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENOPROTOOPT | libc::EOPNOTSUPP) => {
            Ok(false)
        }
        _ => Err(error),
    }
}

/// Whether a filter program is attached to the socket (`SO_ATTACH_FILTER`, `SO_ATTACH_BPF`).
///
/// # Errors
/// What getsockopt(2) says.
pub fn has_filter(socket: impl AsFd) -> io::Result<bool> {
    let mut instructions: libc::socklen_t = 0;
    // SAFETY: with a length of zero the kernel writes no value, only the number of instructions
    // to the live length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            std::ptr::null_mut(),
            &raw mut instructions,
        )
    };
    if result == 0 {
        return Ok(instructions != 0);
    }
    match io::Error::last_os_error() {
        // An eBPF program cannot be read back.
        cause if cause.raw_os_error() == Some(libc::EACCES) => Ok(true),
        cause => Err(cause),
    }
}

/// A new socket that nobody else has, to compare options with.
///
/// # Errors
/// What socket(2) says.
pub fn fresh(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes three integers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address the socket is bound to, as the kernel's `struct sockaddr_*` bytes.
///
/// # Errors
/// What getsockname(2) says.
pub fn local_address(socket: impl AsFd) -> io::Result<Vec<u8>> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `address` hands over a buffer of the stated length that lives through the call.
    address(|at, length| unsafe { libc::getsockname(fd, at, length) })
}

/// The address of the socket's peer, or `None` when it has none.
///
/// # Errors
/// What getpeername(2) says, `ENOTCONN` excepted.
pub fn peer_address(socket: impl AsFd) -> io::Result<Option<Vec<u8>>> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: as above.
    match address(|at, length| unsafe { libc::getpeername(fd, at, length) }) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.raw_os_error() == Some(libc::ENOTCONN) => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn address(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> io::Result<Vec<u8>> {
    let mut storage = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = libc::socklen_t::try_from(storage.len()).map_err(io::Error::other)?;
    if call(storage.as_mut_ptr().cast(), &raw mut length) != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    storage.get(..length).map(<[u8]>::to_vec).ok_or_else(|| {
        io::Error::other("the kernel gave an address that is longer than any it knows")
    })
}

/// Bytes that wait to be read (`SIOCINQ`, `FIONREAD`): all of them for a stream, those of the
/// first one for datagrams.
///
/// # Errors
/// What ioctl(2) says.
pub fn bytes_to_read(socket: impl AsFd) -> io::Result<u64> {
    queue_length(socket, libc::FIONREAD)
}

/// Bytes that were sent and that the peer has not taken yet (`SIOCOUTQ`).
///
/// # Errors
/// What ioctl(2) says.
pub fn bytes_unsent(socket: impl AsFd) -> io::Result<u64> {
    queue_length(socket, libc::TIOCOUTQ)
}

fn queue_length(socket: impl AsFd, request: libc::Ioctl) -> io::Result<u64> {
    let mut count = 0i32;
    // SAFETY: both requests write one int, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut count) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(count).map_err(io::Error::other)
}

/// What one look at a socket's receive queue found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// The bytes, at most as many as asked for.
    pub bytes: Vec<u8>,
    /// Whether there was nothing, so that a read would block.
    pub would_block: bool,
    /// Whether control messages (descriptors, credentials) came along.
    pub has_control: bool,
    /// Whether the datagram was longer than what was asked for.
    pub truncated: bool,
}

/// Reads what a socket would read next, and leaves it in the queue (`MSG_PEEK`): up to
/// `bytes_max` bytes of a stream, or the first datagram.
///
/// # Errors
/// What recvmsg(2) says, but for "would block".
pub fn peek(socket: impl AsFd, bytes_max: usize) -> io::Result<Peeked> {
    let mut bytes = vec![0u8; bytes_max];
    let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is a valid msghdr: no name, no buffers, no control.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    // No room for control messages, so none is installed in this process: the kernel sets
    // MSG_CTRUNC when there were any.
    // SAFETY: the message names one buffer of the stated length; both live through the call.
    let count = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
        )
    };
    let Ok(count) = usize::try_from(count) else {
        let cause = io::Error::last_os_error();
        return match cause.kind() {
            io::ErrorKind::WouldBlock => Ok(Peeked { would_block: true, ..Peeked::default() }),
            _ => Err(cause),
        };
    };
    bytes.truncate(count);
    Ok(Peeked {
        bytes,
        would_block: false,
        has_control: message.msg_flags & libc::MSG_CTRUNC != 0,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn peeking_leaves_the_data() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        assert!(peek(&b, 10).unwrap().would_block);
        a.write_all(b"hello").unwrap();
        assert_eq!(bytes_to_read(&b).unwrap(), 5);
        for _ in 0..2 {
            let seen = peek(&b, 100).unwrap();
            assert_eq!(seen.bytes, b"hello");
            assert!(!seen.has_control && !seen.truncated);
        }
        let mut taken = [0; 5];
        b.read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"hello");
    }

    #[test]
    fn a_long_datagram_says_so() {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.send(b"0123456789").unwrap();
        assert!(peek(&b, 4).unwrap().truncated);
        assert_eq!(peek(&b, 10).unwrap().bytes, b"0123456789");
    }

    #[test]
    fn options_and_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(option_int(&listener, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).unwrap(), 1);
        assert_eq!(local_address(&listener).unwrap().len(), size_of::<libc::sockaddr_in>());
        assert_eq!(peer_address(&listener).unwrap(), None);
        assert!(!has_filter(&listener).unwrap());
        assert!(fresh(libc::AF_INET, libc::SOCK_DGRAM, 0).is_ok());
    }
}
