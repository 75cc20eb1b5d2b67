//! Reading a checkpoint.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use image::{CheckpointId, Frame, FrameSource, Header, Index, LineKey, Manifest, Opener, Summary};
use mem::{MemoryId, PAGE_SIZE, PageRange, PageSet, PageSource, PageSourceError};
use plan::{Plan, Treatment};
use process::Instance;
use rustix::fs::FlockOperation;

use crate::dir::Dir;
use crate::error::{IoFailure, ReadError};
use crate::{Store, WriteError, layout, line};

/// Bytes in a manifest at most, so that nothing is allocated for more.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// A published checkpoint, its manifest and index verified, pinned while this lives. Reads may
/// come from several threads at once.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) manifest: Manifest,
    pub(crate) index: Index,
    pub(crate) data: Vec<File>,
    pub(crate) key: LineKey,
    stored_bytes: u64,
    /// Decoders that are not in use right now.
    openers: Mutex<Vec<Opener>>,
    /// The pin: a shared lock on the directory, as long as it is open.
    pub(crate) dir: Dir,
}

impl Checkpoint {
    pub(crate) fn open(store: &Store, id: CheckpointId) -> Result<Self, ReadError> {
        let missing = |e: IoFailure| match e.is_missing() {
            true => ReadError::Missing { id, store: store.root().to_owned() },
            false => e.into(),
        };
        let dir = store.dirs.checkpoints.child(&id.to_string()).map_err(missing)?;
        if !dir.lock(FlockOperation::NonBlockingLockShared)? {
            return Err(ReadError::BeingRemoved(id));
        }
        // It may have been removed between the two; then the manifest is gone.
        let bytes = read_whole(&dir, layout::MANIFEST, MANIFEST_BYTES_MAX).map_err(missing)?;
        let format = |cause| ReadError::Format { path: dir.join(layout::MANIFEST), cause };
        let header = Header::read(&bytes).map_err(format)?;
        let key = line_key(store, id, &header)?;
        let manifest = Manifest::decode(&bytes, &key).map_err(format)?;
        if manifest.id != id {
            let detail = format!("it is that of checkpoint {}", manifest.id);
            return Err(format(image::FormatError::Invalid { what: "the manifest", detail }));
        }
        let index = read_index(&dir, &manifest, &key)?;
        let data = manifest.files.data.iter().map(|file| open_data(&dir, file));
        Ok(Self {
            index,
            data: data.collect::<Result<_, _>>()?,
            key,
            stored_bytes: header.stored_bytes,
            openers: Mutex::new(Vec::new()),
            dir,
            manifest,
        })
    }

    /// Its id.
    pub fn id(&self) -> CheckpointId {
        self.manifest.id
    }

    /// The instance's state.
    pub fn instance(&self) -> &Instance {
        &self.manifest.instance
    }

    /// The plan it was made by.
    pub fn plan(&self) -> &Plan {
        &self.manifest.plan
    }

    /// How it came about.
    pub fn summary(&self) -> &Summary {
        &self.manifest.summary
    }

    /// Bytes of pages in it.
    pub fn page_bytes(&self) -> u64 {
        self.manifest.page_bytes
    }

    /// Bytes it takes in the store, index and metadata included.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// The memories that have pages here, ascending.
    pub fn memories(&self) -> Vec<MemoryId> {
        self.index.memories()
    }

    /// The frames in load order.
    pub fn frames_in_load_order(&self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = self.index.frames().collect();
        frames.sort_by_key(|frame| (frame.load_order, frame.file, frame.offset_bytes));
        frames
    }

    /// A decoder, for as long as `work` takes.
    pub(crate) fn with_opener<T>(&self, work: impl FnOnce(&mut Opener) -> T) -> T {
        let openers = || self.openers.lock().unwrap_or_else(PoisonError::into_inner);
        let opener = openers().pop();
        let mut opener = opener.unwrap_or_else(|| Opener::new(&self.key));
        let result = work(&mut opener);
        openers().push(opener);
        result
    }

    /// Reads the stored bytes of one frame into `stored`.
    fn read_stored(&self, frame: &Frame, stored: &mut Vec<u8>) -> Result<(), PageSourceError> {
        let Frame { memory, pages, .. } = *frame;
        let file = self.file_of(frame)?;
        stored.resize(usize::try_from(frame.stored_bytes).unwrap_or(usize::MAX), 0);
        file.read_exact_at(stored, frame.offset_bytes).map_err(|cause| PageSourceError::Io {
            memory,
            pages,
            cause,
        })
    }

