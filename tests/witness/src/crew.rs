//! Threads that hold state of their own and check it in a loop.

use crate::board;
use crate::flaw::{Flaw, Outcome, fail};
use crate::kind::{Kind, Pass};
use crate::raw;
use crate::wrong;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a thread may make no progress while the checker runs, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// Notices when a counter stands still although the program runs.
#[derive(Debug, Default)]
pub struct Watch {
    last: u64,
    since_ms: u64,
}

impl Watch {
    /// Fails when `count` has not changed for too long.
    pub fn alive(&mut self, what: &str, count: u64) -> Outcome {
        if self.stuck_for(count) < PATIENCE_MS {
            return Ok(());
        }
        wrong!("{what} made no progress for {} ms (count {count})", self.stuck_for(count))
    }

    /// For how long `count` has stood still, in running milliseconds.
    pub fn stuck_for(&mut self, count: u64) -> u64 {
        if count != self.last {
            *self = Self { last: count, since_ms: board::running_ms() };
        }
        board::running_ms() - self.since_ms
    }
}

/// What a thread shares with the checker.
#[derive(Debug, Default)]
pub struct Post {
    /// Rounds that were found right.
    pub rounds: AtomicU64,
    /// The thread's tid.
    pub tid: AtomicI32,
    spoil: AtomicBool,
    variant: OnceLock<String>,
}

impl Post {
    /// The variant that the thread must spoil its state with, once.
    pub fn sabotage_due(&self) -> Option<&str> {
        if self.spoil.swap(false, SeqCst) { self.variant.get().map(String::as_str) } else { None }
    }

    /// Asks the thread to spoil its state.
    pub fn ask_sabotage(&self, variant: &str) {
        let _ = self.variant.set(variant.to_owned());
        self.spoil.store(true, SeqCst);
    }
}

/// A thread's own state. It is made, checked and spoiled in that thread.
pub trait Member {
    /// Checks the state once; `round` counts from 0.
    fn verify(&mut self, round: u64) -> Outcome;

    /// Spoils the state.
    fn spoil(&mut self, variant: &str) -> Outcome;

    /// How long to sleep after a check; none for a check that waits by itself.
    fn rest(&self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }
}

/// Starts a thread with everything blocked but `open`, and waits until `body` said it is set up.
pub fn start<F>(name: &str, kind: &'static str, open: &[i32], body: F) -> Outcome<Arc<Post>>
where
    F: FnOnce(Arc<Post>, &dyn Fn(Outcome)) -> Outcome + Send + 'static,
{
    let post = Arc::new(Post::default());
    let (ready, is_ready) = std::sync::mpsc::channel::<Outcome>();
    let (mine, mask) = (Arc::clone(&post), raw::quiet_mask(open));
    let run = move || {
        mine.tid.store(raw::gettid(), SeqCst);
        let told = std::cell::Cell::new(false);
        let tell = |outcome| {
            told.set(true);
            drop(ready.send(outcome));
        };
        let outcome = match raw::set_mask(&mask) {
            Ok(()) => body(mine, &tell),
            Err(failed) => Err(failed.into()),
        };
        // Before set-up is through the error is the set-up's, afterwards it ends the program.
        if let Err(flaw) = outcome {
            if told.get() {
                fail(kind, &flaw);
            }
            tell(Err(flaw));
        }
    };
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(run)?;
    match is_ready.recv() {
        Ok(outcome) => outcome.map(|()| post),
        Err(_) => Err(Flaw::Wrong(format!("thread {name} ended during set-up"))),
    }
}

/// A kind that consists of threads with state of their own.
pub struct Crew {
    members: Vec<(Arc<Post>, Watch)>,
}

impl Crew {
    /// Starts `count` threads; `make` runs in each with its number.
    pub fn start<M, F>(kind: &'static str, count: u64, open: &[i32], make: F) -> Outcome<Self>
    where
        M: Member + 'static,
        F: Fn(u64) -> Outcome<M> + Clone + Send + 'static,
    {
        let mut members = Vec::new();
        for number in 0..count {
            let make = make.clone();
            let post = start(&format!("{kind}-{number}"), kind, open, move |post, ready| {
                let mut member = make(number)?;
                ready(Ok(()));
                serve(&mut member, &post)
            })?;
            members.push((post, Watch::default()));
        }
        Ok(Self { members })
    }

    /// Boxed, as the registry wants it.
    pub fn boxed(self) -> Outcome<Box<dyn Kind>> {
        Ok(Box::new(self))
    }
}

fn serve<M: Member>(member: &mut M, post: &Post) -> Outcome {
    for round in 0.. {
        if let Some(variant) = post.sabotage_due() {
            member.spoil(variant)?;
        }
        member.verify(round)?;
        post.rounds.store(round + 1, SeqCst);
        if let Some(rest) = member.rest() {
            raw::sleep(rest)?;
        }
    }
    Ok(())
}

impl Kind for Crew {
    fn check(&mut self) -> Outcome<Pass> {
        for (number, (post, watch)) in self.members.iter_mut().enumerate() {
            watch.alive(&format!("thread {number}"), post.rounds.load(SeqCst))?;
        }
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        if let Some((post, _)) = self.members.last() {
            post.ask_sabotage(variant);
        }
        Ok(())
    }
}
