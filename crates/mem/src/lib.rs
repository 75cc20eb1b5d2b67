//! Addresses, pages, extents of pages and mappings: typed values, range sets, and the trait
//! [`PageSource`] through which every room reads pages.
//!
//! This room is pure: it performs no IO, reads no clock and knows nothing of the kernel beyond
//! the page size of x86-64. It depends on no other room. Read next: `process`, which builds an
//! instance's state out of these values.
#![forbid(unsafe_code)]

mod addr;
mod mapping;
mod memory;
mod range_set;
mod source;

pub use addr::{AddrRange, HUGE_PAGES, PAGE_SIZE, PageCount, PageIndex, PageRange, VirtAddr};
pub use mapping::{Backing, FileIdentity, Mapping, Protection, Sharing, SpecialMapping};
pub use memory::MemoryId;
pub use range_set::PageSet;
pub use source::{PageSink, PageSinkError, PageSource, PageSourceError, read_one_by_one};
