//! Reading a process's directory under `/proc`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat as RawStat};

use super::text::{Cursor, Malformed};

/// Why a file under `/proc` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcError {
    /// The process (or thread) has ended.
    #[error("read /proc/{path}: the process has ended")]
    Gone {
        /// What was read, relative to `/proc`.
        path: String,
    },
    /// The kernel does not let this process look.
    #[error("read /proc/{path}: not permitted; run as root or with CAP_SYS_PTRACE")]
    Denied {
        /// What was read, relative to `/proc`.
        path: String,
    },
    /// Another failure.
    #[error("read /proc/{path}: {cause}")]
    Io {
        /// What was read, relative to `/proc`.
        path: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The text is not what the man page promises.
    #[error("read /proc/{path}: {cause}")]
    Malformed {
        /// What was read, relative to `/proc`.
        path: String,
        /// What is wrong with it.
        cause: Malformed,
    },
}

impl ProcError {
    /// Whether the process or thread (or the descriptor asked for) is not there any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether the kernel refused for lack of privilege.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    pub(crate) fn from_io(path: String, cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::Gone { path },
            Some(libc::EACCES | libc::EPERM) => Self::Denied { path },
            _ => Self::Io { path, cause },
        }
    }
}

/// What stat(2) tells about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// `st_dev` in the C library's `makedev` encoding.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// `st_nlink`: 0 when no name leads to the file.
    pub links: u64,
    /// `st_uid`.
    pub uid: u32,
    /// `st_gid`.
    pub gid: u32,
    /// `st_rdev` of a device.
    pub device_of_node: u64,
    /// `st_size`.
    pub size_bytes: u64,
    /// `st_mtim` in nanoseconds.
    pub mtime_ns: i128,
    /// `st_ctim` in nanoseconds.
    pub ctime_ns: i128,
}

impl FileStat {
    /// The file's type bits, `S_IFMT` of inode(7).
    pub fn file_type(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    fn from_raw(raw: &RawStat) -> Self {
        let time = |s: i64, ns: u64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: raw.st_dev,
            inode: raw.st_ino,
            mode: raw.st_mode,
            links: raw.st_nlink,
            uid: raw.st_uid,
            gid: raw.st_gid,
            device_of_node: raw.st_rdev,
            size_bytes: u64::try_from(raw.st_size).unwrap_or_default(),
            mtime_ns: time(raw.st_mtime, raw.st_mtime_nsec),
            ctime_ns: time(raw.st_ctime, raw.st_ctime_nsec),
        }
    }
}

/// fstat(2).
///
/// # Errors
/// What the kernel says.
pub fn file_stat(file: impl AsFd) -> io::Result<FileStat> {
    Ok(FileStat::from_raw(&rustix::fs::fstat(file)?))
}

/// A process's or thread's directory under `/proc`, held open: when the process ends, reading
/// through it fails even if the pid is given to another process.
#[derive(Debug)]
pub struct ProcDir {
    dir: OwnedFd,
    path: String,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl ProcDir {
    /// Opens `/proc/PID`.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when there is no such process.
    pub fn open(pid: i32) -> Result<Self, ProcError> {
        Self::open_at(rustix::fs::CWD, &format!("/proc/{pid}"), pid.to_string())
    }

    /// Opens `/proc/self`: ourselves, whichever number we have there.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn ourselves() -> Result<Self, ProcError> {
        // A link, which is followed only where it is not the last step.
        Self::open_at(rustix::fs::CWD, "/proc/self/.", "self".to_owned())
    }

    /// Opens `/proc/PID/task/TID` of the same process.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when there is no such thread any more.
    pub fn open_task(&self, tid: i32) -> Result<Self, ProcError> {
        let name = format!("task/{tid}");
        Self::open_at(self.dir.as_fd(), &name, format!("{}/{name}", self.path))
    }

