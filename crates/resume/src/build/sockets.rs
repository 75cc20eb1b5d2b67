//! Sockets: listening and bound ones as they were, pairs with what was under way in them, and
//! connections to the outside as closed by the peer.

use inject::{Arg, CallId};
use process::{
    DescriptionId, DescriptionKind, Socket, SocketAddress, SocketFamily, SocketOption, SocketState,
    SocketType,
};

use super::descriptions::{Files, impossible};
use super::mappings::keep;
use super::script::Script;
use super::watches;
use crate::ResumeError;
use sys::socket::SO_BUF_LOCK;

/// Makes every socket at the slot of its description. The lowest numbers are free.
pub(super) fn open_all(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    for (id, description) in files.all() {
        let DescriptionKind::Socket(index) = description.kind else { continue };
        if files.stand_in(id).is_some() {
            continue;
        }
        let Some(socket) = files.instance.sockets.get(index as usize) else { continue };
        let slot = files.slots.description(id);
        match socket.state {
            SocketState::Pair => pair(script, files, (id, index), socket)?,
            SocketState::ClosedByPeer => closed_by_peer(script, files, slot, socket)?,
            SocketState::Idle | SocketState::Listening | SocketState::Connected => {
                plain(script, slot, socket);
                if socket.state == SocketState::Listening {
                    watches::fire_early(script, files, id)?;
                    listen(script, slot, socket);
                }
            }
        }
        script.flush()?;
    }
    Ok(())
}

fn family(family: SocketFamily) -> i32 {
    match family {
        SocketFamily::Unix => libc::AF_UNIX,
        SocketFamily::Inet => libc::AF_INET,
        SocketFamily::Inet6 => libc::AF_INET6,
    }
}

fn kind(kind: SocketType) -> i32 {
    match kind {
        SocketType::Stream => libc::SOCK_STREAM,
        SocketType::Datagram => libc::SOCK_DGRAM,
        SocketType::SeqPacket => libc::SOCK_SEQPACKET,
    }
}

/// The socket in words, for messages.
pub(crate) fn shown(socket: &Socket) -> String {
    let what = match (socket.family, socket.kind) {
        (SocketFamily::Unix, _) => "unix socket",
        (_, SocketType::Stream) => "TCP socket",
        (_, SocketType::Datagram) => "UDP socket",
        (_, SocketType::SeqPacket) => "packet socket",
    };
    match &socket.local {
        Some(address) => format!("{what} {}", shown_address(address)),
        None => what.to_owned(),
    }
}

/// An address in words: `127.0.0.1:80`, `[::1]:80`, a path, `@abstract`.
pub(crate) fn shown_address(address: &SocketAddress) -> String {
    let bytes = &address.bytes;
    let family = bytes.first_chunk().map_or(0, |b| i32::from(u16::from_le_bytes(*b)));
    let port = |at: usize| bytes.get(at..at + 2).map_or(0, |p| u16::from_be_bytes([p[0], p[1]]));
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8).and_then(|b| b.try_into().ok()).unwrap_or_default();
            format!("{}:{}", std::net::Ipv4Addr::from(ip), port(2))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24).and_then(|b| b.try_into().ok()).unwrap_or_default();
            format!("[{}]:{}", std::net::Ipv6Addr::from(ip), port(2))
        }
        libc::AF_UNIX => match unix_path(address) {
            Some(path) => path.escape_ascii().to_string(),
            None => format!("@{}", bytes.get(3..).unwrap_or_default().escape_ascii()),
        },
        _ => "of an unknown family".to_owned(),
    }
}

/// The path of a unix socket that is bound to one.
pub(crate) fn unix_path(address: &SocketAddress) -> Option<&[u8]> {
    let family = u16::from_le_bytes(*address.bytes.first_chunk()?);
    let path = address.bytes.get(2..)?;
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    (i32::from(family) == libc::AF_UNIX && end > 0).then(|| &path[..end])
}

fn make(script: &mut Script<'_>, slot: u64, socket: &Socket) {
    let args: [Arg; 3] =
        [family(socket.family).into(), kind(socket.kind).into(), socket.protocol.into()];
    let made = script.call(format!("make {}", shown(socket)), libc::SYS_socket, &args);
    keep(script, made.into(), slot);
}

