//! Taking in what a stream holds: received and synced under `tmp`, checked there, then published.

use std::io::Read;
use std::path::PathBuf;

use image::{CheckpointId, LineKey, Manifest};
use process::InstanceId;

use super::error::ImportError;
use super::staged::Staged;
use super::stream::Stream;
use crate::checkpoint::{MANIFEST_BYTES_MAX, PlanUse};
use crate::error::ReadError;
use crate::store::{CHECKPOINTS, LAYOUT, LAYOUT_TEXT, LINES, TEMPORARY};
use crate::verify::Trust;
use crate::{CHAIN_DEPTH_MAX, Checkpoint, Store, TwinMismatch, Verified, layout, line};

/// Checkpoints that came with a stream, whole and synced but neither checked nor visible. Dropped,
/// nothing of them is left.
#[derive(Debug)]
pub struct Received {
    store: Store,
    instance: InstanceId,
    key: LineKey,
    /// A parent before its child.
    staged: Vec<Staged>,
    stream_bytes: u64,
}

/// The same, checked.
#[derive(Debug)]
pub struct Checked {
    received: Received,
    /// The first of those that are not here.
    missing: usize,
    verified: Verified,
    twins: Vec<PathBuf>,
    twins_missing: Vec<TwinMismatch>,
    /// Pins what is here and needed.
    _top: Checkpoint,
}

/// What was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The checkpoint that was asked for when the stream was written.
    pub id: CheckpointId,
    /// Whose it is.
    pub instance: InstanceId,
    /// Those that are new here, a parent before its child.
    pub imported: Vec<CheckpointId>,
    /// Those that were here, or are not needed because of one that was.
    pub present: Vec<CheckpointId>,
    /// What was checked.
    pub verified: Verified,
    /// Files outside of the store that have pages of them; they do not come with a stream.
    pub twins: Vec<PathBuf>,
    /// Those that are not here, or not as they were.
    pub twins_missing: Vec<TwinMismatch>,
    /// Bytes of the stream.
    pub stream_bytes: u64,
}

impl Store {
    /// Reads a stream that [`Checkpoint::export`] wrote. `each` hears how many bytes were read, and
    /// how many there are as far as is known, and is asked whether to go on.
    ///
    /// # Errors
    /// When it is something else, cut short or altered, the store cannot be written, or `each`
    /// fails. Nothing is left then.
    pub fn receive<E: From<ImportError>>(
        &self,
        from: &mut dyn Read,
        each: &dyn Fn(u64, u64) -> Result<(), E>,
    ) -> Result<Received, E> {
        let mut stream = Stream::new(from, each);
        read_layout(&mut stream)?;
        stream.expect(&format!("{LINES}/"), Some(0))?;
        let instance = read_instance(&mut stream)?;
        let name = format!("{LINES}/{instance}/{}", line::KEY);
        let length = u64::try_from(LineKey::BYTES).unwrap_or(u64::MAX);
        let member = stream.expect(&name, Some(length))?;
        let key = stream.whole(&member, length)?.try_into();
        let key = key.map_err(|_| stream.altered("the key is none")).map(LineKey::new)?;
        self.check_key(&instance, &key)?;
        stream.expect(&format!("{TEMPORARY}/"), Some(0))?;
        stream.expect(&format!("{CHECKPOINTS}/"), Some(0))?;
        let store = self.clone();
        let mut received = Received { store, instance, key, staged: Vec::new(), stream_bytes: 0 };
        while let Some(folder) = stream.next()? {
            received.take_checkpoint(&mut stream, &folder.name)?;
        }
        if received.staged.is_empty() {
            return Err(stream.altered("it holds no checkpoint"));
        }
        received.stream_bytes = stream.read_bytes;
        Ok(received)
    }

    /// That the line of `instance`, if it is here, has this key.
    fn check_key(&self, instance: &InstanceId, key: &LineKey) -> Result<(), ImportError> {
        let lines = &self.dirs.lines;
        match line::key(lines, instance)? {
            Some(here) if here != *key => Err(ImportError::Key {
                instance: instance.to_string(),
                path: line::key_path(lines, instance),
            }),
            _ => Ok(()),
        }
    }
}

