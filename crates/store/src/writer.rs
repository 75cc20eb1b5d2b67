//! Writing a checkpoint.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use codec::{FRAME_PAGES_MAX, Want};
use image::{CheckpointId, Frame, FrameSource, IndexFile, Manifest, Put, Sealer, Summary};
use mem::{MemoryId, PAGE_SIZE, PageRange, PageSink, PageSinkError};
use plan::{Plan, Tier, Treatment};
use process::Instance;
use rustix::fs::FlockOperation;

use crate::data::{DataFile, Piece};
use crate::dir::Dir;
use crate::error::{IoFailure, WriteError};
use crate::{LineLock, Store, layout};

/// How a checkpoint is to be written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How [`PageSink::put`] encodes; [`CheckpointWriter::put_as`] overrides it.
    pub want: Want,
    /// Bytes to reserve on the disk beforehand (fallocate(2)); 0 reserves nothing. What is not
    /// used is given back by `finish`.
    pub reserve_bytes: u64,
}

/// A checkpoint that is being written. Nothing of it is visible in the store before
/// [`CheckpointWriter::finish`]; dropping it removes what was written.
///
/// [`PageSink::put`] may be called from several threads at once: each encodes and hashes in its
/// own thread, and writes pieces of 1 MiB. Put pages in load order, so that they lie in load
/// order in the file.
pub struct CheckpointWriter {
    store: Store,
    lock: LineLock,
    options: WriteOptions,
    id: CheckpointId,
    /// The directory under `tmp`; a shared lock on it says that its writer lives.
    dir: Dir,
    data: DataFile,
    /// The state of threads that are not putting right now.
    lanes: Mutex<Vec<Lane>>,
    page_bytes: AtomicU64,
    /// The round of copying: see [`CheckpointWriter::next_round`].
    round: AtomicU32,
    /// What the first `put` that failed met.
    failed: Mutex<Option<String>>,
    published: bool,
}

/// What one thread needs to encode and write.
#[derive(Debug)]
struct Lane {
    round: u32,
    sealer: Sealer,
    encoded: Piece,
    raw: Piece,
    puts: Vec<Put>,
}

/// A checkpoint that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: CheckpointId,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Everything newly written for it: data, index and metadata.
    pub stored_bytes: u64,
    /// Bytes of pages in each tier, in the order critical, warm, cold.
    pub tier_page_bytes: [u64; 3],
    /// The same as stored, without index and metadata.
    pub tier_stored_bytes: [u64; 3],
}

impl CheckpointWriter {
    pub(crate) fn begin(
        store: &Store,
        lock: LineLock,
        options: WriteOptions,
    ) -> Result<Self, WriteError> {
        store.space_for(options.reserve_bytes)?;
        let temporary = &store.dirs.temporary;
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(WriteError::Random)?;
        let id = CheckpointId(u64::from_le_bytes(id));
        let dir = {
            // Whoever cleans up holds this exclusively, so that he cannot find the directory
            // before its lock is taken.
            let _guard = temporary.guard(FlockOperation::LockShared)?;
            let dir = temporary.make(&id.to_string())?;
            dir.lock(FlockOperation::LockShared)?;
            dir
        };
        let file = dir.create(layout::PAGES);
        let data = file.map(|file| DataFile::new(file, dir.join(layout::PAGES)));
        let writer = data.and_then(|data| {
            if options.reserve_bytes > 0 {
                data.reserve(options.reserve_bytes)?;
            }
            Ok(data)
        });
        match writer {
            Ok(data) => Ok(Self {
                store: store.clone(),
                lock,
                options,
                id,
                dir,
                data,
                lanes: Mutex::new(Vec::new()),
                page_bytes: AtomicU64::new(0),
                round: AtomicU32::new(0),
                failed: Mutex::new(None),
                published: false,
            }),
            Err(e) => {
                // The first failure is what the caller wants to know; `prune` removes the rest.
                let _ = temporary.remove_child(&id.to_string());
                Err(e.into())
            }
        }
    }

