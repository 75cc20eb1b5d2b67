//! Open files: offsets, flags, shared descriptions, and devices.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive};
use crate::{no_variant, raw, same, sys, wrong};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

const SIZE: usize = 300_000;
const RECORD: usize = 64;
/// Far above the others, so that the table has a gap.
const HIGH: RawFd = 219;

/// One descriptor and what it must be.
struct Open {
    fd: RawFd,
    path: std::path::PathBuf,
    flags: i64,
    close_on_exec: i64,
    offset: i64,
}

struct Files {
    open: Vec<Open>,
    log: RawFd,
    records: u64,
    data: Pattern,
    seed: u64,
    still: bool,
    inode: u64,
}

/// Offsets in [`Files::open`].
const WRITER: usize = 0;
const DUPLICATE: usize = 1;
const READER: usize = 2;

/// Sets up the open files.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "files", 0);
    let data = Pattern::new(seed);
    let path = context.dir.join("data");
    std::fs::write(&path, data.bytes(0, SIZE))?;
    let mut open = Vec::new();
    let writer = open_file(&mut open, &path, libc::O_RDWR, 12_344)?;
    let duplicate = sys!(libc::fcntl(writer, libc::F_DUPFD_CLOEXEC, HIGH))? as RawFd;
    open.push(Open::look(duplicate, &path)?);
    let reader = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOATIME;
    open_file(&mut open, &path, reader, 776)?;
    let odd = libc::O_RDWR | libc::O_SYNC | libc::O_NONBLOCK | libc::O_LARGEFILE;
    open_file(&mut open, &path, odd, SIZE as i64 + 5000)?;
    let empty = context.dir.join("with a space and \u{e9}");
    open_file(&mut open, &empty, libc::O_WRONLY | libc::O_CREAT | libc::O_DSYNC, 0)?;
    let log = context.dir.join("log");
    let append = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
    let log = open_file(&mut open, &log, append, 0)?;
    let inode = std::fs::metadata(&path)?.ino();
    let still = context.still_files;
    Ok(Box::new(Files { open, log, records: 0, data, seed, still, inode }))
}

fn open_file(
    open: &mut Vec<Open>,
    path: &std::path::Path,
    flags: i32,
    offset: i64,
) -> Outcome<RawFd> {
    let name = format!("{}\0", path.display());
    let fd = sys!(libc::open(name.as_ptr().cast(), flags, 0o640))? as RawFd;
    sys!(libc::lseek(fd, offset, libc::SEEK_SET))?;
    open.push(Open::look(fd, path)?);
    Ok(fd)
}

impl Open {
    fn look(fd: RawFd, path: &std::path::Path) -> Outcome<Self> {
        Ok(Self {
            fd,
            path: path.to_owned(),
            flags: sys!(libc::fcntl(fd, libc::F_GETFL))?,
            close_on_exec: sys!(libc::fcntl(fd, libc::F_GETFD))?,
            offset: sys!(libc::lseek(fd, 0, libc::SEEK_CUR))?,
        })
    }

    fn verify(&self) -> Outcome {
        let found = Self::look(self.fd, &self.path)?;
        let name = format!("descriptor {}", self.fd);
        same!(format!("flags of {name}"), self.flags, found.flags);
        same!(format!("close-on-exec of {name}"), self.close_on_exec, found.close_on_exec);
        same!(format!("offset of {name}"), self.offset, found.offset);
        let link = raw::link(&format!("/proc/self/fd/{}", self.fd))?;
        same!(format!("path of {name}"), self.path.to_string_lossy(), link);
        Ok(())
    }
}

impl Files {
    fn record(&self, number: u64) -> Vec<u8> {
        Pattern::new(derive(self.seed, "record", number)).bytes(0, RECORD)
    }

    /// Reads at the descriptor's own offset: both duplicates move.
    fn read_on(&mut self, index: usize) -> Outcome {
        let mut bytes = vec![0u8; 4096];
        let (fd, offset) = (self.open[index].fd, self.open[index].offset);
        let read = sys!(libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()))? as usize;
        let expected = bytes.len().min(SIZE.saturating_sub(offset as usize));
        same!("bytes read at an offset", expected, read);
        self.data.verify("file", offset as usize, &bytes[..read])?;
        self.set_offset(index, offset + read as i64);
        Ok(())
    }

    fn set_offset(&mut self, index: usize, offset: i64) {
        self.open[index].offset = offset;
        if index <= DUPLICATE {
            self.open[WRITER].offset = offset;
            self.open[DUPLICATE].offset = offset;
        }
    }

    fn seek(&mut self, index: usize, offset: i64) -> Outcome {
        sys!(libc::lseek(self.open[index].fd, offset, libc::SEEK_SET))?;
        self.set_offset(index, offset);
        Ok(())
    }

    fn check_log(&self) -> Outcome {
        let path = &self.open.last().map(|open| open.path.clone()).unwrap_or_default();
        let bytes = std::fs::read(path)?;
        same!("size of the log", self.records as usize * RECORD, bytes.len());
        let first = self.records.saturating_sub(100);
        for number in first..self.records {
            let at = number as usize * RECORD;
            same!("log record", self.record(number), bytes[at..at + RECORD].to_vec());
        }
        Ok(())
    }
}

