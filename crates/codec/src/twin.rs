//! Bytes of memory that equal bytes of a file, at whatever place and alignment: weights and data
//! sets that were read into the heap, caches of files.
//!
//! Blocks of the files are known by a rolling hash, which is then rolled over the memory. The
//! hash only says where to look; what is reported was compared byte by byte. Where memory and
//! file run in step they are compared without any hash. Work is counted in bytes, since this
//! room has no clock: whoever searches knows what a byte costs on his host.

/// Bytes in a block of a file: what is shorter than this is not found for sure.
const BLOCK_BYTES: usize = 4096;
const PAGE_BYTES: u64 = 4096;
/// Bytes compared at once at most.
const COMPARE_BYTES: usize = 1 << 16;
/// Filter bits for a block.
const FILTER_BITS: usize = 32;

/// The files, readable anywhere. Blocks that were added once may have changed meanwhile: what
/// is reported is what was read last.
pub trait TwinFiles {
    /// Fills `buffer` from `offset` of a file on. `false` when that is not possible, past the
    /// end of the file for example.
    fn read_at(&mut self, file: u32, offset: u64, buffer: &mut [u8]) -> bool;
}

/// Files that are in memory as a whole, by number.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a>(pub &'a [&'a [u8]]);

impl TwinFiles for Slices<'_> {
    fn read_at(&mut self, file: u32, offset: u64, buffer: &mut [u8]) -> bool {
        let bytes = usize::try_from(file).ok().and_then(|file| self.0.get(file));
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(buffer.len())?));
        match bytes.zip(range).and_then(|(bytes, range)| bytes.get(range)) {
            Some(found) => {
                buffer.copy_from_slice(found);
                true
            }
            None => false,
        }
    }
}

/// A run of memory that equals a run of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinRun {
    /// Where it begins in memory, as the caller counts.
    pub memory_offset: u64,
    /// How long it is.
    pub length_bytes: u64,
    /// Which file.
    pub file: u32,
    /// Where it begins in the file.
    pub file_offset: u64,
}

impl TwinRun {
    /// The whole pages of memory inside of the run, as offsets; empty when there is none.
    pub fn pages(&self) -> std::ops::Range<u64> {
        let start = self.memory_offset.next_multiple_of(PAGE_BYTES);
        let end = (self.memory_offset + self.length_bytes) / PAGE_BYTES * PAGE_BYTES;
        start..end.max(start)
    }
}

/// How much may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinBudget {
    /// Bytes of memory over which the hash is rolled: the slow part, about 2 ns each.
    pub rolled_bytes: u64,
    /// Bytes read from files and compared.
    pub compared_bytes: u64,
}

/// The blocks of the files, found by hash. 28 bytes or less for each block of 4 KiB.
#[derive(Clone, Debug)]
pub struct TwinIndex {
    multiplier: u64,
    /// The multiplier to the power of the block's length less one.
    leaving: u64,
    blocks: Vec<Block>,
    blocks_max: usize,
    /// Open addressing; position in `blocks` plus one, 0 for nothing.
    table: Vec<u32>,
    filter: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    hash: u64,
    file: u32,
    number: u32,
}

impl TwinIndex {
    /// An index of at most `blocks_max` blocks. `key` is random, so that no file can be made to
    /// collide with others.
    pub fn new(key: u64, blocks_max: u32) -> Self {
        // Odd, so that nothing is lost by multiplying.
        let multiplier = mixed(key) | 1;
        let last = BLOCK_BYTES - 1;
        let leaving = (0..last).fold(1u64, |power, _| power.wrapping_mul(multiplier));
        let blocks_max = usize::try_from(blocks_max).unwrap_or(usize::MAX);
        let (table, filter) = (Vec::new(), Vec::new());
        Self { multiplier, leaving, blocks: Vec::new(), blocks_max, table, filter }
    }

