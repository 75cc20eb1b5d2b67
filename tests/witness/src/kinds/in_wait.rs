//! Being inside waits for descriptors, reads, writes, and opens.

use super::in_call::{Call, WAIT, lasting, stoppable};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind};
use crate::raw::{self, Failed};
use crate::{ensure, same, sys, wrong};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

fn pipe() -> Outcome<(RawFd, RawFd)> {
    let mut ends = [0; 2];
    sys!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
    Ok((ends[0], ends[1]))
}

fn read_word(fd: RawFd) -> Outcome<u64> {
    let mut word = 0u64;
    let read = sys!(libc::read(fd, (&raw mut word).cast(), 8))?;
    same!("bytes read", 8, read);
    Ok(word)
}

fn write_word(fd: RawFd, word: u64) -> Outcome {
    let written = sys!(libc::write(fd, (&raw const word).cast(), 8))?;
    same!("bytes written", 8, written);
    Ok(())
}

/// A wait for a pipe to become readable: even rounds time out, odd ones are woken.
fn in_readiness<F>(kind: &'static str, call: F) -> Outcome<Box<dyn Kind>>
where
    F: Fn(RawFd, Option<Duration>) -> Result<i64, Failed> + Send + 'static,
{
    let (reader, writer) = pipe()?;
    let wait = move |round: u64| {
        if round.is_multiple_of(2) {
            return lasting(WAIT, Ok(0), || call(reader, Some(WAIT)));
        }
        same!("ready descriptors", 1, call(reader, None)?);
        same!("word in the pipe", round, read_word(reader)?);
        Ok(())
    };
    let wake = move |round: u64, _: &_| match round % 2 {
        0 => Ok(()),
        _ => write_word(writer, round),
    };
    Call::woken(wait, wake).start(kind)
}

/// poll.
pub fn poll(_context: &Context) -> Outcome<Box<dyn Kind>> {
    in_readiness("in-poll", |fd, time| {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let time = time.map_or(-1, |time| time.as_millis() as i32);
        sys!(libc::syscall(libc::SYS_poll, &mut poll, 1, time))
    })
}

/// ppoll, with a mask that must not stay.
pub fn ppoll(_context: &Context) -> Outcome<Box<dyn Kind>> {
    in_readiness("in-ppoll", |fd, time| {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let time = time.map(raw::timespec);
        let pointer = time.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
        let mask = raw::quiet_mask(&[raw::rt(raw::signal::SABOTAGE)]);
        sys!(libc::ppoll(&mut poll, 1, pointer, &mask))
    })
}

fn set_of(fd: RawFd) -> libc::fd_set {
    // SAFETY: a zeroed set is valid; the descriptor is below FD_SETSIZE, as `select` checked.
    unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(fd, &mut set);
        set
    }
}

/// select by its own system call, which writes what is left of the time.
pub fn select(_context: &Context) -> Outcome<Box<dyn Kind>> {
    in_readiness("in-select", |fd, time| {
        let mut set = set_of(fd);
        let none = std::ptr::null_mut::<libc::fd_set>();
        let time = time.map(|time| libc::timeval {
            tv_sec: time.as_secs() as i64,
            tv_usec: i64::from(time.subsec_micros()),
        });
        let pointer = time.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timeval);
        sys!(libc::syscall(libc::SYS_select, fd + 1, &mut set, none, none, pointer))
    })
}

/// pselect.
pub fn pselect(_context: &Context) -> Outcome<Box<dyn Kind>> {
    in_readiness("in-pselect", |fd, time| {
        let mut set = set_of(fd);
        let none = std::ptr::null_mut();
        let time = time.map(raw::timespec);
        let pointer = time.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
        let mask = raw::quiet_mask(&[raw::rt(raw::signal::SABOTAGE)]);
        sys!(libc::pselect(fd + 1, &mut set, none, none, pointer, &mask))
    })
}

