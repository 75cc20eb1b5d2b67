//! Coding as something that is submitted and completes later, so that other hardware than the
//! processor that asks can do it. The processor itself is the first back end.

use std::collections::VecDeque;
use std::fmt;

use plan::{NumericType, Treatment};

use crate::{
    DecodeError, Decoder, Effort, EncodeError, Encoder, LossyEncoder, LossyPart, NumericEncoder,
    Want,
};

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Encode pages as any bytes.
    Encode(Want),
    /// Encode pages as numbers.
    EncodeTyped(NumericType, Effort),
    /// Encode pages with a loss in a part of them.
    EncodeLossy(LossyPart),
    /// Decode stored bytes into this many bytes of pages.
    Decode(Treatment, usize),
}

/// A piece of work with its bytes; both come back with the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What is to be done.
    pub work: Work,
    /// Pages, or stored bytes.
    pub input: Vec<u8>,
    /// A buffer for the result; what is in it does not matter.
    pub output: Vec<u8>,
}

/// Names a job that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A job that is done.
#[derive(Debug)]
pub struct Done {
    /// Which one.
    pub ticket: Ticket,
    /// The bytes it came with, and the result in `output`.
    pub job: Job,
    /// For encoding, how `output` is to be decoded; for decoding, how the input was.
    /// An error leaves `output` without meaning.
    pub result: Result<Treatment, CodeError>,
    /// The largest error of any element, where a loss was allowed.
    pub largest_error: f64,
}

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// It was to encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It was to decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The back end has as many jobs as it can hold: complete one first. The job comes back.
#[derive(Debug)]
pub struct Full(pub Job);

/// Something that codes. Jobs complete in any order.
pub trait BackEnd: fmt::Debug + Send {
    /// A name for reports, such as `cpu`.
    fn name(&self) -> &'static str;

    /// How many jobs it holds at most.
    fn depth(&self) -> usize;

    /// Whether it can do such work at all; the caller goes to another back end if not.
    fn can(&self, work: &Work) -> bool;

    /// Takes a job.
    ///
    /// # Errors
    /// When it holds [`Self::depth`] jobs already.
    fn submit(&mut self, job: Job) -> Result<Ticket, Full>;

    /// A job that is done, or `None`. With `wait`, `None` means that there is no job at all.
    fn complete(&mut self, wait: bool) -> Option<Done>;
}

/// The processor that asks: a job is done when its completion is asked for. For more at once,
/// one for each thread.
#[derive(Debug, Default)]
pub struct Cpu {
    queue: VecDeque<(Ticket, Job)>,
    next: u64,
    encoder: Encoder,
    numeric: NumericEncoder,
    lossy: LossyEncoder,
    decoder: Decoder,
}

/// More would only take memory.
const CPU_DEPTH: usize = 64;

impl Cpu {
    /// A back end without jobs.
    pub fn new() -> Self {
        Self::default()
    }

    fn work(&mut self, job: &mut Job) -> Result<(Treatment, f64), CodeError> {
        let Job { work, input, output } = job;
        output.clear();
        let frame = match work {
            Work::Encode(want) => self.encoder.encode(input, *want)?,
            Work::EncodeTyped(numeric, effort) => self.numeric.encode(input, *numeric, *effort)?,
            Work::EncodeLossy(part) => {
                if let Some(lossy) = self.lossy.encode(input, part)? {
                    output.extend_from_slice(lossy.frame.bytes);
                    return Ok((lossy.frame.treatment, lossy.largest_error));
                }
                self.numeric.encode(input, part.numeric, Effort::Small)?
            }
            Work::Decode(treatment, length) => {
                // Before anything is allocated for it.
                if !crate::frame::is_frame_length(*length) {
                    return Err(DecodeError::Length(*length).into());
                }
                output.resize(*length, 0);
                self.decoder.decode(*treatment, input, output)?;
                return Ok((*treatment, 0.0));
            }
        };
        output.extend_from_slice(frame.bytes);
        Ok((frame.treatment, 0.0))
    }
}

impl BackEnd for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn depth(&self) -> usize {
        CPU_DEPTH
    }

    fn can(&self, work: &Work) -> bool {
        match work {
            Work::Encode(_) | Work::EncodeTyped(..) | Work::EncodeLossy(_) => true,
            Work::Decode(treatment, _) => matches!(
                treatment,
                Treatment::Raw
                    | Treatment::Zero
                    | Treatment::Lz4
                    | Treatment::Zstd
                    | Treatment::Typed
                    | Treatment::Lossy
            ),
        }
    }

    fn submit(&mut self, job: Job) -> Result<Ticket, Full> {
        if self.queue.len() >= CPU_DEPTH {
            return Err(Full(job));
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back((ticket, job));
        Ok(ticket)
    }

    fn complete(&mut self, _wait: bool) -> Option<Done> {
        let (ticket, mut job) = self.queue.pop_front()?;
        let (result, largest_error) = match self.work(&mut job) {
            Ok((treatment, error)) => (Ok(treatment), error),
            Err(error) => (Err(error), 0.0),
        };
        Some(Done { ticket, job, result, largest_error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_submitted_completes_and_comes_back() {
        let mut cpu = Cpu::new();
        let pages: Vec<u8> = (0..8192u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let works = [
            Work::Encode(Want::Zstd(1)),
            Work::EncodeTyped(NumericType::U32, Effort::Small),
            Work::Encode(Want::Raw),
        ];
        for work in works {
            let job = Job { work, input: pages.clone(), output: Vec::new() };
            let ticket = cpu.submit(job).unwrap();
            let done = cpu.complete(true).unwrap();
            assert_eq!(done.ticket, ticket);
            let work = Work::Decode(done.result.unwrap(), pages.len());
            assert!(cpu.can(&work));
            cpu.submit(Job { work, input: done.job.output, output: done.job.input }).unwrap();
            let done = cpu.complete(true).unwrap();
            assert!(done.result.is_ok());
            assert!(done.job.output == pages);
        }
        assert!(cpu.complete(true).is_none());
    }

    #[test]
    fn a_full_back_end_gives_the_job_back_and_hostile_lengths_allocate_nothing() {
        let mut cpu = Cpu::new();
        let work = Work::Decode(Treatment::Zero, usize::MAX);
        let job = Job { work, input: Vec::new(), output: Vec::new() };
        for _ in 0..cpu.depth() {
            cpu.submit(job.clone()).unwrap();
        }
        let Full(back) = cpu.submit(job.clone()).unwrap_err();
        assert_eq!(back, job);
        assert!(cpu.complete(true).unwrap().result.is_err());
    }
}
