//! The frozen program as the source of what its new process needs before it runs.

use mem::{MemoryId, PageRange, PageSet, PageSource, PageSourceError};
use store::Checkpoint;
use target::Memory;

/// Pages of `checkpoint`, read where they still are: in the program that it was made of, and that
/// stands still. There they need not be decoded, page by page out of a frame each.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldMemory<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) memory: &'a Memory,
}

impl PageSource for OldMemory<'_> {
    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        self.checkpoint.pages(memory)
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        self.memory.read(memory, pages, buffer).or_else(|error| {
            tracing::debug!("read from the checkpoint instead: {error}");
            self.checkpoint.read(memory, pages, buffer)
        })
    }
}
