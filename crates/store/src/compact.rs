//! Writing a data file anew: in load order, and without what nobody needs any more. Memory that is
//! copied while its program writes is stored again and again, and only what was stored last is
//! read.

use std::os::unix::fs::FileExt;

use image::Frame;
use plan::{Tier, Treatment};

use crate::data::{DataFile, PIECE_BYTES};
use crate::error::IoFailure;
use crate::layout::ALIGNMENT_BYTES;

/// A file is written anew when it has more bytes that nobody needs than this share of the others.
/// Below it they are only erased, which is done at once and leaves holes.
const NEEDLESS_SHARE: u64 = 8;

/// Nor is it for less than this.
const NEEDLESS_BYTES: u64 = 1 << 20;

/// Where stored bytes are, and where they are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    from: u64,
    to: u64,
    length: u64,
}

/// Files up to this length are brought into load order at the end: a second of writing at most.
const ORDERED_BYTES_MAX: u64 = 256 << 20;

/// Files up to this length are read whole to be written anew: frames are short, and each would be
/// read by itself. While somebody stands still no longer ones are.
pub(crate) const WHOLE_BYTES_MAX: u64 = 16 << 20;

/// Where the stored bytes of those of `frames` that are in file `number`, of `length_bytes`, go if
/// it is worth writing the file anew: because there is much in it that nobody needs, or because
/// it is `to_order` and not in load order.
pub(crate) fn plan(
    frames: &[Frame],
    number: u16,
    length_bytes: u64,
    to_order: bool,
) -> Option<Vec<Move>> {
    let mut moves = moves(frames, number, false);
    let needed: u64 = moves.iter().map(|one| one.length).sum();
    if to_order && needed <= ORDERED_BYTES_MAX {
        let ordered = self::moves(frames, number, true);
        if !ordered.is_sorted_by_key(|one| one.from) {
            return Some(ordered);
        }
        moves = ordered;
    }
    let needless = length_bytes.saturating_sub(needed);
    (needless > needed / NEEDLESS_SHARE + NEEDLESS_BYTES).then_some(moves)
}

/// Copies stored bytes from `old` to `new`, which is empty, as `moves` says, and gives the frames
/// of file `number` their new places.
pub(crate) fn compact(
    old: &DataFile,
    new: &DataFile,
    frames: &mut [Frame],
    number: u16,
    mut moves: Vec<Move>,
) -> Result<(), IoFailure> {
    let mut buffer: Vec<u8> = Vec::with_capacity(PIECE_BYTES);
    let mut begins = 0;
    let mut whole = Vec::new();
    if old.length_bytes() <= WHOLE_BYTES_MAX {
        whole.resize(usize::try_from(old.length_bytes()).unwrap_or(0), 0);
        old.read_at(&mut whole, 0)?;
    }
    for one in &moves {
        let end = begins + length(&buffer);
        if end + one.length > begins + length_of(PIECE_BYTES) && !buffer.is_empty() {
            new.write_at(&buffer, begins)?;
            begins = one.to;
            buffer.clear();
        }
        // Between two that do not touch: the filling before a raw one.
        let at = usize::try_from(one.to - begins).unwrap_or(usize::MAX);
        buffer.resize(at, 0);
        let count = usize::try_from(one.length).unwrap_or(usize::MAX);
        let from = usize::try_from(one.from).unwrap_or(usize::MAX);
        if let Some(bytes) = whole.get(from..from.saturating_add(count)) {
            buffer.extend_from_slice(bytes);
        } else {
            buffer.resize(at + count, 0);
            old.read_at(&mut buffer[at..], one.from)?;
        }
    }
    new.write_at(&buffer, begins)?;
    new.ends_at((begins + length(&buffer)).next_multiple_of(ALIGNMENT_BYTES));
    moves.sort_unstable_by_key(|one| one.from);
    for frame in frames.iter_mut().filter(|frame| is_in(frame, number)) {
        // Every frame with stored bytes is in the list.
        if let Ok(at) = moves.binary_search_by_key(&frame.offset_bytes, |one| one.from) {
            frame.offset_bytes = moves[at].to;
        }
    }
    Ok(())
}

fn is_in(frame: &Frame, number: u16) -> bool {
    frame.stored_bytes > 0 && frame.file == number
}

/// What `frames` need of file `number`, each once, in the order of the file or `by_load_order`,
/// and where it goes: one behind the other, raw ones aligned.
fn moves(frames: &[Frame], number: u16, by_load_order: bool) -> Vec<Move> {
    let mut needed: Vec<(u64, u64, (Tier, u32), bool)> = frames
        .iter()
        .filter(|frame| is_in(frame, number))
        .map(|frame| {
            let is_raw = frame.treatment == Treatment::Raw;
            let order = (frame.tier, frame.load_order);
            (frame.offset_bytes, u64::from(frame.stored_bytes), order, is_raw)
        })
        .collect();
    // Of frames with the same stored bytes the soonest counts.
    needed.sort_unstable();
    needed.dedup_by_key(|(from, ..)| *from);
    if by_load_order {
        needed.sort_by_key(|(_, _, order, _)| *order);
    }
    let mut to = 0u64;
    let place = |(from, length, _, is_raw)| {
        if is_raw {
            to = to.next_multiple_of(ALIGNMENT_BYTES);
        }
        let one = Move { from, to, length };
        to += length;
        one
    };
    needed.into_iter().map(place).collect()
}

fn length(bytes: &[u8]) -> u64 {
    length_of(bytes.len())
}

fn length_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl DataFile {
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> Result<(), IoFailure> {
        self.file().write_all_at(bytes, offset_bytes).map_err(IoFailure::on("write", self.path()))
    }

    fn read_at(&self, bytes: &mut [u8], offset_bytes: u64) -> Result<(), IoFailure> {
        self.file().read_exact_at(bytes, offset_bytes).map_err(IoFailure::on("read", self.path()))
    }
}