fn read_layout<E: From<ImportError>>(stream: &mut Stream<'_, E>) -> Result<(), E> {
    /// Bytes of what a later version may say there.
    const LAYOUT_BYTES_MAX: u64 = 256;
    let first = match stream.next() {
        Ok(Some(member)) if member.name == LAYOUT && member.bytes <= LAYOUT_BYTES_MAX => member,
        // Too short for anything: whoever wrote it failed, and said why.
        Err(error) if stream.read_bytes == 0 => return Err(error),
        _ => return Err(ImportError::NotAnExport.into()),
    };
    let layout = stream.whole(&first, LAYOUT_BYTES_MAX)?;
    if layout == LAYOUT_TEXT.as_bytes() {
        return Ok(());
    }
    let layout = String::from_utf8_lossy(&layout).trim_end().to_owned();
    if !layout.starts_with("rekindle store ") {
        return Err(ImportError::NotAnExport.into());
    }
    Err(ImportError::Newer { layout, known: LAYOUT_TEXT.trim_ascii_end() }.into())
}

fn read_instance<E: From<ImportError>>(stream: &mut Stream<'_, E>) -> Result<InstanceId, E> {
    let Some(member) = stream.next()? else {
        return Err(stream.altered("it ends before it names an instance"));
    };
    let name = member.name.strip_prefix(LINES).and_then(|name| name.strip_prefix('/'));
    let instance = name.and_then(|name| name.strip_suffix('/')?.parse().ok());
    instance.ok_or_else(|| stream.altered(format!("{:?} names no instance", member.name)))
}

impl Received {
    /// Bytes of all files that came, but for the manifests.
    pub fn stored_bytes(&self) -> u64 {
        self.staged.iter().map(|staged| staged.manifest.files.stored_bytes()).sum()
    }

    /// Takes in the checkpoint whose folder was just named.
    fn take_checkpoint<E: From<ImportError>>(
        &mut self,
        stream: &mut Stream<'_, E>,
        folder: &str,
    ) -> Result<(), E> {
        if self.staged.len() > CHAIN_DEPTH_MAX.into() {
            return Err(stream.altered("it holds more checkpoints than can build on each other"));
        }
        let folder = folder.trim_end_matches('/');
        let member = stream.expect(&format!("{folder}/{}", layout::MANIFEST), None)?;
        let bytes = stream.whole(&member, MANIFEST_BYTES_MAX)?;
        let format = |cause| ReadError::Format { path: member.name.clone().into(), cause };
        let manifest = Manifest::decode(&bytes, &self.key).map_err(format);
        let manifest = manifest.map_err(ImportError::from)?;
        if folder != format!("{CHECKPOINTS}/{}", manifest.id) {
            return Err(stream.altered(format!("checkpoint {} is in {folder:?}", manifest.id)));
        }
        let parent = manifest.files.parent.map(|parent| parent.id);
        if parent != self.staged.last().map(|staged| staged.id) {
            return Err(stream.altered(format!("{} does not follow its parent", manifest.id)));
        }
        if manifest.instance.line.instance != self.instance {
            return Err(stream.altered(format!("{} is of another instance", manifest.id)));
        }
        let files = manifest.files.clone();
        stream.known_bytes = stream.read_bytes.saturating_add(files.stored_bytes());
        let store = &self.store;
        store.space_for(files.stored_bytes()).map_err(ImportError::from)?;
        let staged = Staged::begin(store, manifest, &bytes).map_err(ImportError::from)?;
        for (name, length_bytes) in files.each() {
            let member = stream.expect(&format!("{folder}/{name}"), Some(length_bytes))?;
            let mut file = staged.create(name).map_err(ImportError::from)?;
            stream.content(&member, |piece| Ok(file.append(piece)?))?;
            file.finish().map_err(ImportError::from)?;
        }
        staged.sync().map_err(ImportError::from)?;
        self.staged.push(staged);
        Ok(())
    }

