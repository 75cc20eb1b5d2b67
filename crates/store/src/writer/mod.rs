//! Writing a checkpoint.

mod finish;
mod named;
mod settle;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codec::Want;
use image::{CheckpointId, Frame, LineKey, LossRecord, PageHash, Summary};
use mem::{MemoryId, PageIndex, PageRange, PageSink, PageSinkError};
use plan::{LossEntry, Plan, Tier};
use process::Instance;

use crate::data::DataFile;
use crate::dir::Dir;
use crate::divide::{self, Division};
use crate::error::{IoFailure, WriteError};
use crate::lane::{Lane, SolidPart, Target};
use crate::pace::Pace;
use crate::tiers::TierSum;
use crate::twin_find::{TwinFinder, Twins};
use crate::{CHAIN_DEPTH_MAX, Checkpoint, LineLock, Store, layout};
pub(crate) use finish::Written;
pub use named::Approximation;
use named::Named;
use settle::Settled;

/// How a checkpoint is to be written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How [`PageSink::put`] encodes; [`CheckpointWriter::put_as`] and
    /// [`CheckpointWriter::adapt`] override it.
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
    key: LineKey,
    /// The right to add to the line; another form of what is there needs none.
    _lock: Option<LineLock>,
    options: WriteOptions,
    id: CheckpointId,
    /// Its name under `tmp`.
    name: String,
    /// The directory under `tmp`; a shared lock on it says that its writer lives.
    dir: Dir,
    /// The data files by number: one, or with a division those of [`divide::FILES`].
    data: Vec<DataFile>,
    /// Which pages are in which tier, once that is decided.
    division: Option<Division>,
    /// Chooses how hard to compress, when that is left to the writer.
    pace: Option<Pace>,
    /// What unchanged pages are in, pinned until the checkpoint that refers to it is published.
    parent: Option<Arc<Checkpoint>>,
    /// The state of threads that are not putting right now.
    lanes: Mutex<Vec<Lane>>,
    /// What they gave away before the end.
    settled: Mutex<Settled>,
    page_bytes: AtomicU64,
    /// Looks for pages that files outside of the store have.
    twins: Option<TwinFinder>,
    /// Ranges in which somebody allowed a loss.
    named: Option<Named>,
    /// The loss manifest of the checkpoint that this is another form of.
    kept_loss: Option<Vec<LossRecord>>,
    /// Files that stored frames of another checkpoint refer to.
    kept_twins: Vec<image::TwinFile>,
    /// The round of copying: see [`CheckpointWriter::next_round`].
    round: AtomicU32,
    /// What the first `put` that failed met.
    failed: Mutex<Option<String>>,
    published: bool,
    /// It survives a crash of the machine as soon as it is published.
    is_synced: bool,
    /// Changed pages may be stored as differences.
    has_deltas: bool,
}

/// A checkpoint that was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its id.
    pub id: CheckpointId,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// The checkpoint that holds the pages which are not stored in it.
    pub parent: Option<CheckpointId>,
    /// Bytes of pages that its parents hold.
    pub referenced_bytes: u64,
    /// Everything newly written for it: data, index and metadata.
    pub stored_bytes: u64,
    /// What each tier holds, in the order critical, warm, cold.
    pub tiers: [TierSum; 3],
    /// What was made of each range in which a loss was allowed.
    pub loss: Vec<LossEntry>,
    /// Files outside of the store that pages are read from, each with how many bytes of them were
    /// found there.
    pub twins: Vec<(PathBuf, u64)>,
}

impl CheckpointWriter {
    pub(crate) fn begin(
        store: &Store,
        lock: LineLock,
        options: WriteOptions,
        parent: Option<Checkpoint>,
    ) -> Result<Self, WriteError> {
        let foreign = |parent: &&Checkpoint| {
            parent.key != *lock.key() || parent.instance().line.instance != *lock.instance()
        };
        if let Some(parent) = parent.as_ref().filter(foreign) {
            let instance = lock.instance().to_string();
            return Err(WriteError::ForeignParent { instance, parent: parent.id() });
        }
        let parent = parent.filter(|parent| parent.depth() < CHAIN_DEPTH_MAX).map(Arc::new);
        // Every page will be compared with it, or is unchanged: what either needs is looked up now,
        // and not when somebody may be waiting.
        if let Some(parent) = &parent {
            parent.know_hashes();
        }
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(WriteError::Random)?;
        let id = CheckpointId(u64::from_le_bytes(id));
        let key = lock.key().clone();
        Self::begin_in(store, (key, Some(lock)), options, parent, (id, id.to_string()))
    }

