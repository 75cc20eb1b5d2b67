//! One-shot entries of an epoll that have fired: they wait for nothing, not even for errors and
//! hang-ups, whatever their file is ready for.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::{no_variant, raw, same, sys};
use std::os::fd::RawFd;
use std::time::Duration;

const ONCE: u32 = libc::EPOLLONESHOT as u32;
const EVERY: u32 = (libc::EPOLLIN | libc::EPOLLOUT) as u32;

/// What each entry keeps; the last one is edge-triggered, too.
const KEPT: [&str; 6] = ["40000000", "40000000", "40000000", "40000000", "40000000", "c0000000"];

struct Fired {
    epoll: RawFd,
    /// A counter, an empty pipe, a silent timer, listeners, a datagram socket.
    watched: [RawFd; 6],
}

fn control(epoll: RawFd, operation: i32, fd: RawFd, events: u32) -> Outcome {
    let mut event = libc::epoll_event { events, u64: fd as u64 };
    sys!(libc::epoll_ctl(epoll, operation, fd, &mut event))?;
    Ok(())
}

/// Adds an entry for a file that is ready, and has it reported.
fn fire(epoll: RawFd, fd: RawFd, flags: u32) -> Outcome {
    control(epoll, libc::EPOLL_CTL_ADD, fd, EVERY | flags)?;
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    same!("entries that fire", 1, sys!(libc::epoll_wait(epoll, &mut event, 1, 1000))?);
    Ok(())
}

fn socket(family: i32, kind: i32) -> Outcome<RawFd> {
    Ok(sys!(libc::socket(family, kind | libc::SOCK_CLOEXEC, 0))? as RawFd)
}

fn set_timer(fd: RawFd, first: Duration) -> Outcome {
    let time = libc::itimerspec {
        it_interval: raw::timespec(Duration::ZERO),
        it_value: raw::timespec(first),
    };
    sys!(libc::timerfd_settime(fd, 0, &time, std::ptr::null_mut()))?;
    Ok(())
}

/// Sets up the list.
pub fn set_up(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let epoll = sys!(libc::epoll_create1(libc::EPOLL_CLOEXEC))? as RawFd;
    let counter = sys!(libc::eventfd(0, libc::EFD_NONBLOCK))? as RawFd;
    fire(epoll, counter, ONCE)?;
    let mut pipe = [0; 2];
    sys!(libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
    let mut byte = 0_u8;
    sys!(libc::write(pipe[1], (&raw const byte).cast(), 1))?;
    fire(epoll, pipe[0], ONCE)?;
    sys!(libc::read(pipe[0], (&raw mut byte).cast(), 1))?;
    let timer = sys!(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK))? as RawFd;
    set_timer(timer, Duration::from_nanos(1))?;
    fire(epoll, timer, ONCE)?;
    set_timer(timer, Duration::ZERO)?;
    // A socket that does not listen yet hangs up. The kernel gives both of them an address.
    let tcp = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    fire(epoll, tcp, ONCE)?;
    sys!(libc::listen(tcp, 8))?;
    let unix = socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    fire(epoll, unix, ONCE)?;
    let family = libc::AF_UNIX as u16;
    sys!(libc::bind(unix, (&raw const family).cast(), size_of_val(&family) as libc::socklen_t))?;
    sys!(libc::listen(unix, 8))?;
    let datagrams = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    fire(epoll, datagrams, ONCE | libc::EPOLLET as u32)?;
    Ok(Box::new(Fired { epoll, watched: [counter, pipe[0], timer, tcp, unix, datagrams] }))
}

impl Kind for Fired {
    fn check(&mut self) -> Outcome<Pass> {
        let text = raw::read_text(&format!("/proc/self/fdinfo/{}", self.epoll))?;
        let mut found: Vec<(RawFd, &str)> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("tfd:")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            found.push((words[0].parse().unwrap_or(-1), words[2]));
        }
        found.sort_unstable();
        let mut wanted: Vec<(RawFd, &str)> = self.watched.into_iter().zip(KEPT).collect();
        wanted.sort_unstable();
        same!("entries that have fired", wanted, found);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        same!("entries that fire again", 0, sys!(libc::epoll_wait(self.epoll, &mut event, 1, 0))?);
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            // As epoll_ctl(2) makes it: it waits for errors and hang-ups.
            "armed" => control(self.epoll, libc::EPOLL_CTL_MOD, self.watched[1], ONCE),
            "lost" => control(self.epoll, libc::EPOLL_CTL_DEL, self.watched[3], 0),
            _ => no_variant!(variant),
        }
    }
}
