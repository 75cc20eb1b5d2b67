//! Options of sockets that differ from a new socket's.

use std::io;
use std::os::fd::OwnedFd;

use process::SocketOption;
use sys::socket::{SO_BUF_LOCK, fresh, option_bytes, option_int};

/// Options that are read and, where they differ from a new socket's, set again, in this order:
/// what matters to bind(2) first. Name, and the bytes of its value.
const SOCKET: [(i32, usize); 34] = [
    (libc::SO_REUSEADDR, 4),
    (libc::SO_REUSEPORT, 4),
    (libc::SO_BINDTODEVICE, 16),
    (libc::SO_BROADCAST, 4),
    (libc::SO_KEEPALIVE, 4),
    (libc::SO_OOBINLINE, 4),
    (libc::SO_DONTROUTE, 4),
    (libc::SO_LINGER, 8),
    (libc::SO_RCVTIMEO, 16),
    (libc::SO_SNDTIMEO, 16),
    (libc::SO_RCVLOWAT, 4),
    (libc::SO_MARK, 4),
    (libc::SO_PASSCRED, 4),
    (libc::SO_PASSSEC, 4),
    (libc::SO_TIMESTAMP, 4),
    (libc::SO_TIMESTAMPNS, 4),
    (libc::SO_RXQ_OVFL, 4),
    (libc::SO_WIFI_STATUS, 4),
    (libc::SO_NOFCS, 4),
    (libc::SO_BUSY_POLL, 4),
    (libc::SO_ZEROCOPY, 4),
    (libc::SO_INCOMING_CPU, 4),
    (SO_PASSPIDFD, 4),
    (libc::SO_TIMESTAMPING, 8),
    (libc::SO_PEEK_OFF, 4),
    (libc::SO_SELECT_ERR_QUEUE, 4),
    (libc::SO_MAX_PACING_RATE, 8),
    (SO_TXTIME, 8),
    (SO_PREFER_BUSY_POLL, 4),
    (SO_BUSY_POLL_BUDGET, 4),
    (SO_TXREHASH, 4),
    (SO_RCVMARK, 4),
    (SO_RCVPRIORITY, 4),
    (SO_PASSRIGHTS, 4),
];
/// What the options of other levels would change again.
const LAST: [(i32, usize); 1] = [(libc::SO_PRIORITY, 4)];

// Numbers of linux/socket.h and its kin that libc has no name for.
const SO_TXTIME: i32 = 61;
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
const SO_TXREHASH: i32 = 74;
const SO_RCVMARK: i32 = 75;
const SO_PASSPIDFD: i32 = 76;
const SO_RCVPRIORITY: i32 = 82;
const SO_PASSRIGHTS: i32 = 83;
const IP_LOCAL_PORT_RANGE: i32 = 51;
const IP_RECVERR_RFC4884: i32 = 26;
const IPV6_RECVERR_RFC4884: i32 = 31;
const IPV6_MULTICAST_ALL: i32 = 29;
const IPV6_UNICAST_IF: i32 = 76;
const TCP_RTO_MAX_MS: i32 = 44;
const TCP_TX_DELAY: i32 = 37;

const IP: [(i32, usize); 24] = [
    (libc::IP_FREEBIND, 4),
    (libc::IP_TRANSPARENT, 4),
    (libc::IP_BIND_ADDRESS_NO_PORT, 4),
    (libc::IP_TOS, 4),
    (libc::IP_TTL, 4),
    (libc::IP_PKTINFO, 4),
    (libc::IP_RECVTTL, 4),
    (libc::IP_RECVTOS, 4),
    (libc::IP_RECVERR, 4),
    (libc::IP_RECVORIGDSTADDR, 4),
    (libc::IP_MTU_DISCOVER, 4),
    (libc::IP_MULTICAST_TTL, 4),
    (libc::IP_MULTICAST_LOOP, 4),
    (libc::IP_MINTTL, 4),
    (libc::IP_MULTICAST_ALL, 4),
    (libc::IP_MULTICAST_IF, 4),
    (libc::IP_UNICAST_IF, 4),
    (IP_LOCAL_PORT_RANGE, 4),
    (libc::IP_RECVOPTS, 4),
    (libc::IP_RETOPTS, 4),
    (libc::IP_PASSSEC, 4),
    (libc::IP_CHECKSUM, 4),
    (libc::IP_RECVFRAGSIZE, 4),
    (IP_RECVERR_RFC4884, 4),
];

const IPV6: [(i32, usize); 26] = [
    (libc::IPV6_V6ONLY, 4),
    (libc::IPV6_FREEBIND, 4),
    (libc::IPV6_TRANSPARENT, 4),
    (libc::IPV6_TCLASS, 4),
    (libc::IPV6_UNICAST_HOPS, 4),
    (libc::IPV6_MULTICAST_HOPS, 4),
    (libc::IPV6_MULTICAST_LOOP, 4),
    (libc::IPV6_RECVPKTINFO, 4),
    (libc::IPV6_RECVHOPLIMIT, 4),
    (libc::IPV6_RECVTCLASS, 4),
    (libc::IPV6_RECVERR, 4),
    (libc::IPV6_MTU_DISCOVER, 4),
    (libc::IPV6_MULTICAST_IF, 4),
    (IPV6_UNICAST_IF, 4),
    (IPV6_MULTICAST_ALL, 4),
    (libc::IPV6_RECVRTHDR, 4),
    (libc::IPV6_RECVHOPOPTS, 4),
    (libc::IPV6_RECVDSTOPTS, 4),
    (libc::IPV6_RECVPATHMTU, 4),
    (libc::IPV6_DONTFRAG, 4),
    (libc::IPV6_AUTOFLOWLABEL, 4),
    (libc::IPV6_ADDR_PREFERENCES, 4),
    (libc::IPV6_MINHOPCOUNT, 4),
    (libc::IPV6_RECVORIGDSTADDR, 4),
    (libc::IPV6_RECVFRAGSIZE, 4),
    (IPV6_RECVERR_RFC4884, 4),
];