    /// Begins another form of checkpoint `id`, to take its place: see [`Self::replace`].
    pub(crate) fn begin_as(
        store: &Store,
        lock: LineLock,
        options: WriteOptions,
        id: CheckpointId,
    ) -> Result<Self, WriteError> {
        let key = lock.key().clone();
        Self::begin_in(store, (key, Some(lock)), options, None, (id, format!("{id}-whole")))
    }

    /// Begins another form of `old`, on the same parent, to take its place: see
    /// [`Self::replace`].
    pub(crate) fn begin_again(
        store: &Store,
        options: WriteOptions,
        old: &Checkpoint,
    ) -> Result<Self, WriteError> {
        let (id, parent) = (old.id(), old.parent.clone());
        let name = format!("{id}-small");
        let mut writer =
            Self::begin_in(store, (old.key.clone(), None), options, parent, (id, name))?;
        writer.divide(old.plan())?;
        writer.keep_twins(&old.manifest.files.twins);
        writer.keep_loss(old.loss());
        Ok(writer)
    }

    fn begin_in(
        store: &Store,
        (key, lock): (LineKey, Option<LineLock>),
        options: WriteOptions,
        parent: Option<Arc<Checkpoint>>,
        (id, name): (CheckpointId, String),
    ) -> Result<Self, WriteError> {
        store.space_for(options.reserve_bytes)?;
        let dir = store.begin_directory(id, &name)?;
        let file = dir.create(layout::PAGES);
        let data = file.map(|file| DataFile::new(file, dir.join(layout::PAGES)));
        let writer = data.and_then(|data| {
            if options.reserve_bytes > 0 {
                data.reserve(options.reserve_bytes)?;
            }
            Ok(vec![data])
        });
        match writer {
            Ok(data) => Ok(Self {
                store: store.clone(),
                key,
                _lock: lock,
                options,
                id,
                name,
                dir,
                data,
                division: None,
                parent,
                pace: None,
                lanes: Mutex::new(Vec::new()),
                settled: Mutex::default(),
                page_bytes: AtomicU64::new(0),
                twins: None,
                named: None,
                kept_loss: None,
                kept_twins: Vec::new(),
                round: AtomicU32::new(0),
                failed: Mutex::new(None),
                published: false,
                is_synced: true,
                has_deltas: true,
            }),
            Err(e) => {
                // The first failure is what the caller wants to know; `prune` removes the rest.
                let _ = store.dirs.temporary.remove_child(&name);
                Err(e.into())
            }
        }
    }

    /// The id it will have.
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// Leaves it to the writer how hard [`PageSink::put`] compresses: more when the disk turns out
    /// to be slow, less when it is fast, with `workers` threads that put.
    pub fn adapt(&mut self, workers: usize) {
        self.pace = Some(Pace::new(workers));
    }

    /// Somebody stands still until it is published, and goes on in any case: it is left to a later
    /// [`Store::sync`] to make it survive a crash of the machine. Call it before the first `put`.
    pub fn sync_later(&mut self) {
        self.is_synced = false;
    }

    /// Stores no page as the difference to what it was: to tell it a whole chunk of the parent is read
    /// and decoded for each page that changed in it, which takes many times as long as the page itself
    /// does. For those who are in a hurry.
    pub fn without_deltas(&mut self) {
        self.has_deltas = false;
    }

    /// The checkpoint it builds on.
    pub fn parent(&self) -> Option<CheckpointId> {
        self.parent.as_ref().map(|parent| parent.id())
    }

    /// The same, open.
    pub fn parent_opened(&self) -> Option<&Arc<Checkpoint>> {
        self.parent.as_ref()
    }

    /// Has pages stored by their tier in `plan`, in files of their own: critical ones together,
    /// cold ones where a resume does not read along with others. Pages that it does not name are
    /// warm. The plan given to [`CheckpointWriter::finish`] must not say otherwise. Call it before
    /// the first `put`.
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn divide(&mut self, plan: &Plan) -> Result<(), WriteError> {
        for name in &divide::FILES[self.data.len()..] {
            self.data.push(DataFile::new(self.dir.create(name)?, self.dir.join(name)));
        }
        self.division = Some(Division::new(plan));
        Ok(())
    }

    /// Has pages that are in one of `twins` not stored but read there. Call it before the first
    /// `put`.
    pub fn find_twins(&mut self, twins: Twins) {
        self.twins = Some(twins.into_finder());
    }

    /// Keeps the files that frames given to [`Self::put_stored`] refer to.
    pub(crate) fn keep_twins(&mut self, files: &[image::TwinFile]) {
        self.kept_twins = files.to_vec();
    }

