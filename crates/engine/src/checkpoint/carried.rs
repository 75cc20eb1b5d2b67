//! Tracking that goes on from one checkpoint to the next, so that the next one reads only what was
//! written since.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use capture::Precopy;
use image::CheckpointId;
use mem::{PageRange, PageSet};
use serde::{Deserialize, Serialize};
use sys::userfault::Userfault;
use target::{Process, Tracked, Tracker};

use crate::registry::InstanceLock;

/// A program whose writes have been tracked since a checkpoint of it.
#[derive(Clone, Debug)]
pub(crate) struct Carried<'p> {
    pub(crate) tracker: Arc<Tracker<'p>>,
    /// Its pages in that checkpoint.
    pub(crate) copied: PageSet,
    /// The checkpoint.
    pub(crate) parent: CheckpointId,
}

/// A page run.
type Run = (u64, u64);

/// The same in a file, for another process of ours, which gets the descriptor apart.
#[derive(Serialize, Deserialize)]
struct Written {
    parent: String,
    pid: i32,
    copied: Vec<Run>,
    taken: Vec<Run>,
    unarmed: Vec<Run>,
    huge: Vec<Run>,
    disturbed: Vec<Run>,
}

fn runs(set: &PageSet) -> Vec<Run> {
    set.runs().iter().map(|run| (run.start.0, run.end.0)).collect()
}

fn set(runs: &[Run]) -> io::Result<PageSet> {
    let is_right = |(start, end): &Run| start < end;
    match runs.iter().all(is_right) {
        true => Ok(runs.iter().map(|(start, end)| PageRange::new(*start, *end)).collect()),
        false => Err(io::Error::other("a run of pages is empty")),
    }
}

impl<'p> Carried<'p> {
    /// Gives it up, for whoever reads `path` and gets the descriptor. `None` when somebody else looks
    /// through the tracker.
    ///
    /// # Errors
    /// When it cannot be written down: it is released then.
    pub(crate) fn give_up(self, pid: i32, path: &Path) -> io::Result<Option<OwnedFd>> {
        let Ok(tracker) = Arc::try_unwrap(self.tracker) else { return Ok(None) };
        let (descriptor, known) = tracker.give_up()?;
        let written = Written {
            parent: self.parent.to_string(),
            pid,
            copied: runs(&self.copied),
            taken: runs(&known.taken),
            unarmed: runs(&known.unarmed),
            huge: runs(&known.huge),
            disturbed: runs(&known.disturbed),
        };
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer(&mut file, &written)?;
        file.flush()?;
        Ok(Some(descriptor))
    }

    /// The tracking of `process` that a watch gave up with the loan that `lock` is. What cannot be
    /// taken over ends, and the program's memory is copied anew.
    pub(crate) fn lent(lock: &mut InstanceLock, process: &'p Process) -> Option<Self> {
        let (userfault, path) = lock.take_tracking()?;
        let carried = Self::take_over(process, path, userfault);
        carried.inspect_err(|error| tracing::info!(%error, "its writes are tracked anew")).ok()
    }

    /// Takes it over.
    ///
    /// # Errors
    /// When what is written down is not of this program, or the descriptor is none. The tracking
    /// ends then.
    fn take_over(process: &'p Process, path: &Path, descriptor: OwnedFd) -> io::Result<Self> {
        let userfault = Userfault::of_descriptor(descriptor)?;
        let written: Written = serde_json::from_reader(BufReader::new(File::open(path)?))?;
        if written.pid != process.pid().raw() {
            return Err(io::Error::other("it is of another process"));
        }
        let known = Tracked {
            taken: set(&written.taken)?,
            unarmed: set(&written.unarmed)?,
            huge: set(&written.huge)?,
            disturbed: set(&written.disturbed)?,
        };
        let parent = written.parent.parse();
        let parent = parent.map_err(|_| io::Error::other("it names no checkpoint"))?;
        let tracker = Precopy::adopt(process, userfault, known).map_err(io::Error::other)?;
        Ok(Self { tracker, copied: set(&written.copied)?, parent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_to_a_file_and_back() {
        let pages: PageSet = [PageRange::new(3, 7), PageRange::new(9, 10)].into_iter().collect();
        assert_eq!(set(&runs(&pages)).unwrap(), pages);
        assert!(set(&[(4, 4)]).is_err() && set(&[(5, 4)]).is_err());
    }
}