/// A socket without a peer that would have to be rebuilt.
fn plain(script: &mut Script<'_>, slot: u64, socket: &Socket) {
    make(script, slot, socket);
    let inet = socket.family != SocketFamily::Unix;
    let reuse = SocketOption {
        level: libc::SOL_SOCKET,
        name: libc::SO_REUSEADDR,
        value: 1_i32.to_le_bytes().to_vec(),
    };
    let reuses = socket.options.contains(&reuse);
    if inet && socket.local.is_some() {
        // Connections of the instance's former run may still hold the address for a minute.
        set(script, slot, &reuse);
    }
    for option in &socket.options {
        set(script, slot, option);
    }
    if let Some(local) = &socket.local {
        bind(script, slot, socket, local);
    }
    if inet && socket.local.is_some() && !reuses {
        set(script, slot, &SocketOption { value: 0_i32.to_le_bytes().to_vec(), ..reuse });
    }
    if let (SocketState::Connected, Some(remote)) = (socket.state, &socket.remote) {
        let (at, length) = address(script, remote);
        let step = format!("connect {} to {}", shown(socket), shown_address(remote));
        script.call(step, libc::SYS_connect, &[slot.into(), at, length]);
    }
}

fn listen(script: &mut Script<'_>, slot: u64, socket: &Socket) {
    let step = format!("listen on {}", shown(socket));
    script.call(step, libc::SYS_listen, &[slot.into(), u64::from(socket.backlog).into()]);
}

fn bind(script: &mut Script<'_>, slot: u64, socket: &Socket, local: &SocketAddress) {
    let path = unix_path(local);
    if let Some(path) = path {
        // The check made sure that nobody listens there.
        let at = script.text(path);
        script.attempt(libc::SYS_unlink, &[at.into()]);
    }
    let (at, length) = address(script, local);
    script.call(format!("bind {}", shown(socket)), libc::SYS_bind, &[slot.into(), at, length]);
    if let (Some(path), Some((mode, uid, gid))) = (path, socket.file_mode) {
        let at = script.text(path);
        let owner: [Arg; 3] = [at.into(), u64::from(uid).into(), u64::from(gid).into()];
        script.call(format!("give {} its owner", shown(socket)), libc::SYS_lchown, &owner);
        let mode = u64::from(mode & 0o7777);
        let step = format!("give {} its permissions", shown(socket));
        script.call(step, libc::SYS_chmod, &[at.into(), mode.into()]);
    }
}

fn set(script: &mut Script<'_>, slot: u64, option: &SocketOption) {
    if option.level == libc::SOL_SOCKET && matches!(option.name, libc::SO_SNDBUF | libc::SO_RCVBUF)
    {
        set_buffer(script, slot, option.name, &option.value);
        return;
    }
    let value = script.bytes(&option.value);
    let length = option.value.len() as u64;
    let args: [Arg; 5] =
        [slot.into(), option.level.into(), option.name.into(), value.into(), length.into()];
    let step = format!("set socket option {}/{}", option.level, option.name);
    script.call(step, libc::SYS_setsockopt, &args);
}

/// Sets the size of a buffer, of which the kernel makes the double. The forced form needs
/// `CAP_NET_ADMIN`; without it the size is limited by net.core.wmem_max or rmem_max.
fn set_buffer(script: &mut Script<'_>, slot: u64, name: i32, bytes: &[u8]) {
    let forced = if name == libc::SO_SNDBUF { libc::SO_SNDBUFFORCE } else { libc::SO_RCVBUFFORCE };
    let at = script.bytes(bytes);
    for name in [name, forced] {
        let args: [Arg; 5] =
            [slot.into(), libc::SOL_SOCKET.into(), name.into(), at.into(), 4_u64.into()];
        script.attempt(libc::SYS_setsockopt, &args);
    }
}

fn address(script: &mut Script<'_>, address: &SocketAddress) -> (Arg, Arg) {
    let at = script.bytes(&address.bytes);
    (at.into(), (address.bytes.len() as u64).into())
}