    /// Keeps what the manifest of another form says of losses.
    pub(crate) fn keep_loss(&mut self, records: &[LossRecord]) {
        self.kept_loss = Some(records.to_vec());
    }

    /// The plan of the checkpoint it builds on.
    pub fn parent_plan(&self) -> Option<&Plan> {
        self.parent.as_ref().map(|parent| parent.plan())
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
        let put = |pages, bytes: &[u8]| {
            self.with_lane(memory, pages, |lane| lane.put(&self.target(memory, want), pages, bytes))
        };
        let Some(named) = &self.named else { return put(pages, bytes) };
        let mut rest = bytes;
        for (part, is_named) in named.parts(memory, pages) {
            let length = usize::try_from(part.bytes()).unwrap_or(usize::MAX).min(rest.len());
            let (these, others) = rest.split_at(length);
            rest = others;
            if !is_named {
                put(part, these)?;
                continue;
            }
            let kept = named.keep(memory, part, these);
            kept.map_err(|cause| self.has_failed(memory, part, cause))?;
            self.page_bytes.fetch_add(part.bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes `pages` of `memory`, which are the same as those of `source` from page `from.1` of
    /// memory `from.0` on. Nothing is read of what the parent has at the same place, as is the
    /// rule when `source` is the parent or stands behind it; else the pages are read and stored.
    ///
    /// # Errors
    /// As [`PageSink::put`], and when `source` cannot be read.
    pub fn put_same(
        &self,
        memory: MemoryId,
        pages: PageRange,
        source: &Checkpoint,
        from: (MemoryId, PageIndex),
    ) -> Result<(), PageSinkError> {
        let want = self.pace.as_ref().map_or(self.options.want, Pace::want);
        self.with_lane(memory, pages, |lane| {
            lane.put_same(&self.target(memory, want), pages, (source, from.0, from.1))
        })
    }

    fn target(&self, memory: MemoryId, want: Want) -> Target<'_> {
        Target {
            data: &self.data,
            division: self.division.as_ref(),
            parent: self.parent.as_deref(),
            pace: self.pace.as_ref(),
            memory,
            want,
            has_deltas: self.has_deltas,
        }
    }

    /// Takes a frame as it is stored elsewhere: `stored` becomes pages with these `hashes`. Each of
    /// `runs` gets a record of it.
    pub(crate) fn put_stored(
        &self,
        frame: Frame,
        runs: Vec<PageRange>,
        stored: &[u8],
        hashes: &[PageHash],
    ) -> Result<(), PageSinkError> {
        let file = self.division.as_ref().map_or(0, |_| divide::file_of(frame.tier));
        self.with_lane(frame.memory, frame.pages, |lane| {
            lane.add(&self.data, (Frame { file, ..frame }, runs), stored, hashes)
        })
    }

    /// The same for frames of one tier that share `stored`.
    pub(crate) fn put_solid(
        &self,
        mut parts: Vec<SolidPart>,
        stored: &[u8],
    ) -> Result<(), PageSinkError> {
        let Some(SolidPart { frame: first, .. }) = parts.first() else { return Ok(()) };
        let (memory, pages) = (first.memory, first.pages);
        let file = self.division.as_ref().map_or(0, |_| divide::file_of(first.tier));
        parts.iter_mut().for_each(|part| part.frame.file = file);
        let page_bytes = parts.iter().map(|part| part.frame.pages.bytes()).sum::<u64>();
        self.lend_lane(memory, pages, |lane| lane.add_shared(&self.data, parts, stored))?;
        self.page_bytes.fetch_add(page_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Lends a lane for `work` on `pages` of `memory`, and counts them.
    fn with_lane(
        &self,
        memory: MemoryId,
        pages: PageRange,
        work: impl FnOnce(&mut Lane) -> io::Result<()>,
    ) -> Result<(), PageSinkError> {
        self.lend_lane(memory, pages, work)?;
        self.page_bytes.fetch_add(pages.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Lends a lane for `work` on `pages` of `memory`.
    fn lend_lane<T>(
        &self,
        memory: MemoryId,
        pages: PageRange,
        work: impl FnOnce(&mut Lane) -> io::Result<T>,
    ) -> Result<T, PageSinkError> {
        let lane = lock(&self.lanes).pop();
        let mut lane = lane.unwrap_or_else(|| Lane::new(&self.key, self.twins.as_ref()));
        lane.round = self.round.load(Ordering::Relaxed);
        let put = work(&mut lane);
        lock(&self.lanes).push(lane);
        let done = put.map_err(|cause| self.has_failed(memory, pages, cause))?;
        let synced = self.sync_early().map_err(|e| {
            let cause = io::Error::new(e.cause.kind(), e.to_string());
            self.has_failed(memory, pages, cause)
        })?;
        if let (Some(pace), Some((bytes, took))) = (&self.pace, synced) {
            pace.synced(bytes, took);
        }
        Ok(done)
    }

    /// Remembers the first failure, so that [`Self::finish`] fails whatever becomes of this one.
    fn has_failed(&self, memory: MemoryId, pages: PageRange, cause: io::Error) -> PageSinkError {
        lock(&self.failed).get_or_insert_with(|| cause.to_string());
        PageSinkError { memory, pages, cause }
    }

    /// Syncs what is going to stay as it is. Critical pages are written anew in load order.
    fn sync_early(&self) -> Result<Option<(u64, std::time::Duration)>, IoFailure> {
        for (number, data) in (0..).zip(&self.data) {
            if number == divide::file_of(Tier::Critical) {
                continue;
            }
            if let Some(synced) = data.sync_early()? {
                return Ok(Some(synced));
            }
        }
        Ok(None)
    }

    /// Writes index and metadata, syncs everything and publishes the checkpoint. When this
    /// returns Ok it survives a crash of the machine, unless [`Self::sync_later`] was asked for;
    /// otherwise nothing of it is visible.
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
        self,
        instance: &Instance,
        plan: &Plan,
        summary: &Summary,
    ) -> Result<Published, WriteError> {
        self.finish_open(instance, plan.clone(), summary).map(|(published, _)| published)
    }

    /// The same for somebody who goes on with the checkpoint: it is open, on the parent that it was
    /// begun with, and nothing of it was read again.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_open(
        mut self,
        instance: &Instance,
        plan: Plan,
        summary: &Summary,
    ) -> Result<(Published, Checkpoint), WriteError> {
        let Written { published, manifest, index, .. } = self.write(instance, plan, summary)?;
        let dirs = &self.store.dirs;
        let path = dirs.checkpoints.join(&self.id.to_string());
        let dir = dirs.temporary.child(&self.name)?.known_as(path);
        let (whole, parent) = ((manifest, index), self.parent.clone());
        let opened = Checkpoint::of_written(dir, &self.key, whole, published.stored_bytes, parent)?;
        self.publish()?;
        Ok((published, opened))
    }

    /// Removes what was written. Dropping the writer does the same but cannot tell of errors.
    ///
    /// # Errors
    /// When something cannot be removed; `prune` will find it.
    pub fn abandon(mut self) -> Result<(), WriteError> {
        // Whatever happens, this was the attempt; dropping does not try again.
        self.published = true;
        self.store.dirs.temporary.remove_child(&self.name)?;
        Ok(())
    }

    /// The one step that makes the checkpoint visible, and what makes the step survive a crash.
    fn publish(&mut self) -> Result<(), IoFailure> {
        let dirs = &self.store.dirs;
        let id = self.id.to_string();
        dirs.temporary.rename(&self.name, &dirs.checkpoints, &id)?;
        if !self.is_synced {
            self.published = true;
            return Ok(());
        }
        if let Err(e) = dirs.checkpoints.sync().and_then(|()| dirs.temporary.sync()) {
            // The step may not survive a crash, so it must not have been: dropping removes it.
            dirs.checkpoints.rename(&id, &dirs.temporary, &self.name)?;
            return Err(e);
        }
        self.published = true;
        Ok(())
    }
}

impl CheckpointWriter {
    /// Puts what was written in the place of the checkpoint with the same id, whose old form is
    /// removed. The caller holds that exclusively.
    pub(crate) fn replace(mut self) -> Result<(), IoFailure> {
        let dirs = &self.store.dirs;
        dirs.temporary.exchange(&self.name, &dirs.checkpoints, &self.id.to_string())?;
        // From here on both forms are right, whichever survives a crash.
        self.published = true;
        dirs.checkpoints.sync()?;
        dirs.temporary.sync()?;
        dirs.temporary.remove_child(&self.name)?;
        Ok(())
    }
}

impl PageSink for CheckpointWriter {
    fn put(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        let want = self.pace.as_ref().map_or(self.options.want, Pace::want);
        self.put_as(memory, pages, bytes, want)
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(e) = self.store.dirs.temporary.remove_child(&self.name) {
            tracing::warn!("unfinished checkpoint is left behind until the next prune: {e}");
        }
    }
}

impl fmt::Debug for CheckpointWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointWriter").field("id", &self.id).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is complete between any two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