    /// Adds the whole blocks of `bytes`, which lie at `offset`, a multiple of 4096, of a file.
    /// Blocks of one byte again and again are left out: they are nobody's in particular.
    /// Returns `false` when the index is full.
    pub fn add(&mut self, file: u32, offset: u64, bytes: &[u8]) -> bool {
        let first = offset / PAGE_BYTES;
        for (n, block) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let Ok(number) = u32::try_from(n) else { return false };
            if self.blocks.len() >= self.blocks_max {
                return false;
            }
            if block.iter().any(|b| *b != block[0]) {
                let hash = self.hash(block);
                self.blocks.push(Block { hash, file, number });
            }
        }
        // Built again when the search begins.
        self.table.clear();
        true
    }

    fn hash(&self, block: &[u8]) -> u64 {
        let add = |hash: u64, byte: &u8| {
            hash.wrapping_mul(self.multiplier).wrapping_add(u64::from(*byte))
        };
        block.iter().fold(0, add)
    }

    fn rolled(&self, hash: u64, leaves: u8, enters: u8) -> u64 {
        hash.wrapping_sub(u64::from(leaves).wrapping_mul(self.leaving))
            .wrapping_mul(self.multiplier)
            .wrapping_add(u64::from(enters))
    }

    fn build(&mut self) {
        let slots = (self.blocks.len() * 2).next_power_of_two().max(2);
        let words = (self.blocks.len() * FILTER_BITS / 64).next_power_of_two().max(1);
        self.table = vec![0; slots];
        self.filter = vec![0; words];
        for (position, block) in (1u32..).zip(&self.blocks) {
            let mixed = mixed(block.hash);
            let (word, bit) = filter_place(mixed, words);
            self.filter[word] |= bit;
            let mut slot = slot(mixed, slots);
            // The first of equal blocks is the one that is found.
            while let Some(found) = self.table[slot].checked_sub(1) {
                if self.blocks[usize::try_from(found).unwrap_or(0)].hash == block.hash {
                    break;
                }
                slot = (slot + 1) % slots;
            }
            if self.table[slot] == 0 {
                self.table[slot] = position;
            }
        }
    }

    fn find(&self, hash: u64) -> Option<Block> {
        let mixed = mixed(hash);
        let (word, bit) = filter_place(mixed, self.filter.len());
        if self.filter[word] & bit == 0 {
            return None;
        }
        let mut slot = slot(mixed, self.table.len());
        while let Some(found) = self.table[slot].checked_sub(1) {
            let block = self.blocks[usize::try_from(found).unwrap_or(0)];
            if block.hash == hash {
                return Some(block);
            }
            slot = (slot + 1) % self.table.len();
        }
        None
    }
}

/// Every bit of the result depends on every bit of `x`.
const fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

fn slot(mixed: u64, slots: usize) -> usize {
    usize::try_from(mixed >> 20).unwrap_or(0) & (slots - 1)
}

fn filter_place(mixed: u64, words: usize) -> (usize, u64) {
    (usize::try_from(mixed >> 6).unwrap_or(0) & (words - 1), 1 << (mixed & 63))
}

/// Searches memory, piece by piece.
#[derive(Debug)]
pub struct TwinSearch {
    index: TwinIndex,
    budget: TwinBudget,
    buffer: Vec<u8>,
    /// Where memory and a file ran in step when the last piece ended: the end in memory, the
    /// file, the end there.
    in_step: Option<(u64, u32, u64)>,
}

impl TwinSearch {
    /// A search for what is in `index`.
    pub fn new(mut index: TwinIndex, budget: TwinBudget) -> Self {
        index.build();
        Self { index, budget, buffer: vec![0; COMPARE_BYTES], in_step: None }
    }

    /// What is left of the budget. When either part is 0 nothing more is found.
    pub fn budget(&self) -> TwinBudget {
        self.budget
    }

    /// Finds runs of at least 4096 bytes in `memory`, which lies at `memory_offset`. Runs are
    /// ascending and do not overlap. Pieces are best given in order and without gaps: a run
    /// that goes on over the end of a piece is then followed, and reported in two parts. In
    /// pieces of less than 8192 bytes a run may never be noticed; megabytes are better.
    pub fn search(
        &mut self,
        memory_offset: u64,
        memory: &[u8],
        files: &mut dyn TwinFiles,
    ) -> Vec<TwinRun> {
        let mut runs = Vec::new();
        let mut done = self.go_on(memory_offset, memory, files, &mut runs);
        let mut hash = None;
        while done + BLOCK_BYTES <= memory.len() && !self.is_exhausted() {
            // Only what lies behind the last run is looked at, so a run may reach back to there.
            let (found, at) = self.next_block(memory, done, &mut hash);
            let Some(block) = found else { break };
            let run = self.extend(memory, done, at, block, files);
            match run {
                Some((start, end, file_offset)) => {
                    runs.push(TwinRun {
                        memory_offset: memory_offset + length(start),
                        length_bytes: length(end - start),
                        file: block.file,
                        file_offset,
                    });
                    if end == memory.len() {
                        let file_end = file_offset + length(end - start);
                        self.in_step = Some((memory_offset + length(end), block.file, file_end));
                    }
                    done = end;
                    hash = None;
                }
                // It only looked alike: on from the next byte.
                None => match self.after(memory, at, hash) {
                    Some(next) => hash = Some(next),
                    None => break,
                },
            }
        }
        runs
    }

    fn is_exhausted(&self) -> bool {
        self.budget.rolled_bytes == 0 || self.budget.compared_bytes == 0
    }

