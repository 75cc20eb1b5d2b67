//! `/proc/PID/net/{tcp,tcp6,udp,udp6,unix,...}`, see `proc_pid_net(5)`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::text::{Cursor, Malformed, lines};

/// One IP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InetSocket {
    /// Own address.
    pub local: SocketAddr,
    /// The peer's address, unspecified when there is none.
    pub remote: SocketAddr,
    /// State number (`TCP_ESTABLISHED` is 1, `TCP_LISTEN` 10).
    pub state: u8,
    /// Bytes not yet acknowledged; for a listener the backlog it was given.
    pub tx_queue: u64,
    /// Bytes not yet read; for a listener the connections not yet accepted.
    pub rx_queue: u64,
    /// The owner's user id.
    pub uid: u32,
    /// The socket's inode, 0 when no process holds it any more.
    pub inode: u64,
}

/// Parses the text of a tcp, tcp6, udp, udp6, udplite, raw or icmp table.
///
/// # Errors
/// When a line does not have the documented form.
pub fn parse_inet(text: &[u8]) -> Result<Vec<InetSocket>, Malformed> {
    lines(text).skip(1).map(inet).collect()
}

fn inet(line: &[u8]) -> Result<InetSocket, Malformed> {
    let mut cursor = Cursor::new(line);
    let _slot = cursor.dec("a slot number")?;
    cursor.literal(b":", "a colon after the slot")?;
    let local = address(&mut cursor)?;
    let remote = address(&mut cursor)?;
    let state = cursor.hex_as("a state")?;
    let tx_queue = cursor.hex("the sending queue")?;
    cursor.literal(b":", "a colon between the queues")?;
    let rx_queue = cursor.hex("the receiving queue")?;
    let _timer = cursor.word("a timer")?;
    let _retransmits = cursor.hex("retransmissions")?;
    let uid = cursor.dec_as("a user id")?;
    let _timeout = cursor.signed("a timeout")?;
    let inode = cursor.dec("an inode")?;
    Ok(InetSocket { local, remote, state, tx_queue, rx_queue, uid, inode })
}

/// An address as the kernel prints it: each 32-bit word in the machine's byte order, the port in
/// the natural one.
fn address(cursor: &mut Cursor<'_>) -> Result<SocketAddr, Malformed> {
    const WANTED: &str = "an address and a port in hexadecimal";
    let word = cursor.word(WANTED)?;
    let colon = word.iter().position(|b| *b == b':').ok_or_else(|| cursor.malformed(WANTED))?;
    let port = Cursor::new(&word[colon + 1..]).hex_as("a port")?;
    let mut octets = [0u8; 16];
    let digits = &word[..colon];
    if !matches!(digits.len(), 8 | 32) {
        return Err(cursor.malformed(WANTED));
    }
    for (chunk, place) in digits.chunks_exact(8).zip(octets.chunks_exact_mut(4)) {
        let value: u32 = Cursor::new(chunk).hex_as(WANTED)?;
        place.copy_from_slice(&value.to_ne_bytes());
    }
    let ip = if digits.len() == 8 {
        IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Ok(SocketAddr::new(ip, port))
}

/// One unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// The socket's flags; `0x10000` marks a listener.
    pub flags: u32,
    /// `SOCK_` type.
    pub kind: u32,
    /// `SS_` state: 1 unconnected, 3 connected.
    pub state: u8,
    /// Inode.
    pub inode: u64,
    /// Its name as written: a path, `@` and an abstract name, or nothing.
    pub path: Vec<u8>,
}

impl UnixSocket {
    /// Whether it accepts connections.
    pub fn is_listening(&self) -> bool {
        self.flags & 0x1_0000 != 0
    }
}

/// Parses the text of a unix table.
///
/// # Errors
/// When a line does not have the documented form.
pub fn parse_unix(text: &[u8]) -> Result<Vec<UnixSocket>, Malformed> {
    lines(text).skip(1).map(unix).collect()
}

fn unix(line: &[u8]) -> Result<UnixSocket, Malformed> {
    let mut cursor = Cursor::new(line);
    let _pointer = cursor.hex("a socket's number")?;
    cursor.literal(b":", "a colon after the number")?;
    let _references = cursor.hex("references")?;
    let _protocol = cursor.hex("a protocol")?;
    let flags = cursor.hex_as("flags")?;
    let kind = cursor.hex_as("a type")?;
    let state = cursor.hex_as("a state")?;
    let inode = cursor.dec("an inode")?;
    let path = cursor.rest().strip_prefix(b" ").unwrap_or_default().to_vec();
    Ok(UnixSocket { flags, kind, state, inode, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  1: 0100007F:E8A7 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 20023 1 00000000eb80f249 100 0 0 10 0\n\
        \x20118: 0100007F:E8A7 0100007F:ECD4 01 00000000:00000005 00:00000000 00000000  1000        0 20027 1 00000000df553a7e 20 4 30 10 -1\n";
    const TCP6: &[u8] = b"  sl  local_address\n   0: 00000000000000000000000001000000:B443 \
        00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
        0 20028 1 00000000ba4d31d8 100 0 0 10 0\n";
    const UNIX: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
        00000000a69d2ff4: 00000003 00000000 00000000 0001 03 20019\n\
        000000005de3fa32: 00000002 00000000 00010000 0001 01 20029 /tmp/a b\n\
        00000000d236d281: 00000002 00000000 00000000 0002 01 20030 @abs\n";

    #[test]
    fn tcp() {
        let all = parse_inet(TCP).unwrap();
        assert_eq!(all[0].local, "127.0.0.1:59559".parse().unwrap());
        assert_eq!((all[0].state, all[0].rx_queue, all[0].inode), (10, 2, 20023));
        assert_eq!(all[1].remote, "127.0.0.1:60628".parse().unwrap());
        assert_eq!((all[1].state, all[1].uid, all[1].rx_queue), (1, 1000, 5));
        assert_eq!(parse_inet(TCP6).unwrap()[0].local, "[::1]:46147".parse().unwrap());
    }

    #[test]
    fn unix_names() {
        let all = parse_unix(UNIX).unwrap();
        assert_eq!((all[0].path.len(), all[0].state), (0, 3));
        assert_eq!(all[1].path, b"/tmp/a b");
        assert!(all[1].is_listening() && !all[0].is_listening());
        assert_eq!((&all[2].path[..], all[2].kind), (&b"@abs"[..], 2));
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..600, byte: u8, cut in 0usize..600) {
            for text in [TCP, TCP6, UNIX] {
                let mut text = text.to_vec();
                let at = at % text.len();
                text[at] = byte;
                text.truncate(cut);
                let _ = parse_inet(&text);
                let _ = parse_unix(&text);
            }
        }
    }
}
