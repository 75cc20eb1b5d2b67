//! Leaving out what nobody needs any more: memory that is copied while its program writes is
//! stored again and again, and only what was stored last is read.

use std::os::unix::fs::FileExt;

use image::Frame;
use plan::Treatment;

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
struct Move {
    from: u64,
    to: u64,
    length: u64,
}

/// Whether a file of `length_bytes`, of which `frames` need their parts, is worth writing anew.
pub(crate) fn is_worth_it(frames: &[Frame], length_bytes: u64) -> bool {
    let needed: u64 = moves(frames).iter().map(|one| one.length).sum();
    length_bytes.saturating_sub(needed) > needed / NEEDLESS_SHARE + NEEDLESS_BYTES
}

/// Copies the stored bytes of `frames` from `old` to `new`, which is empty, and gives the frames
/// their new places.
pub(crate) fn compact(
    old: &DataFile,
    new: &DataFile,
    frames: &mut [Frame],
) -> Result<(), IoFailure> {
    let moves = moves(frames);
    let mut buffer: Vec<u8> = Vec::with_capacity(PIECE_BYTES);
    let mut begins = 0;
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
        buffer.resize(at + usize::try_from(one.length).unwrap_or(usize::MAX), 0);
        old.read_at(&mut buffer[at..], one.from)?;
    }
    new.write_at(&buffer, begins)?;
    new.ends_at((begins + length(&buffer)).next_multiple_of(ALIGNMENT_BYTES));
    for frame in frames.iter_mut().filter(|frame| frame.stored_bytes > 0) {
        // Every frame with stored bytes is in the list, which is sorted.
        if let Ok(at) = moves.binary_search_by_key(&frame.offset_bytes, |one| one.from) {
            frame.offset_bytes = moves[at].to;
        }
    }
    Ok(())
}

/// What `frames` need, each once, in the order of the file, and where it goes: one behind the
/// other, raw ones aligned.
fn moves(frames: &[Frame]) -> Vec<Move> {
    let mut needed: Vec<(u64, u64, bool)> = frames
        .iter()
        .filter(|frame| frame.stored_bytes > 0)
        .map(|frame| {
            let is_raw = frame.treatment == Treatment::Raw;
            (frame.offset_bytes, u64::from(frame.stored_bytes), is_raw)
        })
        .collect();
    needed.sort_unstable();
    needed.dedup();
    let mut to = 0u64;
    let place = |(from, length, is_raw)| {
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
