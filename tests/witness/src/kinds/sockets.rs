//! Sockets without a peer: listeners and bound datagram sockets, with their options.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::raw::Failed;
use crate::{board, crew, ensure, no_variant, raw, same, sys, wrong};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

static PORT: AtomicU16 = AtomicU16::new(0);

/// Sets the port of the TCP status listener; zero lets the kernel choose.
pub fn choose_port(port: u16) {
    PORT.store(port, SeqCst);
}

/// An address of the loopback interface.
pub fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: 0x7f00_0001u32.to_be() },
        sin_zero: [0; 8],
    }
}

/// Any socket address, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address(Vec<u8>);

impl Address {
    fn of<T>(value: &T) -> Self {
        // SAFETY: the socket address types are plain bytes without padding of unknown content.
        let bytes =
            unsafe { std::slice::from_raw_parts((value as *const T).cast::<u8>(), size_of::<T>()) };
        Self(bytes.to_vec())
    }

    /// A unix address: a path, or an abstract name after a zero byte.
    fn unix(name: &[u8]) -> Self {
        let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
        bytes.extend(name);
        Self(bytes)
    }

    fn bound(fd: RawFd) -> Outcome<Self> {
        let mut bytes = vec![0u8; 128];
        let mut len = bytes.len() as libc::socklen_t;
        sys!(libc::getsockname(fd, bytes.as_mut_ptr().cast(), &mut len))?;
        bytes.truncate(len as usize);
        Ok(Self(bytes))
    }

    fn port(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }
}

/// A socket and what it must be.
struct Socket {
    name: &'static str,
    fd: RawFd,
    address: Address,
    options: Vec<(i32, i32, i32)>,
    flags: i64,
}

/// Integer options: (level, name, value to set).
type Options = [(i32, i32, i32)];

const REUSE: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);

impl Socket {
    fn bind(
        name: &'static str,
        family: i32,
        kind: i32,
        address: &Address,
        options: &Options,
    ) -> Result<Self, Failed> {
        let fd = sys!(libc::socket(family, kind, 0))? as RawFd;
        for &(level, option, value) in options {
            let (pointer, len) = ((&raw const value).cast(), 4);
            sys!(libc::setsockopt(fd, level, option, pointer, len))?;
        }
        let (pointer, len) = (address.0.as_ptr().cast(), address.0.len() as u32);
        sys!(libc::bind(fd, pointer, len))?;
        let options = options.to_vec();
        Ok(Self { name, fd, address: Address(Vec::new()), options, flags: 0 })
    }

    fn listen(self, backlog: i32) -> Result<Self, Failed> {
        sys!(libc::listen(self.fd, backlog))?;
        Ok(self)
    }

    /// Notes what the kernel made of it.
    fn note(mut self) -> Outcome<Self> {
        self.address = Address::bound(self.fd)?;
        for index in 0..self.options.len() {
            self.options[index].2 = self.option(index)?;
        }
        self.flags = sys!(libc::fcntl(self.fd, libc::F_GETFL))?;
        Ok(self)
    }

    fn option(&self, index: usize) -> Outcome<i32> {
        let (level, option, _) = self.options[index];
        let (mut value, mut len) = (0i32, 4);
        sys!(libc::getsockopt(self.fd, level, option, (&raw mut value).cast(), &mut len))?;
        Ok(value)
    }

    fn verify(&self) -> Outcome {
        same!(format!("address of {}", self.name), self.address, Address::bound(self.fd)?);
        for (index, (level, option, value)) in self.options.iter().enumerate() {
            let what = format!("option {level}/{option} of {}", self.name);
            same!(what, *value, self.option(index)?);
        }
        let flags = sys!(libc::fcntl(self.fd, libc::F_GETFL))?;
        same!(format!("flags of {}", self.name), self.flags, flags);
        Ok(())
    }
}

/// The listeners that answer with the status.
struct Listeners {
    sockets: Vec<Socket>,
}