/// A wait on an epoll instance of its own.
fn in_epoll<F>(kind: &'static str, call: F) -> Outcome<Box<dyn Kind>>
where
    F: Fn(RawFd, &mut libc::epoll_event, i32) -> Result<i64, Failed> + Send + 'static,
{
    let epoll = sys!(libc::epoll_create1(libc::EPOLL_CLOEXEC))? as RawFd;
    in_readiness(kind, move |fd, time| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0xabcd };
        match sys!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event)) {
            Err(failed) if failed.errno != libc::EEXIST => return Err(failed),
            _ => {}
        }
        let mut found = libc::epoll_event { events: 0, u64: 0 };
        let count = call(epoll, &mut found, time.map_or(-1, |time| time.as_millis() as i32))?;
        let (events, data) = (found.events, found.u64);
        let right = count == 0 || (events, data) == (libc::EPOLLIN as u32, 0xabcd);
        Ok(if right { count } else { i64::MAX })
    })
}

/// epoll_wait: any stop ends it with EINTR, unless the freezer takes care.
pub fn epoll_wait(context: &Context) -> Outcome<Box<dyn Kind>> {
    let lenient = context.stop_may_interrupt;
    in_epoll("in-epoll-wait", move |epoll, event, time| {
        stoppable(lenient, || {
            sys!(libc::syscall(libc::SYS_epoll_wait, epoll, &mut *event, 1, time))
        })
    })
}

/// epoll_pwait: the same with a mask.
pub fn epoll_pwait(context: &Context) -> Outcome<Box<dyn Kind>> {
    let lenient = context.stop_may_interrupt;
    in_epoll("in-epoll-pwait", move |epoll, event, time| {
        let mask = raw::quiet_mask(&[raw::rt(raw::signal::SABOTAGE)]);
        stoppable(lenient, || sys!(libc::epoll_pwait(epoll, &mut *event, 1, time, &mask)))
    })
}

/// A read of an empty pipe.
pub fn pipe_read(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let (reader, writer) = pipe()?;
    let wait = move |round: u64| {
        same!("word in the pipe", round, read_word(reader)?);
        Ok(())
    };
    Call::woken(wait, move |round, _: &_| write_word(writer, round)).start("in-pipe-read")
}

/// A write to a full pipe: the checker takes a page, and the order must hold.
pub fn pipe_write(_context: &Context) -> Outcome<Box<dyn Kind>> {
    const WORDS: u64 = 512;
    let (reader, writer) = pipe()?;
    let taken = AtomicU64::new(0);
    let wait = move |round: u64| write_word(writer, round);
    let wake = move |_: u64, _: &_| {
        let mut words = [0u64; WORDS as usize];
        let len = size_of_val(&words);
        let read = sys!(libc::read(reader, words.as_mut_ptr().cast(), len))?;
        same!("bytes taken from a full pipe", len as i64, read);
        let first = taken.fetch_add(WORDS, SeqCst);
        for (number, word) in words.iter().enumerate() {
            same!("word in the full pipe", first + number as u64, *word);
        }
        Ok(())
    };
    Call::woken(wait, wake).start("in-pipe-write")
}

/// A splice from an empty pipe.
pub fn splice(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let ((source, writer), (reader, sink)) = (pipe()?, pipe()?);
    let wait = move |round: u64| {
        let none = std::ptr::null_mut();
        same!("bytes spliced", 8, sys!(libc::splice(source, none, sink, none, 8, 0))?);
        same!("word spliced", round, read_word(reader)?);
        Ok(())
    };
    Call::woken(wait, move |round, _: &_| write_word(writer, round)).start("in-splice")
}

/// A read of an eventfd that is zero.
pub fn eventfd_read(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let fd = sys!(libc::eventfd(0, libc::EFD_CLOEXEC))? as RawFd;
    let wait = move |round: u64| {
        same!("event counter", round + 1, read_word(fd)?);
        Ok(())
    };
    Call::woken(wait, move |round, _: &_| write_word(fd, round + 1)).start("in-eventfd-read")
}

/// A read of a timer descriptor that has not expired.
pub fn timerfd_read(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let fd = sys!(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC))? as RawFd;
    let wait = move |_| {
        let none = raw::timespec(Duration::ZERO);
        let time = libc::itimerspec { it_interval: none, it_value: raw::timespec(WAIT) };
        lasting(WAIT, Ok(1), || {
            sys!(libc::timerfd_settime(fd, 0, &time, std::ptr::null_mut()))?;
            let mut ticks = 0u64;
            sys!(libc::read(fd, (&raw mut ticks).cast(), 8))?;
            Ok(ticks as i64)
        })
    };
    Call::timed(wait).start("in-timerfd-read")
}

