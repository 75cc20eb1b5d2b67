//! The types of a plan: which extents an instance's memory is divided into, their tier,
//! treatment, load order and the reason for each. Nothing here decides anything; deciding is
//! the business of `partition`. Every room may know these types.
//!
//! The words are those of `docs/GLOSSARY.md`. Read next: [`Extent`].
#![forbid(unsafe_code)]

mod extent;
mod treatment;

pub use extent::{Extent, Plan};
pub use treatment::{Tier, Treatment, UnknownCode};
