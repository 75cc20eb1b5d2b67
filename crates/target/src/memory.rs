//! Reading a process's pages.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use mem::{
    AddrRange, MemoryId, PAGE_SIZE, PageIndex, PageRange, PageSet, PageSource, PageSourceError,
    VirtAddr,
};
use sys::pagemap::{Pagemap, PagemapError, ScanFilter};
use sys::remote::{self, ProcMem};
use sys::task::Tid;

use crate::Process;

/// A mapping that can hold private pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateRange {
    /// Where it lies; whole pages.
    pub range: AddrRange,
    /// Whether its protection lets loads through. What does not is read through
    /// `/proc/PID/mem`.
    pub readable: bool,
}

/// A shared object (a memfd, POSIX shared memory, shared anonymous memory), opened for reading.
#[derive(Debug)]
pub struct ObjectFile {
    /// The object's file.
    pub file: OwnedFd,
    /// Its size in bytes; the last page may be cut short.
    pub size_bytes: u64,
}

/// Why a process's memory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Its page tables cannot be read.
    #[error(transparent)]
    Pagemap(#[from] PagemapError),
    /// Its memory cannot be read.
    #[error("open the memory of process {pid}: {cause}; run as root or with CAP_SYS_PTRACE")]
    Open {
        /// The process.
        pid: i32,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// A process's pages as a [`PageSource`]: private memory number 0 and the shared objects it was
/// made with, numbered by their order.
///
/// Of a frozen process every page reads as it is at the freeze. Of a live one each page is read
/// at some time of its own, and a page that goes away in between is an error or reads as zero:
/// such copies need a check afterwards (write tracking). Reading never brings pages into being:
/// only pages that [`PageSource::pages`] lists may be asked for, and a frozen source checks it.
#[derive(Debug)]
pub struct Memory {
    pid: i32,
    tid: Tid,
    pagemap: Pagemap,
    mem: ProcMem,
    private: Vec<PrivateRange>,
    objects: Vec<ObjectFile>,
    /// Reads pin pages, which un-shares those that a forked relative still shares.
    avoid_pins: bool,
    /// What a frozen source holds, listed once.
    listing: Option<Listing>,
}

type Listing = Vec<OnceLock<PageSet>>;

impl Memory {
    /// The memory of `process` while it runs. It may fork at any time, so no page of it is
    /// pinned: pinning un-shares what a child shares.
    ///
    /// # Errors
    /// When we may not look into it.
    pub fn live(
        process: &Process,
        private: Vec<PrivateRange>,
        objects: Vec<ObjectFile>,
    ) -> Result<Self, MemoryError> {
        Ok(Self { avoid_pins: true, ..Self::open(process, private, objects)? })
    }

    fn open(
        process: &Process,
        private: Vec<PrivateRange>,
        objects: Vec<ObjectFile>,
    ) -> Result<Self, MemoryError> {
        let pid = process.pid().raw();
        let open = |cause: io::Error| MemoryError::Open { pid, cause };
        let avoid_pins = process.stat().map_err(PagemapError::from)?.forked_without_exec();
        Ok(Self {
            pid,
            tid: process.pid().main_thread(),
            pagemap: Pagemap::open(process.dir())?,
            mem: ProcMem::open(process.pid()).map_err(open)?,
            private,
            objects,
            avoid_pins,
            listing: None,
        })
    }

    /// The memory of `process`, which must stay frozen as long as it is read.
    ///
    /// # Errors
    /// When we may not look into it.
    pub fn frozen(
        process: &Process,
        private: Vec<PrivateRange>,
        objects: Vec<ObjectFile>,
    ) -> Result<Self, MemoryError> {
        let mut memory = Self::open(process, private, objects)?;
        memory.listing = Some((0..=memory.objects.len()).map(|_| OnceLock::new()).collect());
        Ok(memory)
    }

    /// The runs of guard pages in `range` (`MADV_GUARD_INSTALL`).
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn guards(&self, range: AddrRange) -> Result<Vec<AddrRange>, MemoryError> {
        let mut guards = Vec::new();
        self.pagemap.scan(range, &ScanFilter::GUARDS, |region| guards.push(region.range))?;
        Ok(guards)
    }

    /// The mappings of private memory, ascending.
    pub fn private_ranges(&self) -> &[PrivateRange] {
        &self.private
    }

    /// The files of the shared objects, by number.
    pub fn object_files(&self) -> &[ObjectFile] {
        &self.objects
    }

    /// The pages of private memory in `range` that hold content, as they are now.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn content(&self, range: AddrRange) -> Result<PageSet, MemoryError> {
        let mut pages = PageSet::new();
        let found = |region: sys::pagemap::Region| pages.insert(region.range.pages());
        self.pagemap.scan(range, &ScanFilter::PRIVATE_CONTENT, found)?;
        Ok(pages)
    }

    /// The pages of private memory in `range` that are not missing: content, zeros or guards.
    ///
    /// # Errors
    /// When the page tables cannot be read.
    pub fn occupied(&self, range: AddrRange) -> Result<PageSet, MemoryError> {
        let mut pages = PageSet::new();
        let found = |region: sys::pagemap::Region| pages.insert(region.range.pages());
        self.pagemap.scan(range, &ScanFilter::OCCUPIED, found)?;
        Ok(pages)
    }

    /// Tells a frozen source which pages of `memory` hold content, when that is known without
    /// listing them again. Nothing is changed when they were listed already.
    pub fn know(&self, memory: MemoryId, pages: PageSet) {
        let slot = self.listing.as_ref().and_then(|listing| listing.get(slot_of(memory)));
        if let Some(slot) = slot {
            let _ = slot.set(pages);
        }
    }

    /// The process read.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Every memory this source has.
    pub fn memories(&self) -> Vec<MemoryId> {
        let objects = u32::try_from(self.objects.len()).unwrap_or(u32::MAX);
        std::iter::once(MemoryId::Private(0)).chain((0..objects).map(MemoryId::Shared)).collect()
    }

    fn list(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        let failed = |range: AddrRange, cause: io::Error| PageSourceError::Io {
            memory,
            pages: range.pages(),
            cause,
        };
        if let MemoryId::Shared(_) = memory {
            let object = self.object(memory, PageRange::default())?;
            let whole = AddrRange::new(0, object.size_bytes);
            return content_of_file(&object.file).map_err(|cause| failed(whole, cause));
        }
        let mut pages = PageSet::new();
        for private in &self.private {
            let found = |region: sys::pagemap::Region| pages.insert(region.range.pages());
            self.pagemap
                .scan(private.range, &ScanFilter::PRIVATE_CONTENT, found)
                .map_err(|cause| failed(private.range, io::Error::other(cause)))?;
        }
        Ok(pages)
    }

    /// The set a frozen source keeps, filled on first use.
    fn listed(&self, memory: MemoryId) -> Result<Option<&PageSet>, PageSourceError> {
        let Some(listing) = &self.listing else { return Ok(None) };
        let Some(slot) = listing.get(slot_of(memory)) else {
            return Err(PageSourceError::Absent { memory, pages: PageRange::default() });
        };
        if slot.get().is_none() {
            // Two threads may both list; they find the same, and the first one's is kept.
            let _ = slot.set(self.list(memory)?);
        }
        Ok(slot.get())
    }

    fn object(&self, memory: MemoryId, pages: PageRange) -> Result<&ObjectFile, PageSourceError> {
        let MemoryId::Shared(number) = memory else {
            return Err(PageSourceError::Absent { memory, pages });
        };
        usize::try_from(number)
            .ok()
            .and_then(|n| self.objects.get(n))
            .ok_or(PageSourceError::Absent { memory, pages })
    }

    fn read_private(&self, pages: PageRange, buffer: &mut [u8]) -> io::Result<()> {
        let start = pages.addrs().start;
        if self.avoid_pins || !self.is_readable(pages.addrs()) {
            return self.mem.read_exact(start, buffer);
        }
        match remote::read_exact(self.tid, start, buffer) {
            Ok(()) => Ok(()),
            // What one door does not open the other may: it also reads past the protection.
            Err(_) => self.mem.read_exact(start, buffer),
        }
    }

    fn is_readable(&self, range: AddrRange) -> bool {
        let first = self.private.partition_point(|p| p.range.end <= range.start);
        self.private[first..].iter().take_while(|p| p.range.start < range.end).all(|p| p.readable)
    }
}

impl PageSource for Memory {
    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        match self.listed(memory)? {
            Some(set) => Ok(set.clone()),
            None => self.list(memory),
        }
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        let failed = |cause: io::Error| PageSourceError::Io { memory, pages, cause };
        if buffer.len() as u64 != pages.bytes() {
            return Err(failed(io::Error::other("the buffer is not as long as the pages")));
        }
        if let Some(set) = self.listed(memory)?
            && set.within(pages).map(|run| run.count().0).sum::<u64>() != pages.count().0
        {
            return Err(PageSourceError::Absent { memory, pages });
        }
        match memory {
            MemoryId::Private(0) => self.read_private(pages, buffer).map_err(failed),
            MemoryId::Private(_) => Err(PageSourceError::Absent { memory, pages }),
            MemoryId::Shared(_) => {
                let object = self.object(memory, pages)?;
                read_object(object, pages, buffer).map_err(failed)
            }
        }
    }
}

