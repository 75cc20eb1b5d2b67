//! What to run: system calls, their arguments, their answers.

use std::io;

use crate::{InjectError, Scratch};

/// Most calls in one batch.
pub(crate) const CALLS_MAX: usize = 4096;

/// Names a call of a [`Batch`]: its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) usize);

impl CallId {
    /// In an [`Undo`]: the call that it belongs to.
    pub const OWN: Self = Self(usize::MAX);

    /// The place of the call in its batch, from 0.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// An argument of an injected call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// This number.
    Imm(u64),
    /// The answer of an earlier call of the same batch: a descriptor, an address.
    Result(CallId),
    /// The address of a place in the scratch area.
    Scratch(Scratch),
    /// The eight bytes at this place in the scratch area, read when the call is made.
    Load(Scratch),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self::Imm(value)
    }
}

impl From<i32> for Arg {
    /// Sign-extended, as C would pass an `int` that is also read as a `long` (`AT_FDCWD`, `-1`).
    fn from(value: i32) -> Self {
        Self::Imm(i64::from(value).cast_unsigned())
    }
}

impl From<Scratch> for Arg {
    fn from(place: Scratch) -> Self {
        Self::Scratch(place)
    }
}

impl From<CallId> for Arg {
    fn from(call: CallId) -> Self {
        Self::Result(call)
    }
}

/// How to take back what a call made: one more call.
///
/// It is run when the injection ends, by the thread itself if we have died, and only if the call
/// it belongs to had succeeded. It runs in the reverse order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undo {
    pub(crate) nr: i64,
    pub(crate) args: [Arg; 6],
}

impl Undo {
    /// System call `nr` with `args` (at most six, zeros follow).
    ///
    /// [`Arg::Result`] may name only the call this undo belongs to ([`CallId::OWN`]): those of others
    /// are refused when the batch is run.
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn new(nr: i64, args: &[Arg]) -> Self {
        Self { nr, args: six(args) }
    }

    /// `close` of the descriptor the call returned.
    pub fn close_result() -> Self {
        Self::new(libc_nr::CLOSE, &[Arg::Result(CallId::OWN)])
    }

    /// `munmap` of `bytes` at the address the call returned.
    pub fn munmap_result(bytes: u64) -> Self {
        Self::new(libc_nr::MUNMAP, &[Arg::Result(CallId::OWN), Arg::Imm(bytes)])
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) nr: i64,
    pub(crate) args: [Arg; 6],
    pub(crate) required: bool,
    pub(crate) undo: Option<Undo>,
}

/// System calls to run one after the other in one round trip.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) calls: Vec<Call>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds system call `nr` with `args` (at most six, zeros follow). If it fails, the batch goes
    /// on, and its answer is the negative error number.
    ///
    /// Calls that sleep on a timeout (`nanosleep`, `poll`, `futex`) must never be injected into a
    /// program: they overwrite the restart state of the call the thread was stopped in.
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn call(&mut self, nr: i64, args: &[Arg]) -> CallId {
        self.push(nr, args, false, None)
    }

    /// As [`call`](Self::call), but a failure ends the batch: later calls are not made.
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn require(&mut self, nr: i64, args: &[Arg]) -> CallId {
        self.push(nr, args, true, None)
    }

    /// As [`require`](Self::require); when the call has succeeded, `undo` is run at the end of
    /// the injection, also if we have died meanwhile.
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn require_with_undo(&mut self, nr: i64, args: &[Arg], undo: Undo) -> CallId {
        self.push(nr, args, true, Some(undo))
    }

    /// As [`call`](Self::call); when the call has succeeded, `undo` is run as in
    /// [`require_with_undo`](Self::require_with_undo).
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn call_with_undo(&mut self, nr: i64, args: &[Arg], undo: Undo) -> CallId {
        self.push(nr, args, false, Some(undo))
    }

    /// How many calls it holds.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn push(&mut self, nr: i64, args: &[Arg], required: bool, undo: Option<Undo>) -> CallId {
        self.calls.push(Call { nr, args: six(args), required, undo });
        CallId(self.calls.len() - 1)
    }
}

/// What the calls of a batch returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub(crate) values: Vec<i64>,
    pub(crate) numbers: Vec<i64>,
    pub(crate) failed: Option<CallId>,
}

impl Answers {
    /// What each call that was made returned, in order: as the kernel does, negative error
    /// numbers included.
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// The answer of `call` as the kernel gave it; `None` when it was not made.
    pub fn raw(&self, call: CallId) -> Option<i64> {
        self.values.get(call.0).copied()
    }

    /// The answer of `call`, or the error it returned.
    pub fn get(&self, call: CallId) -> Result<u64, InjectError> {
        let value = self.raw(call).ok_or(InjectError::NotMade { index: call.0 })?;
        if (-4095..0).contains(&value) {
            return Err(InjectError::Call {
                index: call.0,
                nr: self.numbers.get(call.0).copied().unwrap_or(-1),
                source: io::Error::from_raw_os_error(i32::try_from(-value).unwrap_or(i32::MAX)),
            });
        }
        Ok(value.cast_unsigned())
    }

    /// The required call that failed and ended the batch, if one did.
    pub const fn failed(&self) -> Option<CallId> {
        self.failed
    }
}

/// The few system call numbers this room uses itself (x86-64).
pub(crate) mod libc_nr {
    pub(crate) const CLOSE: i64 = 3;
    pub(crate) const MUNMAP: i64 = 11;
}

fn six(args: &[Arg]) -> [Arg; 6] {
    assert!(args.len() <= 6, "a system call has at most six arguments");
    let mut six = [Arg::Imm(0); 6];
    six[..args.len()].copy_from_slice(args);
    six
}
