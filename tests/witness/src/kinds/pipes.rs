//! Pipes with data in them.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive, mix};
use crate::{no_variant, same, sys, wrong};
use std::os::fd::RawFd;

/// One pipe or FIFO and the bytes that wait in it.
struct Pipe {
    reader: RawFd,
    writer: RawFd,
    capacity: i64,
    flags: (i64, i64),
    waiting: usize,
    pattern: Pattern,
}

/// Pipes at several fill levels, one of packets, one without a writer, one without a reader.
struct Pipes {
    pipes: Vec<Pipe>,
    packets: (RawFd, RawFd),
    ended: RawFd,
    widowed: RawFd,
    seed: u64,
    round: u64,
}

const PACKETS: [usize; 4] = [1, 4096, 333, 17];
const LAST_WORDS: usize = 777;

fn pipe(flags: i32) -> Outcome<(RawFd, RawFd)> {
    let mut ends = [0; 2];
    sys!(libc::pipe2(ends.as_mut_ptr(), flags))?;
    Ok((ends[0], ends[1]))
}

/// Sets up the pipes.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "pipes", 0);
    let mut pipes = Vec::new();
    for (number, waiting) in [0, 1, 5000, 65_536, 200_000].into_iter().enumerate() {
        let (reader, writer) = match number {
            1 => fifo(context)?,
            _ => pipe(if number % 2 == 0 { libc::O_NONBLOCK } else { libc::O_CLOEXEC })?,
        };
        if waiting > 65_536 {
            sys!(libc::fcntl(writer, libc::F_SETPIPE_SZ, 256 * 1024))?;
        }
        let pattern = Pattern::new(mix(seed ^ number as u64));
        let capacity = sys!(libc::fcntl(writer, libc::F_GETPIPE_SZ))?;
        let mut pipe = Pipe { reader, writer, capacity, flags: (0, 0), waiting, pattern };
        pipe.flags = pipe.read_flags()?;
        pipe.fill()?;
        pipes.push(pipe);
    }
    let packets = pipe(libc::O_DIRECT | libc::O_NONBLOCK)?;
    let (ended, writer) = pipe(libc::O_NONBLOCK)?;
    let (reader, widowed) = pipe(libc::O_NONBLOCK)?;
    let words = Pattern::new(seed).bytes(0, LAST_WORDS);
    write_all(writer, &words)?;
    sys!(libc::close(writer))?;
    sys!(libc::close(reader))?;
    let kind = Pipes { pipes, packets, ended, widowed, seed, round: 0 };
    kind.send_packets()?;
    Ok(Box::new(kind))
}

/// A FIFO with a name, both ends held by this process.
fn fifo(context: &Context) -> Outcome<(RawFd, RawFd)> {
    let path = format!("{}/fifo\0", context.dir.display());
    sys!(libc::mkfifo(path.as_ptr().cast(), 0o600))?;
    let reader = sys!(libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_NONBLOCK))?;
    let writer = sys!(libc::open(path.as_ptr().cast(), libc::O_WRONLY))?;
    Ok((reader as RawFd, writer as RawFd))
}

fn write_all(fd: RawFd, bytes: &[u8]) -> Outcome {
    let written = sys!(libc::write(fd, bytes.as_ptr().cast(), bytes.len()))?;
    same!("bytes written to a pipe", bytes.len() as i64, written);
    Ok(())
}

fn read_up_to(fd: RawFd, len: usize) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; len];
    let read = sys!(libc::read(fd, bytes.as_mut_ptr().cast(), len))?;
    bytes.truncate(read as usize);
    Ok(bytes)
}

impl Pipe {
    fn read_flags(&self) -> Outcome<(i64, i64)> {
        let of = |fd| {
            Ok::<_, crate::flaw::Flaw>(
                sys!(libc::fcntl(fd, libc::F_GETFL))? | sys!(libc::fcntl(fd, libc::F_GETFD))? << 32,
            )
        };
        Ok((of(self.reader)?, of(self.writer)?))
    }

    fn fill(&self) -> Outcome {
        write_all(self.writer, &self.pattern.bytes(0, self.waiting))
    }

