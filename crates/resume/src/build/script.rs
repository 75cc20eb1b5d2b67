//! System calls in the process being built, each with a name for the error message.

use std::borrow::Cow;
use std::io;

use inject::{Answers, Arg, Batch, CallId, InjectError, Stub};
use sys::remote;

use super::room::Desk;
use crate::{Phase, ResumeError};

/// Calls after which a script is run before more are added.
const CALLS_SOFT_MAX: usize = 1000;

/// A thread of the process being built that runs our system calls.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) stub: Stub,
    pub(crate) desk: Desk,
}

/// System calls under way. They are collected and run together; [`Script::run`] at the end is
/// the caller's duty.
pub(crate) struct Script<'h> {
    hand: &'h mut Hand,
    phase: Phase,
    batch: Batch,
    steps: Vec<Cow<'static, str>>,
    /// What lies at the start of the desk's arguments when the calls are made.
    arguments: Vec<u8>,
}

impl<'h> Script<'h> {
    /// An empty script for `hand`.
    pub(crate) fn new(hand: &'h mut Hand, phase: Phase) -> Self {
        Self { hand, phase, batch: Batch::new(), steps: Vec::new(), arguments: Vec::new() }
    }

    /// Adds a call that must succeed; `step` says what it does, as in "open /etc/motd".
    pub(crate) fn call(
        &mut self,
        step: impl Into<Cow<'static, str>>,
        number: i64,
        args: &[Arg],
    ) -> CallId {
        self.steps.push(step.into());
        self.batch.require(number, args)
    }

    /// Adds a call that may fail.
    pub(crate) fn attempt(&mut self, number: i64, args: &[Arg]) -> CallId {
        self.steps.push(Cow::Borrowed(""));
        self.batch.call(number, args)
    }

    /// Puts bytes into the process, 16-aligned, until the next run; gives their address.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.arguments.len().next_multiple_of(16);
        self.arguments.resize(at, 0);
        self.arguments.extend_from_slice(bytes);
        self.hand.desk.arguments.start.0 + at as u64
    }

    /// As [`Self::bytes`], for words.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    /// As [`Self::bytes`], for a string that gets a NUL.
    pub(crate) fn text(&mut self, text: &[u8]) -> u64 {
        let mut bytes = text.to_vec();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// Runs what is there when it is much. Identifiers of calls and addresses from before are
    /// void afterwards.
    pub(crate) fn flush(&mut self) -> Result<(), ResumeError> {
        let half = self.hand.desk.arguments.len() / 2;
        if self.batch.len() >= CALLS_SOFT_MAX || self.arguments.len() as u64 >= half {
            self.run()?;
        }
        Ok(())
    }

    /// Runs what is there.
    pub(crate) fn run(&mut self) -> Result<Answers, ResumeError> {
        let batch = std::mem::take(&mut self.batch);
        let steps = std::mem::take(&mut self.steps);
        let arguments = std::mem::take(&mut self.arguments);
        if !arguments.is_empty() {
            self.hand_over(&arguments)?;
        }
        let answers = self.hand.stub.run_to_failure(&batch);
        let answers =
            answers.map_err(|e| failed(self.phase, "run system calls in the new process", e))?;
        if let Some(call) = answers.failed() {
            let step = steps.get(call.index()).cloned().unwrap_or_default();
            let cause = answers.get(call).err().map_or_else(unknown, cause_of);
            return Err(ResumeError::Step { phase: self.phase, step: step.into_owned(), cause });
        }
        Ok(answers)
    }

    fn hand_over(&self, arguments: &[u8]) -> Result<(), ResumeError> {
        let step = "hand arguments over to the new process";
        let desk = self.hand.desk.arguments;
        if arguments.len() as u64 > desk.len() {
            return Err(self.step(step, io::Error::from(io::ErrorKind::OutOfMemory)));
        }
        remote::write(self.hand.stub.thread().tid(), desk.start, arguments)
            .map_err(|cause| self.step(step, cause))
    }

    fn step(&self, step: &str, cause: io::Error) -> ResumeError {
        ResumeError::Step { phase: self.phase, step: step.to_owned(), cause }
    }
}

/// An error of injection as one of ours.
pub(crate) fn failed(phase: Phase, step: &str, error: InjectError) -> ResumeError {
    ResumeError::Step { phase, step: step.to_owned(), cause: cause_of(error) }
}

fn cause_of(error: InjectError) -> io::Error {
    match error {
        InjectError::Call { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn unknown() -> io::Error {
    io::Error::other("the kernel gave no reason")
}
