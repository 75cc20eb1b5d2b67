//! Private anonymous memory that was given back, moved, paged out, or never touched.

use crate::area::{Area, PAGE};
use crate::flaw::{Flaw, Outcome};
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive, mix, verify_zero};
use crate::{ensure, no_variant, probe, sys, wrong};

const PAGES: usize = 512;

/// What a page of an area holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Pattern(Pattern),
    /// Given back with MADV_DONTNEED, or never touched.
    Zero,
    /// Given back with MADV_FREE: the old bytes, until they are zero.
    Freed(Pattern),
}

struct Pages {
    area: Area,
    seed: u64,
    holds: Vec<Holds>,
}

impl Pages {
    fn new(context: &Context, name: &str) -> Outcome<Self> {
        let area = Area::private(PAGES * PAGE)?;
        let seed = derive(context.seed, name, 0);
        let mut pages = Self { area, seed, holds: vec![Holds::Zero; PAGES] };
        for index in 0..PAGES {
            // Runs of different lengths, with holes of different lengths that nobody touched.
            if !mix(seed ^ (index as u64 / 5)).is_multiple_of(4) {
                pages.write(index, 0);
            }
        }
        Ok(pages)
    }

    fn write(&mut self, index: usize, step: u64) {
        let pattern = Pattern::new(mix(self.seed ^ mix(step) ^ index as u64));
        pattern.fill(0, self.area.page(index).bytes_mut());
        self.holds[index] = Holds::Pattern(pattern);
    }

    fn drop_page(&mut self, index: usize) -> Outcome {
        self.area.page(index).advise(libc::MADV_DONTNEED)?;
        self.holds[index] = Holds::Zero;
        Ok(())
    }

    fn free(&mut self, index: usize) -> Outcome {
        if let Holds::Pattern(pattern) = self.holds[index] {
            self.area.page(index).advise(libc::MADV_FREE)?;
            self.holds[index] = Holds::Freed(pattern);
        }
        Ok(())
    }

