//! A stored checkpoint: opened, verified as far as that goes without reading pages, pinned. How
//! its pages are read stands in `read`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use image::{
    CheckpointId, ContentHash, FormatError, Frame, Header, Index, LineKey, Manifest, PlanBytes,
    Summary,
};
use mem::MemoryId;
use plan::{Plan, Treatment};
use process::Instance;
use rustix::fs::FlockOperation;

use crate::chain::open_ahead;
use crate::dir::Dir;
use crate::error::{IoFailure, ReadError};
use crate::hashes::HashFile;
use crate::known::KnownHashes;
use crate::read::Readers;
use crate::twin_read::TwinFiles;
use crate::{Store, WriteError, layout, line};

/// Bytes in a manifest at most, so that nothing is allocated for more.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// Checkpoints behind one at most, all opened with it. Decoding a page may take a step for each.
/// A chain that is this long is not made longer, see [`Store::begin`].
pub const CHAIN_DEPTH_MAX: u16 = 16;

/// What becomes of the plan in a manifest: to decode it takes longer than all the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanUse {
    /// It is decoded.
    Now,
    /// It is decoded when somebody asks for it.
    Later,
    /// Of one that only stands behind another nobody asks for it.
    Never,
}

/// A plan that is decoded when it is asked for.
#[derive(Debug)]
struct LatePlan {
    bytes: PlanBytes,
    plan: OnceLock<Plan>,
}

/// A manifest and an index that fit together.
struct Whole {
    manifest: Manifest,
    late_plan: Option<LatePlan>,
    index: Index,
    stored_bytes: u64,
}

impl PlanUse {
    fn decode(
        self,
        bytes: &[u8],
        key: &LineKey,
    ) -> Result<(Manifest, Option<LatePlan>), FormatError> {
        match self {
            Self::Now => Manifest::decode(bytes, key).map(|manifest| (manifest, None)),
            Self::Never => {
                Manifest::decode_without_plan(bytes, key).map(|manifest| (manifest, None))
            }
            Self::Later => {
                let (manifest, bytes) = Manifest::decode_plan_later(bytes, key)?;
                Ok((manifest, Some(LatePlan { bytes, plan: OnceLock::new() })))
            }
        }
    }
}

/// A published checkpoint and the parents that hold pages of it, manifests and indexes verified,
/// pinned while this lives. Reads may come from several threads at once.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) manifest: Manifest,
    /// Its plan, when the one in the manifest is not it.
    late_plan: Option<LatePlan>,
    pub(crate) index: Index,
    pub(crate) data: Vec<File>,
    /// Which of them has the critical pages alone.
    pub(crate) critical_file: Option<u16>,
    pub(crate) hashes: HashFile,
    /// The hashes of all its pages, once somebody had them looked up.
    pub(crate) known: OnceLock<KnownHashes>,
    pub(crate) parent: Option<Arc<Self>>,
    pub(crate) key: LineKey,
    stored_bytes: u64,
    pub(crate) readers: Readers,
    pub(crate) twins: TwinFiles,
    /// The pin: a shared lock on the directory, as long as it is open.
    pub(crate) dir: Dir,
}

impl Checkpoint {
    /// Opens `id`. What stands behind it is taken from `known`, as far as that was opened already.
    pub(crate) fn open(
        store: &Store,
        (id, plan): (CheckpointId, PlanUse),
        known: Option<&Arc<Self>>,
    ) -> Result<Self, ReadError> {
        let mut ahead = open_ahead(store, (id, plan), known.map(|known| known.id()));
        let mut open =
            |id, plan| ahead.remove(&id).unwrap_or_else(|| Self::open_alone(store, id, plan));
        let newest = open(id, plan)?;
        Self::with_parents(newest, known, |id| open(id, PlanUse::Never))
    }

