//! The fault log: which pages a resumed instance had to wait for, in which order, and when.
//!
//! Text, one JSON object on a line, so that it can be appended to as it happens: a first line
//! with the schema, then one line for each fault. A last line without its newline was cut off by
//! a crash and is ignored.

use mem::{MemoryId, PageIndex};
use serde::{Deserialize, Serialize};

/// The schema this version writes and the only one it reads.
pub const FAULT_LOG_SCHEMA: &str = "rekindle.faults.v1";

const FAULTS_MAX: usize = 1 << 22;
const LINE_BYTES_MAX: usize = 4096;
/// One more than the highest page number there can be.
const PAGE_NUMBER_END: u64 = (1 << 52) - 1;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which memory.
    pub memory: MemoryId,
    /// Which page of it.
    pub page: PageIndex,
    /// When it was seen, from the first instruction on.
    pub time_us: u64,
    /// How long the thread waited.
    pub stall_us: u64,
    /// Which thread; 0 when not known.
    pub thread: u32,
    /// Where its instruction pointer stood; 0 when not known.
    pub instruction: u64,
    /// Whether the page was predicted and held back, to learn whether it is really used.
    pub staged: bool,
}

/// The faults of one resume, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultLog {
    /// When the first answer came, from the first instruction on; `None` without a probe.
    pub answer_us: Option<u64>,
    /// What the pages that were held back tell; `None` when none were, or not for long enough.
    pub held: Option<Held>,
    /// The faults in the order in which they were seen.
    pub faults: Vec<Fault>,
}

/// Pages that were loaded ahead, and what a sample of them that was held back tells.
///
/// "Used" is what was asked for in the first five seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Pages that the plan loads ahead, those that were held back included.
    pub ahead_pages: u64,
    /// Of those, the ones that were held back.
    pub held_pages: u64,
    /// Of the ones that were held back, those that were used.
    pub used_pages: u64,
    /// Faults on pages that the plan does not load ahead.
    pub missed_pages: u64,
}

impl Held {
    /// Of the pages that were used, those that were predicted, in thousandths. `None` when too few
    /// were held back to tell.
    pub fn hit_rate_permille(&self) -> Option<u32> {
        let hits = self.used_ahead_pages()?;
        let all = hits.saturating_add(self.missed_pages);
        let rate = (u128::from(hits) * 1000 + u128::from(all) / 2).checked_div(all.into())?;
        u32::try_from(rate).ok()
    }

    /// Bytes that were loaded ahead and not used.
    pub fn wasted_bytes(&self) -> Option<u64> {
        let unused = self.ahead_pages.saturating_sub(self.used_ahead_pages()?);
        Some(unused.saturating_mul(mem::PAGE_SIZE))
    }

    /// How many of the pages that were loaded ahead were used, judged by the sample.
    fn used_ahead_pages(&self) -> Option<u64> {
        /// Fewer say next to nothing of the others.
        const PAGES_MIN: u64 = 10;
        let used = self.ahead_pages.saturating_mul(self.used_pages);
        (self.held_pages >= PAGES_MIN).then(|| used / self.held_pages)
    }
}

/// Why bytes are no fault log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultLogError {
    /// A line is not JSON of the right form, or a value makes no sense.
    #[error("read line {line} of the fault log: {detail}")]
    Line {
        /// Which line, the first being 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// It is of another version.
    #[error("read a fault log with the schema `{0}`: this version reads {FAULT_LOG_SCHEMA}")]
    Schema(String),
    /// It is longer than any log that is kept.
    #[error("read a fault log with more than {FAULTS_MAX} faults")]
    TooLong,
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema: String,
    #[serde(default)]
    answer_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// `p0`, `s3`: private memory 0, shared object 3.
    memory: String,
    page: u64,
    time_us: u64,
    #[serde(default)]
    stall_us: u64,
    #[serde(default)]
    thread: u32,
    #[serde(default)]
    instruction: u64,
    #[serde(default)]
    staged: bool,
}

impl Fault {
    /// The fault as a line of the log, newline included.
    pub fn to_line(&self) -> String {
        let memory = match self.memory {
            MemoryId::Private(n) => format!("p{n}"),
            MemoryId::Shared(n) => format!("s{n}"),
        };
        let Self { page, time_us, stall_us, thread, instruction, staged, .. } = self;
        format!(
            "{{\"memory\":\"{memory}\",\"page\":{},\"time_us\":{time_us},\"stall_us\":{stall_us},\
             \"thread\":{thread},\"instruction\":{instruction},\"staged\":{staged}}}\n",
            page.0
        )
    }
}

impl FaultLog {
    /// The first line of a log, newline included.
    fn head_line(answer_us: Option<u64>, held: Option<Held>) -> String {
        let answer = answer_us.map_or("null".to_owned(), |us| us.to_string());
        let held = held.map(|held| format!(",\"held\":{}", serde_json::json!(held)));
        let held = held.unwrap_or_default();
        format!("{{\"schema\":\"{FAULT_LOG_SCHEMA}\",\"answer_us\":{answer}{held}}}\n")
    }

    /// The whole log as text.
    pub fn to_text(&self) -> String {
        let mut text = Self::head_line(self.answer_us, self.held);
        text.extend(self.faults.iter().map(Fault::to_line));
        text
    }

