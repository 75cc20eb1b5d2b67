//! Messages of a userfaultfd.

use mem::{AddrRange, VirtAddr};

/// Bytes of one message.
pub const MESSAGE_BYTES: usize = 32;

/// One message as the kernel writes it (`struct uffd_msg`, little-endian on x86-64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Message(pub [u8; MESSAGE_BYTES]);

/// A fault that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: the byte with [`EXACT_ADDRESS`](super::Features::EXACT_ADDRESS), else the page.
    pub address: VirtAddr,
    /// It was a write.
    pub write: bool,
    /// It was a write to a write-protected page (never with
    /// [`WP_ASYNC`](super::Features::WP_ASYNC)).
    pub write_protected: bool,
    /// It was a minor fault.
    pub minor: bool,
    /// Which thread, in the pid namespace of the reader; 0 without
    /// [`THREAD_ID`](super::Features::THREAD_ID) or for a thread we cannot see.
    pub thread: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A page is needed.
    Fault(Fault),
    /// The process forked. The child's userfaultfd, with the same registrations and features, is
    /// in our table under this number, and somebody has to own it.
    Fork {
        /// Its number.
        descriptor: i32,
    },
    /// Memory was moved.
    Remap {
        /// Where it was.
        from: VirtAddr,
        /// Where it is.
        to: VirtAddr,
        /// How long it was before: what `from` had there is now at `to`.
        len_bytes: u64,
    },
    /// Pages were given back: zeros from now on.
    Remove(AddrRange),
    /// The mapping is gone.
    Unmap(AddrRange),
    /// A message of a kind we do not know.
    Unknown {
        /// Its number.
        kind: u8,
    },
}

impl Message {
    /// What it says.
    pub fn event(&self) -> Event {
        const WRITE: u64 = 1;
        const WRITE_PROTECTED: u64 = 2;
        const MINOR: u64 = 4;
        let word = |at: usize| self.word(at);
        match self.0[0] {
            0x12 => Event::Fault(Fault {
                address: VirtAddr(word(16)),
                write: word(8) & WRITE != 0,
                write_protected: word(8) & WRITE_PROTECTED != 0,
                minor: word(8) & MINOR != 0,
                thread: low_half(word(24)),
            }),
            0x13 => Event::Fork { descriptor: low_half(word(8)).cast_signed() },
            0x14 => Event::Remap {
                from: VirtAddr(word(8)),
                to: VirtAddr(word(16)),
                len_bytes: word(24),
            },
            0x15 => Event::Remove(AddrRange::new(word(8), word(16))),
            0x16 => Event::Unmap(AddrRange::new(word(8), word(16))),
            kind => Event::Unknown { kind },
        }
    }

    /// The message that these words hold.
    pub fn from_words(words: [u64; 4]) -> Self {
        let mut bytes = [0; MESSAGE_BYTES];
        for (at, word) in bytes.chunks_exact_mut(8).zip(words) {
            at.copy_from_slice(&word.to_ne_bytes());
        }
        Self(bytes)
    }

    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_ne_bytes(bytes)
    }
}

const fn low_half(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}
