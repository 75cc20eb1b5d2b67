//! The memory that a thread in our code shares with us.
//!
//! From its start: a header for the code, the answers of calls that may have to be undone, the
//! table of what undoes them (it grows downwards, so that the last comes first), the places given
//! out, and at the end the running batch.

use mem::{AddrRange, VirtAddr};
use sys::remote;
use sys::task::{Pid, Tid};

use crate::blob::{
    ENTRY_BYTES, ENTRY_WORDS, HEADER_BYTES, HEADER_ENDED_AT, HEADER_UNDO_END, HEADER_UNDO_NEXT,
};
use crate::table::Table;
use crate::{InjectError, Scratch};

/// How many calls may have an undo at once.
pub(crate) const UNDOS_MAX: u64 = 64;
pub(crate) const UNDO_ANSWERS: u64 = HEADER_BYTES;
const UNDO_TABLE: u64 = UNDO_ANSWERS + UNDOS_MAX * 8;
const UNDO_TABLE_END: u64 = UNDO_TABLE + UNDOS_MAX * ENTRY_BYTES;
/// Where the places given out begin.
pub(crate) const PLACES: u64 = UNDO_TABLE_END.next_multiple_of(64);
/// The smallest scratch area: room for the tables above and a small batch.
pub(crate) const SCRATCH_BYTES_MIN: u64 = 16 * 1024;

/// The scratch area of one thread.
#[derive(Debug)]
pub(crate) struct Area {
    pid: Pid,
    tid: Tid,
    /// Empty until it is mapped.
    pub(crate) range: AddrRange,
    next_place: u64,
    /// How many entries the undo table has.
    pub(crate) undos: u64,
}

impl Area {
    pub(crate) const fn new(pid: Pid, tid: Tid, range: AddrRange) -> Self {
        Self { pid, tid, range, next_place: PLACES, undos: 0 }
    }

    /// The bytes at its end that are not given out.
    pub(crate) const fn free(&self) -> u64 {
        self.range.len().saturating_sub(self.next_place)
    }

    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<Scratch, InjectError> {
        let (size, free) = (self.range.len(), self.free());
        if bytes > free {
            return Err(InjectError::ScratchFull { wanted: bytes, free, size });
        }
        let place = Scratch { offset: self.next_place, length: bytes };
        self.next_place = (self.next_place + bytes).next_multiple_of(16).min(size);
        Ok(place)
    }

    pub(crate) fn reset_places(&mut self) {
        self.next_place = PLACES;
    }

    pub(crate) fn write(&self, place: Scratch, bytes: &[u8]) -> Result<(), InjectError> {
        if bytes.len() as u64 > place.length {
            let size = self.range.len();
            return Err(InjectError::ScratchFull {
                wanted: bytes.len() as u64,
                free: place.length,
                size,
            });
        }
        self.write_at(place.offset, bytes)
    }

    pub(crate) fn read(&self, place: Scratch) -> Result<Vec<u8>, InjectError> {
        let length = usize::try_from(place.length.min(self.range.len())).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.read_at(place.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Puts `table` in place, its undo entries first.
    pub(crate) fn load(&mut self, table: &Table) -> Result<(), InjectError> {
        self.register_undos(&table.undos)?;
        self.write_at(HEADER_ENDED_AT, &[0; 8])?;
        self.write_at(table.start - self.range.start.0, &table.bytes)
    }

    /// Where the last table ended; `None` while it is running.
    pub(crate) fn ended_at(&self) -> Result<Option<u64>, InjectError> {
        self.word_at(HEADER_ENDED_AT).map(|at| (at != 0).then_some(at))
    }

    /// Adds undo entries in front of the earlier ones, so that the last is undone first. Their
    /// answers are made failures before the entries count, and stay so until the call is made.
    fn register_undos(&mut self, undos: &[[u64; ENTRY_WORDS]]) -> Result<(), InjectError> {
        let base = self.range.start.0;
        for words in undos {
            self.write_at(words[9], &(-1_i64).to_ne_bytes())?;
            let offset = UNDO_TABLE_END - (self.undos + 1) * ENTRY_BYTES;
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            self.write_at(offset, &bytes)?;
            if self.undos == 0 {
                // An empty table is one whose next entry is not below its end.
                self.write_at(HEADER_UNDO_NEXT, &(base + UNDO_TABLE_END).to_ne_bytes())?;
                self.write_at(HEADER_UNDO_END, &(base + UNDO_TABLE_END).to_ne_bytes())?;
            }
            self.write_at(HEADER_UNDO_NEXT, &(base + offset).to_ne_bytes())?;
            self.undos += 1;
        }
        Ok(())
    }

    /// Forgets every undo: what the calls made is to stay.
    pub(crate) fn forget_undos(&mut self) -> Result<(), InjectError> {
        self.undos = 0;
        self.write_at(HEADER_UNDO_NEXT, &u64::MAX.to_ne_bytes())
    }

    /// What lies at `places`.
    pub(crate) fn answers(&self, places: &[u64]) -> Result<Vec<i64>, InjectError> {
        // The ordinary answers lie together, in order, behind the table.
        let first = places.iter().copied().filter(|place| *place >= PLACES).min();
        let last = places.iter().copied().max();
        let mut bytes = Vec::new();
        if let (Some(first), Some(last)) = (first, last) {
            bytes.resize(usize::try_from(last + 8 - first).unwrap_or(0), 0);
            self.read_at(first, &mut bytes)?;
        }
        places
            .iter()
            .map(|place| {
                let near = first
                    .and_then(|first| usize::try_from(place.checked_sub(first)?).ok())
                    .and_then(|at| bytes.get(at..at + 8)?.try_into().ok())
                    .map(i64::from_ne_bytes);
                match near {
                    Some(value) => Ok(value),
                    None => self.word_at(*place).map(u64::cast_signed),
                }
            })
            .collect()
    }

    fn word_at(&self, offset: u64) -> Result<u64, InjectError> {
        let mut bytes = [0; 8];
        self.read_at(offset, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), InjectError> {
        let at = VirtAddr(self.range.start.0 + offset);
        remote::read_exact(self.tid, at, bytes).map_err(|source| InjectError::Memory {
            action: "read the scratch area",
            pid: self.pid,
            source,
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), InjectError> {
        let at = VirtAddr(self.range.start.0 + offset);
        remote::write(self.tid, at, bytes).map_err(|source| InjectError::Memory {
            action: "write the scratch area",
            pid: self.pid,
            source,
        })
    }
}