    /// Follows the run that reached the end of the last piece. Returns where it ends.
    fn go_on(
        &mut self,
        memory_offset: u64,
        memory: &[u8],
        files: &mut dyn TwinFiles,
        runs: &mut Vec<TwinRun>,
    ) -> usize {
        let Some((end, file, file_offset)) = self.in_step.take() else { return 0 };
        if end != memory_offset {
            return 0;
        }
        let same = self.forward(memory, 0, file, file_offset, files);
        if same > 0 {
            let length_bytes = length(same);
            runs.push(TwinRun { memory_offset, length_bytes, file, file_offset });
        }
        if same == memory.len() {
            self.in_step = Some((memory_offset + length(same), file, file_offset + length(same)));
        }
        same
    }

    /// The first place from `from`, or from where `state` stands, whose block may be in a file.
    /// `state` is that place and its hash.
    fn next_block(
        &mut self,
        memory: &[u8],
        from: usize,
        state: &mut Option<(usize, u64)>,
    ) -> (Option<Block>, usize) {
        let (mut at, mut hash) = match *state {
            Some(state) => state,
            None => (from, self.index.hash(&memory[from..from + BLOCK_BYTES])),
        };
        let first = at;
        let last = memory.len() - BLOCK_BYTES;
        let affordable = usize::try_from(self.budget.rolled_bytes).unwrap_or(usize::MAX);
        let stop = last.min(first.saturating_add(affordable));
        let mut found = self.index.find(hash);
        while found.is_none() && at < stop {
            hash = self.index.rolled(hash, memory[at], memory[at + BLOCK_BYTES]);
            at += 1;
            found = self.index.find(hash);
        }
        let rolled = length(at - first).max(1);
        self.budget.rolled_bytes = self.budget.rolled_bytes.saturating_sub(rolled);
        *state = Some((at, hash));
        (found, at)
    }

    /// The state one byte further on; `None` at the end.
    fn after(&self, memory: &[u8], at: usize, state: Option<(usize, u64)>) -> Option<(usize, u64)> {
        let (_, hash) = state?;
        let enters = memory.get(at + BLOCK_BYTES)?;
        Some((at + 1, self.index.rolled(hash, memory[at], *enters)))
    }

    /// The run round the block at `at`: start and end in memory, start in the file.
    fn extend(
        &mut self,
        memory: &[u8],
        least: usize,
        at: usize,
        block: Block,
        files: &mut dyn TwinFiles,
    ) -> Option<(usize, usize, u64)> {
        let file_at = u64::from(block.number) * PAGE_BYTES;
        let ahead = self.forward(memory, at, block.file, file_at, files);
        if ahead < BLOCK_BYTES {
            return None;
        }
        let back = self.backward(memory, least, at, block.file, file_at, files);
        Some((at - back, at + ahead, file_at - length(back)))
    }

    /// How many bytes from `at` on equal those of the file from `file_at` on.
    fn forward(
        &mut self,
        memory: &[u8],
        at: usize,
        file: u32,
        file_at: u64,
        files: &mut dyn TwinFiles,
    ) -> usize {
        let mut same = 0;
        let mut step = BLOCK_BYTES;
        loop {
            let count = step.min(memory.len() - at - same);
            if count == 0 || self.budget.compared_bytes == 0 {
                return same;
            }
            let buffer = &mut self.buffer[..count];
            self.budget.compared_bytes = self.budget.compared_bytes.saturating_sub(length(count));
            if !files.read_at(file, file_at + length(same), buffer) {
                if step == 1 {
                    return same;
                }
                // The end of the file lies in here somewhere.
                step /= 2;
                continue;
            }
            let wanted = &memory[at + same..at + same + count];
            if wanted != buffer {
                return same + wanted.iter().zip(&*buffer).take_while(|(a, b)| a == b).count();
            }
            same += count;
            // Longer reads as long as all goes well; short ones near the end of a file.
            step = if step < BLOCK_BYTES { step } else { (step * 2).min(COMPARE_BYTES) };
        }
    }

    /// How many bytes before `at`, at most down to `least`, equal those before `file_at`.
    fn backward(
        &mut self,
        memory: &[u8],
        least: usize,
        at: usize,
        file: u32,
        file_at: u64,
        files: &mut dyn TwinFiles,
    ) -> usize {
        let mut same = 0;
        loop {
            let file_left = usize::try_from(file_at - length(same)).unwrap_or(usize::MAX);
            let count = BLOCK_BYTES.min(at - same - least).min(file_left);
            if count == 0 || self.budget.compared_bytes == 0 {
                return same;
            }
            let buffer = &mut self.buffer[..count];
            self.budget.compared_bytes = self.budget.compared_bytes.saturating_sub(length(count));
            let start = file_at - length(same) - length(count);
            if !files.read_at(file, start, buffer) {
                return same;
            }
            let wanted = &memory[at - same - count..at - same];
            let equal = wanted.iter().rev().zip(buffer.iter().rev()).take_while(|(a, b)| a == b);
            let equal = equal.count();
            same += equal;
            if equal < count {
                return same;
            }
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
