//! Live instance to values and pages.
//!
//! [`look`] learns everything that can be learned without stopping the program, and lists every
//! blocker at once. [`state`] reads a frozen program completely, as a `process::Instance`, and
//! opens its memory. [`copy`] moves its pages to a `mem::PageSink` from several threads. The
//! program is the same afterwards, bit for bit.
//!
//! This room decides nothing: what is refused follows from the list of kinds of state in
//! `process`, and what may differ is stated by [`Options`]. It writes nowhere and knows no
//! format. Read next: `survey`, then `state`.
#![forbid(unsafe_code)]

mod binary;
mod copy;
mod credentials;
mod descriptors;
mod findings;
mod flags;
mod group;
mod host;
mod huge;
mod injected;
mod inspect;
mod objects;
mod options;
mod outside;
mod parent;
mod policies;
mod precopy;
mod since;
mod space;
mod state;
mod survey;
mod sync;
mod thread;

pub use copy::{Copied, CopyError, PageList, copy, copy_behind, pages};
pub use descriptors::DescriptorError;
pub use huge::{GivenBack, give_back_huge_pages};
pub use inspect::LookError;
pub use options::{Options, TcpPolicy};
pub use precopy::{Left, Means, Precopy, PrecopyError, Round};
pub use since::signals_since;
pub use state::{Captured, StateError, state};
pub use survey::{Picture, Survey, ThreadPicture, look, picture};
pub use sync::sync_writable_files;
