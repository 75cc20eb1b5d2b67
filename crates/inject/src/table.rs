//! A batch as the code reads it.

use crate::area::{Area, UNDO_ANSWERS, UNDOS_MAX};
use crate::batch::{CALLS_MAX, Call};
use crate::blob::{ENTRY_BYTES, ENTRY_WORDS, FLAG_REQUIRED};
use crate::seccomp::{CallData, Filters};
use crate::{Arg, Batch, InjectError, Scratch};

/// A batch as the code reads it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) bytes: Vec<u8>,
    /// Address of its first entry, and of the end of the last.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Offset in the scratch area of each answer.
    pub(crate) answers: Vec<u64>,
    /// Undo entries to add, the first registered first.
    pub(crate) undos: Vec<[u64; ENTRY_WORDS]>,
}

impl Table {
    /// `batch` for the free end of `area`, with undo calls that `filters` let pass.
    pub(crate) fn encode(
        batch: &Batch,
        area: &Area,
        filters: &Filters,
    ) -> Result<Self, InjectError> {
        let count = batch.len();
        if count > CALLS_MAX {
            return Err(InjectError::BadBatch { index: CALLS_MAX, why: "the batch is too long" });
        }
        let entries = count as u64 * ENTRY_BYTES;
        let bytes = entries + count as u64 * 8;
        let (size, free) = (area.range.len(), area.free());
        if bytes > free {
            return Err(InjectError::ScratchFull { wanted: bytes, free, size });
        }
        let offset = (size - bytes) & !7;
        let mut table = Table {
            bytes: Vec::with_capacity(count * ENTRY_WORDS * 8),
            start: area.range.start.0 + offset,
            end: area.range.start.0 + offset + entries,
            answers: Vec::with_capacity(count),
            undos: Vec::new(),
        };
        for (index, call) in batch.calls.iter().enumerate() {
            let answer = match call.undo {
                None => offset + entries + index as u64 * 8,
                Some(_) => UNDO_ANSWERS + (area.undos + table.undos.len() as u64) * 8,
            };
            let words = entry(area, index, call, &table.answers, answer)?;
            table.answers.push(answer);
            table.bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            if let Some(undo) = call.undo {
                if area.undos + table.undos.len() as u64 >= UNDOS_MAX {
                    let why = "more calls are to be undone than the scratch area keeps";
                    return Err(InjectError::BadBatch { index, why });
                }
                let number = u32::try_from(undo.nr).unwrap_or(u32::MAX);
                if !filters.allow(&CallData { number, ..CallData::default() }) {
                    let why = "the program's seccomp filters forbid the call that undoes it";
                    return Err(InjectError::BadBatch { index, why });
                }
                let own = |arg| match arg {
                    Arg::Result(id) if id.index() == usize::MAX || id.index() == index => {
                        Arg::Load(Scratch { offset: answer, length: 8 })
                    }
                    other => other,
                };
                let call =
                    Call { nr: undo.nr, args: undo.args.map(own), required: false, undo: None };
                let mut words = entry(area, index, &call, &[], UNDO_ANSWERS - 8)?;
                words[9] = answer;
                table.undos.push(words);
            }
        }
        Ok(table)
    }
}

/// One entry of a table; `answers` are the places of the answers of earlier calls.
fn entry(
    area: &Area,
    index: usize,
    call: &Call,
    answers: &[u64],
    answer: u64,
) -> Result<[u64; ENTRY_WORDS], InjectError> {
    let bad = |why| InjectError::BadBatch { index, why };
    let inside = |place: Scratch| {
        place.offset.checked_add(place.length).is_some_and(|end| end <= area.range.len())
    };
    let mut words = [0; ENTRY_WORDS];
    words[0] = call.nr.cast_unsigned();
    words[1] = answer;
    for (position, arg) in call.args.iter().enumerate() {
        let (value, load) = match *arg {
            Arg::Imm(value) => (value, false),
            Arg::Scratch(place) if inside(place) => (area.range.start.0 + place.offset, false),
            Arg::Load(place) if inside(place) && place.length >= 8 => (place.offset, true),
            Arg::Scratch(_) | Arg::Load(_) => {
                return Err(bad("an argument lies outside the scratch area"));
            }
            Arg::Result(id) => match answers.get(id.index()) {
                Some(place) => (*place, true),
                None => return Err(bad("an argument is the answer of a call not made before")),
            },
        };
        words[2 + position] = value;
        words[8] |= u64::from(load) << position;
    }
    words[10] = if call.required { FLAG_REQUIRED } else { 0 };
    Ok(words)
}
