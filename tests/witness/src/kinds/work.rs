//! Threads at work: starting, ending, joining, and waiting for each other.

use crate::crew::{self, Watch};
use crate::flaw::{Flaw, Outcome, fail};
use crate::kind::{Context, Kind, Pass};
use crate::pattern::mix;
use crate::{ensure, no_variant, raw, same, wrong};
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

unsafe extern "C" {
    /// glibc: a join that gives up at a CLOCK_REALTIME deadline.
    fn pthread_timedjoin_np(
        thread: libc::pthread_t,
        result: *mut *mut libc::c_void,
        deadline: *const libc::timespec,
    ) -> i32;
}

/// What a thread of `churn` shares with the checker.
#[derive(Default)]
struct Task {
    number: u64,
    stop: AtomicBool,
    result: AtomicU64,
}

/// Long-lived threads that end when asked: a join waits for the word that the kernel clears.
struct Churn {
    threads: Vec<(Arc<Task>, JoinHandle<()>)>,
    made: u64,
}

/// Sets up the threads that come and go.
pub fn churn(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let mut churn = Churn { threads: Vec::new(), made: 0 };
    for _ in 0..4 {
        churn.add()?;
    }
    Ok(Box::new(churn))
}

impl Churn {
    fn add(&mut self) -> Outcome {
        self.made += 1;
        let task = Arc::new(Task { number: self.made, ..Task::default() });
        let mine = Arc::clone(&task);
        let body = move || {
            while !mine.stop.load(SeqCst) {
                if let Err(flaw) = raw::sleep(Duration::from_millis(50)) {
                    fail("churn", &flaw);
                }
            }
            mine.result.store(mix(mine.number), SeqCst);
        };
        let builder = std::thread::Builder::new().name(format!("churn-{}", self.made));
        self.threads.push((task, builder.stack_size(64 * 1024).spawn(body)?));
        Ok(())
    }
}

impl Kind for Churn {
    fn check(&mut self) -> Outcome<Pass> {
        for (task, handle) in &self.threads {
            ensure!(!handle.is_finished(), "thread {} ended by itself", task.number);
        }
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        if !step.is_multiple_of(4) {
            return Ok(());
        }
        let (task, handle) = self.threads.remove(0);
        task.stop.store(true, SeqCst);
        let mut deadline = raw::timespec(Duration::from_nanos(raw::clock(libc::CLOCK_REALTIME)));
        deadline.tv_sec += 60;
        // SAFETY: the thread is joined once, here: the handle gave up its own claim.
        let error = unsafe {
            pthread_timedjoin_np(handle.into_pthread_t(), std::ptr::null_mut(), &deadline)
        };
        if error != 0 {
            let cause = std::io::Error::from_raw_os_error(error);
            wrong!("join of thread {} said {cause}", task.number);
        }
        same!("what a joined thread left", mix(task.number), task.result.load(SeqCst));
        self.add()
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            // Ends a thread behind the checker's back.
            "ended" => self.threads[2].0.stop.store(true, SeqCst),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

const RING: u64 = 4;

/// A token passed round by a mutex and a condition variable.
#[derive(Default)]
struct Token {
    value: Mutex<u64>,
    turn: Condvar,
}

/// The threads that pass the token; a lost wake-up shows as silence, a lost store as a wrong value.
struct Ring {
    token: Arc<Token>,
    watch: Watch,
}

/// Sets up the ring of threads.
pub fn ring(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let token = Arc::new(Token::default());
    for number in 0..RING {
        let token = Arc::clone(&token);
        crew::start(&format!("ring-{number}"), "ring", &[], move |_, ready| {
            ready(Ok(()));
            let mut expected = number;
            loop {
                token.pass_on(number, expected)?;
                expected += RING;
            }
        })?;
    }
    Ok(Box::new(Ring { token, watch: Watch::default() }))
}

impl Token {
    fn lock(&self) -> Outcome<std::sync::MutexGuard<'_, u64>> {
        self.value.lock().map_err(|_| Flaw::Wrong("the ring's mutex is poisoned".into()))
    }

    fn pass_on(&self, number: u64, expected: u64) -> Outcome {
        let mut value = self.lock()?;
        while *value % RING != number {
            let waited = self.turn.wait(value);
            value = waited.map_err(|_| Flaw::Wrong("the ring's mutex is poisoned".into()))?;
        }
        same!("the token", expected, *value);
        // Now and then inside the lock: a freeze should find it held too.
        if value.is_multiple_of(64) {
            raw::sleep(Duration::from_millis(5))?;
        }
        *value += 1;
        self.turn.notify_all();
        drop(value);
        raw::sleep(Duration::from_millis(10))
    }
}

impl Kind for Ring {
    fn check(&mut self) -> Outcome<Pass> {
        let value = *self.token.lock()?;
        self.watch.alive("the ring", value)?;
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "token" => *self.token.lock()? += RING,
            _ => no_variant!(variant),
        }
        self.token.turn.notify_all();
        Ok(())
    }
}
