//! Values drawn from arbitrary bytes, so that a failing case shrinks by shrinking the bytes.

use proptest::prelude::*;

/// Bytes to draw values from; when they run out everything is zero, empty or the first choice.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    bytes: std::vec::IntoIter<u8>,
}

pub(crate) fn draw() -> impl Strategy<Value = Draw> {
    proptest::collection::vec(any::<u8>(), 0..6000)
        .prop_map(|bytes| Draw { bytes: bytes.into_iter() })
}

impl Draw {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into_iter() }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes.next().unwrap_or(0)
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Often an extreme, else anything.
    pub(crate) fn u64(&mut self) -> u64 {
        match self.u8() {
            0..=63 => 0,
            64..=95 => u64::MAX,
            96..=127 => self.u8().into(),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.u8())),
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::try_from(self.u64() & 0xffff_ffff).unwrap()
    }

    pub(crate) fn i32(&mut self) -> i32 {
        self.u32().cast_signed()
    }

    /// A time that clocks can show.
    pub(crate) fn time_ns(&mut self) -> i128 {
        let seconds = i128::from(self.u64().cast_signed());
        seconds * 1_000_000_000 + i128::from(self.u32() % 1_000_000_000)
    }

    pub(crate) fn list<T>(&mut self, most: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = usize::from(self.u8()) % (most + 1);
        (0..count).map(|_| item(self)).collect()
    }

    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        self.list(12, Self::u8)
    }

    pub(crate) fn text(&mut self) -> String {
        let letters = self.list(10, |draw| draw.one_of(&['a', '0', '-', 'é', '\n', '\u{1f525}']));
        letters.into_iter().collect()
    }

    pub(crate) fn maybe<T>(&mut self, item: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.bool().then(|| item(self))
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    /// An index into `items` things, of which there is at least one.
    pub(crate) fn index<T>(&mut self, items: &[T]) -> u32 {
        u32::try_from(usize::from(self.u8()) % items.len()).unwrap()
    }
}