    /// Reads a log.
    ///
    /// # Errors
    /// When a whole line makes no sense, or the log is of another version.
    pub fn from_text(bytes: &[u8]) -> Result<Self, FaultLogError> {
        let mut lines = (1..).zip(bytes.split_inclusive(|b| *b == b'\n'));
        let Some((_, head)) = lines.next() else {
            return Err(FaultLogError::Line { line: 1, detail: "is missing".to_owned() });
        };
        let head: Head = parse(1, head)?;
        if head.schema != FAULT_LOG_SCHEMA {
            return Err(FaultLogError::Schema(head.schema.chars().take(80).collect()));
        }
        let mut log = Self { answer_us: head.answer_us, held: head.held, faults: Vec::new() };
        for (number, line) in lines {
            if !line.ends_with(b"\n") {
                break;
            }
            if log.faults.len() == FAULTS_MAX {
                return Err(FaultLogError::TooLong);
            }
            let line: Line = parse(number, line)?;
            let wrong = |detail: &str| FaultLogError::Line { line: number, detail: detail.into() };
            let memory = memory(&line.memory).ok_or_else(|| wrong("names no memory"))?;
            if line.page >= PAGE_NUMBER_END {
                return Err(wrong("has a page number past the last page there can be"));
            }
            log.faults.push(Fault {
                memory,
                page: PageIndex(line.page),
                time_us: line.time_us,
                stall_us: line.stall_us,
                thread: line.thread,
                instruction: line.instruction,
                staged: line.staged,
            });
        }
        Ok(log)
    }
}

fn parse<'a, T: Deserialize<'a>>(line: usize, bytes: &'a [u8]) -> Result<T, FaultLogError> {
    if bytes.len() > LINE_BYTES_MAX {
        let detail = format!("has {} bytes, at most {LINE_BYTES_MAX}", bytes.len());
        return Err(FaultLogError::Line { line, detail });
    }
    serde_json::from_slice(bytes).map_err(|e| FaultLogError::Line { line, detail: e.to_string() })
}

fn memory(name: &str) -> Option<MemoryId> {
    if let Some(number) = name.strip_prefix('p') {
        return number.parse().ok().map(MemoryId::Private);
    }
    name.strip_prefix('s')?.parse().ok().map(MemoryId::Shared)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault() -> impl Strategy<Value = Fault> {
        (any::<(bool, u32)>(), 0..PAGE_NUMBER_END, any::<[u64; 3]>(), any::<(u32, bool)>())
            .prop_map(|((shared, n), page, [time_us, stall_us, instruction], (thread, staged))| {
                let memory = if shared { MemoryId::Shared(n) } else { MemoryId::Private(n) };
                let page = PageIndex(page);
                Fault { memory, page, time_us, stall_us, thread, instruction, staged }
            })
    }

    proptest! {
        #[test]
        fn a_log_comes_back_and_a_cut_one_as_far_as_it_goes(
            answer_us in any::<Option<u64>>(),
            held in any::<Option<[u64; 4]>>(),
            faults in proptest::collection::vec(fault(), 0..20),
            cut in any::<proptest::sample::Index>(),
        ) {
            let held = held.map(|[ahead_pages, held_pages, used_pages, missed_pages]| {
                Held { ahead_pages, held_pages, used_pages, missed_pages }
            });
            let log = FaultLog { answer_us, held, faults };
            let text = log.to_text();
            prop_assert_eq!(&FaultLog::from_text(text.as_bytes()).unwrap(), &log);
            let cut = cut.index(text.len());
            if let Ok(short) = FaultLog::from_text(&text.as_bytes()[..cut]) {
                prop_assert!(log.faults.starts_with(&short.faults));
                let whole_lines = text[..cut].matches('\n').count();
                prop_assert_eq!(short.faults.len(), whole_lines.saturating_sub(1));
            }
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut log = FaultLog::head_line(None, None).into_bytes();
            log.extend(&bytes);
            let _ = FaultLog::from_text(&log);
            prop_assert!(FaultLog::from_text(&bytes).is_err());
        }
    }

    #[test]
    fn a_sample_stands_for_all() {
        let held = Held { ahead_pages: 4000, held_pages: 200, used_pages: 150, missed_pages: 1000 };
        assert_eq!(held.hit_rate_permille(), Some(750));
        assert_eq!(held.wasted_bytes(), Some(1000 * 4096));
        let few = Held { held_pages: 9, used_pages: 9, ..held };
        assert_eq!((few.hit_rate_permille(), few.wasted_bytes()), (None, None));
        let idle = Held { used_pages: 0, missed_pages: 0, ..held };
        assert_eq!((idle.hit_rate_permille(), idle.wasted_bytes()), (None, Some(4000 * 4096)));
        // What was damaged or made up must not end us.
        let much = u64::MAX;
        let hostile =
            Held { ahead_pages: much, held_pages: 10, used_pages: much, missed_pages: much };
        let _ = (hostile.hit_rate_permille(), hostile.wasted_bytes());
    }

    #[test]
    fn hostile_lines_are_named() {
        let head = FaultLog::head_line(Some(3), None);
        for line in [
            "{}",
            "{\"memory\":\"x1\",\"page\":1,\"time_us\":1}",
            "{\"memory\":\"p0\",\"page\":9999999999999999999,\"time_us\":1}",
            "{\"memory\":\"p0\",\"page\":4503599627370495,\"time_us\":1}",
        ] {
            let refused = FaultLog::from_text(format!("{head}{line}\n").as_bytes()).unwrap_err();
            assert!(refused.to_string().contains("line 2"), "{refused}");
        }
        let newer = FaultLog::from_text(b"{\"schema\":\"rekindle.faults.v9\"}\n").unwrap_err();
        assert!(matches!(newer, FaultLogError::Schema(_)));
    }
}
