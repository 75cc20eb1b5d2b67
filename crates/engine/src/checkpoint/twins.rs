//! Files whose bytes the program's memory may hold: what it has open or mapped for reading, what
//! it was given by name, and what somebody named.
//!
//! A checkpoint that reads pages from a file needs that file as it is. So of a program that goes on
//! and may write its files anew, only those count that it has open for reading or mapped; of one
//! that is ended with its checkpoint also those whose names are in its arguments, its environment
//! or its smaller memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FileType, OFlags};
use store::Twins;
use sys::proc::{maps_entries, parse_fdinfo};
use target::Process;

use super::error::CheckpointError;
use super::names;
use crate::events::Observer;
use crate::phase::Watch;

/// Programs with less memory store it faster than it is searched for.
const RESIDENT_BYTES_MIN: u64 = 16 << 20;
/// Smaller files are not worth a look.
const FILE_BYTES_MIN: u64 = 1 << 20;
/// All files together, in relation to the program's memory.
const SHARE_MAX: u64 = 2;
/// Files that were changed less than this ago may be changed again right now.
const AGE_S_MIN: u64 = 2;

/// Which files to look at.
#[derive(Clone, Debug)]
pub struct TwinChoice {
    /// Those that the program itself leads to.
    pub auto: bool,
    /// Those that somebody named.
    pub named: Vec<PathBuf>,
}

impl Default for TwinChoice {
    fn default() -> Self {
        Self { auto: true, named: Vec::new() }
    }
}

/// A file that was found, by device and inode.
type Found = BTreeMap<(u64, u64), Candidate>;

struct Candidate {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    /// Somebody asked for it.
    is_named: bool,
}

/// Reads the files that `choice` asks for; `None` when there are none.
///
/// # Errors
/// When a file that somebody named cannot be used, or the verb is to end.
pub(super) fn find(
    process: &Process,
    choice: &TwinChoice,
    stop: bool,
    resident_bytes: u64,
    watch: &Watch,
    observer: &dyn Observer,
) -> Result<Option<Twins>, CheckpointError> {
    let mut found = Found::new();
    for path in &choice.named {
        let opened = open(path);
        let (path, file, is) =
            opened.map_err(|cause| CheckpointError::Twin { path: path.clone(), cause })?;
        let candidate = Candidate { path, file, size_bytes: is.size(), is_named: true };
        found.insert((is.dev(), is.ino()), candidate);
    }
    let most = resident_bytes.saturating_mul(SHARE_MAX);
    if choice.auto && resident_bytes >= RESIDENT_BYTES_MIN && sees_our_files(process) {
        let mut search = Search { process, found: &mut found, most };
        // What cannot be looked at is not looked at: it is stored, then.
        if let Err(cause) = search.look(stop) {
            tracing::debug!(%cause, "not all files of the program could be looked at");
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let mut candidates: Vec<Candidate> = found.into_values().collect();
    // The larger a file, the more of it may be found.
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.size_bytes));
    let total: u64 = candidates.iter().map(|candidate| candidate.size_bytes).sum();
    let mut twins = Twins::new(total).map_err(CheckpointError::TwinSearch)?;
    let mut read = 0;
    for Candidate { path, file, size_bytes, is_named } in candidates {
        watch.check()?;
        observer.progress(read, total);
        tracing::debug!(path = %path.display(), size_bytes, "is looked for in memory");
        if let Err(cause) = twins.add(file, &path, &|| watch.check().is_err()) {
            if is_named {
                return Err(CheckpointError::Twin { path, cause });
            }
            tracing::debug!(%cause, path = %path.display(), "is not looked for");
        }
        read += size_bytes;
    }
    Ok(Some(twins))
}

