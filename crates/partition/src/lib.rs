//! Heat to plans: divides an instance's memory into critical, warm and cold extents, with a
//! treatment, a load order and a reason for each.
//!
//! A [`Policy`] takes an [`Input`] (an [`Inventory`] of the memory, a [`HeatView`], the host's
//! measured [`HostCosts`], a [`Budget`], what is known of earlier plans and resumes) and gives a
//! [`plan::Planned`]. [`race`] plays policies against recorded faults. This room is pure.
//! Read next: [`Policy`], [`Adaptive`], [`Threshold`].
#![forbid(unsafe_code)]

mod adaptive;
mod baseline;
mod builder;
mod costs;
mod cursor;
mod drift;
mod fault_log;
mod from_heat;
mod from_mapping;
mod heat_view;
mod inventory;
mod odds;
mod policy;
mod predict;
pub mod race;
mod sums;
mod threshold;
mod treat;
mod walk;

pub use adaptive::Adaptive;
pub use baseline::{AddressOrder, LastFaults, Lru, Sizes};
pub use costs::{CodecCosts, HostCosts};
pub use drift::{Drift, Move};
pub use fault_log::{FAULT_LOG_SCHEMA, Fault, FaultLog, FaultLogError, Held};
pub use from_heat::HeatPages;
pub use heat_view::{HeatRuns, HeatView, NoHeat, PageHeat};
pub use inventory::{
    Inventory, InventoryError, Kind, Numbers, ParentState, Provenance, Region, Stretch,
};
pub use policy::{Budget, Input, POLICY_NAMES, Policy, policy};
pub use threshold::Threshold;
