//! Where pages come from and go to.

use crate::{MemoryId, PageRange, PageSet};

/// A place where the bytes of an instance's pages can be had: a live process, a frozen one, a
/// stored checkpoint, a file, later a recompute function.
///
/// Implementations are read from several threads at once.
pub trait PageSource: Send + Sync {
    /// The pages of `memory` that hold content here. A page of a mapping that is not listed has
    /// no content of its own: it reads as zero, or as the file behind a private file mapping.
    ///
    /// # Errors
    /// When the source cannot be listed.
    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError>;

    /// Fills `buffer` with the bytes of `pages`; `buffer` is exactly `pages.bytes()` long.
    /// Either every byte is right or an error comes back: a source never makes up zeros for
    /// what it could not read.
    ///
    /// # Errors
    /// When a page is not in the source, cannot be read, or fails its checksum.
    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError>;

    /// Says that `pages` will be read soon, so that a slow source can begin. It promises nothing,
    /// and does not wait.
    fn will_need(&self, memory: MemoryId, pages: &PageSet) {
        let _ = (memory, pages);
    }

    /// Fills `buffer` with the bytes of `runs`, one behind the other; it is exactly as long as
    /// they are together. A source that keeps pages together reads those that lie near each other
    /// in one go.
    ///
    /// # Errors
    /// As [`PageSource::read`].
    fn read_runs(
        &self,
        memory: MemoryId,
        runs: &[PageRange],
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        read_one_by_one(self, memory, runs, buffer)
    }
}

/// [`PageSource::read_runs`] by reading each run apart, for sources that have no better way.
///
/// # Errors
/// As [`PageSource::read`].
pub fn read_one_by_one<S: PageSource + ?Sized>(
    source: &S,
    memory: MemoryId,
    runs: &[PageRange],
    buffer: &mut [u8],
) -> Result<(), PageSourceError> {
    let mut rest = buffer;
    for run in runs {
        let length = usize::try_from(run.bytes()).unwrap_or(usize::MAX);
        let Some((these, others)) = std::mem::take(&mut rest).split_at_mut_checked(length) else {
            let cause = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(PageSourceError::Io { memory, pages: *run, cause });
        };
        source.read(memory, *run, these)?;
        rest = others;
    }
    Ok(())
}

/// A place that takes an instance's pages: a checkpoint being written, a process being built.
pub trait PageSink: Send + Sync {
    /// Takes the bytes of `pages` of `memory`; `bytes` is exactly `pages.bytes()` long. May be
    /// called from several threads at once, each page once.
    ///
    /// # Errors
    /// When the bytes cannot be taken; the whole operation is then given up.
    fn put(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError>;
}

/// Why a page could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageSourceError {
    /// The source holds no content for the page.
    #[error("read {pages} of {memory}: the source does not hold it")]
    Absent {
        /// The memory asked for.
        memory: MemoryId,
        /// The pages asked for.
        pages: PageRange,
    },
    /// The bytes are there but are not the ones that were written.
    #[error("read {pages} of {memory}: {detail}; the checkpoint is damaged, use another one")]
    Damaged {
        /// The memory asked for.
        memory: MemoryId,
        /// The pages asked for.
        pages: PageRange,
        /// What was found.
        detail: String,
    },
    /// The kernel or the disk refused.
    #[error("read {pages} of {memory}: {cause}")]
    Io {
        /// The memory asked for.
        memory: MemoryId,
        /// The pages asked for.
        pages: PageRange,
        /// What it said.
        cause: std::io::Error,
    },
}

/// Why a page could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("write {pages} of {memory}: {cause}")]
pub struct PageSinkError {
    /// The memory written to.
    pub memory: MemoryId,
    /// The pages written.
    pub pages: PageRange,
    /// What went wrong.
    pub cause: std::io::Error,
}