/// Whether a path means the same to it as to us.
fn sees_our_files(process: &Process) -> bool {
    let link = |name| process.dir().link(name).ok();
    let ours = fs::read_link("/proc/self/ns/mnt").ok();
    link("root").is_some_and(|root| root == b"/")
        && ours
            .is_some_and(|ours| link("ns/mnt").is_some_and(|it| it == ours.as_os_str().as_bytes()))
}

/// Opens a regular file, and says what its path is without links.
fn open(path: &Path) -> std::io::Result<(PathBuf, File, Metadata)> {
    let path = fs::canonicalize(path)?;
    let file = store::open_regular(&path)?;
    let is = file.metadata()?;
    Ok((path, file, is))
}

struct Search<'a> {
    process: &'a Process,
    found: &'a mut Found,
    /// Bytes of all files together at most.
    most: u64,
}

impl Search<'_> {
    fn look(&mut self, stop: bool) -> Result<(), sys::proc::ProcError> {
        let dir = self.process.dir();
        // What it knows by name is likelier what it read than a locale that it has mapped.
        let mut paths = if stop { names::of(self.process)? } else { Vec::new() };
        // Files that it may write, and its code, which it reads by mapping it.
        let mut left_out = Vec::new();
        for fd in dir.descriptors()? {
            let name = format!("fd/{fd}");
            // Closed meanwhile, or nothing that has a path.
            let (Ok(path), Ok(stat)) = (dir.link(&name), dir.stat(&name)) else { continue };
            let is_file = FileType::from_raw_mode(stat.mode) == FileType::RegularFile;
            if !is_file || !path.starts_with(b"/") {
                continue;
            }
            let info = dir.parse(&format!("fdinfo/{fd}"), &mut Vec::new(), parse_fdinfo)?;
            match OFlags::from_bits_retain(info.flags) & OFlags::ACCMODE {
                OFlags::RDONLY => paths.push(PathBuf::from(OsStr::from_bytes(&path))),
                _ => left_out.push((stat.device, stat.inode)),
            }
        }
        let mut text = Vec::new();
        dir.read("maps", &mut text)?;
        for entry in maps_entries(&text).flatten() {
            if !entry.has_inode() || !entry.name_raw.starts_with(b"/") {
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&entry.name()));
            let is_written = entry.sharing == mem::Sharing::Shared && entry.protection.write;
            if is_written || entry.protection.exec {
                left_out.extend(fs::metadata(&path).map(|is| (is.dev(), is.ino())));
            } else if paths.last() != Some(&path) {
                paths.push(path);
            }
        }
        let uid = self.process.status()?.uid.effective;
        for path in paths {
            if let Ok(is) = fs::metadata(&path) {
                self.take_file(&path, &is, uid, &left_out);
            }
        }
        Ok(())
    }

    /// Takes a file that may be relied on.
    fn take_file(&mut self, path: &Path, is: &Metadata, uid: u32, left_out: &[(u64, u64)]) {
        let id = (is.dev(), is.ino());
        let used: u64 = self.found.values().map(|candidate| candidate.size_bytes).sum();
        let is_fit = is.is_file()
            && is.size() >= FILE_BYTES_MIN
            && used.saturating_add(is.size()) <= self.most
            && !left_out.contains(&id)
            && !self.found.contains_key(&id)
            // Nobody else may change it, and nobody is just doing so.
            && (is.uid() == 0 || is.uid() == uid)
            && is.mode() & 0o022 == 0
            && is_older(is, AGE_S_MIN)
            && !["/proc", "/sys", "/dev"].iter().any(|of_kernel| path.starts_with(of_kernel));
        if !is_fit {
            return;
        }
        let Ok((path, file, opened)) = open(path) else { return };
        if (opened.dev(), opened.ino()) == id {
            let size_bytes = opened.size();
            self.found.insert(id, Candidate { path, file, size_bytes, is_named: false });
        }
    }
}

fn is_older(is: &Metadata, seconds: u64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(is.ctime()).is_ok_and(|ctime| ctime + seconds <= now.as_secs())
}