    fn open_at(at: BorrowedFd<'_>, name: &str, path: String) -> Result<Self, ProcError> {
        match rustix::fs::openat(at, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(Self { dir, path }),
            Err(cause) => Err(ProcError::from_io(path, cause.into())),
        }
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    fn error(&self, name: &str, cause: impl Into<io::Error>) -> ProcError {
        ProcError::from_io(self.path_of(name), cause.into())
    }

    /// Opens the file `name` below the directory. Magic links (`exe`, `fd/3`, `map_files/...`)
    /// are followed.
    ///
    /// # Errors
    /// When it is gone or not permitted.
    pub fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, ProcError> {
        rustix::fs::openat(&self.dir, name, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|cause| self.error(name, cause))
    }

    /// Replaces the contents of `buffer` by those of the file `name`. The buffer's memory is
    /// kept for the next file.
    ///
    /// # Errors
    /// When the process is gone or the file cannot be read.
    pub fn read(&self, name: &str, buffer: &mut Vec<u8>) -> Result<(), ProcError> {
        buffer.clear();
        let mut file = File::from(self.open_file(name, OFlags::RDONLY)?);
        // Small files come whole in one read; File::read_to_end would first ask for their size.
        buffer.resize(buffer.capacity().max(4096), 0);
        let mut filled = 0;
        loop {
            if filled == buffer.len() {
                buffer.resize(filled * 2, 0);
            }
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    if is_whole_at_once(name) && filled < buffer.len() {
                        break;
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    buffer.clear();
                    return Err(self.error(name, cause));
                }
            }
        }
        buffer.truncate(filled);
        Ok(())
    }

    /// Clears the Referenced bits of all the process's pages (`clear_refs`, proc(5)); smaps tells
    /// which were set since. The lock of its memory is held for as long as it has pages.
    ///
    /// # Errors
    /// When the process is gone, or belongs to another user.
    pub fn clear_referenced(&self) -> Result<(), ProcError> {
        use std::io::Write;
        let mut file = File::from(self.open_file("clear_refs", OFlags::WRONLY)?);
        file.write_all(b"1").map_err(|cause| self.error("clear_refs", cause))
    }

    /// Reads the file `name` and parses it.
    ///
    /// # Errors
    /// When it cannot be read, or is not what `parser` wants.
    pub fn parse<T>(
        &self,
        name: &str,
        buffer: &mut Vec<u8>,
        parser: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, ProcError> {
        self.read(name, buffer)?;
        parser(buffer).map_err(|cause| ProcError::Malformed { path: self.path_of(name), cause })
    }

    /// Reads the file `name` that holds one decimal number.
    ///
    /// # Errors
    /// When it cannot be read or holds something else.
    pub fn number(&self, name: &str, buffer: &mut Vec<u8>) -> Result<i64, ProcError> {
        self.parse(name, buffer, |text| Cursor::new(text.trim_ascii()).signed("a number"))
    }

    /// Reads the link `name` without following it.
    ///
    /// # Errors
    /// When it is gone or not permitted.
    pub fn link(&self, name: &str) -> Result<Vec<u8>, ProcError> {
        rustix::fs::readlinkat(&self.dir, name, Vec::with_capacity(256))
            .map(|text| text.into_bytes())
            .map_err(|cause| self.error(name, cause))
    }

    /// stat(2) of `name`, following magic links: what `fd/3` or `map_files/...` refers to.
    ///
    /// # Errors
    /// When it is gone or not permitted.
    pub fn stat(&self, name: &str) -> Result<FileStat, ProcError> {
        rustix::fs::statat(&self.dir, name, AtFlags::empty())
            .map(|raw| FileStat::from_raw(&raw))
            .map_err(|cause| self.error(name, cause))
    }

    /// stat(2) of the absolute `path` as the process sees it, below its own root directory. A
    /// symbolic link at the end is not followed.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when nothing has that name.
    pub fn stat_in_root(&self, path: &[u8]) -> Result<FileStat, ProcError> {
        let name = || format!("root{}", String::from_utf8_lossy(path));
        let root = self.open_file("root", OFlags::PATH)?;
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let relative = if relative.is_empty() { &b"."[..] } else { relative };
        rustix::fs::statat(root, relative, AtFlags::SYMLINK_NOFOLLOW)
            .map(|raw| FileStat::from_raw(&raw))
            .map_err(|cause| self.error(&name(), cause))
    }

    /// The magic number of the file system that the file `name` lies on (`statfs(2)`).
    ///
    /// # Errors
    /// When it is gone or not permitted.
    pub fn file_system_magic(&self, name: &str) -> Result<u64, ProcError> {
        let file = self.open_file(name, OFlags::PATH)?;
        match rustix::fs::fstatfs(file) {
            Ok(info) => Ok(info.f_type.cast_unsigned()),
            Err(cause) => Err(self.error(name, cause)),
        }
    }

    /// The thread ids in `task`, ascending.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn tids(&self) -> Result<Vec<i32>, ProcError> {
        self.numbers_in("task")
    }

