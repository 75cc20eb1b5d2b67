//! The plan file: what `plan -o FILE` writes and `--plan FILE` reads. JSON, so that a person can
//! read and change it; written by hand-made types of its own, versioned by `"schema"`.

use std::collections::HashMap;
use std::sync::Arc;

use mem::{MemoryId, PageRange};
use serde::{Deserialize, Serialize};

use crate::{
    EXPENSIVE_MAX, Expensive, Extent, Grant, Plan, Planned, Predictions, Thresholds, Tier,
    Treatment,
};

/// The schema this version writes and the only one it reads.
pub const PLAN_FILE_SCHEMA: &str = "rekindle.plan.v1";

/// Bytes in a plan file at most. Whoever reads one checks its length before reading it.
pub const PLAN_FILE_BYTES_MAX: u64 = 2 << 30;

const EXTENTS_MAX: usize = 1 << 24;
const REASONS_MAX: usize = 1 << 16;
const NOTES_MAX: usize = 1000;
const LOSSY_MAX: usize = 4096;
const TEXT_BYTES_MAX: usize = 4096;
/// One more than the highest page number there can be.
const PAGE_NUMBER_END: u64 = (1 << 52) - 1;

/// Why bytes are not a plan file, or a plan cannot be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFileError {
    /// It is longer than any plan.
    #[error("read a plan of {0} bytes: at most {PLAN_FILE_BYTES_MAX} are read")]
    TooLong(usize),
    /// It is not JSON of the right form.
    #[error("read the plan: {0}; `rekindle plan -o FILE` writes one")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error(
        "read a plan with the schema `{0}`: this version reads {PLAN_FILE_SCHEMA}; make it anew \
         with `rekindle plan -o FILE`"
    )]
    Schema(String),
    /// A value makes no sense.
    #[error("read the plan: {place}: {detail}")]
    Invalid {
        /// Which part of the file.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    schema: String,
    policy: String,
    thresholds: FileThresholds,
    window_intervals: u32,
    notes: Vec<String>,
    predictions: FilePredictions,
    /// Named by position in the extents.
    memories: Vec<String>,
    /// Each reason once, named by position.
    reasons: Vec<std::borrow::Cow<'a, str>>,
    extents: Vec<FileExtent>,
    /// Not there in most: a version that knows none refuses one that has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lossy: Option<Grant>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileThresholds {
    warm: u32,
    critical: u32,
}

/// memory, first page, pages, tier, treatment, load order, reason.
#[derive(Serialize, Deserialize)]
struct FileExtent(u32, u64, u64, u8, u8, u32, u32);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePredictions {
    pause_us: u64,
    copied_in_pause_bytes: u64,
    first_answer_us: u64,
    faults_before_answer: u64,
    stall_us: u64,
    critical_bytes: u64,
    critical_stored_bytes: u64,
    warm_bytes: u64,
    warm_stored_bytes: u64,
    cold_bytes: u64,
    cold_stored_bytes: u64,
    not_stored_bytes: u64,
    expensive: Vec<FileExpensive>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileExpensive {
    memory: String,
    first_page: u64,
    pages: u64,
    tier: String,
    treatment: String,
    load_us: u64,
    stall_us: u64,
    stored_bytes: u64,
    reason: String,
}

impl Planned {
    /// The bytes of a plan file.
    ///
    /// # Errors
    /// When the plan has more extents or reasons than a plan file can have.
    pub fn to_file(&self) -> Result<Vec<u8>, PlanFileError> {
        let mut memories = Table::default();
        let mut reasons = Table::default();
        let mut extents = Vec::with_capacity(self.plan.extents.len());
        for extent in &self.plan.extents {
            extents.push(FileExtent(
                memories.position(extent.memory),
                extent.pages.start.0,
                extent.pages.count().0,
                extent.tier.code(),
                extent.treatment.code(),
                extent.load_order,
                reasons.position(&*extent.reason),
            ));
        }
        limit("extents", extents.len(), EXTENTS_MAX)?;
        limit("reasons", reasons.values.len(), REASONS_MAX)?;
        let file = File {
            schema: PLAN_FILE_SCHEMA.to_owned(),
            policy: self.policy.clone(),
            thresholds: FileThresholds {
                warm: self.thresholds.warm,
                critical: self.thresholds.critical,
            },
            window_intervals: self.window_intervals,
            notes: self.notes.clone(),
            predictions: predictions_message(&self.predictions),
            memories: memories.values.into_iter().map(memory_name).collect(),
            reasons: reasons.values.into_iter().map(Into::into).collect(),
            extents,
            lossy: self.lossy.clone(),
        };
        Ok(serde_json::to_vec(&file)?)
    }