/// Both sockets of a pair, when the first of them is met.
fn pair(
    script: &mut Script<'_>,
    files: Files<'_>,
    (id, index): (DescriptionId, u32),
    socket: &Socket,
) -> Result<(), ResumeError> {
    let Some(peer_index) = socket.peer else {
        return Err(impossible(format!("pair {}", shown(socket)), "it has no peer"));
    };
    let is_peer = |kind: &DescriptionKind| *kind == DescriptionKind::Socket(peer_index);
    let peer_id = files.all().find(|(_, what)| is_peer(&what.kind)).map(|(peer, _)| peer);
    let peer = files.instance.sockets.get(peer_index as usize);
    let (Some(peer_id), Some(peer)) = (peer_id, peer) else {
        return Err(impossible(format!("pair {}", shown(socket)), "its peer is not there"));
    };
    if peer_index < index {
        return Ok(());
    }
    let (one, other) = (files.slots.description(id), files.slots.description(peer_id));
    unix_pair(script, socket.kind, [one, other]);
    for (slot, this) in [(one, socket), (other, peer)] {
        for option in &this.options {
            set(script, slot, option);
        }
        if let Some(local) = &this.local {
            bind(script, slot, this, local);
        }
    }
    for (from, sender, receiver) in [(other, peer, socket), (one, socket, peer)] {
        if !receiver.receive_queue.is_empty() {
            fill(script, from, receiver)?;
            refit(script, from, sender)?;
        }
    }
    Ok(())
}

/// Gives a socket that was made to hold more than it would the size of its buffer back, and what
/// it is the kernel's to change.
fn refit(script: &mut Script<'_>, slot: u64, socket: &Socket) -> Result<(), ResumeError> {
    let of = |name: i32| {
        socket.options.iter().find(|one| one.level == libc::SOL_SOCKET && one.name == name)
    };
    let step = || format!("give {} the size of its buffer back", shown(socket));
    let bytes = match of(libc::SO_SNDBUF) {
        Some(option) => option.value.clone(),
        None => {
            let size = sys::socket::fresh(libc::AF_UNIX, kind(socket.kind), 0)
                .and_then(|new| sys::socket::option_int(&new, libc::SOL_SOCKET, libc::SO_SNDBUF))
                .map_err(|cause| impossible(step(), &cause.to_string()))?;
            (size / 2).to_ne_bytes().to_vec()
        }
    };
    set_buffer(script, slot, libc::SO_SNDBUF, &bytes);
    let locks =
        i32::from(of(libc::SO_SNDBUF).is_some()) | i32::from(of(libc::SO_RCVBUF).is_some()) << 1;
    let at = script.bytes(&locks.to_ne_bytes());
    let args: [Arg; 5] =
        [slot.into(), libc::SOL_SOCKET.into(), SO_BUF_LOCK.into(), at.into(), 4_u64.into()];
    script.call(step(), libc::SYS_setsockopt, &args);
    Ok(())
}

/// socketpair(2) at two slots.
fn unix_pair(script: &mut Script<'_>, of: SocketType, slots: [u64; 2]) {
    let at = script.words(&[0]);
    let args: [Arg; 4] = [libc::AF_UNIX.into(), kind(of).into(), 0_u64.into(), at.into()];
    script.call("make a pair of sockets", libc::SYS_socketpair, &args);
    for (low, slot) in (0_u64..).zip(slots) {
        keep(script, low.into(), slot);
    }
}

/// Sends what `socket` had received and not read, through the other end at slot `from`, which can
/// hold that much afterwards.
fn fill(script: &mut Script<'_>, from: u64, socket: &Socket) -> Result<(), ResumeError> {
    let total: usize = socket.receive_queue.iter().map(Vec::len).sum();
    if socket.receive_queue.is_empty() {
        return Ok(());
    }
    // Room for all of it, and for what the kernel needs for each message.
    const MESSAGE_BYTES: usize = 1024;
    let room = total.saturating_mul(2) + socket.receive_queue.len().saturating_mul(MESSAGE_BYTES);
    let bytes = i32::try_from(room).unwrap_or(i32::MAX / 2).to_ne_bytes();
    set_buffer(script, from, libc::SO_SNDBUF, &bytes);
    for piece in &socket.receive_queue {
        script.flush()?;
        let at = script.bytes(piece);
        let length = piece.len() as u64;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let args: [Arg; 4] = [from.into(), at.into(), length.into(), flags.into()];
        let step = format!("give {} back what it had received", shown(socket));
        let sent: CallId = script.call(step.clone(), libc::SYS_sendto, &args);
        if script.run()?.raw(sent).and_then(|n| u64::try_from(n).ok()) != Some(length) {
            return Err(impossible(step, "it takes fewer bytes"));
        }
    }
    Ok(())
}

