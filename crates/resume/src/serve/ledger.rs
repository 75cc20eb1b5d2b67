//! What has to outlive a fault server that is killed, in memory it shares with the keeper.
//!
//! Messages of the kernel are gone once they are read, so they are read straight into a log here.
//! The state at any instant is a snapshot and the log behind it; take-over replays the log. The
//! log belongs to one of two halves, each with a snapshot; which one counts is one word, so that
//! going over to a new snapshot is one store.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mem::PageIndex;
use sys::shared::SharedMemory;
use sys::userfault::{Event, Message, Userfault, UserfaultError};

use super::view::View;

const MAGIC: u64 = 0x5245_4b49_4e44_4c02;
/// Words of the header.
const HEADER: usize = 512;
/// Words of the header that hold why threads wait, and why nothing more is loaded.
const TROUBLE: Range<usize> = 256..384;
const UNREAD: Range<usize> = 384..512;
/// Words of the free text that the owner keeps here: what a new agent has to know.
/// Address space only until it is used.
const NOTE: usize = 1 << 22;
/// Records of the fault log, four words each.
const FAULTS_MAX: usize = 1 << 18;
/// Messages in a half's log, five words each.
const LOG_MAX: usize = 4096;
const SLOT: usize = 5;
/// Words of a half's snapshot: address space only until they are used. 22 million runs.
const SNAPSHOT: usize = 1 << 26;
const HALF: usize = LOG_MAX * SLOT + SNAPSHOT;
const WORDS: usize = HEADER + NOTE + FAULTS_MAX * 4 + 2 * HALF;
/// The first byte of a message of our own: the space is done with.
const CLOSED: u64 = 0x80;

/// Words of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Word {
    Magic,
    /// Which half counts.
    Half,
    NoteBytes,
    /// How many fault servers there have been.
    Servers,
    /// Faults answered, and of those in the log.
    Faults,
    FaultsLogged,
    /// Pages that the first space had to get, and has got.
    PagesTotal,
    PagesPresent,
    /// Pages that cannot be had and that threads wait for.
    Trouble,
    /// 1: all of it is to be loaded, whatever was asked for before.
    FillAsked,
    /// When serving began and everything was present, `CLOCK_BOOTTIME` nanoseconds.
    BegunNs,
    CompleteNs,
    /// Pids, for whoever looks.
    KeeperPid,
    ServerPid,
    HolderPid,
    /// The server reads messages.
    Serving,
    /// How often the whole state was asked for, and which of these was answered last.
    StateAsked,
    StateGiven,
    /// Bytes of the text that says which pages cannot be had.
    TroubleBytes,
    /// How often pages that nobody waits for could not be loaded since they could be; bytes of the
    /// text that says why.
    Unread,
    UnreadBytes,
    /// 1: the program has run.
    Ran,
    /// Pages that are loaded ahead by the plan, and those of them that are held back.
    AheadPages,
    HeldPages,
}

/// One address space that is served.
#[derive(Debug)]
pub(super) struct Space {
    /// Shared with the thread that polls it.
    pub(super) userfault: Arc<Kept>,
    pub(super) view: View,
}

/// A userfaultfd that stays open when this is dropped, unless it was given up: the table it is in
/// is not ours alone, and whoever takes over needs it.
#[derive(Debug)]
pub(super) struct Kept {
    userfault: Option<Userfault>,
    given_up: AtomicBool,
}

impl Kept {
    pub(super) fn new(userfault: Userfault) -> Arc<Self> {
        Arc::new(Self { userfault: Some(userfault), given_up: AtomicBool::new(false) })
    }

    /// Has it closed as soon as nobody uses it.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }
}

impl Deref for Kept {
    type Target = Userfault;

    #[expect(clippy::expect_used, reason = "it is taken out by the drop only")]
    fn deref(&self) -> &Userfault {
        self.userfault.as_ref().expect("a userfaultfd is there until the drop")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.given_up.load(Ordering::Acquire) {
            std::mem::forget(self.userfault.take());
        }
    }
}

/// Every address space by its number; 0 is the program's, others are its forks'.
pub(super) type Spaces = BTreeMap<u64, Space>;

/// The shared memory.
#[derive(Debug)]
pub struct Ledger {
    memory: SharedMemory,
}

/// What one read brought.
pub(super) enum Entry<'a> {
    /// Nothing.
    None,
    /// A message. It stays in the log when [`Ledger::keep`] is called.
    Message(Message, &'a [AtomicU64]),
}

impl Ledger {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn create() -> io::Result<Self> {
        let ledger = Self { memory: SharedMemory::create("rekindle-ledger", WORDS)? };
        ledger.set(Word::Magic, MAGIC);
        Ok(ledger)
    }

