//! The verbs as library calls: phase lists with limits, undo and metrics, and the reports that
//! the command line prints. The only room that composes others.
//!
//! It prints nothing and exits nothing: it talks to an [`events::Observer`] and returns values.
//! Read next: [`phase`], then one verb.
#![forbid(unsafe_code)]

pub mod events;
pub mod phase;
pub mod registry;
pub mod report;
mod staging;