/// Sets up the listeners, each with a thread that waits in `accept4`.
pub fn listeners(context: &Context) -> Outcome<Box<dyn Kind>> {
    let stream = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    let tcp = libc::IPPROTO_TCP;
    let socket = libc::SOL_SOCKET;
    let mut sockets = Vec::new();
    let options = [
        REUSE,
        (socket, libc::SO_KEEPALIVE, 1),
        (socket, libc::SO_RCVBUF, 123_456),
        (tcp, libc::TCP_USER_TIMEOUT, 7777),
        (tcp, libc::TCP_NODELAY, 1),
        (tcp, libc::TCP_KEEPIDLE, 77),
        (tcp, libc::TCP_MAXSEG, 900),
        (tcp, libc::TCP_SAVE_SYN, 1),
    ];
    let address = Address::of(&loopback(PORT.load(SeqCst)));
    let first = Socket::bind("the TCP listener", libc::AF_INET, stream, &address, &options)?;
    sockets.push(first.listen(17)?.note()?);
    tell("tcp", &format!("127.0.0.1:{}", sockets[0].address.port()));
    if let Ok(sixth) = listen_on_six(stream) {
        sockets.push(sixth.note()?);
        let port = sockets[1].address.port();
        tell("tcp6", &format!("[::1]:{port}"));
    }
    let path = context.dir.join("status.sock");
    let mut name = path.as_os_str().as_encoded_bytes().to_vec();
    name.push(0);
    let options = [(socket, libc::SO_PASSCRED, 1), (socket, libc::SO_SNDBUF, 54_321)];
    let unix = Address::unix(&name);
    let unix = Socket::bind("the unix listener", libc::AF_UNIX, stream, &unix, &options)?;
    sockets.push(unix.listen(5)?.note()?);
    tell("unix", &path.display().to_string());
    // Abstract names belong to the network namespace: pids alone are not unique in it.
    let name = format!("\0rekindle-witness-{}-{:x}", raw::getpid(), raw::mono());
    let unnamed = Address::unix(name.as_bytes());
    let unnamed = Socket::bind("the abstract listener", libc::AF_UNIX, stream, &unnamed, &[])?;
    sockets.push(unnamed.listen(5)?.note()?);
    tell("abstract", &name[1..]);
    for socket in &sockets {
        let fd = socket.fd;
        crew::start("status", "listeners", &[raw::rt(raw::signal::SABOTAGE)], move |_, ready| {
            ready(Ok(()));
            loop {
                answer(fd)?;
            }
        })?;
    }
    Ok(Box::new(Listeners { sockets }))
}

fn tell(kind: &str, address: &str) {
    if let Ok(mut listeners) = board::LISTENERS.lock() {
        listeners.push(format!("{{\"kind\":\"{kind}\",\"address\":{address:?}}}"));
    }
}

/// Hosts without IPv6 have one listener less.
fn listen_on_six(stream: i32) -> Result<Socket, Failed> {
    // SAFETY: a zeroed address is valid.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    address.sin6_family = libc::AF_INET6 as u16;
    address.sin6_addr.s6_addr[15] = 1;
    let only = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1);
    let port = (libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
    let whole = (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1);
    let address = Address::of(&address);
    let options = [REUSE, only, port, whole];
    Socket::bind("the IPv6 listener", libc::AF_INET6, stream, &address, &options)?.listen(128)
}

/// Takes one connection and answers it. The connection lives for a moment only, so that a
/// checkpoint rarely meets one.
fn answer(listener: RawFd) -> Outcome {
    let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
    let flags = libc::SOCK_CLOEXEC;
    let fd = sys!(libc::accept4(listener, address, len, flags))? as RawFd;
    let text = board::status();
    // The other side may be gone already: then nobody reads.
    let _ = sys!(libc::send(fd, text.as_ptr().cast(), text.len(), libc::MSG_NOSIGNAL));
    sys!(libc::close(fd))?;
    Ok(())
}