    /// Gives `newest` what stands behind it: from `known`, or what `find` opens.
    pub(crate) fn with_parents(
        newest: Self,
        known: Option<&Arc<Self>>,
        mut find: impl FnMut(CheckpointId) -> Result<Self, ReadError>,
    ) -> Result<Self, ReadError> {
        let id = newest.id();
        // From the newest to the oldest, then put together from the oldest on.
        let mut chain: Vec<Self> = Vec::new();
        let mut below = None;
        while let Some(entry) = chain.last().unwrap_or(&newest).manifest.files.parent {
            let of_parent = |cause| ReadError::Parent { id, parent: entry.id, cause };
            let known = known.filter(|known| known.id() == entry.id);
            let opened = match known {
                Some(_) => None,
                None => Some(find(entry.id).map_err(|e| of_parent(Box::new(e)))?),
            };
            let parent = opened.as_ref().or(known.map(|known| &**known));
            let fits =
                |parent: &Self| parent.content() == entry.content && parent.key == newest.key;
            if !parent.is_some_and(fits) || chain.len() > CHAIN_DEPTH_MAX.into() {
                return Err(ReadError::ParentDiffers { id, parent: entry.id });
            }
            let Some(opened) = opened else {
                below = known.cloned();
                break;
            };
            chain.push(opened);
        }
        for one in chain.into_iter().rev() {
            below = Some(Arc::new(Self { parent: below, ..one }));
        }
        Ok(Self { parent: below, ..newest })
    }

    /// Opens a published checkpoint without its parents.
    pub(crate) fn open_alone(
        store: &Store,
        id: CheckpointId,
        plan: PlanUse,
    ) -> Result<Self, ReadError> {
        let missing = |e: IoFailure| match e.is_missing() {
            true => ReadError::Missing { id, store: store.root().to_owned() },
            false => e.into(),
        };
        let dir = pinned(store, id).map_err(missing)?;
        let key = |header: &Header| line_key(store, id, header);
        Self::open_in(dir, id, key, plan).map_err(|error| match error {
            ReadError::Io(failure) if failure.path.ends_with(layout::MANIFEST) => missing(failure),
            other => other,
        })
    }

    /// Opens the checkpoint whose files are in `dir`, which the caller keeps others from removing,
    /// without its parents.
    pub(crate) fn open_in(
        dir: Dir,
        id: CheckpointId,
        key: impl FnOnce(&Header) -> Result<LineKey, ReadError>,
        plan: PlanUse,
    ) -> Result<Self, ReadError> {
        let bytes = read_whole(&dir, layout::MANIFEST, MANIFEST_BYTES_MAX)?;
        let format = |cause| ReadError::Format { path: dir.join(layout::MANIFEST), cause };
        let header = Header::read(&bytes).map_err(format)?;
        let key = key(&header)?;
        let (manifest, late_plan) = plan.decode(&bytes, &key).map_err(format)?;
        if manifest.id != id {
            let detail = format!("it is that of checkpoint {}", manifest.id);
            return Err(format(FormatError::Invalid { what: "the manifest", detail }));
        }
        let index = read_index(&dir, &manifest, &key)?;
        let whole = Whole { manifest, late_plan, index, stored_bytes: header.stored_bytes };
        Self::assemble(dir, key, whole, None)
    }

    /// The checkpoint that was just written to `dir`, whose name will be that of its id. Nothing of it is
    /// read again.
    pub(crate) fn of_written(
        dir: Dir,
        key: &LineKey,
        (manifest, index): (Manifest, Index),
        stored_bytes: u64,
        parent: Option<Arc<Self>>,
    ) -> Result<Self, ReadError> {
        dir.lock(FlockOperation::LockShared)?;
        let whole = Whole { manifest, late_plan: None, index, stored_bytes };
        Self::assemble(dir, key.clone(), whole, parent)
    }

    /// What is left to be done: the files with pages are opened.
    fn assemble(
        dir: Dir,
        key: LineKey,
        whole: Whole,
        parent: Option<Arc<Self>>,
    ) -> Result<Self, ReadError> {
        let Whole { manifest, late_plan, index, stored_bytes } = whole;
        let id = manifest.id;
        let data = manifest.files.data.iter().map(|file| open_data(&dir, file));
        let data = data.collect::<Result<_, _>>()?;
        let critical = manifest.files.data.iter().position(|file| file.name == layout::CRITICAL);
        let entry = &manifest.files.hashes;
        let file = open_data(&dir, entry)?;
        let hashes = HashFile::open(file, dir.join(&entry.name), id, index.hash_count(), &key)?;
        Ok(Self {
            index,
            data,
            critical_file: critical.and_then(|number| u16::try_from(number).ok()),
            hashes,
            known: OnceLock::new(),
            parent,
            stored_bytes,
            readers: Readers::new(&key),
            twins: TwinFiles::new(&manifest.files.twins),
            key,
            dir,
            manifest,
            late_plan,
        })
    }

