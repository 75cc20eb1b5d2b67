//! A program that is not all there, as another verb sees it.

use std::io;
use std::time::{Duration, Instant};

use ::resume::serve::{Ledger, Missing};
use mem::MemoryId;
use store::{Checkpoint, Store};

use super::{control, faults, keeper, record, revive};
use crate::registry::Registry;

const LOOK: Duration = Duration::from_millis(1);

/// A program whose missing pages are served.
pub(crate) struct Served {
    registry: Registry,
    instance: String,
    run: (i32, u64),
    ledger: Ledger,
    /// More than what was asked for is loaded.
    is_filled: bool,
    /// Where its missing pages are stored.
    pub(crate) source: Checkpoint,
    /// Which memory of the source they are.
    pub(crate) memory: MemoryId,
}

/// What serves the process `run` (pid and start time) of `instance`; `None` when it is all there.
/// `check` says when to give up.
///
/// # Errors
/// When pages of it are missing and nobody has them any more, and what `check` says.
pub(crate) fn served<E: From<io::Error>>(
    registry: &Registry,
    instance: &str,
    run: (i32, u64),
    check: impl Fn() -> Result<(), E>,
) -> Result<Option<Served>, E> {
    let until = Instant::now() + control::SUCCESSOR_WITHIN;
    while is_needed(registry, instance, run)? {
        let status = control::ask(registry, instance, "status");
        if status.is_some_and(|answer| answer.complete_us.is_none()) {
            match revive::at_work(registry, instance) {
                Ok((brief, ledger)) => {
                    let Some(session) = &brief.session else { break };
                    let source = keeper::open(&brief, keeper::named(&brief)?, None)?;
                    let memory = session.memory();
                    let (registry, instance) = (registry.clone(), instance.to_owned());
                    let is_filled = brief.fill;
                    let served =
                        Served { registry, instance, run, ledger, is_filled, source, memory };
                    return Ok(Some(served));
                }
                Err(error) if Instant::now() >= until => return Err(error.into()),
                // It has ended since it answered.
                Err(_) => {}
            }
        }
        // It closes the userfaultfd and goes, or another takes over.
        check()?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

/// Whether the process needs an agent. One that was killed has a successor then.
fn is_needed(registry: &Registry, instance: &str, run: (i32, u64)) -> io::Result<bool> {
    // Written down of an earlier process of the instance, it says nothing of this one.
    Ok(record::is_recorded(registry, instance, run)?
        && revive::revive_if_needed(registry, instance)?)
}

impl Served {
    /// Keeps what the program had to wait for so far.
    pub(crate) fn save_faults(&self, store: &Store) {
        if let Ok(instance) = self.instance.parse() {
            let plan = self.is_filled.then(|| self.source.plan());
            faults::save(store, &instance, &self.ledger, (self.memory, plan));
        }
    }

    /// Has everything loaded, in the background.
    pub(crate) fn fill(&self) {
        control::ask(&self.registry, &self.instance, "fill");
    }

    /// What the program misses, which has to stand still; `None` when it is all there by now.
    ///
    /// # Errors
    /// When nobody tells.
    pub(crate) fn missing(&self) -> io::Result<Option<Missing>> {
        let until = Instant::now() + control::SUCCESSOR_WITHIN;
        while Instant::now() < until {
            if !is_needed(&self.registry, &self.instance, self.run)? {
                return Ok(None);
            }
            match control::ask(&self.registry, &self.instance, "state") {
                Some(answer) if answer.complete_us.is_some() => return Ok(None),
                Some(answer) if answer.state_given => return Ok(self.ledger.missing()),
                _ => std::thread::sleep(LOOK),
            }
        }
        Err(io::Error::other("the fault server does not tell what is missing"))
    }
}
