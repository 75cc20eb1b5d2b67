//! Words of a program that may be names of files: in its arguments, its environment, and in those
//! of its mappings that are small.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mem::Sharing;
use sys::pagemap::{Pagemap, ScanFilter};
use sys::proc::{ProcError, maps_entries};
use sys::remote::ProcMem;
use target::Process;

/// Mappings that are looked through: large ones hold data.
const MAPPING_BYTES_MAX: u64 = 16 << 20;
/// All of them together.
const TOTAL_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a name.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 4..=255;
/// Entries of the working directory that names are compared with.
const ENTRIES_MAX: usize = 10_000;
/// Files of one folder that a program was given by name.
const FOLDER_FILES_MAX: usize = 256;
/// Names that are tried.
const TRIES_MAX: usize = 50_000;

/// The paths that are there of those that the program knows.
pub(super) fn of(process: &Process) -> Result<Vec<PathBuf>, ProcError> {
    let dir = process.dir();
    let here = dir.link("cwd")?;
    let here = Path::new(OsStr::from_bytes(&here));
    let mut names = Names::new(here);
    let mut text = Vec::new();
    dir.read("cmdline", &mut text)?;
    names.look(&text, Folders::Listed);
    dir.read("environ", &mut text)?;
    names.look(&text, Folders::Skipped);
    let (Ok(mem), Ok(pagemap)) = (ProcMem::open(process.pid()), Pagemap::open(dir)) else {
        return Ok(names.found);
    };
    dir.read("maps", &mut text)?;
    let is_data = |e: &sys::proc::MapsEntry<'_>| {
        e.protection.write && e.sharing == Sharing::Private && e.range.len() <= MAPPING_BYTES_MAX
    };
    let mut ranges: Vec<_> =
        maps_entries(&text).flatten().filter(is_data).map(|entry| entry.range).collect();
    // The smallest first: what a program knows by name is in small places.
    ranges.sort_unstable_by_key(|range| range.len());
    let mut left = TOTAL_BYTES_MAX;
    let mut bytes = Vec::new();
    for range in ranges {
        if range.len() > left {
            break;
        }
        left -= range.len();
        // Only what is there: a look must not bring pages into being.
        let mut regions = Vec::new();
        if pagemap.scan(range, &ScanFilter::PRIVATE_CONTENT, |found| regions.push(found)).is_err() {
            break;
        }
        for region in regions {
            bytes.resize(usize::try_from(region.range.len()).unwrap_or(0), 0);
            if mem.read_exact(region.range.start, &mut bytes).is_ok() {
                names.look(&bytes, Folders::Skipped);
            }
        }
    }
    Ok(names.found)
}

/// Names that were met.
struct Names<'a> {
    here: &'a Path,
    /// What is in the working directory.
    entries: HashSet<Vec<u8>>,
    tried: HashSet<Vec<u8>>,
    found: Vec<PathBuf>,
}

impl<'a> Names<'a> {
    fn new(here: &'a Path) -> Self {
        let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
        let entries = entries.take(ENTRIES_MAX).map(|entry| entry.file_name().as_bytes().to_vec());
        Self { here, entries: entries.collect(), tried: HashSet::new(), found: Vec::new() }
    }

    fn list(&mut self, folder: &Path) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        self.found.extend(entries.take(FOLDER_FILES_MAX).map(|entry| entry.path()));
    }

    /// Tries the words of `bytes` that may be paths: absolute ones, and those that begin in the
    /// working directory.
    fn look(&mut self, bytes: &[u8], folders: Folders) {
        for word in words(bytes) {
            let first = word.split(|b| *b == b'/').next().unwrap_or_default();
            let may_be = first.is_empty() || self.entries.contains(first) || first == b".";
            if !may_be || self.tried.len() >= TRIES_MAX || !self.tried.insert(word.to_vec()) {
                continue;
            }
            let path = self.here.join(OsStr::from_bytes(word));
            match std::fs::metadata(&path) {
                Ok(is) if is.is_file() => self.found.push(path),
                Ok(is) if is.is_dir() && folders == Folders::Listed => self.list(&path),
                _ => {}
            }
        }
    }
}

/// What is done with names of folders.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folders {
    /// Their files count: a program was given a model, a data set.
    Listed,
    /// They say nothing of their files.
    Skipped,
}

/// Runs of characters that are usual in names of files.
fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| !is_usual(*b)).filter(|word| NAME_BYTES.contains(&word.len()))
}

const fn is_usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'+' | b'@' | b'~')
        || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_code_and_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("weights.bin"), "x").unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();
        let mut names = Names::new(dir.path());
        let absolute = other.path().display();
        names.look(
            format!("a=open('weights.bin').read(); b=\"{absolute}\" .").as_bytes(),
            Folders::Skipped,
        );
        names.look(
            b"\0\0\x01weights.bin\0 nothing.bin /no/such/thing weights.bin",
            Folders::Skipped,
        );
        assert_eq!(names.found, [dir.path().join("weights.bin"), other.path().to_owned()]);
        let folder = dir.path().display();
        let mut names = Names::new(Path::new("/"));
        names.look(format!("--model={folder}").as_bytes(), Folders::Listed);
        assert_eq!(names.found, [dir.path().join("weights.bin")]);
    }
}
