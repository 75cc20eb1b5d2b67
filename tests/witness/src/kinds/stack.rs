//! Stacks that grow, static data, and the program break.

use crate::area::{Area, PAGE};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive, verify_zero};
use crate::{ensure, no_variant, probe, sys};
use std::sync::Mutex;

/// How far above the stack's first page free space is kept.
const ROOM: usize = 256 * PAGE;

/// A MAP_GROWSDOWN mapping that is extended by touching the page below it.
struct GrowsDown {
    top: usize,
    pages: usize,
    pattern: Pattern,
}

/// Sets up the growing stack.
pub fn grows_down(context: &Context) -> Outcome<Box<dyn Kind>> {
    // Space below, so that the growth meets no other mapping (the kernel keeps a gap).
    let room = Area::map(2 * ROOM, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
    let place = room.part(ROOM, PAGE);
    room.unmap()?;
    let flags = libc::MAP_PRIVATE
        | libc::MAP_ANONYMOUS
        | libc::MAP_GROWSDOWN
        | libc::MAP_STACK
        | libc::MAP_FIXED_NOREPLACE;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    sys!(libc::mmap(place.pointer(), PAGE, rights, flags, -1, 0))?;
    // The space below stays taken, so that no later mapping of anybody lands in it.
    let below = room.part(0, 4 * PAGE);
    let fixed = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    sys!(libc::mmap(below.pointer(), below.len, libc::PROT_NONE, fixed, -1, 0))?;
    let pattern = Pattern::new(derive(context.seed, "grows-down", 0));
    let mut stack = GrowsDown { top: place.start + PAGE, pages: 1, pattern };
    pattern.fill(0, stack.page(0).bytes_mut());
    for _ in 0..5 {
        stack.grow()?;
    }
    Ok(Box::new(stack))
}

impl GrowsDown {
    /// Pages count downward from the top.
    fn page(&self, index: usize) -> Area {
        Area { start: self.top - (index + 1) * PAGE, len: PAGE }
    }

    fn grow(&mut self) -> Outcome {
        let page = self.page(self.pages);
        ensure!(!probe::write_faults(page.start + PAGE - 8, 0), "the stack does not grow");
        verify_zero("fresh stack page", page.bytes())?;
        self.pattern.fill(self.pages * PAGE, page.bytes_mut());
        self.pages += 1;
        Ok(())
    }
}

impl Kind for GrowsDown {
    fn check(&mut self) -> Outcome<Pass> {
        for index in 0..self.pages {
            self.pattern.verify("growing stack", index * PAGE, self.page(index).bytes())?;
        }
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        // The gap that the kernel keeps below a stack (1 MiB by default) bounds the growth: the
        // mapping below belongs to us, so a stretch well above it is used.
        if step.is_multiple_of(25) && self.pages < 32 { self.grow() } else { Ok(()) }
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => self.page(2).bytes_mut()[8] ^= 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

const STATIC: usize = 5 * PAGE + 123;

/// In .data: a file mapping whose pages become copies when written.
static DATA: Mutex<[u8; STATIC]> = Mutex::new([0xa5; STATIC]);
/// In .bss.
static BSS: Mutex<[u8; STATIC]> = Mutex::new([0; STATIC]);

/// Static data of the program and memory between the old and the new program break.
struct Static {
    pattern: Pattern,
    brk: Area,
}

/// Sets up static data.
pub fn statics(context: &Context) -> Outcome<Box<dyn Kind>> {
    let pattern = Pattern::new(derive(context.seed, "static", 0));
    let start = sys!(libc::sbrk(STATIC as isize))? as usize;
    let brk = Area { start, len: STATIC };
    verify_zero("memory from sbrk", brk.bytes())?;
    pattern.fill(0, brk.bytes_mut());
    let mut kind = Static { pattern, brk };
    kind.write(pattern)?;
    Ok(Box::new(kind))
}

impl Static {
    fn write(&mut self, pattern: Pattern) -> Outcome {
        self.pattern = pattern;
        // Half of .data stays as the file has it.
        pattern.fill(0, &mut lock(&DATA)[..STATIC / 2]);
        pattern.fill(0, &mut lock(&BSS)[PAGE..]);
        pattern.fill(0, self.brk.bytes_mut());
        Ok(())
    }
}

fn lock(data: &Mutex<[u8; STATIC]>) -> std::sync::MutexGuard<'_, [u8; STATIC]> {
    data.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Kind for Static {
    fn check(&mut self) -> Outcome<Pass> {
        let data = lock(&DATA);
        self.pattern.verify(".data", 0, &data[..STATIC / 2])?;
        ensure!(data[STATIC / 2..].iter().all(|&b| b == 0xa5), ".data differs from the file");
        let bss = lock(&BSS);
        verify_zero(".bss", &bss[..PAGE])?;
        self.pattern.verify(".bss", 0, &bss[PAGE..])?;
        self.pattern.verify("memory from sbrk", 0, self.brk.bytes())?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        self.write(Pattern::new(crate::pattern::mix(step)))
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "data" => lock(&DATA)[STATIC - 1] = 0,
            "bss" => lock(&BSS)[2 * PAGE] ^= 1,
            "brk" => self.brk.bytes_mut()[STATIC - 1] ^= 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