/// An open of a FIFO that waits for the other side.
pub fn fifo_open(context: &Context) -> Outcome<Box<dyn Kind>> {
    let path = format!("{}/fifo-open\0", context.dir.display());
    sys!(libc::mkfifo(path.as_ptr().cast(), 0o600))?;
    let name = path.clone();
    let wait = move |_| {
        let fd = sys!(libc::open(name.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC))? as RawFd;
        sys!(libc::close(fd))?;
        Ok(())
    };
    let wake = move |_: u64, _: &_| {
        // ENXIO: the reader is not there yet; a later pass tries again.
        let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        match sys!(libc::open(path.as_ptr().cast(), flags)) {
            Ok(fd) => drop(sys!(libc::close(fd as RawFd))?),
            Err(failed) if failed.errno == libc::ENXIO => {}
            Err(failed) => return Err(failed.into()),
        }
        Ok(())
    };
    Call { again: true, ..Call::woken(wait, wake) }.start("in-fifo-open")
}

fn udp() -> Outcome<(RawFd, libc::sockaddr_in)> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let fd = sys!(libc::socket(libc::AF_INET, kind, 0))? as RawFd;
    let mut address = super::sockets::loopback(0);
    let mut len = size_of_val(&address) as libc::socklen_t;
    sys!(libc::bind(fd, (&raw const address).cast(), len))?;
    sys!(libc::getsockname(fd, (&raw mut address).cast(), &mut len))?;
    Ok((fd, address))
}

/// recv on a UDP socket. Datagrams may be lost, so the checker sends again.
pub fn recv(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let (fd, address) = udp()?;
    let sender = udp()?.0;
    let newest = Arc::new(AtomicU64::new(0));
    let sent = Arc::clone(&newest);
    let wait = move |round: u64| {
        loop {
            let mut word = 0u64;
            let read = sys!(libc::recv(fd, (&raw mut word).cast(), 8, 0))?;
            same!("bytes received", 8, read);
            ensure!(word <= sent.load(SeqCst), "received {word}, which nobody sent");
            if word >= round {
                return Ok(());
            }
        }
    };
    let wake = move |round: u64, _: &_| {
        newest.store(round, SeqCst);
        let (to, len) = ((&raw const address).cast(), size_of_val(&address) as u32);
        sys!(libc::sendto(sender, (&raw const round).cast(), 8, 0, to, len))?;
        Ok(())
    };
    Call { again: true, ..Call::woken(wait, wake) }.start("in-recv")
}

/// recv with SO_RCVTIMEO: such a call is ended by any stop with EINTR.
pub fn recv_timed(context: &Context) -> Outcome<Box<dyn Kind>> {
    let lenient = context.stop_may_interrupt;
    let fd = udp()?.0;
    let time = libc::timeval { tv_sec: 1, tv_usec: 400_000 };
    let (level, len) = (libc::SOL_SOCKET, size_of_val(&time) as u32);
    sys!(libc::setsockopt(fd, level, libc::SO_RCVTIMEO, (&raw const time).cast(), len))?;
    let wait = move |_| {
        let mut word = 0u64;
        let wait = || sys!(libc::recv(fd, (&raw mut word).cast(), 8, 0));
        // The kernel counts this timeout in ticks of its clock.
        lasting(WAIT, Err(libc::EAGAIN), || stoppable(lenient, wait))
    };
    Call::timed(wait).start("in-recv-timed")
}

/// accept on a listener of its own: whoever connects from outside ends it.
pub fn accept(context: &Context) -> Outcome<Box<dyn Kind>> {
    let path = context.dir.join("accept.sock");
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    let wait = move |_| {
        use std::os::fd::AsRawFd;
        let none = std::ptr::null_mut::<libc::sockaddr>();
        let len = std::ptr::null_mut::<libc::socklen_t>();
        let fd = sys!(libc::accept(listener.as_raw_fd(), none, len))?;
        match sys!(libc::close(fd as RawFd)) {
            Ok(_) => Ok(()),
            Err(failed) => wrong!("closing an accepted connection said {failed:?}"),
        }
    };
    Call { ends: false, ..Call::timed(wait) }.start("in-accept")
}