    /// The id it will have.
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// Bytes of pages taken so far, for a progress bar.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes.load(Ordering::Relaxed)
    }

    /// Begins another round of copying: pages put from now on take the place of what was put of
    /// them before. Call it while no thread puts.
    pub fn next_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    /// Like [`PageSink::put`], encoded as `want` says.
    ///
    /// # Errors
    /// As [`PageSink::put`].
    pub fn put_as(
        &self,
        memory: MemoryId,
        pages: PageRange,
        bytes: &[u8],
        want: Want,
    ) -> Result<(), PageSinkError> {
        let mut lane = lock(&self.lanes).pop().unwrap_or_else(|| Lane {
            round: 0,
            sealer: Sealer::new(self.lock.key()),
            encoded: Piece::new(),
            raw: Piece::new(),
            puts: Vec::new(),
        });
        lane.round = self.round.load(Ordering::Relaxed);
        let put = lane.put(&self.data, memory, pages, bytes, want);
        lock(&self.lanes).push(lane);
        put.map_err(|cause| {
            lock(&self.failed).get_or_insert_with(|| cause.to_string());
            PageSinkError { memory, pages, cause }
        })?;
        self.page_bytes.fetch_add(pages.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes index and metadata, syncs everything and publishes the checkpoint. When this
    /// returns Ok it survives a crash of the machine; otherwise nothing of it is visible.
    ///
    /// The plan's extents give the frames their tier and load order, and say which pages there
    /// are: a page that was put and is in no extent went away in a later round, and is left out.
    /// Every page of an extent whose treatment stores bytes must have been put, in one round
    /// once; pages of `Zero` extents need not be put.
    ///
    /// # Errors
    /// When anything cannot be written or synced, an earlier `put` failed, or plan and pages do
    /// not fit together.
    pub fn finish(
        mut self,
        instance: &Instance,
        plan: &Plan,
        summary: &Summary,
    ) -> Result<Published, WriteError> {
        let (left, lost) = image::latest(self.flush()?, plan);
        self.data.erase(&lost)?;
        let frames = image::arrange(left, plan)?;
        let data_bytes = self.data.finish()?;
        let index = image::encode_index(self.id, &frames)?;
        self.write_file(layout::INDEX, &index)?;
        let page_bytes = frames.iter().map(|frame| frame.pages.bytes()).sum();
        let manifest = Manifest {
            id: self.id,
            page_bytes,
            instance: instance.clone(),
            plan: plan.clone(),
            summary: summary.clone(),
            files: image::Files {
                index: IndexFile::new(layout::INDEX, &index, self.lock.key()),
                data: vec![image::DataFile {
                    name: layout::PAGES.to_owned(),
                    length_bytes: data_bytes,
                }],
                parents: Vec::new(),
            },
        };
        let bytes = manifest.encode(self.lock.key())?;
        self.write_file(layout::MANIFEST, &bytes)?;
        self.dir.sync()?;
        self.publish()?;
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut published = Published {
            id: self.id,
            page_bytes,
            stored_bytes: data_bytes + length(&index) + length(&bytes),
            tier_page_bytes: [0; 3],
            tier_stored_bytes: [0; 3],
        };
        let mut before = None;
        for frame in &frames {
            let tier = match frame.tier {
                Tier::Critical => 0,
                Tier::Warm => 1,
                Tier::Cold => 2,
            };
            published.tier_page_bytes[tier] += frame.pages.bytes();
            // A frame that was split counts once.
            let place = Some((frame.file, frame.offset_bytes));
            if std::mem::replace(&mut before, place) != place {
                published.tier_stored_bytes[tier] += u64::from(frame.stored_bytes);
            }
        }
        Ok(published)
    }

    /// Removes what was written. Dropping the writer does the same but cannot tell of errors.
    ///
    /// # Errors
    /// When something cannot be removed; `prune` will find it.
    pub fn abandon(mut self) -> Result<(), WriteError> {
        // Whatever happens, this was the attempt; dropping does not try again.
        self.published = true;
        self.store.dirs.temporary.remove_child(&self.id.to_string())?;
        Ok(())
    }

    /// Writes what the lanes still hold and returns all that was put.
    fn flush(&self) -> Result<Vec<Put>, WriteError> {
        if let Some(failure) = lock(&self.failed).take() {
            return Err(WriteError::EarlierPut(failure));
        }
        let mut puts = Vec::new();
        for mut lane in lock(&self.lanes).drain(..) {
            self.data.append(&mut lane.encoded, &mut lane.puts)?;
            self.data.append(&mut lane.raw, &mut lane.puts)?;
            puts.append(&mut lane.puts);
        }
        Ok(puts)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), IoFailure> {
        let mut file = self.dir.create(name)?;
        file.write_all(bytes).map_err(IoFailure::on("write", self.dir.join(name)))?;
        file.sync_all().map_err(IoFailure::on("sync", self.dir.join(name)))
    }

    /// The one step that makes the checkpoint visible, and what makes the step survive a crash.
    fn publish(&mut self) -> Result<(), IoFailure> {
        let dirs = &self.store.dirs;
        let name = self.id.to_string();
        dirs.temporary.rename(&name, &dirs.checkpoints, &name)?;
        if let Err(e) = dirs.checkpoints.sync().and_then(|()| dirs.temporary.sync()) {
            // The step may not survive a crash, so it must not have been: dropping removes it.
            dirs.checkpoints.rename(&name, &dirs.temporary, &name)?;
            return Err(e);
        }
        self.published = true;
        Ok(())
    }
}

impl PageSink for CheckpointWriter {
    fn put(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        self.put_as(memory, pages, bytes, self.options.want)
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(e) = self.store.dirs.temporary.remove_child(&self.id.to_string()) {
            tracing::warn!("unfinished checkpoint is left behind until the next prune: {e}");
        }
    }
}

impl fmt::Debug for CheckpointWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointWriter").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Lane {
    fn put(
        &mut self,
        data: &DataFile,
        memory: MemoryId,
        pages: PageRange,
        bytes: &[u8],
        want: Want,
    ) -> io::Result<()> {
        if u64::try_from(bytes.len()).ok() != Some(pages.bytes()) {
            let detail = format!("{} bytes were given for {} pages", bytes.len(), pages.count().0);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let mut rest = bytes;
        for chunk in pages.aligned_chunks(FRAME_PAGES_MAX) {
            let length = usize::try_from(chunk.count().0 * PAGE_SIZE).map_err(io::Error::other)?;
            let (these, others) = rest.split_at(length);
            rest = others;
            self.put_frame(data, memory, chunk, these, want)?;
        }
        Ok(())
    }

    fn put_frame(
        &mut self,
        data: &DataFile,
        memory: MemoryId,
        pages: PageRange,
        bytes: &[u8],
        want: Want,
    ) -> io::Result<()> {
        let sealed = self.sealer.seal(bytes, want).map_err(io::Error::other)?;
        let frame = Frame {
            memory,
            pages,
            held: pages,
            // The plan says at the end.
            tier: Tier::Critical,
            load_order: 0,
            treatment: sealed.treatment,
            source: FrameSource::Here,
            file: 0,
            offset_bytes: 0,
            stored_bytes: u32::try_from(sealed.bytes.len()).map_err(io::Error::other)?,
            hash: sealed.hash,
            stored_crc32c: sealed.stored_crc32c,
        };
        let piece = match sealed.treatment {
            Treatment::Zero => {
                self.puts.push(Put { round: self.round, frame });
                return Ok(());
            }
            Treatment::Raw => &mut self.raw,
            _ => &mut self.encoded,
        };
        if piece.is_full_for(sealed.bytes.len()) {
            let written = data.append(piece, &mut self.puts);
            written.map_err(|e| io::Error::new(e.cause.kind(), e.to_string()))?;
        }
        piece.add(Put { round: self.round, frame }, sealed.bytes);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is complete between any two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
