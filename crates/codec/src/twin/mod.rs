//! Bytes of memory that equal bytes of a file, at whatever place and alignment: weights and data
//! sets that were read into the heap, caches of files.
//!
//! Blocks of the files are known by a rolling hash, which is then rolled over the memory. The
//! hash only says where to look; what is reported was compared byte by byte. Where memory and
//! file run in step they are compared without any hash. Work is counted in bytes, since this
//! room has no clock: whoever searches knows what a byte costs on his host.

mod index;

use std::sync::Arc;

use index::Block;
pub use index::TwinIndex;

/// Bytes in a block of a file: what is shorter than this is not found for sure.
const BLOCK_BYTES: usize = 4096;
const PAGE_BYTES: u64 = 4096;
/// Bytes compared at once at most.
const COMPARE_BYTES: usize = 1 << 16;

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

/// Searches memory, piece by piece.
#[derive(Clone, Debug)]
pub struct TwinSearch {
    index: Arc<TwinIndex>,
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
        let index = Arc::new(index);
        Self { index, budget, buffer: vec![0; COMPARE_BYTES], in_step: None }
    }

    /// What is left of the budget. When either part is 0 nothing more is found.
    pub fn budget(&self) -> TwinBudget {
        self.budget
    }

    /// Sets what may be done from here on.
    pub fn allow(&mut self, budget: TwinBudget) {
        self.budget = budget;
    }

    /// Whether a run reached the end of the last piece, which was followed by what lies at
    /// `memory_offset`.
    pub fn is_in_step(&self, memory_offset: u64) -> bool {
        self.in_step.is_some_and(|(end, ..)| end == memory_offset)
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

    /// Reads `count` bytes to compare, and pays for them.
    fn read(
        &mut self,
        file: u32,
        offset: u64,
        count: usize,
        files: &mut dyn TwinFiles,
    ) -> Option<&[u8]> {
        self.budget.compared_bytes = self.budget.compared_bytes.saturating_sub(length(count));
        let buffer = &mut self.buffer[..count];
        files.read_at(file, offset, buffer).then_some(buffer)
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
            let Some(buffer) = self.read(file, file_at + length(same), count, files) else {
                if step == 1 {
                    return same;
                }
                // The end of the file lies in here somewhere.
                step /= 2;
                continue;
            };
            let wanted = &memory[at + same..at + same + count];
            if wanted != buffer {
                return same + wanted.iter().zip(buffer).take_while(|(a, b)| a == b).count();
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
            let start = file_at - length(same) - length(count);
            let Some(buffer) = self.read(file, start, count, files) else { return same };
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