    /// Reads a plan file. Extents do not overlap, every page number is one there can be, every
    /// code is known; whether the pages exist in some instance is not checked here.
    ///
    /// # Errors
    /// When the bytes are not a plan file, or of another version.
    pub fn from_file(bytes: &[u8]) -> Result<Self, PlanFileError> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > PLAN_FILE_BYTES_MAX {
            return Err(PlanFileError::TooLong(bytes.len()));
        }
        // The schema first, so that a newer file is called newer and not malformed.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let Head { schema } = serde_json::from_slice(bytes)?;
        if schema != PLAN_FILE_SCHEMA {
            return Err(PlanFileError::Schema(schema.chars().take(80).collect()));
        }
        let file: File<'_> = serde_json::from_slice(bytes)?;
        limit("extents", file.extents.len(), EXTENTS_MAX)?;
        limit("reasons", file.reasons.len(), REASONS_MAX)?;
        limit("notes", file.notes.len(), NOTES_MAX)?;
        let granted = || file.lossy.iter().flat_map(|grant| &grant.ranges);
        limit("lossy", granted().count(), LOSSY_MAX)?;
        let instance = file.lossy.iter().map(|grant| grant.instance.as_str());
        let texts = file.notes.iter().chain(granted()).map(String::as_str).chain(instance);
        let texts = texts.chain([file.policy.as_str()]);
        for text in texts.chain(file.reasons.iter().map(AsRef::as_ref)) {
            limit("a text", text.len(), TEXT_BYTES_MAX)?;
        }
        let memories: Vec<MemoryId> =
            file.memories.iter().map(|name| memory_value(name)).collect::<Result<_, _>>()?;
        let reasons: Vec<Arc<str>> = file.reasons.into_iter().map(|r| Arc::from(&*r)).collect();
        let value = |(i, extent): (usize, &FileExtent)| {
            extent_value(extent, &memories, &reasons)
                .map_err(|detail| invalid(format!("extents[{i}]"), detail))
        };
        let extents: Vec<Extent> =
            file.extents.iter().enumerate().map(value).collect::<Result<_, _>>()?;
        check_overlaps(&extents)?;
        Ok(Self {
            plan: Plan { extents },
            policy: file.policy,
            thresholds: Thresholds {
                warm: file.thresholds.warm,
                critical: file.thresholds.critical,
            },
            window_intervals: file.window_intervals,
            notes: file.notes,
            predictions: predictions_value(file.predictions)?,
            lossy: file.lossy,
        })
    }
}