    /// Its id.
    pub fn id(&self) -> CheckpointId {
        self.manifest.id
    }

    /// The directory of the store that it lies in.
    pub fn store_root(&self) -> &Path {
        let path = self.dir.path();
        path.parent().and_then(Path::parent).unwrap_or(path)
    }

    /// The instance's state.
    pub fn instance(&self) -> &Instance {
        &self.manifest.instance
    }

    /// The plan it was made by. One that was opened because it stands behind another has an empty one.
    pub fn plan(&self) -> &Plan {
        let Some(late) = &self.late_plan else { return &self.manifest.plan };
        late.plan.get_or_init(|| {
            late.bytes.decode().unwrap_or_else(|error| {
                // Whoever opens it at once is told. Without one everything is warm.
                tracing::warn!(%error, "the plan of checkpoint {} makes no sense", self.id());
                Plan::default()
            })
        })
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

    /// Bytes of pages that its parents hold.
    pub fn referenced_bytes(&self) -> u64 {
        self.manifest.referenced_bytes
    }

    /// The checkpoint that holds the pages which it does not store itself.
    pub fn parent(&self) -> Option<&Self> {
        self.parent.as_deref()
    }

    /// It and those that hold pages which it does not store itself, the newest first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |checkpoint| checkpoint.parent())
    }

    /// Bytes that all of these take in the store, index and metadata included.
    pub fn chain_bytes(&self) -> u64 {
        self.chain().map(Self::stored_bytes).sum()
    }

    /// How many checkpoints stand behind it.
    pub fn depth(&self) -> u16 {
        self.parent().map_or(0, |parent| parent.depth().saturating_add(1))
    }

    /// What its pages hold, as one hash: equal for two checkpoints of a line exactly when they
    /// hold the same, however they are stored.
    pub fn content(&self) -> ContentHash {
        self.manifest.files.content
    }

    /// The frames stored in it, in load order; runs of its parent's pages are left out.
    pub fn frames_in_load_order(&self) -> Vec<Frame> {
        let own = |frame: &Frame| frame.treatment != Treatment::Parent;
        let mut frames: Vec<Frame> = self.index.frames().filter(own).collect();
        frames.sort_by_key(|frame| (frame.load_order, frame.file, frame.offset_bytes));
        frames
    }
}

/// The directory of `id`, with a shared lock that says it is used. Whoever removes or replaces it
/// holds it exclusively for that moment; then another one, or none, has its name.
fn pinned(store: &Store, id: CheckpointId) -> Result<Dir, IoFailure> {
    let checkpoints = &store.dirs.checkpoints;
    loop {
        let dir = checkpoints.child(&id.to_string())?;
        dir.lock(FlockOperation::LockShared)?;
        if checkpoints.leads_to(&id.to_string(), &dir)? {
            return Ok(dir);
        }
    }
}

/// Room that is made for a file at once, at most: its length is what somebody says.
const WHOLE_BYTES: usize = 64 << 20;

/// Reads a file of at most `bytes_max`; what goes beyond is left out, and its lack found later.
fn read_whole(dir: &Dir, name: &str, bytes_max: u64) -> Result<Vec<u8>, IoFailure> {
    let file = dir.open(name)?;
    let length = file.metadata().map_err(IoFailure::on("stat", dir.join(name)))?.len();
    // Once as long as it is: an index has some hundred kilobytes, which would be moved again and again.
    let room = usize::try_from(length.min(bytes_max)).unwrap_or(0).saturating_add(1);
    let mut bytes = Vec::with_capacity(room.min(WHOLE_BYTES));
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
