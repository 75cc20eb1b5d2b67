//! Places in the memory that a batch shares with us.

/// A place in the scratch area of an injection or a stub: for arguments and what calls write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scratch {
    /// Bytes from the start of the scratch area.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u64,
}

impl Scratch {
    /// How many bytes it has.
    pub const fn len(self) -> u64 {
        self.length
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The part of it from byte `start` on, `length` long; `None` when that is not inside.
    pub fn part(self, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= self.length).then_some(Self { offset: self.offset + start, length })
    }
}
