//! eventfd, epoll and signalfd.

use crate::board;
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::derive;
use crate::raw::{self, signal};
use crate::{ensure, no_variant, same, sys, wrong};
use std::os::fd::RawFd;

/// Reads eight bytes; none when the descriptor has nothing.
fn read_word(fd: RawFd) -> Outcome<Option<u64>> {
    let mut word = 0u64;
    match sys!(libc::read(fd, (&raw mut word).cast(), 8)) {
        Ok(_) => Ok(Some(word)),
        Err(failed) if failed.errno == libc::EAGAIN => Ok(None),
        Err(failed) => Err(failed.into()),
    }
}

fn write_word(fd: RawFd, word: u64) -> Outcome {
    sys!(libc::write(fd, (&raw const word).cast(), 8))?;
    Ok(())
}

/// Event counters: plain, semaphore, empty, full.
struct EventFds {
    plain: RawFd,
    semaphore: RawFd,
    empty: RawFd,
    full: RawFd,
    count: u64,
    tokens: u64,
}

/// Sets up the event descriptors.
pub fn event_fds(context: &Context) -> Outcome<Box<dyn Kind>> {
    let make = |flags| sys!(libc::eventfd(0, flags | libc::EFD_NONBLOCK));
    let kind = EventFds {
        plain: make(libc::EFD_CLOEXEC)? as RawFd,
        semaphore: make(libc::EFD_SEMAPHORE)? as RawFd,
        empty: make(0)? as RawFd,
        full: make(0)? as RawFd,
        count: derive(context.seed, "eventfd", 0) >> 8,
        tokens: 9,
    };
    write_word(kind.plain, kind.count)?;
    write_word(kind.semaphore, kind.tokens)?;
    write_word(kind.full, u64::MAX - 1)?;
    Ok(Box::new(kind))
}

impl Kind for EventFds {
    fn check(&mut self) -> Outcome<Pass> {
        same!("event counter", Some(self.count), read_word(self.plain)?);
        self.count = self.count.rotate_left(3) >> 8 | 1;
        write_word(self.plain, self.count)?;
        for token in 0..self.tokens {
            same!(format!("token {token} of a semaphore"), Some(1), read_word(self.semaphore)?);
        }
        same!("empty semaphore", None, read_word(self.semaphore)?);
        self.tokens = self.tokens % 13 + 1;
        write_word(self.semaphore, self.tokens)?;
        same!("empty event counter", None, read_word(self.empty)?);
        let one = 1u64;
        match sys!(libc::write(self.full, (&raw const one).cast(), 8)) {
            Err(failed) if failed.errno == libc::EAGAIN => {}
            other => wrong!("a write to a full event counter said {other:?}"),
        }
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "count" => write_word(self.plain, 1),
            "token" => read_word(self.semaphore).map(drop),
            "empty" => write_word(self.empty, 1),
            "full" => read_word(self.full).map(drop),
            _ => no_variant!(variant),
        }
    }
}

const EDGE: u32 = libc::EPOLLET as u32;
const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;

/// Interest lists with user data: level, edge, one-shot, nested, and a duplicate descriptor.
struct Epoll {
    main: RawFd,
    nested: RawFd,
    ready: RawFd,
    silent: RawFd,
    edge: RawFd,
    once: RawFd,
    tagged: u64,
    armed: bool,
}

fn control(epoll: RawFd, operation: i32, fd: RawFd, events: u32, data: u64) -> Outcome {
    let mut event = libc::epoll_event { events, u64: data };
    sys!(libc::epoll_ctl(epoll, operation, fd, &mut event))?;
    Ok(())
}

/// Sets up the interest lists.
pub fn epoll(context: &Context) -> Outcome<Box<dyn Kind>> {
    let event = || sys!(libc::eventfd(0, libc::EFD_NONBLOCK)).map(|fd| fd as RawFd);
    let main = sys!(libc::epoll_create1(libc::EPOLL_CLOEXEC))? as RawFd;
    let nested = sys!(libc::epoll_create1(0))? as RawFd;
    let kind = Epoll {
        main,
        nested,
        ready: event()?,
        silent: event()?,
        edge: event()?,
        once: event()?,
        tagged: derive(context.seed, "epoll", 0),
        armed: false,
    };
    write_word(kind.ready, 1)?;
    write_word(kind.once, 1)?;
    let add = libc::EPOLL_CTL_ADD;
    control(main, add, kind.ready, IN, kind.tagged)?;
    control(main, add, kind.silent, IN, kind.tagged + 1)?;
    control(main, add, kind.edge, IN | EDGE, kind.tagged + 2)?;
    control(main, add, kind.once, IN | ONCE, kind.tagged + 3)?;
    control(main, add, nested, IN, kind.tagged + 4)?;
    control(nested, add, kind.ready, IN | EDGE, 7)?;
    control(nested, add, kind.silent, IN | OUT, u64::MAX)?;
    // The one-shot fires and is disarmed; the nested edge is consumed.
    kind.wait(main)?;
    kind.wait(nested)?;
    Ok(Box::new(kind))
}