/// Values that are written once and named by position.
struct Table<T> {
    values: Vec<T>,
    positions: HashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), positions: HashMap::new() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Table<T> {
    fn position(&mut self, value: T) -> u32 {
        *self.positions.entry(value).or_insert_with(|| {
            self.values.push(value);
            // More values than that are refused by their limit.
            u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

fn invalid(place: String, detail: String) -> PlanFileError {
    PlanFileError::Invalid { place, detail }
}

fn limit(place: &str, found: usize, max: usize) -> Result<(), PlanFileError> {
    if found > max {
        return Err(invalid(place.to_owned(), format!("has {found}, at most {max}")));
    }
    Ok(())
}

fn memory_name(memory: MemoryId) -> String {
    match memory {
        MemoryId::Private(n) => format!("private/{n}"),
        MemoryId::Shared(n) => format!("shared/{n}"),
    }
}

fn memory_value(name: &str) -> Result<MemoryId, PlanFileError> {
    let parsed = name.split_once('/').and_then(|(kind, number)| {
        let number = number.parse().ok()?;
        match kind {
            "private" => Some(MemoryId::Private(number)),
            "shared" => Some(MemoryId::Shared(number)),
            _ => None,
        }
    });
    parsed.ok_or_else(|| {
        let name: String = name.chars().take(80).collect();
        invalid("memory".to_owned(), format!("`{name}` is neither private/N nor shared/N"))
    })
}

fn pages_value(first: u64, count: u64) -> Result<PageRange, String> {
    let end = first.checked_add(count).filter(|&end| count > 0 && end <= PAGE_NUMBER_END);
    end.map(|end| PageRange::new(first, end))
        .ok_or_else(|| format!("{count} pages from page {first} are no range of pages"))
}

fn extent_value(
    extent: &FileExtent,
    memories: &[MemoryId],
    reasons: &[Arc<str>],
) -> Result<Extent, String> {
    let FileExtent(memory, first, count, tier, treatment, load_order, reason) = *extent;
    let at = |position: u32| usize::try_from(position).unwrap_or(usize::MAX);
    let memory =
        memories.get(at(memory)).ok_or_else(|| format!("memory {memory} is not listed"))?;
    let reason = reasons.get(at(reason)).ok_or_else(|| format!("reason {reason} is not listed"))?;
    Ok(Extent {
        memory: *memory,
        pages: pages_value(first, count)?,
        tier: Tier::try_from(tier).map_err(|e| format!("tier: {e}"))?,
        treatment: Treatment::try_from(treatment).map_err(|e| format!("treatment: {e}"))?,
        load_order,
        reason: Arc::clone(reason),
    })
}

fn check_overlaps(extents: &[Extent]) -> Result<(), PlanFileError> {
    let mut sorted: Vec<(MemoryId, PageRange)> =
        extents.iter().map(|e| (e.memory, e.pages)).collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|p| p[0].0 == p[1].0 && p[1].1.start < p[0].1.end) {
        Some(pair) => {
            let detail = format!("{} of {} is in two extents", pair[1].1, pair[1].0);
            Err(invalid("extents".to_owned(), detail))
        }
        None => Ok(()),
    }
}

fn predictions_message(from: &Predictions) -> FilePredictions {
    let expensive = from.expensive.iter().map(|e| FileExpensive {
        memory: memory_name(e.memory),
        first_page: e.pages.start.0,
        pages: e.pages.count().0,
        tier: e.tier.name().to_owned(),
        treatment: e.treatment.name().to_owned(),
        load_us: e.load_us,
        stall_us: e.stall_us,
        stored_bytes: e.stored_bytes,
        reason: e.reason.as_ref().to_owned(),
    });
    FilePredictions {
        pause_us: from.pause_us,
        copied_in_pause_bytes: from.copied_in_pause_bytes,
        first_answer_us: from.first_answer_us,
        faults_before_answer: from.faults_before_answer,
        stall_us: from.stall_us,
        critical_bytes: from.critical_bytes,
        critical_stored_bytes: from.critical_stored_bytes,
        warm_bytes: from.warm_bytes,
        warm_stored_bytes: from.warm_stored_bytes,
        cold_bytes: from.cold_bytes,
        cold_stored_bytes: from.cold_stored_bytes,
        not_stored_bytes: from.not_stored_bytes,
        expensive: expensive.collect(),
    }
}

fn predictions_value(from: FilePredictions) -> Result<Predictions, PlanFileError> {
    limit("predictions.expensive", from.expensive.len(), EXPENSIVE_MAX)?;
    let expensive = from.expensive.into_iter().map(|e| {
        let bad = |detail| invalid("predictions.expensive".to_owned(), detail);
        limit("a text", e.reason.len(), TEXT_BYTES_MAX)?;
        Ok(Expensive {
            memory: memory_value(&e.memory)?,
            pages: pages_value(e.first_page, e.pages).map_err(bad)?,
            tier: Tier::from_name(&e.tier).ok_or_else(|| bad("no such tier".to_owned()))?,
            treatment: Treatment::from_name(&e.treatment)
                .ok_or_else(|| bad("no such treatment".to_owned()))?,
            load_us: e.load_us,
            stall_us: e.stall_us,
            stored_bytes: e.stored_bytes,
            reason: e.reason.into(),
        })
    });
    Ok(Predictions {
        pause_us: from.pause_us,
        copied_in_pause_bytes: from.copied_in_pause_bytes,
        first_answer_us: from.first_answer_us,
        faults_before_answer: from.faults_before_answer,
        stall_us: from.stall_us,
        critical_bytes: from.critical_bytes,
        critical_stored_bytes: from.critical_stored_bytes,
        warm_bytes: from.warm_bytes,
        warm_stored_bytes: from.warm_stored_bytes,
        cold_bytes: from.cold_bytes,
        cold_stored_bytes: from.cold_stored_bytes,
        not_stored_bytes: from.not_stored_bytes,
        expensive: expensive.collect::<Result<_, PlanFileError>>()?,
    })
}