    /// The file that holds a frame.
    pub(crate) fn file_of(&self, frame: &Frame) -> Result<&File, PageSourceError> {
        match (frame.source, self.data.get(usize::from(frame.file))) {
            (FrameSource::Here, Some(file)) => Ok(file),
            (FrameSource::Here, None) => Err(damaged(frame, "its file is not listed".to_owned())),
            (FrameSource::Parent(_), _) => {
                let detail = "it lies in a parent checkpoint, which this version cannot follow";
                Err(damaged(frame, detail.to_owned()))
            }
        }
    }

    /// Fills `part`, the bytes of `wanted`, from `frame`, which holds all of `wanted`.
    fn read_part(
        &self,
        opener: &mut Opener,
        frame: &Frame,
        wanted: PageRange,
        part: &mut [u8],
    ) -> Result<(), PageSourceError> {
        let fail = |e: image::OpenError| damaged(frame, e.to_string());
        if frame.treatment == Treatment::Zero {
            part.fill(0);
            return Ok(());
        }
        let mut stored = Vec::new();
        self.read_stored(frame, &mut stored)?;
        if frame.held == wanted {
            return opener.open(frame, &stored, part).map_err(fail);
        }
        let mut pages = vec![0; bytes_of(frame.held)];
        opener.open(frame, &stored, &mut pages).map_err(fail)?;
        let skipped = bytes_of(PageRange { start: frame.held.start, end: wanted.start });
        part.copy_from_slice(&pages[skipped..skipped + part.len()]);
        Ok(())
    }
}

impl PageSource for Checkpoint {
    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        Ok(self.index.pages(memory))
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        if buffer.len() != bytes_of(pages) {
            let detail = format!("a buffer of {} bytes was given", buffer.len());
            let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, detail);
            return Err(PageSourceError::Io { memory, pages, cause });
        }
        self.with_opener(|opener| {
            let mut rest = buffer;
            let mut next = pages.start;
            for frame in self.index.overlapping(memory, pages) {
                let Some(wanted) = frame.pages.intersect(pages).filter(|w| w.start == next) else {
                    break;
                };
                let (part, others) = rest.split_at_mut(bytes_of(wanted));
                self.read_part(opener, &frame, wanted, part)?;
                rest = others;
                next = wanted.end;
            }
            if next < pages.end {
                let pages = PageRange { start: next, end: pages.end };
                return Err(PageSourceError::Absent { memory, pages });
            }
            Ok(())
        })
    }
}

/// The bytes of `pages`, which are few enough to lie in memory.
pub(crate) fn bytes_of(pages: PageRange) -> usize {
    usize::try_from(pages.count().0.saturating_mul(PAGE_SIZE)).unwrap_or(usize::MAX)
}

pub(crate) fn damaged(frame: &Frame, detail: String) -> PageSourceError {
    PageSourceError::Damaged { memory: frame.memory, pages: frame.pages, detail }
}

/// Reads a file of at most `bytes_max`; what goes beyond is left out, and its lack found later.
fn read_whole(dir: &Dir, name: &str, bytes_max: u64) -> Result<Vec<u8>, IoFailure> {
    let file = dir.open(name)?;
    let mut bytes = Vec::new();
    // One more, so that a file that is too long is seen to be.
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(IoFailure::on("read", dir.join(name)))?;
    Ok(bytes)
}

fn line_key(store: &Store, id: CheckpointId, header: &Header) -> Result<LineKey, ReadError> {
    let lines = &store.dirs.lines;
    let path = line::key_path(lines, &header.instance);
    match line::key(lines, &header.instance) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(ReadError::KeyMissing { id, path }),
        Err(WriteError::Io(failure)) => Err(failure.into()),
        Err(other) => {
            let cause = std::io::Error::other(other.to_string());
            Err(IoFailure { action: "use", path, cause }.into())
        }
    }
}

fn read_index(dir: &Dir, manifest: &Manifest, key: &LineKey) -> Result<Index, ReadError> {
    let entry = &manifest.files.index;
    let bytes = read_whole(dir, &entry.name, entry.length_bytes)?;
    Index::decode(bytes, manifest.id, &manifest.files, key)
        .map_err(|cause| ReadError::Format { path: dir.join(&entry.name), cause })
}

fn open_data(dir: &Dir, entry: &image::DataFile) -> Result<File, ReadError> {
    let path = dir.join(&entry.name);
    let file = dir.open(&entry.name)?;
    let found = file.metadata().map_err(IoFailure::on("stat", &path))?.len();
    if found != entry.length_bytes {
        return Err(ReadError::Length { path, expected: entry.length_bytes, found });
    }
    Ok(file)
}
