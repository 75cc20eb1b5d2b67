//! Threads that sit inside a blocking system call.
//!
//! Each call must end for the reason it waits for and for no other: never with EINTR, never with a
//! wrong value, never before its time. Most waits alternate: even rounds end by their timeout, odd
//! rounds when the checker wakes them.

use crate::crew::{self, Post, Watch};
use crate::flaw::{Flaw, Outcome};
use crate::kind::{Kind, Pass};
use crate::raw::{self, Failed, signal};
use crate::{ensure, no_variant, sys, wrong};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Passes that a thread stays in the call before it is woken.
const PASSES_INSIDE: u32 = 3;
/// Passes between two wake-ups, for those that may be repeated.
const PASSES_BETWEEN: u32 = 25;

/// How long a timed wait lasts.
pub(super) const WAIT: Duration = Duration::from_millis(1300);

type Wait = Box<dyn FnMut(u64) -> Outcome + Send>;
type Wake = Box<dyn Fn(u64, &Post) -> Outcome>;

/// One blocking call.
pub(super) struct Call {
    /// Waits once.
    pub wait: Wait,
    /// Ends the wait of a round; none for waits that end by themselves or only from outside.
    pub wake: Option<Wake>,
    /// Whether a wake-up may be repeated without harm.
    pub again: bool,
    /// Whether the wait ends without anybody from outside.
    pub ends: bool,
    /// Signals that the thread leaves open.
    pub open: Vec<i32>,
}

impl Call {
    /// A wait that ends by itself.
    pub(super) fn timed(wait: impl FnMut(u64) -> Outcome + Send + 'static) -> Self {
        Self { wait: Box::new(wait), wake: None, again: false, ends: true, open: Vec::new() }
    }

    /// A wait that `wake` ends; it must count wake-ups exactly.
    pub(super) fn woken(
        wait: impl FnMut(u64) -> Outcome + Send + 'static,
        wake: impl Fn(u64, &Post) -> Outcome + 'static,
    ) -> Self {
        Self { wake: Some(Box::new(wake)), ..Self::timed(wait) }
    }

    /// Starts the thread.
    pub(super) fn start(self, kind: &'static str) -> Outcome<Box<dyn Kind>> {
        raw::on_signal(raw::rt(signal::SABOTAGE), nothing, 0)?;
        let mut open = self.open;
        open.push(raw::rt(signal::SABOTAGE));
        let mut wait = self.wait;
        let post = crew::start(kind, kind, &open, move |post, ready| {
            ready(Ok(()));
            for round in 0.. {
                wait(round)?;
                post.rounds.store(round + 1, SeqCst);
            }
            Ok(())
        })?;
        let (wake, again, ends, watch) = (self.wake, self.again, self.ends, Watch::default());
        let kind =
            InCall { post, watch, wake, again, ends, round: 0, passes: 0, interrupts: false };
        Ok(Box::new(kind))
    }
}

extern "C" fn nothing(_signal: i32) {}

struct InCall {
    post: Arc<Post>,
    watch: Watch,
    wake: Option<Wake>,
    again: bool,
    ends: bool,
    round: u64,
    passes: u32,
    interrupts: bool,
}

impl Kind for InCall {
    fn check(&mut self) -> Outcome<Pass> {
        if self.interrupts {
            let (tid, number) = (self.post.tid.load(SeqCst), raw::rt(signal::SABOTAGE));
            sys!(libc::syscall(libc::SYS_tgkill, raw::getpid(), tid, number))?;
        }
        let round = self.post.rounds.load(SeqCst);
        if self.ends {
            self.watch.alive("the waiting thread", round)?;
        }
        if round != self.round {
            (self.round, self.passes) = (round, 0);
            return Ok(Pass::Whole);
        }
        self.passes += 1;
        let late = self.passes.checked_sub(PASSES_INSIDE);
        let due = late == Some(0) || self.again && late.is_some_and(|l| l % PASSES_BETWEEN == 0);
        if let (true, Some(wake)) = (due, &self.wake) {
            wake(round, &self.post)?;
        }
        // A wait that only somebody outside can end counts as seen.
        Ok(if self.ends { Pass::Part } else { Pass::Whole })
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            // Again and again: one signal may find the thread between two calls.
            "interrupted" => self.interrupts = true,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Runs a wait that must last `asked` and end with the value `ended`.
pub(super) fn lasting(
    asked: Duration,
    ended: Result<i64, i32>,
    wait: impl FnOnce() -> Result<i64, Failed>,
) -> Outcome {
    let begin = raw::mono();
    let found = wait();
    let lasted = Duration::from_nanos(raw::mono() - begin);
    match (ended, found) {
        (Ok(value), Ok(found)) if value == found => {}
        (Err(errno), Err(failed)) if errno == failed.errno => {}
        (_, Err(failed)) => return Err(Flaw::from(failed)),
        (_, Ok(found)) => wrong!("a timed wait returned {found}"),
    }
    ensure!(lasted >= asked, "a wait of {asked:?} ended after {lasted:?}");
    Ok(())
}

/// Repeats a call that the kernel ends with EINTR after any stop, if that was allowed.
pub(super) fn stoppable(
    lenient: bool,
    mut call: impl FnMut() -> Result<i64, Failed>,
) -> Result<i64, Failed> {
    loop {
        match call() {
            Err(failed) if lenient && failed.errno == libc::EINTR => {}
            other => return other,
        }
    }
}