impl Kind for Listeners {
    fn check(&mut self) -> Outcome<Pass> {
        for socket in &self.sockets {
            socket.verify()?;
            let mut listening = 0i32;
            let (level, mut len) = (libc::SOL_SOCKET, 4);
            let pointer = (&raw mut listening).cast();
            sys!(libc::getsockopt(socket.fd, level, libc::SO_ACCEPTCONN, pointer, &mut len))?;
            ensure!(listening == 1, "{} does not listen", socket.name);
        }
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let fd = self.sockets[0].fd;
        match variant {
            "option" => {
                let value = 7778i32;
                let (level, name) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
                sys!(libc::setsockopt(fd, level, name, (&raw const value).cast(), 4))?;
            }
            "closed" => drop(sys!(libc::shutdown(fd, libc::SHUT_RDWR))?),
            "flags" => drop(sys!(libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK))?),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Bound datagram sockets.
struct Datagrams {
    sockets: Vec<Socket>,
    sender: RawFd,
    number: u64,
}

/// Sets up the datagram sockets.
pub fn datagrams(context: &Context) -> Outcome<Box<dyn Kind>> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let options = [
        (libc::SOL_SOCKET, libc::SO_BROADCAST, 1),
        (libc::IPPROTO_IP, libc::IP_TOS, 0x10),
        (libc::IPPROTO_IP, libc::IP_TTL, 33),
        (libc::IPPROTO_IP, libc::IP_MULTICAST_IF, i32::from_ne_bytes([127, 0, 0, 1])),
        (libc::IPPROTO_UDP, libc::UDP_SEGMENT, 1400),
        (libc::IPPROTO_UDP, libc::UDP_GRO, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUF, 65_432),
        (libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0),
        // What a service type says of the priority is less than what was said of it last.
        (libc::SOL_SOCKET, libc::SO_PRIORITY, 5),
    ];
    let address = Address::of(&loopback(0));
    let udp = Socket::bind("the UDP socket", libc::AF_INET, kind, &address, &options)?.note()?;
    let mut name = context.dir.join("datagram.sock").as_os_str().as_encoded_bytes().to_vec();
    name.push(0);
    let unix = Address::unix(&name);
    let unix = Socket::bind("the unix datagram socket", libc::AF_UNIX, kind, &unix, &[])?.note()?;
    let sender = sys!(libc::socket(libc::AF_INET, kind, 0))? as RawFd;
    Ok(Box::new(Datagrams { sockets: vec![udp, unix], sender, number: 0 }))
}

impl Datagrams {
    /// Sends to the bound UDP socket and receives; UDP may lose some.
    fn exchange(&mut self) -> Outcome {
        let Socket { fd, address, .. } = &self.sockets[0];
        for _ in 0..5 {
            self.number += 1;
            let (word, to) = ((&raw const self.number).cast(), address.0.as_ptr().cast());
            sys!(libc::sendto(self.sender, word, 8, 0, to, address.0.len() as u32))?;
            let mut poll = libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 };
            if sys!(libc::poll(&mut poll, 1, 1000))? == 1 {
                let mut found = 0u64;
                sys!(libc::recv(*fd, (&raw mut found).cast(), 8, 0))?;
                same!("datagram", self.number, found);
                return Ok(());
            }
        }
        wrong!("no datagram arrives at the UDP socket")
    }
}

impl Kind for Datagrams {
    fn check(&mut self) -> Outcome<Pass> {
        self.sockets.iter().try_for_each(Socket::verify)?;
        self.exchange()?;
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let fd = self.sockets[0].fd;
        match variant {
            "option" => {
                let value = 34i32;
                let (level, name) = (libc::IPPROTO_IP, libc::IP_TTL);
                sys!(libc::setsockopt(fd, level, name, (&raw const value).cast(), 4))?;
            }
            "rebound" => {
                let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK;
                let other = sys!(libc::socket(libc::AF_INET, kind, 0))? as RawFd;
                sys!(libc::dup2(other, fd))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
