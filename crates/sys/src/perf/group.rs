//! One kind of event on every thread of a process.

use std::collections::BTreeMap;
use std::io;

use super::event::{Event, EventKind, PerfError, Scope};
use super::record::Record;
use super::ring::Ring;
use crate::task::Tid;

/// What [`EventGroup::drain`] found beside samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Samples handed out.
    pub samples: u64,
    /// Records that did not fit.
    pub lost: u64,
    /// Times the kernel held sampling back.
    pub throttled: u64,
    /// Whether the process executes another program now.
    pub exec: bool,
}

/// One kind of event on every thread of a process and every CPU, with one ring for each CPU.
///
/// Threads that a followed thread starts are followed by the kernel; [`EventGroup::follow`] adds
/// those that started while the group was being made.
#[derive(Debug)]
pub struct EventGroup {
    kind: EventKind,
    scope: Scope,
    rings: Vec<Ring>,
    cpus: Vec<u32>,
    threads: BTreeMap<i32, Vec<Event>>,
    enabled: bool,
}

impl EventGroup {
    /// A group with no thread in it yet, its rings of `pages` pages on `leader`'s behalf.
    ///
    /// # Errors
    /// When a ring cannot be had.
    pub fn new(
        kind: EventKind,
        scope: Scope,
        leader: Tid,
        cpus: &[u32],
        pages: usize,
    ) -> Result<Self, PerfError> {
        let rings =
            cpus.iter().map(|cpu| Ring::open(leader, *cpu, pages)).collect::<Result<_, _>>()?;
        let threads = BTreeMap::new();
        Ok(Self { kind, scope, rings, cpus: cpus.to_vec(), threads, enabled: false })
    }

    /// Follows thread `tid`. Says whether it was not followed before.
    ///
    /// # Errors
    /// When it has ended or may not be watched; it is then not followed at all.
    pub fn follow(&mut self, tid: Tid) -> Result<bool, PerfError> {
        if self.threads.contains_key(&tid.raw()) {
            return Ok(false);
        }
        let mut events = Vec::with_capacity(self.cpus.len());
        for (cpu, ring) in self.cpus.iter().zip(&self.rings) {
            let event = Event::open(self.kind, self.scope, tid, *cpu)?;
            let failed = |cause| PerfError::Io { tid: tid.raw(), cause };
            event.send_to(ring.owner()).map_err(failed)?;
            if self.enabled {
                event.enable().map_err(failed)?;
            }
            events.push(event);
        }
        self.threads.insert(tid.raw(), events);
        Ok(true)
    }

    /// Whether thread `tid` was added by [`EventGroup::follow`].
    pub fn follows(&self, tid: Tid) -> bool {
        self.threads.contains_key(&tid.raw())
    }

    /// How many threads were added.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Turns sampling on or off.
    ///
    /// # Errors
    /// What the kernel says; threads that have ended are no error.
    pub fn set_enabled(&mut self, on: bool) -> io::Result<()> {
        self.enabled = on;
        for event in self.threads.values().flatten() {
            if on { event.enable()? } else { event.disable()? }
        }
        Ok(())
    }

    /// Takes every sample out of the rings and hands it to `found`.
    pub fn drain(&mut self, mut found: impl FnMut(&super::Sample)) -> Drained {
        let mut drained = Drained::default();
        for ring in &mut self.rings {
            ring.drain(|record| match record {
                Record::Sample(sample) => {
                    drained.samples += 1;
                    found(&sample);
                }
                Record::Lost(count) => drained.lost += count,
                Record::Throttled => drained.throttled += 1,
                Record::Exec { .. } => drained.exec = true,
            });
        }
        drained
    }
}

/// The CPUs that are online.
///
/// # Errors
/// When the kernel does not say.
pub fn online_cpus() -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    crate::sched::parse_cpu_list(text.trim()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is no list of CPUs"))
    })
}
