//! Memory that several mappings share: memfd, POSIX shared memory, shared anonymous memory.

use crate::area::{Area, PAGE};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive, mix, verify_zero};
use crate::raw;
use crate::{no_variant, same, sys};

const PAGES: usize = 64;
const RIGHTS: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Per page of an object: its pattern, or none for a hole.
#[derive(Clone)]
struct Contents(Vec<Option<Pattern>>);

impl Contents {
    fn new(seed: u64, pages: usize) -> Self {
        let pattern = |index: usize| {
            let random = mix(seed ^ (index as u64 / 3));
            (!random.is_multiple_of(3)).then(|| Pattern::new(mix(random ^ index as u64)))
        };
        Self((0..pages).map(pattern).collect())
    }

    fn expected(&self, index: usize) -> Vec<u8> {
        self.0[index].map_or_else(|| vec![0; PAGE], |pattern| pattern.bytes(0, PAGE))
    }

    fn verify(&self, what: &str, first: usize, bytes: &[u8]) -> Outcome {
        for (number, page) in bytes.chunks(PAGE).enumerate() {
            let index = first + number;
            let what = format!("{what}, page {index}");
            match self.0[index] {
                Some(pattern) => pattern.verify(&what, 0, page)?,
                None => verify_zero(&what, page)?,
            }
        }
        Ok(())
    }
}

/// A memfd mapped twice, in part a third time and once privately; written by store and by write.
struct Memfd {
    descriptor: i32,
    contents: Contents,
    whole: Area,
    again: Area,
    part: Area,
    private: Area,
    private_pattern: Pattern,
    seed: u64,
}

/// Where the third mapping begins, in pages.
const PART: usize = 40;
/// The page that the private mapping overwrote.
const OWN_PAGE: usize = 5;
/// The object ends inside its last page.
const TAIL: usize = 100;
const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Sets up the memfd.
pub fn memfd(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "memfd", 0);
    let flags = libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC;
    let descriptor = sys!(libc::memfd_create(c"witness".as_ptr(), flags))? as i32;
    sys!(libc::ftruncate(descriptor, (PAGES * PAGE + TAIL) as i64))?;
    let len = PAGES * PAGE;
    let whole = Area::of_file(len, RIGHTS, libc::MAP_SHARED, descriptor, 0)?;
    let again = Area::of_file(len, libc::PROT_READ, libc::MAP_SHARED, descriptor, 0)?;
    let part = Area::of_file(8 * PAGE, RIGHTS, libc::MAP_SHARED, descriptor, PART * PAGE)?;
    let private = Area::of_file(len, RIGHTS, libc::MAP_PRIVATE, descriptor, 0)?;
    sys!(libc::fcntl(descriptor, libc::F_ADD_SEALS, SEALS))?;
    let private_pattern = Pattern::new(mix(seed));
    let contents = Contents::new(seed, PAGES);
    let memfd = Memfd { descriptor, contents, whole, again, part, private, private_pattern, seed };
    for index in 0..PAGES {
        if let Some(pattern) = memfd.contents.0[index] {
            memfd.write(index, pattern)?;
        }
    }
    private_pattern.fill(0, memfd.private.page(OWN_PAGE).bytes_mut());
    sys!(libc::lseek(descriptor, 77, libc::SEEK_SET))?;
    Ok(Box::new(memfd))
}

impl Memfd {
    /// Writes a page by one of three ways.
    fn write(&self, index: usize, pattern: Pattern) -> Outcome {
        let bytes = pattern.bytes(0, PAGE);
        match index % 3 {
            0 if (PART..PART + 8).contains(&index) => {
                self.part.page(index - PART).bytes_mut().copy_from_slice(&bytes);
            }
            1 => {
                let at = (index * PAGE) as i64;
                sys!(libc::pwrite(self.descriptor, bytes.as_ptr().cast(), PAGE, at))?;
            }
            _ => self.whole.page(index).bytes_mut().copy_from_slice(&bytes),
        }
        Ok(())
    }
}

