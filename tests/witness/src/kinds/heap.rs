//! The allocator's memory: allocated, freed, reused, grown; what calloc gives is zero.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive, mix, verify_zero};
use crate::{ensure, no_variant};

/// How much one check verifies at most.
const BYTES_PER_CHECK: usize = 64 << 20;
const BLOCKS_CHANGED_MAX: usize = 200;

struct Block {
    pointer: usize,
    len: usize,
    pattern: Pattern,
}

struct Heap {
    seed: u64,
    made: u64,
    blocks: Vec<Block>,
    next: usize,
}

/// Fills the heap.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "heap", 0);
    let mut heap = Heap { seed, made: 0, blocks: Vec::new(), next: 0 };
    let mut total = 0;
    while total < context.megabytes << 20 {
        let block = heap.allocate()?;
        total += block.len;
        heap.blocks.push(block);
    }
    Ok(Box::new(heap))
}

fn length(random: u64) -> usize {
    let (class, amount) = (random % 1000, (random >> 10) as usize);
    match class {
        0..600 => 16 + amount % 496,
        600..900 => 512 + amount % 15_872,
        900..995 => 16_384 + amount % 245_760,
        _ => (1 << 20) + amount % (1 << 20),
    }
}

impl Block {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the block came from malloc with this length and was not freed.
        unsafe { std::slice::from_raw_parts(self.pointer as *const u8, self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer as *mut u8, self.len) }
    }

    fn verify(&self) -> Outcome {
        self.pattern.verify("heap block", 0, self.bytes())
    }
}

impl Heap {
    fn allocate(&mut self) -> Outcome<Block> {
        self.made += 1;
        let random = derive(self.seed, "block", self.made);
        let len = length(random);
        let zeroed = random >> 60 < 5;
        // SAFETY: malloc and calloc take no pointers.
        let pointer = unsafe { if zeroed { libc::calloc(1, len) } else { libc::malloc(len) } };
        ensure!(!pointer.is_null(), "malloc of {len} bytes gave nothing");
        let mut block = Block { pointer: pointer as usize, len, pattern: Pattern::new(random) };
        if zeroed {
            verify_zero("calloc", block.bytes())?;
        }
        block.pattern.fill(0, block.bytes_mut());
        Ok(block)
    }

    fn replace(&mut self, index: usize, random: u64) -> Outcome {
        self.blocks[index].verify()?;
        if random.is_multiple_of(4) {
            return self.grow(index, random);
        }
        // SAFETY: the block came from malloc and is replaced below.
        unsafe { libc::free(self.blocks[index].pointer as *mut libc::c_void) };
        self.blocks[index] = self.allocate()?;
        Ok(())
    }

    fn grow(&mut self, index: usize, random: u64) -> Outcome {
        let block = &mut self.blocks[index];
        let (old, new) = (block.len, length(mix(random)));
        // SAFETY: the block came from malloc and is replaced by what realloc gives.
        let pointer = unsafe { libc::realloc(block.pointer as *mut libc::c_void, new) };
        ensure!(!pointer.is_null(), "realloc to {new} bytes gave nothing");
        block.pointer = pointer as usize;
        block.len = new;
        let kept = old.min(new);
        block.pattern.verify("realloc", 0, &block.bytes()[..kept])?;
        block.pattern.fill(0, block.bytes_mut());
        Ok(())
    }
}

impl Kind for Heap {
    fn check(&mut self) -> Outcome<Pass> {
        let mut bytes = 0;
        while self.next < self.blocks.len() && bytes < BYTES_PER_CHECK {
            self.blocks[self.next].verify()?;
            bytes += self.blocks[self.next].len;
            self.next += 1;
        }
        if self.next < self.blocks.len() {
            return Ok(Pass::Part);
        }
        self.next = 0;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        let count = (self.blocks.len() / 100).clamp(1, BLOCKS_CHANGED_MAX);
        for number in 0..count {
            let random = mix(self.seed ^ mix(step) ^ number as u64);
            self.replace(random as usize % self.blocks.len(), mix(random))?;
        }
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let middle = self.blocks.len() / 2;
        match variant {
            "byte" => self.blocks[middle].bytes_mut()[3] ^= 1,
            "zero" => self.blocks[middle].bytes_mut().fill(0),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
