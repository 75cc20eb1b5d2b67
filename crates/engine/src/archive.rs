//! `export` and `import`: a checkpoint, with those it builds on, as one stream.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use store::{ExportError, ImportError, ReadError, ResolveError, Store, StoreError};

use crate::classes::{export_class, import_class, read_class, resolve_class, store_class};
use crate::events::Observer;
use crate::failure::{ExitClass, VerbError};
use crate::output;
use crate::phase::{Phase, Phases, Stopped, Watch};
use crate::report::{Outcome, Untouched};
use crate::settings::Settings;

/// There is no hurry: `--timeout` says how long it may take.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
const SEND: Phase =
    Phase { name: "send", limit: LIMIT, undo: "what was written of a file is removed" };
const RECEIVE: Phase = Phase { name: "receive", limit: LIMIT, undo: "what came is removed" };
const VERIFY: Phase = Phase { name: "verify", limit: LIMIT, undo: "what came is removed" };
const PUBLISH: Phase =
    Phase { name: "publish", limit: LIMIT, undo: "what was made visible is removed" };

/// How long nobody asks whether to go on while the other end of a pipe does nothing.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why a checkpoint could not be sent or taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be opened.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be sent.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It cannot be taken in.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The file cannot be used.
    #[error("{action} {}: {cause}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Given up on request.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl VerbError for ArchiveError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Export(error) => export_class(error),
            Self::Import(error) => import_class(error),
            Self::File { cause, .. } => match cause.kind() {
                io::ErrorKind::PermissionDenied => ExitClass::NotPermitted,
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => ExitClass::Usage,
                _ => ExitClass::RolledBack,
            },
            Self::Stopped(Stopped::TimedOut { .. }) => ExitClass::TimedOut,
            Self::Stopped(_) => ExitClass::RolledBack,
        }
    }

    fn outcome(&self) -> Outcome {
        match self.class() {
            ExitClass::RolledBack | ExitClass::TimedOut => Outcome::RolledBack,
            _ => Outcome::Refused,
        }
    }
}

/// What `export` sent, or with `--dry-run` would send.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// `rekindle.export/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Which checkpoint.
    pub id: String,
    /// Whose.
    pub instance: String,
    /// It and those that hold pages of it, a parent before its child.
    pub checkpoints: Vec<String>,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Bytes that all of them take in the store.
    pub stored_bytes: u64,
    /// Bytes of the stream; null when nothing was sent.
    pub stream_bytes: Option<u64>,
    /// The file that has the stream; null for stdout.
    pub file: Option<String>,
    /// Files of the host that have pages of it, and do not come along.
    pub twins: Vec<String>,
}

/// What `import` took in.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    /// `rekindle.import/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// The checkpoint that was exported.
    pub id: String,
    /// Whose.
    pub instance: String,
    /// Checkpoints that are new in the store, a parent before its child.
    pub imported: Vec<String>,
    /// Checkpoints of the stream that the store had, or does not need.
    pub present: Vec<String>,
    /// Bytes of the stream.
    pub stream_bytes: u64,
    /// Frames that were decoded and checked.
    pub frames: u64,
    /// Frames of which only the stored bytes were checked, because files are missing.
    pub frames_unread: u64,
    /// Bytes of pages in the checkpoint.
    pub page_bytes: u64,
    /// Files that have pages of it.
    pub twins: Vec<TwinRow>,
}

/// A file outside of the store that has pages of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct TwinRow {
    /// Which.
    pub path: String,
    /// What is wrong with it here; null when it is as it was.
    pub missing: Option<String>,
}