    /// Reads everything that came and checks every byte of it, and that what is here already is
    /// the same. `each` hears of the bytes that come next, and is asked whether to go on.
    ///
    /// # Errors
    /// When something is damaged or another one here has its name, or `each` fails.
    pub fn verify<E: From<ImportError>>(
        self,
        each: &dyn Fn(u64) -> Result<(), E>,
    ) -> Result<Checked, E> {
        let all = self.open_from(0)?;
        let twins_missing = all.check_twins();
        let trust = if twins_missing.is_empty() { Trust::Nothing } else { Trust::Twins };
        let verified =
            all.verify_each::<Stopped<E>>(trust, &|bytes| each(bytes).map_err(Stopped::Asked));
        let verified = verified.map_err(Stopped::into_asked)?;
        let twins = all.chain().flat_map(Checkpoint::twin_paths).collect();
        let missing = self.first_missing()?;
        // As it will be: on what is here, which has to stay until then.
        let top = if missing == 0 { all } else { self.open_from(missing)? };
        Ok(Checked { received: self, missing, verified, twins, twins_missing, _top: top })
    }

    /// The checkpoint that was asked for, on those of the stream from number `first` on and on
    /// what is here below.
    fn open_from(&self, first: usize) -> Result<Checkpoint, ImportError> {
        let staged = |id: CheckpointId| self.staged[first..].iter().find(|staged| staged.id == id);
        let open = |id| match staged(id) {
            Some(staged) => staged.open(&self.key),
            None => Checkpoint::open_alone(&self.store, id, PlanUse::Now),
        };
        // There is one: an empty stream is refused.
        let newest = self.staged.last().map(|staged| staged.id).unwrap_or_default();
        Ok(Checkpoint::with_parents(open(newest)?, None, open)?)
    }

    /// How many are not needed, because they or one that builds on them is here.
    fn first_missing(&self) -> Result<usize, ImportError> {
        let mut first = 0;
        for (number, staged) in self.staged.iter().enumerate() {
            let here = match Checkpoint::open_alone(&self.store, staged.id, PlanUse::Now) {
                Ok(here) => here,
                Err(ReadError::Missing { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if !is_same(&here.manifest, &staged.manifest) {
                let store = self.store.root().to_owned();
                return Err(ImportError::Differs { id: staged.id, store });
            }
            first = number + 1;
        }
        Ok(first)
    }
}

/// Whether two forms are of one checkpoint, however they are stored.
fn is_same(here: &Manifest, there: &Manifest) -> bool {
    here.files.content == there.files.content
        && here.instance == there.instance
        && here.summary.created_ns == there.summary.created_ns
}

impl Checked {
    /// Makes what came visible, a parent before its child.
    ///
    /// # Errors
    /// When the store cannot be written; nothing is visible then.
    pub fn publish(mut self) -> Result<Imported, ImportError> {
        let Received { store, instance, key, staged, stream_bytes } = &mut self.received;
        store.check_key(instance, key)?;
        // Of a line that is not here. Another key may be stored only under the lock.
        let _lock = match line::key(&store.dirs.lines, instance)? {
            Some(_) => None,
            None => Some(line::lock(&store.dirs.lines, instance, Some(key))?),
        };
        store.check_key(instance, key)?;
        if let Err(failure) = staged[self.missing..].iter_mut().try_for_each(Staged::publish) {
            for staged in staged[self.missing..].iter_mut().rev() {
                staged.withdraw()?;
            }
            return Err(failure.into());
        }
        store.dirs.temporary.sync()?;
        let ids: Vec<CheckpointId> = staged.iter().map(|staged| staged.id).collect();
        let (present, imported) = ids.split_at(self.missing);
        Ok(Imported {
            id: ids.last().copied().unwrap_or_default(),
            instance: instance.clone(),
            imported: imported.to_vec(),
            present: present.to_vec(),
            verified: self.verified,
            twins: self.twins,
            twins_missing: self.twins_missing,
            stream_bytes: *stream_bytes,
        })
    }
}

/// Why a verification ended early.
enum Stopped<E> {
    /// It found something.
    Found(ReadError),
    /// Whoever was asked said so.
    Asked(E),
}

impl<E> From<ReadError> for Stopped<E> {
    fn from(error: ReadError) -> Self {
        Self::Found(error)
    }
}

impl<E: From<ImportError>> Stopped<E> {
    fn into_asked(self) -> E {
        match self {
            Self::Found(error) => ImportError::from(error).into(),
            Self::Asked(error) => error,
        }
    }
}
