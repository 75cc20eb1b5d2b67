//! Addresses: is what the instance's sockets were bound to free?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use process::{DescriptionKind, Socket, SocketAddress, SocketFamily, SocketState, SocketType};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, sockopt};

use super::Check;
use crate::MismatchKind;
use crate::build::{shown, unix_path};

impl Check<'_> {
    pub(super) fn sockets(&mut self) {
        for (index, socket) in (0..).zip(&self.instance.sockets) {
            let held = |kind: &DescriptionKind| *kind == DescriptionKind::Socket(index);
            if !self.instance.descriptions.iter().any(|d| held(&d.kind)) {
                continue;
            }
            let is_closed = socket.state == SocketState::ClosedByPeer;
            if is_closed && self.options.refuse_closed && socket.family != SocketFamily::Unix {
                let cause = "the program would find it closed by its peer";
                let lift = "leave --tcp out, or give --tcp close";
                self.add(MismatchKind::State, shown(socket), cause, lift);
            }
            let (Some(local), false) = (&socket.local, is_closed) else {
                continue;
            };
            let result = match unix_path(local) {
                Some(path) => probe_path(&self.path(path), socket),
                None if socket.family == SocketFamily::Unix => probe_abstract(local, socket),
                None => probe_inet(local, socket),
            };
            if let Err(cause) = result {
                let lift = "end whoever has it";
                self.add(MismatchKind::Address, shown(socket), cause, lift);
            }
        }
    }
}

fn kind(socket: &Socket) -> net::SocketType {
    match socket.kind {
        SocketType::Stream => net::SocketType::STREAM,
        SocketType::Datagram => net::SocketType::DGRAM,
        SocketType::SeqPacket => net::SocketType::SEQPACKET,
    }
}

/// Whether the option `name` of `SOL_SOCKET` or another `level` is set to something.
fn has(socket: &Socket, level: i32, name: i32) -> bool {
    let option = socket.options.iter().find(|o| (o.level, o.name) == (level, name));
    option.is_some_and(|o| o.value.iter().any(|b| *b != 0))
}

fn probe_inet(local: &SocketAddress, socket: &Socket) -> Result<(), String> {
    let address = inet(local).ok_or("its address cannot be read")?;
    if address.port() == 0 {
        return Ok(());
    }
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let probe = || {
        let probe = net::socket_with(family, kind(socket), SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&probe, true)?;
        if has(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT) {
            sockopt::set_socket_reuseport(&probe, true)?;
        }
        if has(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) {
            sockopt::set_ipv6_v6only(&probe, true)?;
        }
        net::bind(&probe, &address)
    };
    probe().map_err(explain)
}

fn explain(error: Errno) -> String {
    match error {
        Errno::ADDRINUSE => "somebody else has this address".to_owned(),
        Errno::ADDRNOTAVAIL => "this host does not have this address".to_owned(),
        Errno::ACCESS => "CAP_NET_BIND_SERVICE is needed for this port".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}

fn probe_abstract(local: &SocketAddress, socket: &Socket) -> Result<(), String> {
    let name = local.bytes.get(3..).unwrap_or_default();
    let probe = || {
        let probe =
            net::socket_with(AddressFamily::UNIX, kind(socket), SocketFlags::CLOEXEC, None)?;
        net::bind(&probe, &SocketAddrUnix::new_abstract_name(name)?)
    };
    if name.is_empty() { Ok(()) } else { probe().map_err(explain) }
}

/// A path is free, or leads to a socket that nobody has any more.
fn probe_path(path: &Path, socket: &Socket) -> Result<(), String> {
    let is = match std::fs::symlink_metadata(path) {
        Ok(is) => is,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            return match parent.map(std::fs::metadata) {
                Some(Err(error)) => Err(format!("its directory: {error}")),
                _ => Ok(()),
            };
        }
        Err(error) => return Err(error.to_string()),
    };
    if !is.file_type().is_socket() {
        return Err("something that is no socket has this path".to_owned());
    }
    let probe = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let probe = net::socket_with(AddressFamily::UNIX, kind(socket), flags, None)?;
        net::connect(&probe, &SocketAddrUnix::new(path)?)
    };
    match probe() {
        Err(Errno::CONNREFUSED) => Ok(()),
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err("somebody listens there".to_owned()),
        Err(other) => Err(std::io::Error::from(other).to_string()),
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn inet(address: &SocketAddress) -> Option<SocketAddr> {
    let bytes = &address.bytes;
    let family = i32::from(u16::from_le_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?);
            Some(SocketAddr::new(IpAddr::V4(ip), port))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            let scope = bytes.get(24..).and_then(|b| b.first_chunk()).copied().unwrap_or_default();
            let scope = u32::from_le_bytes(scope);
            Some(std::net::SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn listening(address: SocketAddr) -> Socket {
        let mut bytes = vec![2, 0];
        bytes.extend_from_slice(&address.port().to_be_bytes());
        bytes.extend_from_slice(&[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        Socket {
            family: SocketFamily::Inet,
            state: SocketState::Listening,
            local: Some(SocketAddress { bytes }),
            ..Socket::default()
        }
    }

    #[test]
    fn a_port_somebody_listens_on_is_told_and_a_free_one_is_not() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listening(other.local_addr().unwrap());
        let local = socket.local.clone().unwrap();
        assert!(probe_inet(&local, &socket).unwrap_err().contains("somebody else"));
        drop(other);
        assert_eq!(probe_inet(&local, &socket), Ok(()));
    }

    #[test]
    fn a_stale_unix_socket_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let socket = Socket::default();
        assert_eq!(probe_path(&path, &socket), Ok(()));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(probe_path(&path, &socket).unwrap_err().contains("listens"));
        drop(listener);
        assert_eq!(probe_path(&path, &socket), Ok(()));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(probe_path(&path, &socket).unwrap_err().contains("no socket"));
    }
}
