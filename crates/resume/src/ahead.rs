//! Having the disk begin with what a resume will wait for.

use std::ffi::OsStr;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;

use mem::{Backing, Mapping, MemoryId, PAGE_SIZE, PageSet, PageSource};
use process::Instance;
use rustix::fs::{Advice, fadvise};

use crate::request::parts;

/// Has `source` read what `needed` names, and the kernel the pages of files that lie below it: a
/// private page of a file is read before it is overwritten.
pub fn read_ahead(instance: &Instance, source: &dyn PageSource, needed: &[(MemoryId, PageSet)]) {
    for (memory, pages) in needed {
        source.will_need(*memory, pages);
    }
    let Some((group, space, _)) = parts(instance) else { return };
    let own = MemoryId::Private(group.space.0);
    for (_, pages) in needed.iter().filter(|(memory, _)| *memory == own) {
        space.mappings.iter().for_each(|mapping| read_below(mapping, pages));
    }
}

fn read_below(mapping: &Mapping, pages: &PageSet) {
    let Backing::File { file, offset_bytes } = &mapping.backing else { return };
    let whole = mapping.range.pages();
    let mut runs = pages.within(whole);
    let Some(first) = runs.next() else { return };
    let last = runs.last().unwrap_or(first);
    let start = offset_bytes + (first.start.0 - whole.start.0) * PAGE_SIZE;
    let length = NonZeroU64::new((last.end.0 - first.start.0) * PAGE_SIZE);
    // Whether it is the right file is looked at elsewhere; this only makes it faster.
    if let Ok(file) = File::open(OsStr::from_bytes(&file.path)) {
        let _ = fadvise(file, start, length, Advice::WillNeed);
    }
}