const UDP: [(i32, usize); 6] = [
    (libc::UDP_CORK, 4),
    (libc::UDP_ENCAP, 4),
    (libc::UDP_NO_CHECK6_TX, 4),
    (libc::UDP_NO_CHECK6_RX, 4),
    (libc::UDP_SEGMENT, 4),
    (libc::UDP_GRO, 4),
];

const TCP: [(i32, usize); 21] = [
    (libc::TCP_NODELAY, 4),
    (libc::TCP_CORK, 4),
    (libc::TCP_KEEPIDLE, 4),
    (libc::TCP_KEEPINTVL, 4),
    (libc::TCP_KEEPCNT, 4),
    (libc::TCP_SYNCNT, 4),
    (libc::TCP_LINGER2, 4),
    (libc::TCP_DEFER_ACCEPT, 4),
    (libc::TCP_WINDOW_CLAMP, 4),
    (libc::TCP_USER_TIMEOUT, 4),
    (libc::TCP_FASTOPEN, 4),
    (libc::TCP_NOTSENT_LOWAT, 4),
    (libc::TCP_CONGESTION, 16),
    (libc::TCP_MAXSEG, 4),
    (libc::TCP_SAVE_SYN, 4),
    (libc::TCP_INQ, 4),
    (libc::TCP_FASTOPEN_CONNECT, 4),
    (libc::TCP_FASTOPEN_NO_COOKIE, 4),
    (libc::TCP_THIN_LINEAR_TIMEOUTS, 4),
    (TCP_TX_DELAY, 4),
    (TCP_RTO_MAX_MS, 4),
];

/// The options of a new socket of some family, type and protocol.
#[derive(Debug)]
pub(super) struct Fresh(Vec<(i32, i32, usize, Vec<u8>)>);

impl Fresh {
    pub(super) fn read((family, kind, protocol): (i32, i32, i32)) -> io::Result<Self> {
        let new = fresh(family, kind, protocol)?;
        let mut lists: Vec<(i32, &[(i32, usize)])> = vec![(libc::SOL_SOCKET, &SOCKET)];
        if family == libc::AF_INET6 {
            lists.push((libc::IPPROTO_IPV6, &IPV6));
        }
        if family != libc::AF_UNIX {
            lists.push((libc::IPPROTO_IP, &IP));
            if kind == libc::SOCK_STREAM {
                lists.push((libc::IPPROTO_TCP, &TCP));
            } else {
                lists.push((libc::IPPROTO_UDP, &UDP));
            }
        }
        lists.push((libc::SOL_SOCKET, &LAST));
        let mut options = Vec::new();
        for (level, list) in lists {
            for (name, bytes_max) in list {
                // An option that this kind of socket does not have is no state of it.
                if let Ok(value) = option_bytes(&new, level, *name, *bytes_max) {
                    options.push((level, *name, *bytes_max, value));
                }
            }
        }
        Ok(Self(options))
    }

    /// The options of `socket` that differ.
    pub(super) fn changed(&self, socket: &OwnedFd) -> io::Result<Vec<SocketOption>> {
        let mut options = Vec::new();
        for (level, name, bytes_max, fresh) in &self.0 {
            if let Ok(value) = option_bytes(socket, *level, *name, *bytes_max)
                && value != *fresh
            {
                options.push(SocketOption { level: *level, name: *name, value });
            }
        }
        options.extend(buffer_sizes(socket)?);
        Ok(options)
    }
}

/// Buffer sizes that were set and are not the kernel's to change.
/// The kernel doubles what is set, and shows the double.
fn buffer_sizes(socket: &OwnedFd) -> io::Result<Vec<SocketOption>> {
    let locked = option_int(socket, libc::SOL_SOCKET, SO_BUF_LOCK)?;
    let mut options = Vec::new();
    for (bit, name) in [(1, libc::SO_SNDBUF), (2, libc::SO_RCVBUF)] {
        if locked & bit != 0 {
            let size = option_int(socket, libc::SOL_SOCKET, name)? / 2;
            let value = size.to_ne_bytes().to_vec();
            options.push(SocketOption { level: libc::SOL_SOCKET, name, value });
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_was_set_is_found_and_nothing_else() {
        let idle = fresh(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let new = Fresh::read((libc::AF_INET, libc::SOCK_STREAM, 0)).unwrap();
        assert!(new.changed(&idle).unwrap().is_empty());
        // The standard library sets SO_REUSEADDR.
        let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let options = new.changed(&listener).unwrap();
        let names: Vec<_> = options.iter().map(|o| (o.level, o.name)).collect();
        assert_eq!(names, [(libc::SOL_SOCKET, libc::SO_REUSEADDR)]);
    }
}