impl Kind for Memfd {
    fn check(&mut self) -> Outcome<Pass> {
        self.contents.verify("memfd, first mapping", 0, self.whole.bytes())?;
        self.contents.verify("memfd, second mapping", 0, self.again.bytes())?;
        self.contents.verify("memfd, third mapping", PART, self.part.bytes())?;
        let mut page = vec![0u8; PAGE];
        for index in 0..PAGES {
            let at = (index * PAGE) as i64;
            sys!(libc::pread(self.descriptor, page.as_mut_ptr().cast(), PAGE, at))?;
            self.contents.verify("memfd, read", index, &page)?;
            let private = self.private.page(index);
            if index == OWN_PAGE {
                self.private_pattern.verify("memfd, own page", 0, private.bytes())?;
            } else {
                self.contents.verify("memfd, private mapping", index, private.bytes())?;
            }
        }
        same!("memfd offset", 77, sys!(libc::lseek(self.descriptor, 0, libc::SEEK_CUR))?);
        let size = sys!(libc::lseek(self.descriptor, 0, libc::SEEK_END))?;
        sys!(libc::lseek(self.descriptor, 77, libc::SEEK_SET))?;
        same!("memfd size", (PAGES * PAGE + TAIL) as i64, size);
        let seals = sys!(libc::fcntl(self.descriptor, libc::F_GET_SEALS))?;
        same!("memfd seals", i64::from(SEALS), seals);
        let link = raw::link(&format!("/proc/self/fd/{}", self.descriptor))?;
        same!("memfd name", "/memfd:witness (deleted)", link);
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        for number in 0..3 {
            let random = mix(self.seed ^ mix(step) ^ number);
            let index = random as usize % PAGES;
            let pattern = Pattern::new(random);
            self.write(index, pattern)?;
            self.contents.0[index] = Some(pattern);
        }
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let index = self.contents.0.iter().position(Option::is_some).unwrap_or(0);
        match variant {
            "byte" => self.whole.page(index).bytes_mut()[9] ^= 1,
            "hole" => {
                let hole = self.contents.0.iter().position(Option::is_none).unwrap_or(0);
                self.whole.page(hole).bytes_mut()[9] ^= 1;
            }
            // A second object with the same bytes: right to look at, until somebody writes.
            "split" => {
                let rights = RIGHTS;
                let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
                let (at, len) = (self.whole.pointer(), self.whole.len);
                sys!(libc::mmap(at, len, rights, flags, self.descriptor, 0))?;
            }
            "own-page" => self.private.page(OWN_PAGE).advise(libc::MADV_DONTNEED)?,
            "offset" => drop(sys!(libc::lseek(self.descriptor, 78, libc::SEEK_SET))?),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// POSIX shared memory: one object whose descriptor stays open, and one that was unlinked.
struct Shm {
    named: Area,
    unlinked: Area,
    contents: Contents,
    seed: u64,
    path: String,
}

/// Sets up POSIX shared memory.
pub fn posix(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "posix-shm", 0);
    let path = name();
    let (named, _) = object(&path)?;
    let (unlinked, descriptor) = object(&path.replace("witness", "unlinked"))?;
    sys!(libc::close(descriptor))?;
    let removed = path.replace("witness", "unlinked");
    sys!(libc::shm_unlink(removed.as_ptr().cast()))?;
    let contents = Contents::new(seed, PAGES);
    for index in 0..PAGES {
        if contents.0[index].is_some() {
            named.page(index).bytes_mut().copy_from_slice(&contents.expected(index));
            unlinked.page(index).bytes_mut().copy_from_slice(&contents.expected(index));
        }
    }
    Ok(Box::new(Shm { named, unlinked, contents, seed, path }))
}

/// The object's name, with the final zero.
fn name() -> String {
    format!("/rekindle-witness-{}\0", raw::getpid())
}

/// Takes the name away: shared memory would stay when the program ends.
pub fn clean_up() {
    // SAFETY: the name ends in a zero; an object that is not there is no failure.
    unsafe { libc::shm_unlink(name().as_ptr().cast()) };
}

fn object(path: &str) -> Outcome<(Area, i32)> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let descriptor = sys!(libc::shm_open(path.as_ptr().cast(), flags, 0o600))? as i32;
    sys!(libc::ftruncate(descriptor, (PAGES * PAGE) as i64))?;
    let area = Area::of_file(PAGES * PAGE, RIGHTS, libc::MAP_SHARED, descriptor, 0)?;
    Ok((area, descriptor))
}

impl Kind for Shm {
    fn check(&mut self) -> Outcome<Pass> {
        self.contents.verify("shared memory", 0, self.named.bytes())?;
        self.contents.verify("unlinked shared memory", 0, self.unlinked.bytes())?;
        // The name must still lead to the same object.
        let flags = libc::O_RDONLY;
        let descriptor = sys!(libc::shm_open(self.path.as_ptr().cast(), flags, 0))? as i32;
        let mut bytes = vec![0u8; PAGES * PAGE];
        let outcome = sys!(libc::pread(descriptor, bytes.as_mut_ptr().cast(), bytes.len(), 0));
        sys!(libc::close(descriptor))?;
        outcome?;
        self.contents.verify("shared memory by name", 0, &bytes)?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        let random = mix(self.seed ^ mix(step));
        let index = random as usize % PAGES;
        self.contents.0[index] = Some(Pattern::new(random));
        let bytes = self.contents.expected(index);
        self.named.page(index).bytes_mut().copy_from_slice(&bytes);
        self.unlinked.page(index).bytes_mut().copy_from_slice(&bytes);
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.named.page(3).bytes_mut()[9] ^= 1,
            "unlinked-byte" => self.unlinked.page(PAGES - 1).bytes_mut()[9] ^= 1,
            "renamed" => drop(sys!(libc::shm_unlink(self.path.as_ptr().cast()))?),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Shared anonymous memory, mapped twice through mremap with an old size of zero.
struct Anonymous {
    area: Area,
    alias: Area,
    contents: Contents,
    seed: u64,
}

/// Sets up shared anonymous memory.
pub fn anonymous(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "anonymous-shared", 0);
    let len = PAGES * PAGE;
    let area = Area::map(len, RIGHTS, libc::MAP_SHARED | libc::MAP_ANONYMOUS)?;
    let (from, flags) = (area.pointer::<libc::c_void>(), libc::MREMAP_MAYMOVE);
    let alias = sys!(libc::mremap(from, 0, len, flags))? as usize;
    let alias = Area { start: alias, len };
    let contents = Contents::new(seed, PAGES);
    for index in 0..PAGES {
        if contents.0[index].is_some() {
            area.page(index).bytes_mut().copy_from_slice(&contents.expected(index));
        }
    }
    Ok(Box::new(Anonymous { area, alias, contents, seed }))
}

impl Kind for Anonymous {
    fn check(&mut self) -> Outcome<Pass> {
        self.contents.verify("shared anonymous memory", 0, self.area.bytes())?;
        self.contents.verify("its second mapping", 0, self.alias.bytes())?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        let random = mix(self.seed ^ mix(step));
        let index = random as usize % PAGES;
        self.contents.0[index] = Some(Pattern::new(random));
        let bytes = self.contents.expected(index);
        let view = if step.is_multiple_of(2) { self.area } else { self.alias };
        view.page(index).bytes_mut().copy_from_slice(&bytes);
        // A hole punched by one mapping is a hole in both.
        let hole = (random >> 32) as usize % PAGES;
        self.area.page(hole).advise(libc::MADV_REMOVE)?;
        self.contents.0[hole] = None;
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.alias.page(PAGES - 2).bytes_mut()[4000] ^= 0x80,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
