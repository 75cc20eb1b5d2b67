//! Mappings of regular files: private ones partly written, and shared ones.

use crate::area::{Area, PAGE};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive, mix};
use crate::{no_variant, same, sys};
use std::fs::File;
use std::os::fd::AsRawFd;

const PAGES: usize = 48;
const RIGHTS: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn make(context: &Context, name: &str, pattern: Pattern) -> Outcome<File> {
    let path = context.dir.join(name);
    std::fs::write(&path, pattern.bytes(0, PAGES * PAGE))?;
    Ok(File::options().read(true).write(true).open(path)?)
}

/// A private mapping of a file, some of whose pages are our own copies.
struct CopyOnWrite {
    area: Area,
    read_only: Area,
    file: Pattern,
    own: Vec<Option<Pattern>>,
    seed: u64,
}

/// Sets up the private file mapping.
pub fn copy_on_write(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "copy-on-write", 0);
    let file_pattern = Pattern::new(seed);
    let file = make(context, "private-map", file_pattern)?;
    let descriptor = file.as_raw_fd();
    let len = (PAGES - 2) * PAGE;
    let area = Area::of_file(len, RIGHTS, libc::MAP_PRIVATE, descriptor, 2 * PAGE)?;
    let read_only = Area::of_file(PAGE, libc::PROT_READ, libc::MAP_PRIVATE, descriptor, PAGE)?;
    let own = vec![None; PAGES - 2];
    let mut kind = CopyOnWrite { area, read_only, file: file_pattern, own, seed };
    for index in (0..PAGES - 2).step_by(3) {
        kind.write(index, mix(seed ^ index as u64));
    }
    // The descriptor goes; the mapping stays.
    Ok(Box::new(kind))
}

impl CopyOnWrite {
    fn write(&mut self, index: usize, seed: u64) {
        let pattern = Pattern::new(seed);
        pattern.fill(0, self.area.page(index).bytes_mut());
        self.own[index] = Some(pattern);
    }
}

impl Kind for CopyOnWrite {
    fn check(&mut self) -> Outcome<Pass> {
        for (index, own) in self.own.iter().enumerate() {
            let page = self.area.page(index);
            match own {
                Some(pattern) => pattern.verify("own copy of a file page", 0, page.bytes())?,
                None => self.file.verify("file page", (index + 2) * PAGE, page.bytes())?,
            }
        }
        self.file.verify("read-only file page", PAGE, self.read_only.bytes())?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        let random = mix(self.seed ^ mix(step));
        let index = random as usize % self.own.len();
        self.write(index, random);
        // What is given back shows the file again.
        let dropped = (random >> 32) as usize % self.own.len();
        self.area.page(dropped).advise(libc::MADV_DONTNEED)?;
        self.own[dropped] = None;
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let first = |written| self.own.iter().position(|o| o.is_some() == written).unwrap_or(0);
        match variant {
            "lost" => self.area.page(first(true)).advise(libc::MADV_DONTNEED)?,
            "byte" => self.area.page(first(true)).bytes_mut()[PAGE - 1] ^= 1,
            "file-page" => self.area.page(first(false)).bytes_mut()[0] ^= 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// A shared writable mapping of a file that is also read and written by descriptor.
struct SharedFile {
    area: Area,
    file: File,
    pages: Vec<Pattern>,
    seed: u64,
    still: bool,
}

/// Sets up the shared file mapping.
pub fn shared(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "shared-file", 0);
    let file = make(context, "shared-map", Pattern::new(seed))?;
    let area = Area::of_file(PAGES * PAGE, RIGHTS, libc::MAP_SHARED, file.as_raw_fd(), 0)?;
    let pages: Vec<Pattern> = (0..PAGES).map(|i| Pattern::new(mix(seed ^ i as u64))).collect();
    for (index, pattern) in pages.iter().enumerate() {
        pattern.fill(0, area.page(index).bytes_mut());
    }
    Ok(Box::new(SharedFile { area, file, pages, seed, still: context.still_files }))
}

impl Kind for SharedFile {
    fn check(&mut self) -> Outcome<Pass> {
        let mut page = vec![0u8; PAGE];
        for (index, pattern) in self.pages.iter().enumerate() {
            let mapped = self.area.page(index);
            pattern.verify("shared file mapping", 0, mapped.bytes())?;
            let (descriptor, at) = (self.file.as_raw_fd(), (index * PAGE) as i64);
            let read = sys!(libc::pread(descriptor, page.as_mut_ptr().cast(), PAGE, at))?;
            same!("bytes read of a mapped file", PAGE as i64, read);
            pattern.verify("mapped file, read", 0, &page)?;
        }
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        if self.still {
            return Ok(());
        }
        let random = mix(self.seed ^ mix(step));
        let (index, pattern) = (random as usize % PAGES, Pattern::new(random));
        let bytes = pattern.bytes(0, PAGE);
        if step.is_multiple_of(2) {
            let (descriptor, at) = (self.file.as_raw_fd(), (index * PAGE) as i64);
            sys!(libc::pwrite(descriptor, bytes.as_ptr().cast(), PAGE, at))?;
        } else {
            self.area.page(index).bytes_mut().copy_from_slice(&bytes);
        }
        self.pages[index] = pattern;
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.area.page(7).bytes_mut()[7] ^= 1,
            "split" => {
                let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
                let (at, len) = (self.area.pointer(), self.area.len);
                sys!(libc::mmap(at, len, RIGHTS, flags, self.file.as_raw_fd(), 0))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
