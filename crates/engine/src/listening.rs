//! A thread of ours that answers whoever connects.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often it looks whether it is to end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// How long after a failure nobody is answered: out of descriptors, say, it would fail at once again.
const PAUSE: Duration = Duration::from_millis(500);

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Listening {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Calls `answer` whenever somebody connects to `listener`. It is to fail only where nobody can be
    /// answered.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(crate) fn start<L: AsFd + Send + 'static>(
        name: &str,
        listener: L,
        mut answer: impl FnMut(&L) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let slot = &mut [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
                if !matches!(poll(slot, Some(&LOOK)), Ok(1..)) {
                    continue;
                }
                if let Err(error) = answer(&listener) {
                    tracing::debug!(%error, "a caller was not answered");
                    let until = Instant::now() + PAUSE;
                    while !is_over.load(Ordering::Relaxed) && Instant::now() < until {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            }
        })?;
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has told of a panic itself.
            let _ = thread.join();
        }
    }
}
