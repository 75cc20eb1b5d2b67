//! Connections of the clone, which are none, and their addresses.

use process::{Socket, SocketFamily, SocketState};

use crate::RehearseError;
use crate::calls::Caller;
use crate::descriptors::{Kind, Slot};
use crate::operate::Reply::{Unknown, Value, Waits};
use crate::operate::{CLOEXEC, NONBLOCK, Reply, error, low, new_fd};
use crate::table::Timeout;

impl Caller<'_> {
    /// The address of a socket or (`peer`) of the other end.
    pub(crate) fn address(
        &mut self,
        fd: u64,
        peer: bool,
        (address, length_at): (u64, u64),
    ) -> Result<Reply, RehearseError> {
        let Some(socket) = self.socket(fd) else { return Ok(Unknown) };
        let is_new = socket.state == SocketState::Listening;
        let bytes = match (peer, &socket.remote, &socket.local) {
            // Accepted by the clone: it has the listening socket's own address.
            (true, _, _) if is_new => peer_of(socket),
            (true, Some(own), _) | (false, _, Some(own)) => own.bytes.clone(),
            _ => return Ok(Unknown),
        };
        self.put_address(&bytes, address, length_at)?;
        Ok(Value(0))
    }

    pub(crate) fn accept(
        &mut self,
        fd: u64,
        (address, length_at): (u64, u64),
        flags: u64,
    ) -> Result<Reply, RehearseError> {
        let Some(open) = self.descriptors.at_mut(fd) else { return Ok(error(libc::EBADF)) };
        let is_nonblocking = open.flags & low(NONBLOCK) != 0;
        let Kind::Listening { socket, waiting } = &mut open.kind else {
            return Ok(error(libc::EINVAL));
        };
        let socket = *socket;
        let Some(id) = waiting.pop_front() else {
            let told = -i64::from(libc::EINTR);
            return Ok(match is_nonblocking {
                true => error(libc::EAGAIN),
                false => Waits { timeout: Timeout::Never, told },
            });
        };
        if let Some(open) = self.descriptors.id_mut(id) {
            open.flags = low(2 | flags & NONBLOCK);
        }
        let slot = Slot { id, close_on_exec: flags & CLOEXEC != 0 };
        if address != 0 {
            self.put_address(&peer_of(socket), address, length_at)?;
        }
        Ok(new_fd(self.descriptors.duplicate(slot, 0)))
    }

    fn put_address(
        &mut self,
        bytes: &[u8],
        address: u64,
        length_at: u64,
    ) -> Result<(), RehearseError> {
        let mut room = [0; 4];
        self.pages.read(length_at, &mut room)?;
        let room = usize::try_from(u32::from_ne_bytes(room)).unwrap_or(0);
        self.pages.write(address, &bytes[..bytes.len().min(room)])?;
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        self.pages.write(length_at, &length.to_ne_bytes())
    }
}

/// The address of one who connects to `socket`: of this host.
fn peer_of(socket: &Socket) -> Vec<u8> {
    let port = 40_000_u16.to_be_bytes();
    match socket.family {
        SocketFamily::Inet => {
            let mut bytes = vec![2, 0, port[0], port[1], 127, 0, 0, 1];
            bytes.resize(16, 0);
            bytes
        }
        SocketFamily::Inet6 => {
            let mut bytes = vec![10, 0, port[0], port[1]];
            bytes.resize(23, 0);
            bytes.push(1);
            bytes.resize(28, 0);
            bytes
        }
        SocketFamily::Unix => vec![1, 0],
    }
}