impl Epoll {
    fn wait(&self, epoll: RawFd) -> Outcome<Vec<(u64, u32)>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        let count = sys!(libc::epoll_wait(epoll, events.as_mut_ptr(), 16, 0))? as usize;
        let mut found: Vec<_> = events[..count].iter().map(|e| (e.u64, e.events)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Checks what is reported. An edge that was reported already may come once more after a
    /// resume (the list is made anew), but none may be lost.
    fn expect(&self, what: &str, epoll: RawFd, wanted: &[(u64, u32)], again: u64) -> Outcome {
        let mut found = self.wait(epoll)?;
        let extra = |event: &(u64, u32)| event.0 == again && !wanted.contains(event);
        if found.iter().any(extra) {
            board::spurious_edge();
            found.retain(|event| !extra(event));
        }
        same!(what, wanted, found.as_slice());
        Ok(())
    }
}

impl Kind for Epoll {
    fn check(&mut self) -> Outcome<Pass> {
        let tag = self.tagged;
        let mut wanted = vec![(tag, IN), (tag + 4, IN)];
        if self.armed {
            wanted.insert(1, (tag + 3, IN));
        }
        self.expect("events", self.main, &wanted, tag + 2)?;
        self.armed = false;
        self.expect("nested events", self.nested, &[(u64::MAX, OUT)], 7)?;
        // A new edge must be reported once.
        write_word(self.edge, 1)?;
        let mut wanted = vec![(tag, IN), (tag + 2, IN), (tag + 4, IN)];
        self.expect("events after an edge", self.main, &wanted, u64::MAX)?;
        wanted.remove(1);
        self.expect("events after that edge", self.main, &wanted, u64::MAX)?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        if step.is_multiple_of(3) {
            control(self.main, libc::EPOLL_CTL_MOD, self.once, IN | ONCE, self.tagged + 3)?;
            self.armed = true;
        }
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let (add, modify, delete) = (libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL);
        let tag = self.tagged;
        match variant {
            "lost" => control(self.main, delete, self.ready, 0, 0),
            "edge-lost" => control(self.main, delete, self.edge, 0, 0),
            "level" => control(self.main, modify, self.edge, IN, tag + 2),
            "data" => control(self.main, modify, self.ready, IN, tag ^ 1 << 40),
            "rearmed" => control(self.main, modify, self.once, IN, tag + 3),
            "nested" => control(self.nested, delete, self.silent, 0, 0),
            "added" => {
                let extra = sys!(libc::dup(self.ready))? as RawFd;
                control(self.main, add, extra, IN, 99)
            }
            _ => no_variant!(variant),
        }
    }
}

/// A signalfd with signals waiting to be read.
struct SignalFd {
    fd: RawFd,
    number: i32,
    round: i32,
}

/// Sets up the signalfd.
pub fn signal_fd(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let number = raw::rt(signal::DESCRIPTOR);
    let set = raw::sigset(&[number, raw::rt(signal::UNUSED + 10)]);
    let fd = sys!(libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))? as RawFd;
    let kind = SignalFd { fd, number, round: 1 };
    kind.queue()?;
    Ok(Box::new(kind))
}

impl SignalFd {
    fn queue(&self) -> Outcome {
        for number in 0..3 {
            raw::queue_to_process(self.number, self.round * 10 + number)?;
        }
        Ok(())
    }

    fn read(&self) -> Outcome<Option<libc::signalfd_siginfo>> {
        // SAFETY: a zeroed value is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of_val(&info);
        match sys!(libc::read(self.fd, (&raw mut info).cast(), len)) {
            Ok(_) => Ok(Some(info)),
            Err(failed) if failed.errno == libc::EAGAIN => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }
}

impl Kind for SignalFd {
    fn check(&mut self) -> Outcome<Pass> {
        for number in 0..3 {
            let Some(info) = self.read()? else {
                wrong!("signal {number} cannot be read from the signalfd");
            };
            let expected = (self.number as u32, self.round * 10 + number);
            same!("signal read", expected, (info.ssi_signo, info.ssi_int));
            same!("sender read", raw::getpid() as u32, info.ssi_pid);
        }
        ensure!(self.read()?.is_none(), "a signal too many in the signalfd");
        let text = raw::read_text(&format!("/proc/self/fdinfo/{}", self.fd))?;
        let mask = (1u64 << (self.number - 1)) | (1 << (raw::rt(signal::UNUSED + 10) - 1));
        ensure!(
            text.contains(&format!("{mask:016x}")),
            "mask of the signalfd is not {mask:x}: {text}"
        );
        self.round = self.round % 1000 + 1;
        self.queue()?;
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "mask" => {
                let set = raw::sigset(&[raw::rt(signal::UNUSED + 10)]);
                sys!(libc::signalfd(self.fd, &set, 0))?;
            }
            "read" => drop(self.read()?),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
