//! Pairs of sockets with bytes under way in them, and as much room as before.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive};
use crate::{ensure, no_variant, same, sys};
use std::os::fd::RawFd;

/// What is sent at once beside what waits: more than a small buffer holds.
const BURST: usize = 60_000;
/// `SO_BUF_LOCK`.
const BUF_LOCK: i32 = 72;

/// Two ends, and what waits at the second.
struct Pair {
    ends: [RawFd; 2],
    waiting: usize,
    /// Size of the send buffer and who may change it, of each end.
    rooms: [(i32, i32); 2],
}

/// Pairs with nothing, a byte, and some thousands of bytes under way; one with a size of its own.
struct Pairs {
    pairs: Vec<Pair>,
    pattern: Pattern,
}

fn option(fd: RawFd, name: i32) -> Outcome<i32> {
    let (mut value, mut len) = (0i32, 4);
    let at = (&raw mut value).cast();
    sys!(libc::getsockopt(fd, libc::SOL_SOCKET, name, at, &mut len))?;
    Ok(value)
}

fn rooms(ends: [RawFd; 2]) -> Outcome<[(i32, i32); 2]> {
    let room =
        |fd| Ok::<_, crate::flaw::Flaw>((option(fd, libc::SO_SNDBUF)?, option(fd, BUF_LOCK)?));
    Ok([room(ends[0])?, room(ends[1])?])
}

/// Sets up the pairs.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let pattern = Pattern::new(derive(context.seed, "pairs", 0));
    let mut pairs = Vec::new();
    for waiting in [0, 1, 7000, 3000] {
        let mut ends = [0; 2];
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        sys!(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
        if waiting == 3000 {
            let bytes = 160_000i32;
            let (level, at) = (libc::SOL_SOCKET, (&raw const bytes).cast());
            sys!(libc::setsockopt(ends[0], level, libc::SO_SNDBUF, at, 4))?;
        }
        let pair = Pair { ends, waiting, rooms: rooms(ends)? };
        pair.send(&pattern.bytes(0, waiting))?;
        pairs.push(pair);
    }
    Ok(Box::new(Pairs { pairs, pattern }))
}

impl Pair {
    fn send(&self, bytes: &[u8]) -> Outcome {
        if !bytes.is_empty() {
            let sent = sys!(libc::send(self.ends[0], bytes.as_ptr().cast(), bytes.len(), 0))?;
            same!("bytes that a pair takes at once", bytes.len() as i64, sent);
        }
        Ok(())
    }

    fn receive(&self, count: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0u8; count];
        let mut got = 0;
        while got < count {
            let at = bytes[got..].as_mut_ptr().cast();
            got += sys!(libc::recv(self.ends[1], at, count - got, 0))? as usize;
        }
        Ok(bytes)
    }
}

impl Kind for Pairs {
    fn check(&mut self) -> Outcome<Pass> {
        for pair in &self.pairs {
            let name = format!("the pair with {} bytes", pair.waiting);
            same!(format!("room of {name}"), pair.rooms, rooms(pair.ends)?);
            let all = self.pattern.bytes(0, pair.waiting + BURST);
            pair.send(&all[pair.waiting..])?;
            ensure!(pair.receive(all.len())? == all, "{name} gives other bytes");
            pair.send(&all[..pair.waiting])?;
        }
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let pair = &self.pairs[2];
        match variant {
            "byte" => drop(pair.receive(1)?),
            "room" => {
                let bytes = 4096i32;
                let (level, at) = (libc::SOL_SOCKET, (&raw const bytes).cast());
                sys!(libc::setsockopt(pair.ends[0], level, libc::SO_SNDBUF, at, 4))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