/// A connection whose peer has gone: the program reads what had arrived, then the end.
fn closed_by_peer(
    script: &mut Script<'_>,
    files: Files<'_>,
    slot: u64,
    socket: &Socket,
) -> Result<(), ResumeError> {
    let peer = files.slots.passing();
    let connected = socket.family != SocketFamily::Unix
        && socket.kind == SocketType::Stream
        && over_loopback(script, slot, peer, socket)?;
    if !connected {
        unix_pair(script, socket.kind, [slot, peer]);
    }
    for option in &socket.options {
        let value = script.bytes(&option.value);
        let length = option.value.len() as u64;
        let args: [Arg; 5] =
            [slot.into(), option.level.into(), option.name.into(), value.into(), length.into()];
        // Some options make no sense for a closed connection, or for the stand-in.
        script.attempt(libc::SYS_setsockopt, &args);
    }
    fill(script, peer, socket)?;
    script.call("close a peer", libc::SYS_close, &[peer.into()]);
    Ok(())
}

/// Connects a TCP socket at `slot` with one at `peer`, so that options and addresses can be
/// asked for as before. False where the host has no loopback of that family.
fn over_loopback(
    script: &mut Script<'_>,
    slot: u64,
    peer: u64,
    socket: &Socket,
) -> Result<bool, ResumeError> {
    script.run()?;
    let listener = peer + 1;
    let mut loopback = [0_u8; 28];
    let (length, family): (u64, i32) = if socket.family == SocketFamily::Inet6 {
        loopback[23] = 1;
        (28, libc::AF_INET6)
    } else {
        loopback[4..8].copy_from_slice(&[127, 0, 0, 1]);
        (16, libc::AF_INET)
    };
    loopback[0] = u8::try_from(family).unwrap_or_default();
    let address = script.bytes(&loopback);
    let size = script.bytes(&28_u32.to_le_bytes());
    let make: [Arg; 3] = [family.into(), libc::SOCK_STREAM.into(), 0_u64.into()];
    let mut calls = Vec::new();
    for at in [listener, slot] {
        let made = script.attempt(libc::SYS_socket, &make);
        let args: [Arg; 3] = [made.into(), at.into(), libc::O_CLOEXEC.into()];
        calls.push(script.attempt(libc::SYS_dup3, &args));
        script.attempt(libc::SYS_close, &[made.into()]);
    }
    let (listener, slot, length): (Arg, Arg, Arg) = (listener.into(), slot.into(), length.into());
    calls.push(script.attempt(libc::SYS_bind, &[listener, address.into(), length]));
    calls.push(script.attempt(libc::SYS_listen, &[listener, 1_u64.into()]));
    let args = [listener, address.into(), size.into()];
    calls.push(script.attempt(libc::SYS_getsockname, &args));
    calls.push(script.attempt(libc::SYS_connect, &[slot, address.into(), length]));
    let answers = script.run()?;
    let connected = calls.iter().all(|call| answers.raw(*call).is_some_and(|value| value >= 0));
    if connected {
        let args = [listener, 0_u64.into(), 0_u64.into(), libc::SOCK_CLOEXEC.into()];
        let accepted = script.call("accept a connection of our own", libc::SYS_accept4, &args);
        keep(script, accepted.into(), peer);
    }
    script.attempt(libc::SYS_close, &[listener]);
    script.run()?;
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bytes: &[u8]) -> SocketAddress {
        SocketAddress { bytes: bytes.to_vec() }
    }

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        let inet = address(&[2, 0, 0x18, 0xeb, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(shown_address(&inet), "127.0.0.1:6379");
        assert_eq!(shown_address(&address(b"\x01\0/run/x\0")), "/run/x");
        assert_eq!(shown_address(&address(b"\x01\0\0name")), "@name");
        assert_eq!(unix_path(&address(b"\x01\0\0name")), None);
        assert_eq!(unix_path(&inet), None);
    }
}
