//! Files: are they still what the instance left?

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use mem::{Backing, FileIdentity, Sharing};
use process::{DescriptionKind, SharedObjectKind};

use super::Check;
use crate::paths::ours_as_path;
use crate::{FilesPolicy, MismatchKind};

/// How much of a file must be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// The same file with the same bytes.
    SameBytes,
    /// The same file, untouched: strict for what the instance can write or read on.
    Untouched,
    /// The same file, no shorter: it is only appended to.
    Grown,
    /// The same directory.
    SameDirectory,
    /// Anything under that name.
    Exists,
}

impl Check<'_> {
    pub(super) fn files(&mut self) {
        let strict = self.options.files == FilesPolicy::Strict;
        for mapping in self.space.mappings.clone() {
            if let Backing::File { file, .. } = &mapping.backing {
                let shared = mapping.sharing == Sharing::Shared && mapping.has_flag(b"mw");
                let demand = if shared && !strict { Demand::Exists } else { Demand::SameBytes };
                self.file(file, demand);
            }
        }
        for description in self.instance.descriptions.clone() {
            if let DescriptionKind::File(file) = &description.kind {
                let demand = demand(file.mode, description.flags, strict);
                self.file(&file.identity, demand);
            }
        }
        let (exe, cwd) = (self.group.exe.clone(), self.group.cwd.clone());
        for (what, path) in [("program", exe), ("directory", cwd)] {
            if let Err(cause) = fs::metadata(self.path(&path)) {
                let object = format!("{what} {}", path.escape_ascii());
                self.add(MismatchKind::File, object, cause.to_string(), "bring it back");
            }
        }
        self.fifos();
        self.objects();
    }

    /// Where we find what the instance calls `path`.
    pub(super) fn path(&self, path: &[u8]) -> PathBuf {
        ours_as_path(self.group, path)
    }

    fn file(&mut self, was: &FileIdentity, demand: Demand) {
        let object = was.path.escape_ascii().to_string();
        match fs::symlink_metadata(self.path(&was.path)) {
            Ok(is) => {
                if let Some(cause) = difference(was, &is, demand, self.same_boot) {
                    let lift = match demand {
                        Demand::SameBytes => "bring the old file back",
                        _ => "bring the old file back, or use --files ignore",
                    };
                    self.add(MismatchKind::File, object, cause, lift);
                }
            }
            Err(cause) => {
                self.add(MismatchKind::File, object, cause.to_string(), "bring the file back");
            }
        }
    }

    fn fifos(&mut self) {
        for pipe in self.instance.pipes.iter().filter(|p| !p.fifo_path.is_empty()) {
            let is_fifo = fs::symlink_metadata(self.path(&pipe.fifo_path))
                .is_ok_and(|is| is.file_type().is_fifo());
            if !is_fifo {
                let object = pipe.fifo_path.escape_ascii().to_string();
                let lift = "make it with mkfifo(1)";
                self.add(MismatchKind::File, object, "there is no such FIFO", lift);
            }
        }
    }

    /// A name of shared memory must lead to the instance's own object or to nothing.
    fn objects(&mut self) {
        for object in &self.instance.objects {
            let SharedObjectKind::PosixShm { path, deleted: false, .. } = &object.kind else {
                continue;
            };
            if let Ok(is) = fs::symlink_metadata(self.path(path))
                && (is.ino(), is.dev()) != (object.inode, object.device)
            {
                let cause = "another object has the name of its shared memory";
                let name = path.escape_ascii().to_string();
                self.add(MismatchKind::File, name, cause, "move it out of the way");
            }
        }
    }
}

fn demand(mode: u32, flags: u32, strict: bool) -> Demand {
    const APPENDED: u32 = (libc::O_WRONLY | libc::O_APPEND).cast_unsigned();
    let kind = mode & libc::S_IFMT;
    let access = (libc::O_ACCMODE | libc::O_APPEND).cast_unsigned();
    if flags & libc::O_PATH.cast_unsigned() != 0 || !strict {
        Demand::Exists
    } else if kind == libc::S_IFDIR {
        Demand::SameDirectory
    } else if flags & access == APPENDED {
        Demand::Grown
    } else {
        Demand::Untouched
    }
}

/// What is different, or `None` when the demand is met.
fn difference(
    was: &FileIdentity,
    is: &Metadata,
    demand: Demand,
    same_boot: bool,
) -> Option<String> {
    if demand == Demand::Exists {
        return None;
    }
    // Device numbers may be dealt out anew at each boot.
    if is.ino() != was.inode || same_boot && is.dev() != was.device {
        return Some("it is another file now".to_owned());
    }
    let time = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    let mtime = time(is.mtime(), is.mtime_nsec());
    let ctime = time(is.ctime(), is.ctime_nsec());
    let (now, then) = (is.size(), was.size_bytes);
    match demand {
        Demand::Exists | Demand::SameDirectory => None,
        Demand::Grown => (now < then).then(|| format!("it shrank from {then} to {now} bytes")),
        Demand::SameBytes | Demand::Untouched if now != then => {
            Some(format!("its size was {then} and is {now} bytes"))
        }
        Demand::SameBytes | Demand::Untouched if mtime != was.mtime_ns => {
            Some("it was written since".to_owned())
        }
        Demand::Untouched if ctime != was.ctime_ns => {
            Some("it was changed since (ctime)".to_owned())
        }
        Demand::SameBytes | Demand::Untouched => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn identity(is: &Metadata) -> FileIdentity {
        let time = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        FileIdentity {
            path: Vec::new(),
            device: is.dev(),
            inode: is.ino(),
            size_bytes: is.size(),
            mtime_ns: time(is.mtime(), is.mtime_nsec()),
            ctime_ns: time(is.ctime(), is.ctime_nsec()),
            build_id: Vec::new(),
            deleted: false,
        }
    }

    #[test]
    fn an_appended_file_may_grow_and_others_may_not() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let was = identity(&file.as_file().metadata().unwrap());
        file.write_all(b"more").unwrap();
        let is = file.as_file().metadata().unwrap();
        let differs = |demand| difference(&was, &is, demand, true).is_some();
        assert!(!differs(Demand::Grown) && !differs(Demand::Exists));
        assert!(differs(Demand::Untouched) && differs(Demand::SameBytes));
        let shorter = FileIdentity { size_bytes: 100, ..was.clone() };
        assert!(difference(&shorter, &is, Demand::Grown, true).is_some());
        let other = FileIdentity { inode: was.inode + 1, ..was };
        assert!(difference(&other, &is, Demand::Grown, true).is_some());
    }

    #[test]
    fn demands_follow_how_a_file_was_opened() {
        let append = (libc::O_WRONLY | libc::O_APPEND).cast_unsigned();
        let both = (libc::O_RDWR | libc::O_APPEND).cast_unsigned();
        assert_eq!(demand(libc::S_IFREG, append, true), Demand::Grown);
        assert_eq!(demand(libc::S_IFREG, both, true), Demand::Untouched);
        assert_eq!(demand(libc::S_IFDIR, 0, true), Demand::SameDirectory);
        assert_eq!(demand(libc::S_IFREG, 0, false), Demand::Exists);
    }
}