    /// Takes everything out, compares it, and puts new bytes in.
    fn turn(&mut self, seed: u64) -> Outcome {
        same!("pipe flags", self.flags, self.read_flags()?);
        let capacity = sys!(libc::fcntl(self.writer, libc::F_GETPIPE_SZ))?;
        same!("pipe capacity", self.capacity, capacity);
        let mut waiting = 0i32;
        sys!(libc::ioctl(self.reader, libc::FIONREAD, &mut waiting))?;
        same!("bytes waiting in a pipe", self.waiting as i32, waiting);
        if self.waiting > 0 {
            let mut bytes = Vec::new();
            while bytes.len() < self.waiting {
                bytes.extend(read_up_to(self.reader, self.waiting - bytes.len())?);
            }
            self.pattern.verify("pipe", 0, &bytes)?;
        }
        self.pattern = Pattern::new(seed);
        self.fill()
    }
}

impl Pipes {
    fn packet(&self, number: usize) -> Vec<u8> {
        Pattern::new(derive(self.seed, "packet", self.round + number as u64))
            .bytes(0, PACKETS[number])
    }

    fn send_packets(&self) -> Outcome {
        (0..PACKETS.len()).try_for_each(|number| write_all(self.packets.1, &self.packet(number)))
    }

    fn check_packets(&mut self) -> Outcome {
        for number in 0..PACKETS.len() {
            let what = format!("packet {number}");
            same!(what, self.packet(number), read_up_to(self.packets.0, 65_536)?);
        }
        self.round += 1;
        self.send_packets()
    }

    /// A pipe whose writer is gone: the bytes stay, then comes the end. Looked at by `tee`.
    fn check_ended(&self) -> Outcome {
        let (reader, writer) = pipe(libc::O_NONBLOCK)?;
        let flags = libc::SPLICE_F_NONBLOCK;
        let copied = sys!(libc::tee(self.ended, writer, 65_536, flags))? as usize;
        let bytes = read_up_to(reader, copied.max(1))?;
        sys!(libc::close(reader))?;
        sys!(libc::close(writer))?;
        same!("bytes left by a writer that is gone", LAST_WORDS, bytes.len());
        Pattern::new(self.seed).verify("pipe without a writer", 0, &bytes)?;
        let mut poll = libc::pollfd { fd: self.ended, events: libc::POLLIN, revents: 0 };
        sys!(libc::poll(&mut poll, 1, 0))?;
        same!("events without a writer", libc::POLLIN | libc::POLLHUP, poll.revents);
        Ok(())
    }
}

impl Kind for Pipes {
    fn check(&mut self) -> Outcome<Pass> {
        for (number, pipe) in self.pipes.iter_mut().enumerate() {
            pipe.turn(derive(self.seed, "turn", self.round * 100 + number as u64))?;
        }
        self.check_packets()?;
        self.check_ended()?;
        let byte = 0u8;
        match sys!(libc::write(self.widowed, (&raw const byte).cast(), 1)) {
            Err(failed) if failed.errno == libc::EPIPE => Ok(Pass::Whole),
            other => wrong!("a write to a pipe without a reader said {other:?}"),
        }
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "taken" => drop(read_up_to(self.pipes[2].reader, 1)?),
            "fifo" => drop(read_up_to(self.pipes[1].reader, 1)?),
            "added" => write_all(self.pipes[0].writer, b"x")?,
            "changed" => {
                let mut bytes = Vec::new();
                while bytes.len() < 65_536 {
                    bytes.extend(read_up_to(self.pipes[3].reader, 65_536)?);
                }
                bytes[4097] ^= 1;
                write_all(self.pipes[3].writer, &bytes)?;
            }
            "capacity" => {
                sys!(libc::fcntl(self.pipes[0].writer, libc::F_SETPIPE_SZ, 8192))?;
            }
            "packet" => {
                let all: Vec<_> = (0..4).flat_map(|number| self.packet(number)).collect();
                for _ in 0..4 {
                    read_up_to(self.packets.0, 65_536)?;
                }
                write_all(self.packets.1, &all[..4000])?;
            }
            "ended" => drop(read_up_to(self.ended, 1)?),
            "flags" => {
                let (reader, none) = (self.pipes[4].reader, 0);
                sys!(libc::fcntl(reader, libc::F_SETFL, none))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
