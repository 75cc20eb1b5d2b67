//! Running batches in a thread that is parked in our code.

use std::time::{Duration, Instant};

use mem::{AddrRange, VirtAddr};
use sys::ptrace::{Event, PtraceError, Regs, Resume, Stop, StoppedThread, Traced};
use sys::remote;
use sys::task::{Pid, Tid};

use crate::batch::{CALLS_MAX, Call};
use crate::blob::{
    Blob, ENTRY_BYTES, ENTRY_WORDS, FLAG_REQUIRED, HEADER_BYTES, HEADER_ENDED_AT, HEADER_UNDO_END,
    HEADER_UNDO_NEXT, Mode,
};
use crate::{Answers, Arg, Batch, CallId, InjectError, Scratch};

/// How many calls may have an undo at once.
const UNDOS_MAX: u64 = 64;
const UNDO_ANSWERS: u64 = HEADER_BYTES;
const UNDO_TABLE: u64 = UNDO_ANSWERS + UNDOS_MAX * 8;
const UNDO_TABLE_END: u64 = UNDO_TABLE + UNDOS_MAX * ENTRY_BYTES;
/// Where the places given out begin.
const PLACES: u64 = UNDO_TABLE_END.next_multiple_of(64);
/// The smallest scratch area: room for the tables above and a small batch.
pub(crate) const SCRATCH_BYTES_MIN: u64 = 16 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a thread that does not return from a call is waited for after it was interrupted.
const HALT_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that is, or is about to be, parked in our code.
#[derive(Debug)]
pub(crate) struct Runner {
    pid: Pid,
    tid: Tid,
    /// Address of the code.
    code: u64,
    blob: Blob,
    /// Address of the thread's slot; 0 in a stub.
    slot: u64,
    /// The signal it reports by; 0: it waits to be interrupted.
    signal: i32,
    /// Empty until it is mapped.
    pub(crate) scratch: AddrRange,
    next_place: u64,
    undos: u64,
    /// All registers as the thread has them while in the code, but for those the code uses.
    template: Regs,
    pub(crate) timeout: Duration,
    pub(crate) new_threads: Vec<StoppedThread>,
}

/// A batch as the code reads it.
struct Table {
    bytes: Vec<u8>,
    /// Address of its first entry, and of the end of the last.
    start: u64,
    end: u64,
    /// Offset in the scratch area of each answer.
    answers: Vec<u64>,
    /// Undo entries to add, the first registered first.
    undos: Vec<[u64; ENTRY_WORDS]>,
}

impl Runner {
    /// For a thread stopped with `regs`, with `blob` lying at `code`.
    pub(crate) fn new(
        (pid, tid): (Pid, Tid),
        (code, blob): (u64, Blob),
        slot: u64,
        signal: i32,
        regs: &Regs,
    ) -> Self {
        const DIRECTION: u64 = 1 << 10;
        let template = Regs {
            orig_rax: u64::MAX,
            eflags: regs.eflags & !DIRECTION,
            rbp: slot,
            r15: u64::from(signal.unsigned_abs()),
            ..*regs
        };
        Self {
            pid,
            tid,
            code,
            blob,
            slot,
            signal,
            scratch: AddrRange::default(),
            next_place: PLACES,
            undos: 0,
            template,
            timeout: TIMEOUT,
            new_threads: Vec::new(),
        }
    }

    /// The registers with which a thread enters that has to map its scratch area itself.
    pub(crate) fn entry_regs(&self, scratch_bytes: u64) -> Regs {
        Regs { rip: self.code + self.blob.entry, r12: scratch_bytes, r14: 0, ..self.template }
    }

    /// The registers with which it undoes and unmaps, and comes back.
    fn clean_regs(&self) -> Regs {
        Regs {
            rip: self.code + self.blob.clean,
            rbx: self.scratch.start.0,
            r14: Mode::Clean as u64,
            ..self.template
        }
    }

    /// Undoes, unmaps and parks `thread`; says what `munmap` returned.
    pub(crate) fn clean(&mut self, thread: &mut StoppedThread) -> Result<i64, InjectError> {
        let regs = self.clean_regs();
        self.scratch = AddrRange::default();
        self.go(thread, &regs, 0).map(|regs| regs.r13.cast_signed())
    }

    /// Whether `rip` is where a thread reports and waits.
    fn is_parked(&self, rip: u64) -> bool {
        (self.blob.park..=self.blob.park_end).contains(&rip.wrapping_sub(self.code))
    }