/// Where a stream goes.
#[derive(Debug)]
pub enum ExportTo<'a> {
    /// To whoever reads it, over a descriptor that stays open.
    Descriptor(BorrowedFd<'a>),
    /// To a file that is there whole or not at all.
    File(&'a Path),
}

/// Where a stream comes from.
#[derive(Debug)]
pub enum ImportFrom<'a> {
    /// A descriptor.
    Descriptor(BorrowedFd<'a>),
    /// A file.
    File(&'a Path),
}

/// Writes the checkpoint that `reference` names, and those it builds on, as one stream.
///
/// # Errors
/// When it cannot be found or read, or the stream cannot be written. A file that was there is as it
/// was then.
pub fn export(
    settings: &Settings,
    reference: &str,
    to: &ExportTo<'_>,
    observer: &dyn Observer,
) -> Result<ExportReport, ArchiveError> {
    let checkpoint = Store::find(&settings.store, reference)?.open()?;
    let stored_bytes = checkpoint.chain_bytes();
    let mut phases = Phases::new(observer, settings.timeout);
    let send = |to: &mut dyn Write, watch: &Watch| {
        let sent = std::cell::Cell::new(0);
        let exported = checkpoint.export(to, &|bytes| {
            sent.set(sent.get() + bytes);
            observer.progress(sent.get().min(stored_bytes), stored_bytes);
            Ok::<_, ArchiveError>(watch.check()?)
        });
        exported.map_err(|error| or_stopped(error, watch))
    };
    let sent = match to {
        _ if settings.dry_run => None,
        ExportTo::Descriptor(fd) => {
            Some(phases.run(SEND, |watch| send(&mut Patient { fd: fd.as_fd(), watch }, watch))?)
        }
        ExportTo::File(path) => {
            Some(phases.run(SEND, |watch| to_file(path, |file| send(file, watch)))?)
        }
    };
    let mut checkpoints: Vec<String> = checkpoint.chain().map(|one| one.id().to_string()).collect();
    checkpoints.reverse();
    let twins = checkpoint.chain().flat_map(store::Checkpoint::twin_paths);
    let mut twins: Vec<String> = twins.map(|path| path.display().to_string()).collect();
    twins.sort();
    twins.dedup();
    Ok(ExportReport {
        schema: "rekindle.export/1",
        untouched: Untouched::default(),
        id: checkpoint.id().to_string(),
        instance: checkpoint.instance().line.instance.to_string(),
        checkpoints,
        page_bytes: checkpoint.page_bytes(),
        stored_bytes,
        stream_bytes: sent.map(|sent| sent.stream_bytes),
        file: match to {
            ExportTo::File(path) => Some(path.display().to_string()),
            ExportTo::Descriptor(_) => None,
        },
        twins,
    })
}

/// Takes the checkpoints in that a stream of [`export`] holds: received, checked, then published.
///
/// # Errors
/// When it is not what was written, or the store cannot take it. Nothing of it is visible then.
pub fn import(
    settings: &Settings,
    from: &ImportFrom<'_>,
    observer: &dyn Observer,
) -> Result<ImportReport, ArchiveError> {
    let file;
    let fd = match from {
        ImportFrom::Descriptor(fd) => fd.as_fd(),
        ImportFrom::File(path) => {
            file = File::open(path).map_err(failed("open", path))?;
            file.as_fd()
        }
    };
    let store = Store::create(&settings.store)?;
    let mut phases = Phases::new(observer, settings.timeout);
    let received = phases.run(RECEIVE, |watch| {
        let received = store.receive(&mut Patient { fd, watch }, &|read, known| {
            observer.progress(read, known.max(read));
            Ok::<_, ArchiveError>(watch.check()?)
        });
        received.map_err(|error| or_stopped(error, watch))
    })?;
    let total = received.stored_bytes();
    let checked = phases.run(VERIFY, |watch| {
        let done = std::cell::Cell::new(0);
        received.verify(&|bytes| {
            done.set(done.get() + bytes);
            observer.progress(done.get(), total);
            Ok::<_, ArchiveError>(watch.check()?)
        })
    })?;
    let imported = phases.run(PUBLISH, |_| checked.publish().map_err(ArchiveError::from))?;
    let ids = |ids: &[image::CheckpointId]| ids.iter().map(ToString::to_string).collect();
    let missing = |path: &Path| {
        let twin = imported.twins_missing.iter().find(|twin| twin.path == path);
        twin.map(|twin| twin.cause.clone())
    };
    let mut twins = imported.twins.clone();
    twins.sort();
    twins.dedup();
    let row = |path: &PathBuf| TwinRow { path: path.display().to_string(), missing: missing(path) };
    Ok(ImportReport {
        schema: "rekindle.import/1",
        untouched: Untouched::default(),
        id: imported.id.to_string(),
        instance: imported.instance.to_string(),
        imported: ids(&imported.imported),
        present: ids(&imported.present),
        stream_bytes: imported.stream_bytes,
        frames: imported.verified.frames,
        frames_unread: imported.verified.frames_unread,
        page_bytes: imported.verified.page_bytes,
        twins: twins.iter().map(row).collect(),
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |cause| ArchiveError::File { action, path, cause }
}

/// Why the verb ends, when the stream failed because it is to end.
fn or_stopped(error: ArchiveError, watch: &Watch) -> ArchiveError {
    let is_stream = matches!(
        error,
        ArchiveError::Export(ExportError::Stream(_)) | ArchiveError::Import(ImportError::Stream(_))
    );
    match watch.check() {
        Err(stopped) if is_stream => stopped.into(),
        _ => error,
    }
}

/// Has `write` fill a file that then takes the name `path`, whole and synced, readable by nobody
/// else: it holds the memory of a program.
fn to_file<T>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    if std::fs::metadata(path).is_ok_and(|is| !is.is_file()) {
        let cause = io::Error::other("it is no regular file; for a pipe leave -o out");
        return Err(failed("write", path)(cause));
    }
    output::replace(path, 0o600, |cause| failed("write", path)(cause), write)
}

/// A descriptor whose other end may take its time: waiting for it ends when the verb is to end.
struct Patient<'a> {
    fd: BorrowedFd<'a>,
    watch: &'a Watch,
}

impl Patient<'_> {
    /// Waits until something can be read or written.
    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        loop {
            self.watch.check().map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.fd, flags)], Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        Ok(rustix::io::read(self.fd, bytes)?)
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// What a pipe that can be written takes without a wait (pipe(7)).
        const PIECE_BYTES: usize = 4096;
        self.wait(PollFlags::OUT)?;
        Ok(rustix::io::write(self.fd, &bytes[..bytes.len().min(PIECE_BYTES)])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