    /// The open descriptors in `fd`, ascending.
    ///
    /// # Errors
    /// When the process is gone or may not be looked into.
    pub fn descriptors(&self) -> Result<Vec<i32>, ProcError> {
        self.numbers_in("fd")
    }

    fn numbers_in(&self, name: &str) -> Result<Vec<i32>, ProcError> {
        let dir = rustix::fs::openat(&self.dir, name, DIRECTORY, Mode::empty())
            .map_err(|cause| self.error(name, cause))?;
        numbers(dir).map_err(|cause| self.error(name, cause))
    }
}

fn numbers(dir: OwnedFd) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in Dir::new(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.first().is_some_and(u8::is_ascii_digit)
            && let Ok(number) = Cursor::new(name).dec_as("a number")
        {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Files that the kernel writes as one piece: a read that does not fill the buffer has it all.
fn is_whole_at_once(name: &str) -> bool {
    const WHOLE: [&str; 6] = ["stat", "status", "comm", "limits", "cgroup", "personality"];
    let last = name.rsplit('/').next().unwrap_or(name);
    WHOLE.contains(&last) || name.starts_with("fdinfo/")
}

/// The process ids in `/proc`, ascending.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn pids() -> Result<Vec<i32>, ProcError> {
    let list = || -> io::Result<Vec<i32>> {
        numbers(rustix::fs::open("/proc", DIRECTORY, Mode::empty())?)
    };
    list().map_err(|cause| ProcError::from_io(String::new(), cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::{maps_entries, parse_smaps, parse_stat, parse_status};

    fn me() -> ProcDir {
        ProcDir::open(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn the_files_of_this_process_parse() {
        let mut buffer = Vec::new();
        let dir = me();
        let status = dir.parse("status", &mut buffer, parse_status).unwrap();
        let stat = dir.parse("stat", &mut buffer, parse_stat).unwrap();
        assert_eq!(status.tgid, stat.tid);
        assert_eq!(status.ppid, stat.ppid);
        assert!(status.has_memory);
        let smaps = dir.parse("smaps", &mut buffer, parse_smaps).unwrap();
        dir.read("maps", &mut buffer).unwrap();
        let maps = maps_entries(&buffer).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(smaps.len() > 10 && maps.len() > 10);
        assert!(dir.tids().unwrap().contains(&stat.tid));
        assert!(dir.descriptors().unwrap().contains(&0));
        assert_eq!(
            dir.stat("exe").unwrap(),
            file_stat(File::open("/proc/self/exe").unwrap()).unwrap()
        );
        assert!(pids().unwrap().contains(&stat.tid));
    }

    #[test]
    fn what_is_not_there_is_gone() {
        assert!(me().link("fd/999999").unwrap_err().is_gone());
        assert!(ProcDir::open(i32::MAX).unwrap_err().is_gone());
    }
}
