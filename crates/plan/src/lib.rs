//! The types of a plan: which extents an instance's memory is divided into, their tier,
//! treatment, load order and the reason for each; ranges that somebody named; the plan file.
//! Nothing here decides anything; deciding is the business of `partition`. Every room may know
//! these types.
//!
//! The words are those of `docs/GLOSSARY.md`. Read next: [`Extent`], [`Planned`].
#![forbid(unsafe_code)]

mod extent;
mod named;
mod place;
mod plan_file;
mod planned;
mod treatment;

pub use extent::{Extent, Plan};
pub use named::{LossBound, LossEntry, LossyRange};
pub use place::ByPlace;
pub use plan_file::{PLAN_FILE_BYTES_MAX, PLAN_FILE_SCHEMA, PlanFileError};
pub use planned::{EXPENSIVE_MAX, Expensive, Grant, Planned, Predictions, Thresholds};
pub use treatment::{NumericType, Tier, Treatment, UnknownCode};
