//! Samples of what other programs do: `perf_event_open(2)` software events and their ring buffers.
//!
//! Two kinds are offered, both made by the kernel itself without a hardware counter: every page
//! fault with its address ([`EventKind::PageFaults`]), and the registers of a thread so many times
//! in each second that it runs ([`EventKind::CpuClock`]). [`EventGroup`] follows all threads of a
//! process, [`Ring`] hands out typed [`Record`]s and counts those that were lost. The program that
//! is watched is never stopped or changed. Needs Linux >= 5.13 (`inherit_thread`).

mod event;
mod group;
mod record;
mod ring;
#[cfg(test)]
mod tests;

pub use event::{Event, EventKind, PerfError, Scope};
pub use group::{Drained, EventGroup, online_cpus};
pub use record::{Record, Sample, UserRegs};
pub use ring::Ring;