impl Kind for Files {
    fn check(&mut self) -> Outcome<Pass> {
        for open in &self.open {
            open.verify()?;
        }
        same!("inode of the file", self.inode, std::fs::metadata(&self.open[0].path)?.ino());
        self.check_log()?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        match step % 4 {
            0 => self.read_on(WRITER)?,
            1 => self.read_on(DUPLICATE)?,
            2 => self.read_on(READER)?,
            _ => {
                let at = (derive(self.seed, "seek", step) as usize % (SIZE / 8)) * 8;
                self.seek((step / 4) as usize % 3, at as i64)?;
            }
        }
        if self.still || self.records >= 20_000 {
            return Ok(());
        }
        let record = self.record(self.records);
        let written = sys!(libc::write(self.log, record.as_ptr().cast(), RECORD))?;
        same!("bytes appended", RECORD as i64, written);
        self.records += 1;
        if let Some(log) = self.open.last_mut() {
            log.offset = self.records as i64 * RECORD as i64;
        }
        // Written in place, with the same bytes: the time of the file moves.
        let bytes = self.data.bytes(8192, 8);
        let fd = self.open[WRITER].fd;
        sys!(libc::pwrite(fd, bytes.as_ptr().cast(), 8, 8192))?;
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let writer = self.open[WRITER].fd;
        match variant {
            "offset" => drop(sys!(libc::lseek(self.open[READER].fd, 8, libc::SEEK_CUR))?),
            // Two descriptions where there was one: right until an offset moves.
            "unshared" => {
                let path = format!("{}\0", self.open[WRITER].path.display());
                let flags = libc::O_RDWR;
                let fd = sys!(libc::open(path.as_ptr().cast(), flags))? as RawFd;
                sys!(libc::lseek(fd, self.open[DUPLICATE].offset, libc::SEEK_SET))?;
                sys!(libc::dup3(fd, HIGH, libc::O_CLOEXEC))?;
                sys!(libc::close(fd))?;
            }
            "flags" => drop(sys!(libc::fcntl(self.log, libc::F_SETFL, 0))?),
            "close-on-exec" => drop(sys!(libc::fcntl(writer, libc::F_SETFD, 1))?),
            "closed" => drop(sys!(libc::close(self.open[READER].fd))?),
            "log" => {
                let byte = 0u8;
                sys!(libc::write(self.log, (&raw const byte).cast(), 1))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Character devices that every program may hold.
struct Devices {
    null: RawFd,
    zero: RawFd,
    full: RawFd,
    random: RawFd,
    links: Vec<String>,
}

/// Sets up the devices.
pub fn devices(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let open =
        |path: &std::ffi::CStr, flags| sys!(libc::open(path.as_ptr(), flags)).map(|fd| fd as RawFd);
    let mut devices = Devices {
        null: open(c"/dev/null", libc::O_RDWR)?,
        zero: open(c"/dev/zero", libc::O_RDONLY | libc::O_CLOEXEC)?,
        full: open(c"/dev/random", libc::O_RDONLY | libc::O_NONBLOCK)?,
        random: open(c"/dev/urandom", libc::O_RDONLY)?,
        links: Vec::new(),
    };
    devices.links = devices.look()?;
    Ok(Box::new(devices))
}

impl Devices {
    fn look(&self) -> Outcome<Vec<String>> {
        [self.null, self.zero, self.full, self.random]
            .iter()
            .map(|fd| raw::link(&format!("/proc/self/fd/{fd}")))
            .collect()
    }
}

impl Kind for Devices {
    fn check(&mut self) -> Outcome<Pass> {
        same!("devices", self.links, self.look()?);
        let mut bytes = [1u8; 64];
        let read =
            |fd, bytes: &mut [u8]| sys!(libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()));
        same!("read of /dev/null", 0, read(self.null, &mut bytes)?);
        same!("read of /dev/zero", 64, read(self.zero, &mut bytes)?);
        same!("bytes of /dev/zero", [0u8; 64], bytes);
        same!("read of /dev/urandom", 64, read(self.random, &mut bytes)?);
        if bytes == [0; 64] {
            wrong!("/dev/urandom gives zeros");
        }
        same!("write to /dev/null", 64, sys!(libc::write(self.null, bytes.as_ptr().cast(), 64))?);
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "swapped" => drop(sys!(libc::dup2(self.null, self.zero))?),
            "closed" => drop(sys!(libc::close(self.random))?),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// A file that was deleted while open.
struct Deleted {
    fd: RawFd,
    pattern: Pattern,
}

/// Sets up the deleted file.
pub fn deleted(context: &Context) -> Outcome<Box<dyn Kind>> {
    let pattern = Pattern::new(derive(context.seed, "deleted", 0));
    let path = context.dir.join("deleted");
    std::fs::write(&path, pattern.bytes(0, 10_000))?;
    let name = format!("{}\0", path.display());
    let fd = sys!(libc::open(name.as_ptr().cast(), libc::O_RDWR))? as RawFd;
    std::fs::remove_file(&path)?;
    Ok(Box::new(Deleted { fd, pattern }))
}

impl Kind for Deleted {
    fn check(&mut self) -> Outcome<Pass> {
        let mut bytes = vec![0u8; 10_001];
        let read = sys!(libc::pread(self.fd, bytes.as_mut_ptr().cast(), bytes.len(), 0))?;
        same!("size of the deleted file", 10_000, read);
        self.pattern.verify("deleted file", 0, &bytes[..10_000])?;
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => {
                sys!(libc::pwrite(self.fd, b"?".as_ptr().cast(), 1, 9999))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