    fn verify(&self) -> Outcome {
        for (index, holds) in self.holds.iter().enumerate() {
            let page = self.area.page(index);
            match holds {
                Holds::Pattern(pattern) => {
                    pattern.verify(&format!("page {index}"), 0, page.bytes())?;
                }
                Holds::Zero => verify_zero(&format!("page {index}, given back"), page.bytes())?,
                Holds::Freed(pattern) => {
                    if page.bytes().iter().any(|&byte| byte != 0) {
                        pattern.verify(&format!("page {index}, freed"), 0, page.bytes())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn random(&self, step: u64, number: u64) -> usize {
        mix(self.seed ^ mix(step).rotate_left(17) ^ number) as usize % PAGES
    }

    fn first(&self, wanted: fn(&Holds) -> bool) -> Outcome<Area> {
        match self.holds.iter().position(wanted) {
            Some(index) => Ok(self.area.page(index)),
            None => wrong!("no page to spoil"),
        }
    }

    fn flip(&self) -> Outcome {
        self.first(|holds| matches!(holds, Holds::Pattern(_)))?.bytes_mut()[99] ^= 0x10;
        Ok(())
    }
}

/// MADV_DONTNEED, MADV_FREE and holes.
struct GivenBack(Pages);

/// Sets up the given-back area.
pub fn given_back(context: &Context) -> Outcome<Box<dyn Kind>> {
    Ok(Box::new(GivenBack(Pages::new(context, "given-back")?)))
}

impl Kind for GivenBack {
    fn check(&mut self) -> Outcome<Pass> {
        self.0.verify().map(|()| Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        for number in 0..8 {
            let index = self.0.random(step, number);
            match number % 4 {
                0 | 1 => self.0.write(index, step),
                2 => self.0.drop_page(index)?,
                _ => self.0.free(index)?,
            }
        }
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.0.flip()?,
            "not-zero" => {
                self.0.first(|holds| *holds == Holds::Zero)?.bytes_mut()[4095] = 7;
            }
            "lost" => {
                let page = self.0.first(|holds| matches!(holds, Holds::Pattern(_)))?;
                page.advise(libc::MADV_DONTNEED)?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// An area that is moved, grown and shrunk with mremap.
struct Moved {
    area: Area,
    pattern: Pattern,
    old: Vec<Area>,
}

/// Sets up the moved area.
pub fn moved(context: &Context) -> Outcome<Box<dyn Kind>> {
    let mut moved = Moved {
        area: Area::private(64 * PAGE)?,
        pattern: Pattern::new(derive(context.seed, "moved", 0)),
        old: Vec::new(),
    };
    moved.pattern.fill(0, moved.area.bytes_mut());
    moved.relocate(80 * PAGE)?;
    moved.relocate(72 * PAGE)?;
    Ok(Box::new(moved))
}

impl Moved {
    fn relocate(&mut self, len: usize) -> Outcome {
        // A reserved place, so that the move is real and its target known.
        let place = Area::map(len, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (from, to) = (self.area.pointer(), place.pointer::<libc::c_void>());
        sys!(libc::mremap(from, self.area.len, len, flags, to))?;
        self.old.push(self.area);
        if self.old.len() > 4 {
            self.old.remove(0);
        }
        if len > self.area.len {
            let grown = place.part(self.area.len, len - self.area.len);
            verify_zero("memory that mremap added", grown.bytes())?;
            self.pattern.fill(self.area.len, grown.bytes_mut());
        }
        self.area = place;
        Ok(())
    }
}

impl Kind for Moved {
    fn check(&mut self) -> Outcome<Pass> {
        self.pattern.verify("moved area", 0, self.area.bytes())?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        if !step.is_multiple_of(3) {
            return Ok(());
        }
        self.relocate((64 + (step as usize * 7) % 33) * PAGE)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.area.bytes_mut()[PAGE + 1] ^= 4,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Memory in swap.
struct PagedOut(Pages);

/// Sets up the paged-out area.
pub fn paged_out(context: &Context) -> Outcome<Box<dyn Kind>> {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() < 2 {
        return Err(Flaw::Absent("no swap is on".into()));
    }
    let paged = PagedOut(Pages::new(context, "paged-out")?);
    paged.0.area.advise(libc::MADV_PAGEOUT)?;
    Ok(Box::new(paged))
}

impl Kind for PagedOut {
    fn check(&mut self) -> Outcome<Pass> {
        self.0.verify().map(|()| Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        for number in 0..4 {
            let index = self.0.random(step, number);
            self.0.write(index, step);
        }
        // The check brought it all in: out again, so that a freeze finds it there.
        self.0.area.advise(libc::MADV_PAGEOUT)?;
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.0.flip(),
            _ => no_variant!(variant),
        }
    }
}

/// A large reserve without access.
struct Reserve {
    area: Area,
    island: Area,
    pattern: Pattern,
}

const RESERVE: usize = 4 << 30;

/// Sets up the reserve.
pub fn reserve(context: &Context) -> Outcome<Box<dyn Kind>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let area = Area::map(RESERVE, libc::PROT_NONE, flags)?;
    // One committed island far inside, as language runtimes have.
    let island = area.part(RESERVE / 2 + 3 * PAGE, 16 * PAGE);
    island.protect(libc::PROT_READ | libc::PROT_WRITE)?;
    let pattern = Pattern::new(derive(context.seed, "reserve", 0));
    pattern.fill(0, island.bytes_mut());
    Ok(Box::new(Reserve { area, island, pattern }))
}

impl Kind for Reserve {
    fn check(&mut self) -> Outcome<Pass> {
        self.pattern.verify("the island in the reserve", 0, self.island.bytes())?;
        let last = self.area.start + self.area.len - 1;
        let beside = [self.island.start - 1, self.island.start + self.island.len];
        for address in [self.area.start, last, beside[0], beside[1]] {
            ensure!(probe::read_faults(address), "PROT_NONE address {address:#x} is readable");
        }
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "open" => self.area.page(0).protect(libc::PROT_READ)?,
            "gone" => self.island.advise(libc::MADV_DONTNEED)?,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