    fn is_inside(&self, rip: u64) -> bool {
        let code = rip.wrapping_sub(self.code) < self.blob.code.len() as u64;
        code || (self.slot != 0 && rip.wrapping_sub(self.slot) < self.blob.slot.len() as u64)
    }

    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<Scratch, InjectError> {
        let size = self.scratch.len();
        let free = size.saturating_sub(self.next_place);
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
            let size = self.scratch.len();
            return Err(InjectError::ScratchFull {
                wanted: bytes.len() as u64,
                free: place.length,
                size,
            });
        }
        self.write_at(place.offset, bytes)
    }

    pub(crate) fn read(&self, place: Scratch) -> Result<Vec<u8>, InjectError> {
        let length = usize::try_from(place.length.min(self.scratch.len())).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.read_at(place.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Runs `batch` in `thread`, which is parked.
    pub(crate) fn run(
        &mut self,
        thread: &mut StoppedThread,
        batch: &Batch,
    ) -> Result<Answers, InjectError> {
        let mut answers = Answers { values: Vec::new(), numbers: Vec::new(), failed: None };
        if batch.is_empty() {
            return Ok(answers);
        }
        let table = self.encode(batch)?;
        self.register_undos(&table.undos)?;
        self.write_at(HEADER_ENDED_AT, &[0; 8])?;
        self.write_at(table.start - self.scratch.start.0, &table.bytes)?;
        let regs = Regs {
            rip: self.code + self.blob.run,
            rbx: self.scratch.start.0,
            r12: table.start,
            r13: table.end,
            r14: Mode::Batch as u64,
            ..self.template
        };
        self.go(thread, &regs, table.start)?;
        let ended_at = self.word_at(HEADER_ENDED_AT)?;
        let made = match usize::try_from(ended_at.wrapping_sub(table.start) / ENTRY_BYTES) {
            Ok(index) if index < batch.len() => {
                answers.failed = Some(CallId(index));
                index + 1
            }
            _ => batch.len(),
        };
        answers.values = self.answers(&table.answers[..made])?;
        answers.numbers = batch.calls[..made].iter().map(|call| call.nr).collect();
        Ok(answers)
    }

    /// Sets `regs` and lets `thread` run until it is parked again; gives its registers there.
    /// `table` tells in which call it was when it does not come back.
    pub(crate) fn go(
        &mut self,
        thread: &mut StoppedThread,
        regs: &Regs,
        table: u64,
    ) -> Result<Regs, InjectError> {
        thread.set_regs(regs)?;
        let started = Instant::now();
        let deadline = started + self.timeout;
        let result = if self.signal == 0 {
            self.until_seen_parked(thread, deadline)
        } else {
            self.until_reported(thread, deadline)
        };
        match result {
            Err(InjectError::Ptrace(PtraceError::Timeout { tid, .. })) => {
                let regs = self.halt(thread)?;
                let index = regs.r12.wrapping_sub(table) / ENTRY_BYTES;
                Err(InjectError::Timeout {
                    tid,
                    waited: started.elapsed(),
                    index: usize::try_from(index).unwrap_or(usize::MAX),
                })
            }
            other => other,
        }
    }

    fn until_reported(
        &mut self,
        thread: &mut StoppedThread,
        deadline: Instant,
    ) -> Result<Regs, InjectError> {
        let mut signal = 0;
        loop {
            let stop = thread.resume_and_wait(Resume::Continue(signal), deadline)?;
            if stop == Stop::Signal(self.signal) {
                let regs = thread.regs()?;
                if self.is_parked(regs.rip) {
                    return Ok(regs);
                }
            }
            signal = self.pass(thread, stop, deadline)?;
        }
    }

    /// As [`until_reported`](Self::until_reported) for a program that handles all signals by which
    /// it could report: the end of a table is seen in the scratch area, and the thread stopped in
    /// its waiting loop.
    fn until_seen_parked(
        &mut self,
        thread: &mut StoppedThread,
        deadline: Instant,
    ) -> Result<Regs, InjectError> {
        let mut signal = 0;
        loop {
            thread.resume(Resume::Continue(signal))?;
            let stop = match self.until_ended(thread, deadline)? {
                Some(stop) => stop,
                None => {
                    thread.interrupt()?;
                    thread.wait(deadline)?
                }
            };
            let regs = thread.regs()?;
            if !self.is_inside(regs.rip) {
                return Err(InjectError::LeftByItself { tid: thread.tid() });
            }
            let ended = self.scratch.is_empty() || self.word_at(HEADER_ENDED_AT)? != 0;
            if self.is_parked(regs.rip) && regs.r14 != Mode::Leave as u64 && ended {
                return Ok(regs);
            }
            signal = self.pass(thread, stop, deadline)?;
        }
    }

    /// Waits for the end of the running table, which is `None`, or a stop before it.
    fn until_ended(
        &self,
        thread: &mut StoppedThread,
        deadline: Instant,
    ) -> Result<Option<Stop>, InjectError> {
        const LOOKS_WITHOUT_SCRATCH: u32 = 20;
        let mut looks = 0;
        while Instant::now() < deadline {
            if let Some(stop) = thread.try_wait()? {
                return Ok(Some(stop));
            }
            looks += 1;
            let ended = if self.scratch.is_empty() {
                looks > LOOKS_WITHOUT_SCRATCH
            } else {
                self.word_at(HEADER_ENDED_AT).is_ok_and(|word| word != 0)
            };
            if ended {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        Ok(None)
    }

    /// Deals with a stop that is not the end of a table; says which signal to go on with. Signals
    /// are handed on, except our own, which the program ignores anyway.
    fn pass(
        &mut self,
        thread: &StoppedThread,
        stop: Stop,
        deadline: Instant,
    ) -> Result<i32, InjectError> {
        match stop {
            Stop::Signal(signal) if signal == self.signal => Ok(0),
            Stop::Signal(signal) => Ok(signal),
            Stop::Event(Event::Clone | Event::Fork | Event::Vfork) => {
                let number = thread.event_message()?;
                if let Some(tid) = i32::try_from(number).ok().and_then(Tid::new) {
                    let child = Traced::adopt(tid, thread.options());
                    self.new_threads.push(child.into_next_stop(deadline)?);
                }
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    /// Stops a thread that is running our code, wherever it is.
    fn halt(&self, thread: &mut StoppedThread) -> Result<Regs, InjectError> {
        let tid = thread.tid();
        let deadline = Instant::now() + HALT_TIMEOUT;
        thread.interrupt()?;
        thread.wait(deadline)?;
        let regs = thread.regs()?;
        if self.is_inside(regs.rip) { Ok(regs) } else { Err(InjectError::LeftByItself { tid }) }
    }

    fn encode(&self, batch: &Batch) -> Result<Table, InjectError> {
        let count = batch.len();
        if count > CALLS_MAX {
            return Err(InjectError::BadBatch { index: CALLS_MAX, why: "the batch is too long" });
        }
        let entries = count as u64 * ENTRY_BYTES;
        let bytes = entries + count as u64 * 8;
        let size = self.scratch.len();
        let free = size.saturating_sub(self.next_place);
        if bytes > free {
            return Err(InjectError::ScratchFull { wanted: bytes, free, size });
        }
        let offset = (size - bytes) & !7;
        let mut table = Table {
            bytes: Vec::with_capacity(count * ENTRY_WORDS * 8),
            start: self.scratch.start.0 + offset,
            end: self.scratch.start.0 + offset + entries,
            answers: Vec::with_capacity(count),
            undos: Vec::new(),
        };
        for (index, call) in batch.calls.iter().enumerate() {
            let answer = match call.undo {
                None => offset + entries + index as u64 * 8,
                Some(_) => UNDO_ANSWERS + (self.undos + table.undos.len() as u64) * 8,
            };
            let words = self.entry(index, call, &table.answers, answer)?;
            table.answers.push(answer);
            table.bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            if let Some(undo) = call.undo {
                if self.undos + table.undos.len() as u64 >= UNDOS_MAX {
                    let why = "more calls are to be undone than the scratch area keeps";
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
                let mut words = self.entry(index, &call, &[], UNDO_ANSWERS - 8)?;
                words[9] = answer;
                table.undos.push(words);
            }
        }
        Ok(table)
    }

    /// One entry of a table; `answers` are the places of the answers of earlier calls.
    fn entry(
        &self,
        index: usize,
        call: &Call,
        answers: &[u64],
        answer: u64,
    ) -> Result<[u64; ENTRY_WORDS], InjectError> {
        let bad = |why| InjectError::BadBatch { index, why };
        let inside = |place: Scratch| {
            place.offset.checked_add(place.length).is_some_and(|end| end <= self.scratch.len())
        };
        let mut words = [0; ENTRY_WORDS];
        words[0] = call.nr.cast_unsigned();
        words[1] = answer;
        for (position, arg) in call.args.iter().enumerate() {
            let (value, load) = match *arg {
                Arg::Imm(value) => (value, false),
                Arg::Scratch(place) if inside(place) => {
                    (self.scratch.start.0 + place.offset, false)
                }
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

    /// Adds undo entries in front of the earlier ones, so that the last is undone first. Their
    /// answers are made failures before the entries count, and stay so until the call is made.
    fn register_undos(&mut self, undos: &[[u64; ENTRY_WORDS]]) -> Result<(), InjectError> {
        let base = self.scratch.start.0;
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

    fn answers(&self, places: &[u64]) -> Result<Vec<i64>, InjectError> {
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
        let at = VirtAddr(self.scratch.start.0 + offset);
        remote::read_exact(self.tid, at, bytes).map_err(|source| InjectError::Memory {
            action: "read the scratch area",
            pid: self.pid,
            source,
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), InjectError> {
        let at = VirtAddr(self.scratch.start.0 + offset);
        remote::write(self.tid, at, bytes).map_err(|source| InjectError::Memory {
            action: "write the scratch area",
            pid: self.pid,
            source,
        })
    }
}