/// The place of a memory in the listing.
fn slot_of(memory: MemoryId) -> usize {
    match memory {
        MemoryId::Private(_) => 0,
        MemoryId::Shared(n) => usize::try_from(n).unwrap_or(usize::MAX).saturating_add(1),
    }
}

/// Reads whole pages of an object; what lies behind its end in the last page reads as zero,
/// as it does through a mapping.
fn read_object(object: &ObjectFile, pages: PageRange, buffer: &mut [u8]) -> io::Result<()> {
    let start = pages.addrs().start.0;
    let held = object.size_bytes.saturating_sub(start).min(pages.bytes());
    let held = usize::try_from(held).map_err(io::Error::other)?;
    let (content, rest) = buffer.split_at_mut(held);
    let file = std::fs::File::from(object.file.try_clone()?);
    file.read_exact_at(content, start)?;
    rest.fill(0);
    Ok(())
}

/// The pages of a file on tmpfs that hold content, in RAM or swapped out: what lies between
/// `SEEK_DATA` and `SEEK_HOLE` of lseek(2). `file` must be a description of our own, because its
/// position is moved.
///
/// # Errors
/// What lseek(2) says.
pub fn content_of_file(file: &OwnedFd) -> io::Result<PageSet> {
    let mut pages = PageSet::new();
    let mut at = 0u64;
    while let Some((start, end)) = sys::file::next_data(file, at)? {
        let last = end.div_ceil(PAGE_SIZE);
        pages.insert(PageRange { start: VirtAddr(start).page(), end: PageIndex(last) });
        at = end;
    }
    Ok(pages)
}
