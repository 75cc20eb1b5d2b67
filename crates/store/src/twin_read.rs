//! Pages that files outside of the store have: reading them there.
//!
//! Whatever is read is compared with the hash it had when the checkpoint was made, so that a file
//! that changed is noticed and never delivered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::{Frame, Opener, TwinFile};
use mem::{FileIdentity, PageSourceError};
use plan::Treatment;

use crate::Checkpoint;
use crate::read::damaged;

/// The files by number. Each is opened when it is needed, and again after it failed: it may have
/// been put back.
#[derive(Debug)]
pub(crate) struct TwinFiles(BTreeMap<u32, OneFile>);

#[derive(Debug)]
struct OneFile {
    identity: FileIdentity,
    open: Mutex<Option<Arc<File>>>,
}

/// A file outside of the store that does not have any more what a checkpoint needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinMismatch {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

impl TwinFiles {
    pub(crate) fn new(files: &[TwinFile]) -> Self {
        let open =
            |file: &TwinFile| OneFile { identity: file.identity.clone(), open: Mutex::new(None) };
        Self(files.iter().map(|file| (file.number, open(file))).collect())
    }

    fn get(&self, number: u32) -> io::Result<&OneFile> {
        let unknown = || io::Error::other(format!("twin file {number} is not in the manifest"));
        self.0.get(&number).ok_or_else(unknown)
    }
}

impl OneFile {
    fn path(&self) -> &Path {
        path_of(&self.identity)
    }

    fn handle(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next read opens it anew.
    fn forget(&self) {
        *self.handle() = None;
    }

    fn file(&self) -> io::Result<Arc<File>> {
        let mut handle = self.handle();
        if let Some(file) = &*handle {
            return Ok(file.clone());
        }
        let file = Arc::new(open_regular(self.path())?);
        *handle = Some(file.clone());
        Ok(file)
    }

    fn read(&self, offset_bytes: u64, pages: &mut [u8]) -> io::Result<()> {
        let read = self.file().and_then(|file| file.read_exact_at(pages, offset_bytes));
        read.map_err(|cause| {
            self.forget();
            let path = self.path().display();
            io::Error::new(cause.kind(), format!("read {path}, which has bytes of it: {cause}"))
        })
    }

    /// Whether it is the very file it was, never touched since.
    fn is_untouched(&self) -> io::Result<bool> {
        Ok(identity_of(&*self.file()?, self.path())? == self.identity)
    }
}

impl Checkpoint {
    /// Fills `pages` with what `frame`, a twin, holds.
    pub(crate) fn read_twin(
        &self,
        opener: &mut Opener,
        frame: &Frame,
        stored: &[u8],
        pages: &mut [u8],
    ) -> Result<(), PageSourceError> {
        let fail = |cause| PageSourceError::Io { memory: frame.memory, pages: frame.pages, cause };
        let place = Opener::twin_place(frame, stored).map_err(|e| damaged(frame, e.to_string()))?;
        let file = self.twins.get(place.file).map_err(fail)?;
        file.read(place.offset_bytes, pages).map_err(fail)?;
        opener.check_read(frame, pages).map_err(|_| {
            file.forget();
            let path = file.path().display();
            let at = place.offset_bytes;
            let detail = format!("{path} has other bytes from {at} on than it had; put it back");
            damaged(frame, detail)
        })
    }

    /// Looks whether all files outside of the store still have what this checkpoint, or those that
    /// hold pages of it, need of them. Nothing of a file is read that is as it was by its numbers
    /// and times; of others, what is needed.
    pub fn check_twins(&self) -> Vec<TwinMismatch> {
        self.chain().flat_map(Self::check_own_twins).collect()
    }

    /// The files outside of the store that have pages of this checkpoint itself.
    pub fn twin_paths(&self) -> impl Iterator<Item = PathBuf> {
        self.twins.0.values().map(|file| file.path().to_owned())
    }

    /// Opens all files outside of the store that have pages of this checkpoint, or of those behind
    /// it, and closes them again.
    ///
    /// # Errors
    /// What the system says of the first that cannot be opened.
    pub fn open_twins(&self) -> io::Result<()> {
        let mut files = self.chain().flat_map(|checkpoint| checkpoint.twins.0.values());
        files.try_for_each(|file| open_regular(file.path()).map(drop))
    }

    fn check_own_twins(&self) -> Vec<TwinMismatch> {
        let mut mismatches = BTreeMap::new();
        let mut touched = Vec::new();
        for (number, file) in &self.twins.0 {
            match file.is_untouched() {
                Ok(true) => {}
                Ok(false) => touched.push(*number),
                Err(cause) => {
                    mismatches.insert(*number, cause.to_string());
                }
            }
        }
        if !touched.is_empty() {
            self.check_content(&touched, &mut mismatches);
        }
        let named = mismatches.into_iter().filter_map(|(number, cause)| {
            let path = self.twins.get(number).ok()?.path().to_owned();
            Some(TwinMismatch { path, cause })
        });
        named.collect()
    }

    /// Reads what is needed of the files with these numbers.
    fn check_content(&self, numbers: &[u32], mismatches: &mut BTreeMap<u32, String>) {
        let (mut stored, mut pages) = (Vec::new(), Vec::new());
        for frame in self.index.frames().filter(|f| f.treatment == Treatment::Twin) {
            let checked = self.read_stored(&frame, &mut stored).and_then(|()| {
                let place = Opener::twin_place(&frame, &stored)
                    .map_err(|e| damaged(&frame, e.to_string()))?;
                if !numbers.contains(&place.file) || mismatches.contains_key(&place.file) {
                    return Ok(None);
                }
                pages.resize(frame.held_bytes(), 0);
                let read = self
                    .readers
                    .with(|reader| self.read_twin(&mut reader.opener, &frame, &stored, &mut pages));
                Ok(read.err().map(|cause| (place.file, cause)))
            });
            if let Ok(Some((number, cause))) = checked {
                let cause = match cause {
                    PageSourceError::Damaged { .. } => "it was changed since".to_owned(),
                    other => other.to_string(),
                };
                mismatches.insert(number, cause);
            }
        }
    }
}

/// The identity of an open file whose path is `path`.
pub(crate) fn identity_of(file: &File, path: &Path) -> io::Result<FileIdentity> {
    let is = file.metadata()?;
    let time = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    Ok(FileIdentity {
        path: path.as_os_str().as_bytes().to_vec(),
        device: is.dev(),
        inode: is.ino(),
        size_bytes: is.size(),
        mtime_ns: time(is.mtime(), is.mtime_nsec()),
        ctime_ns: time(is.ctime(), is.ctime_nsec()),
        build_id: Vec::new(),
        deleted: is.nlink() == 0,
    })
}

pub(crate) fn path_of(identity: &FileIdentity) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(&identity.path))
}

/// Opens a regular file for reading; waits for nobody.
///
/// # Errors
/// What the system says, and when it is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}
