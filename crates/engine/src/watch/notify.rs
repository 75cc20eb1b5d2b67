//! What the service manager is told (sd_notify(3)). Without one nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often at most it hears that we are alive.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Speaks to the service manager.
#[derive(Debug, Default)]
pub(super) struct Notify {
    is_ready: bool,
    alive: Option<Instant>,
}

impl Notify {
    /// The watch is at work.
    pub(super) fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            tell(&[NotifyState::Ready]);
        }
    }

    /// A line for `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        tell(&[NotifyState::Status(text)]);
    }

    /// We are alive.
    pub(super) fn alive(&mut self) {
        if self.alive.is_none_or(|last| last.elapsed() >= ALIVE_EVERY) {
            self.alive = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// It ends, which may take until a checkpoint is written.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