    /// Takes over the one behind `file`.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let ledger = Self { memory: SharedMemory::map(file)? };
        if ledger.memory.words().len() != WORDS || ledger.get(Word::Magic) != MAGIC {
            return Err(io::Error::other("it is no ledger of this version"));
        }
        Ok(ledger)
    }

    pub(crate) fn get(&self, word: Word) -> u64 {
        self.memory.words()[word as usize].load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, word: Word, value: u64) {
        self.memory.words()[word as usize].store(value, Ordering::Release);
    }

    pub(crate) fn add(&self, word: Word, value: u64) -> u64 {
        self.memory.words()[word as usize].fetch_add(value, Ordering::AcqRel)
    }

    /// Keeps a text for whoever takes over.
    ///
    /// # Errors
    /// When it is too long.
    pub fn set_note(&self, text: &[u8]) -> io::Result<()> {
        let room = &self.memory.words()[HEADER..HEADER + NOTE];
        if text.len() > room.len() * 8 {
            return Err(io::Error::other("the note is too long"));
        }
        store_text(room, text);
        self.set(Word::NoteBytes, text.len() as u64);
        Ok(())
    }

    /// Writes down which pages cannot be had that threads wait for, and why.
    pub(super) fn set_trouble(&self, text: &str) {
        self.set_reason((TROUBLE, Word::TroubleBytes), text);
    }

    /// That text.
    pub(super) fn trouble(&self) -> String {
        self.reason((TROUBLE, Word::TroubleBytes))
    }

    /// Writes down why nothing more is loaded.
    pub(super) fn set_unread(&self, text: &str) {
        self.set_reason((UNREAD, Word::UnreadBytes), text);
    }

    /// That text.
    pub(super) fn unread(&self) -> String {
        self.reason((UNREAD, Word::UnreadBytes))
    }

    fn set_reason(&self, (room, length): (Range<usize>, Word), text: &str) {
        let room = &self.memory.words()[room];
        let text = &text.as_bytes()[..text.len().min(room.len() * 8)];
        store_text(room, text);
        self.set(length, text.len() as u64);
    }

    fn reason(&self, (room, length): (Range<usize>, Word)) -> String {
        let bytes = load_text(&self.memory.words()[room], self.get(length));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// That text.
    pub fn note(&self) -> Vec<u8> {
        load_text(&self.memory.words()[HEADER..HEADER + NOTE], self.get(Word::NoteBytes))
    }

    /// Notes a fault; those that do not fit are counted only.
    pub(super) fn log_fault(&self, space: u64, page: PageIndex, thread: u32, at_ns: u64) {
        let number = self.add(Word::FaultsLogged, 1);
        let Some(at) = usize::try_from(number).ok().filter(|n| *n < FAULTS_MAX) else { return };
        let base = HEADER + NOTE + at * 4;
        let words = &self.memory.words()[base..base + 4];
        for (slot, value) in words.iter().zip([space, page.0, u64::from(thread), at_ns]) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    /// Pages that are loaded ahead by the plan, and those of them that are held back
    /// ([`HeldBack`](super::HeldBack)); 0 before the server knows.
    pub fn held_back(&self) -> (u64, u64) {
        (self.get(Word::AheadPages), self.get(Word::HeldPages))
    }

    /// When serving began, in nanoseconds since the host was started; 0 before that.
    pub fn begun_ns(&self) -> u64 {
        self.get(Word::BegunNs)
    }

    /// The fault log of the program itself: pages in the order of their first fault, with the
    /// thread and the nanoseconds since serving began.
    pub fn faults(&self) -> Vec<(PageIndex, u32, u64)> {
        let count = usize::try_from(self.get(Word::FaultsLogged)).unwrap_or(0).min(FAULTS_MAX);
        let begun = self.get(Word::BegunNs);
        (0..count)
            .filter_map(|n| {
                let base = HEADER + NOTE + n * 4;
                let word = |at: usize| self.memory.words()[base + at].load(Ordering::Relaxed);
                let thread = u32::try_from(word(2)).unwrap_or(0);
                (word(0) == 0).then(|| (PageIndex(word(1)), thread, word(3).saturating_sub(begun)))
            })
            .collect()
    }

    fn half(&self, half: u64) -> &[AtomicU64] {
        let base = HEADER + NOTE + FAULTS_MAX * 4 + usize::from(half & 1 == 1) * HALF;
        &self.memory.words()[base..base + HALF]
    }

    fn slot(&self, number: usize) -> &[AtomicU64] {
        &self.half(self.get(Word::Half))[number * SLOT..(number + 1) * SLOT]
    }

    /// Reads the next message of `space` into place `used` of the log.
    pub(super) fn read(
        &self,
        used: usize,
        space: u64,
        userfault: &Userfault,
    ) -> Result<Entry<'_>, UserfaultError> {
        let slot = self.slot(used);
        slot[0].store(space, Ordering::Release);
        // The slot's last page is there before the kernel consumes anything.
        slot[SLOT - 1].store(0, Ordering::Release);
        let Ok(message) = <&[AtomicU64; 4]>::try_from(&slot[1..]) else { return Ok(Entry::None) };
        if !userfault.read_shared(message)? {
            return Ok(Entry::None);
        }
        Ok(Entry::Message(message_of(message), slot))
    }

    /// Whether the log has room for another message after `used`.
    pub(super) const fn is_full(used: usize) -> bool {
        used + 2 >= LOG_MAX
    }

    /// Notes in place `used` that a space is done with, before its descriptor is closed.
    pub(super) fn note_closed(&self, used: usize, space: u64) {
        let slot = self.slot(used);
        slot[0].store(space, Ordering::Release);
        slot[1].store(CLOSED, Ordering::Release);
    }

    /// Empties a place: what was there needs no replay.
    pub(super) fn forget(slot: &[AtomicU64]) {
        // The first word last: while it is not zero the slot holds a whole message.
        slot.iter().skip(2).for_each(|word| word.store(0, Ordering::Relaxed));
        if let Some(word) = slot.get(1) {
            word.store(0, Ordering::Release);
        }
    }

    /// Makes `spaces` the state, and the log empty.
    ///
    /// # Errors
    /// When there are more runs than there is room for.
    pub(super) fn snapshot(&self, spaces: &Spaces, next_space: u64) -> io::Result<()> {
        let next = self.get(Word::Half) ^ 1;
        let half = self.half(next);
        let (log, room) = half.split_at(LOG_MAX * SLOT);
        let mut words = vec![next_space, spaces.len() as u64];
        for (number, space) in spaces {
            let descriptor = u64::from(space.userfault.number().unsigned_abs());
            words.extend([*number, descriptor]);
            words.extend(space.view.to_words());
        }
        if words.len() > room.len() {
            return Err(io::Error::other("the program's memory is in too many pieces"));
        }
        for (slot, word) in room.iter().zip(&words) {
            slot.store(*word, Ordering::Relaxed);
        }
        for slot in log.chunks(SLOT).take_while(|slot| slot[1].load(Ordering::Relaxed) != 0) {
            slot.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        self.set(Word::Half, next);
        Ok(())
    }

    /// The state as it was left: the snapshot's spaces, the number of the next one, and what the
    /// log has of them, as (space, message).
    pub(super) fn state(&self) -> (Vec<Noted>, u64, Vec<(u64, Logged)>) {
        let half = self.half(self.get(Word::Half));
        let (log, room) = half.split_at(LOG_MAX * SLOT);
        let mut words = room.iter().map(|word| word.load(Ordering::Relaxed));
        let mut next = || words.next().unwrap_or(0);
        let (next_space, count) = (next(), next());
        let mut spaces = Vec::new();
        for _ in 0..count {
            let (number, descriptor) = (next(), next());
            let descriptor = i32::try_from(descriptor).unwrap_or(-1);
            let view = View::from_words(&mut next);
            spaces.push(Noted { number, descriptor, view });
        }
        let logged = log
            .chunks(SLOT)
            .map(|slot| (slot, slot[1].load(Ordering::Acquire)))
            .take_while(|(_, first)| *first != 0)
            .filter_map(|(slot, first)| {
                let space = slot[0].load(Ordering::Relaxed);
                if first == CLOSED {
                    return Some((space, Logged::Closed));
                }
                let message = <&[AtomicU64; 4]>::try_from(&slot[1..]).ok()?;
                Some((space, Logged::Message(message_of(message))))
            })
            .collect();
        (spaces, next_space, logged)
    }
}

impl Ledger {
    /// The numbers of every userfaultfd in use.
    pub fn descriptors(&self) -> Vec<i32> {
        let (spaces, next_space, logged) = self.state();
        let closed = |space: u64| logged.contains(&(space, Logged::Closed));
        let mut numbers: Vec<i32> =
            spaces.iter().filter(|s| !closed(s.number)).map(|s| s.descriptor).collect();
        let forks = logged.iter().filter_map(|(_, entry)| match entry {
            Logged::Message(message) => match message.event() {
                Event::Fork { descriptor } => Some(descriptor),
                _ => None,
            },
            Logged::Closed => None,
        });
        let open = (next_space..).zip(forks).filter(|(space, _)| !closed(*space));
        numbers.extend(open.map(|(_, number)| number));
        numbers
    }
}

/// A space of a snapshot.
pub(super) struct Noted {
    pub(super) number: u64,
    pub(super) descriptor: i32,
    pub(super) view: View,
}

/// What the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    /// The kernel's.
    Message(Message),
    /// The space is done with.
    Closed,
}

fn store_text(room: &[AtomicU64], text: &[u8]) {
    for (slot, bytes) in room.iter().zip(text.chunks(8)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        slot.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
}

fn load_text(room: &[AtomicU64], length: u64) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(0);
    let bytes = room.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    bytes.take(length).collect()
}

fn message_of(words: &[AtomicU64; 4]) -> Message {
    Message::from_words(words.each_ref().map(|word| word.load(Ordering::Acquire)))
}

impl AsFd for Ledger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}
