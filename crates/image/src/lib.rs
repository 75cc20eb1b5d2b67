//! The checkpoint's format.
#![forbid(unsafe_code)]

mod frame;
mod id;
mod summary;

pub use frame::{Frame, FrameSource};
pub use id::{CheckpointId, FrameHash, LineKey, NotACheckpointId};
pub use summary::Summary;
