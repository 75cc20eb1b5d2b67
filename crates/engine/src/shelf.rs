//! The verbs that only look at the store: `list`, `inspect`, `verify`.

use mem::{Backing, MemoryId, Sharing};
use plan::Tier;
use process::{DescriptionKind, Instance};
use serde::Serialize;
use store::{Checkpoint, ReadError, RemoveError, ResolveError, Store, StoreError, WriteError};

use crate::classes::{read_class, remove_class, resolve_class, store_class, write_class};
use crate::failure::{ExitClass, VerbError};
use crate::phase::Stopped;
use crate::registry::Registry;
use crate::report::{BlockerReport, LossRow, Outcome, Untouched};
use crate::settings::Settings;

/// Why a verb on the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A checkpoint cannot be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// A checkpoint cannot be stored in less space.
    #[error(transparent)]
    Recompress(#[from] WriteError),
    /// Given up on request.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A thread of ours ended in the middle of it.
    #[error("recompress: a thread panicked; nothing was changed, this is a bug")]
    Panicked,
    /// The checkpoint is whole but does not fit this host.
    #[error("resume checkpoint {id} on this host: {} things do not fit", .rows.len())]
    DoesNotFit {
        /// Which checkpoint.
        id: String,
        /// Every reason.
        rows: Vec<BlockerReport>,
    },
}

impl VerbError for ShelfError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Remove(error) => remove_class(error),
            Self::Recompress(error) => write_class(error),
            Self::Stopped(Stopped::TimedOut { .. }) => ExitClass::TimedOut,
            Self::Stopped(_) => ExitClass::RolledBack,
            Self::Panicked => ExitClass::Unexpected,
            Self::DoesNotFit { .. } => ExitClass::Incompatible,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Recompress(_) | Self::Stopped(_) | Self::Panicked => Outcome::RolledBack,
            _ => Outcome::Refused,
        }
    }

    fn blockers(&self) -> Vec<BlockerReport> {
        match self {
            Self::DoesNotFit { rows, .. } => rows.clone(),
            _ => Vec::new(),
        }
    }
}

/// One line of `list`.
#[derive(Clone, Debug, Serialize)]
pub struct ListRow {
    /// Its id.
    pub id: String,
    /// The instance it shows.
    pub instance: String,
    /// When it was made, nanoseconds since the epoch.
    pub created_ns: u64,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Bytes it takes in the store.
    pub stored_bytes: u64,
    /// The checkpoint that holds pages of it; null when it holds all itself.
    pub parent: Option<String>,
    /// How many checkpoints stood behind it when it was made.
    pub depth: u16,
    /// Bytes of pages that those hold.
    pub referenced_bytes: u64,
}

/// A checkpoint whose header cannot be read.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedRow {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What `list` shows.
#[derive(Clone, Debug, Serialize)]
pub struct ListReport {
    /// `rekindle.list/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// The checkpoints, newest first.
    pub checkpoints: Vec<ListRow>,
    /// Those whose header cannot be read.
    pub damaged: Vec<DamagedRow>,
}

/// The checkpoints of the store, newest first.
///
/// # Errors
/// When the store cannot be read.
pub fn list(settings: &Settings) -> Result<ListReport, ShelfError> {
    let listing = Store::open(&settings.store)?.listing()?;
    let damaged = listing.damaged.into_iter();
    let damaged = damaged.map(|d| DamagedRow { id: d.id.to_string(), detail: d.detail }).collect();
    let checkpoints = listing
        .checkpoints
        .into_iter()
        .map(|row| ListRow {
            id: row.id.to_string(),
            instance: row.instance.to_string(),
            created_ns: row.created_ns,
            page_bytes: row.page_bytes,
            stored_bytes: row.stored_bytes,
            parent: row.parent.map(|id| id.to_string()),
            depth: row.depth,
            referenced_bytes: row.referenced_bytes,
        })
        .collect();
    Ok(ListReport {
        schema: "rekindle.list/1",
        untouched: Untouched::default(),
        checkpoints,
        damaged,
    })
}

/// What `verify` found: nothing wrong.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// `rekindle.verify/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Which checkpoint.
    pub id: String,
    /// Checkpoints checked: this one and all that stand behind it.
    pub checkpoints: u64,
    /// Frames checked, those of the checkpoints behind it included.
    pub frames: u64,
    /// Bytes of pages checked.
    pub page_bytes: u64,
    /// Bytes read.
    pub stored_bytes: u64,
    /// Whether it was also compared with this host.
    pub fits_this_host: Option<bool>,
}

/// Reads a checkpoint whole and checks every byte of it; with `options` also whether it could be
/// resumed here with them.
///
/// # Errors
/// When a byte is off, or the host does not fit.
pub fn verify(
    settings: &Settings,
    reference: &str,
    options: Option<&::resume::Options>,
    registry: &Registry,
) -> Result<VerifyReport, ShelfError> {
    let checkpoint = open(settings, reference)?;
    let verified = checkpoint.verify()?;
    if let Some(options) = options {
        let list = crate::resume::mismatches(&checkpoint, registry, options).unwrap_or_default();
        if !list.is_empty() {
            let rows = list.iter().map(crate::resume::mismatch_row).collect();
            return Err(ShelfError::DoesNotFit { id: checkpoint.id().to_string(), rows });
        }
    }
    Ok(VerifyReport {
        schema: "rekindle.verify/1",
        untouched: Untouched::default(),
        id: checkpoint.id().to_string(),
        checkpoints: verified.checkpoints,
        frames: verified.frames,
        page_bytes: verified.page_bytes,
        stored_bytes: verified.stored_bytes,
        fits_this_host: options.map(|_| true),
    })
}

/// What `inspect` shows. Parts that were not asked for are absent.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// `rekindle.inspect/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Which checkpoint.
    pub id: String,
    /// The instance.
    pub instance: String,
    /// The pid as the program sees it.
    pub pid_inside: i32,
    /// When it was made, nanoseconds since the epoch.
    pub created_ns: u64,
    /// The command line.
    pub command: Vec<String>,
    /// The executable.
    pub exe: String,
    /// Whether the instance was ended after it.
    pub stopped: bool,
    /// The kernel it was made on.
    pub kernel: String,
    /// Its CPU.
    pub cpu: String,
    /// Bytes it takes in the store.
    pub stored_bytes: u64,
    /// The checkpoint that holds pages of it; null when it holds all itself.
    pub parent: Option<String>,
    /// How many checkpoints stand behind it.
    pub depth: u16,
    /// Bytes of pages that those hold.
    pub referenced_bytes: u64,
    /// What each tier holds: critical, warm, cold.
    pub tiers: Vec<StoredTierRow>,
    /// Ranges in which memory is only near to what the program had.
    pub loss: Vec<LossRow>,
    /// Measured figures.
    pub figures: std::collections::BTreeMap<String, u64>,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Vec<ThreadRow>>,
    /// Mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<Vec<MapRow>>,
    /// Descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fds: Option<Vec<FdRow>>,
    /// Extents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<Vec<ExtentRow>>,
}

/// What a tier of a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredTierRow {
    /// Its name.
    pub tier: &'static str,
    /// Its pages.
    pub pages: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// What those that are stored in the checkpoint take.
    pub stored_bytes: u64,
    /// Bytes of those that earlier checkpoints hold.
    pub referenced_bytes: u64,
    /// Bytes of those that are stored nowhere, because they can be made again.
    pub not_stored_bytes: u64,
}

/// A thread.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadRow {
    /// As the program sees it.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// Where it stood.
    pub rip: String,
    /// Blocked signals as a mask.
    pub blocked_signals: String,
    /// Signals that wait for it.
    pub pending_signals: usize,
}

/// A mapping.
#[derive(Clone, Debug, Serialize)]
pub struct MapRow {
    /// First address.
    pub start: String,
    /// First address after it.
    pub end: String,
    /// As `/proc/PID/maps` writes it.
    pub permissions: String,
    /// File, object or name.
    pub what: String,
}

/// A descriptor.
#[derive(Clone, Debug, Serialize)]
pub struct FdRow {
    /// Its number.
    pub fd: i32,
    /// What it refers to.
    pub what: String,
    /// `O_*` flags, octal.
    pub flags: String,
    /// Position in bytes.
    pub position_bytes: u64,
    /// Closed on exec.
    pub close_on_exec: bool,
}

/// An extent.
#[derive(Clone, Debug, Serialize)]
pub struct ExtentRow {
    /// Which memory.
    pub memory: String,
    /// First address or offset.
    pub start: String,
    /// First address or offset after it.
    pub end: String,
    /// Its tier.
    pub tier: &'static str,
    /// Its treatment.
    pub treatment: &'static str,
    /// Why.
    pub reason: String,
}

/// A part of a checkpoint to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of that name in the report")]
pub enum Part {
    Maps,
    Fds,
    Threads,
    Pages,
}

/// Shows what a checkpoint holds.
///
/// # Errors
/// When it cannot be found or read.
pub fn inspect(
    settings: &Settings,
    reference: &str,
    part: Option<Part>,
) -> Result<InspectReport, ShelfError> {
    let checkpoint = open(settings, reference)?;
    let instance = checkpoint.instance();
    let summary = checkpoint.summary();
    let group = instance.groups.first();
    let show = |wanted: Part| part == Some(wanted);
    Ok(InspectReport {
        schema: "rekindle.inspect/1",
        untouched: Untouched::default(),
        id: checkpoint.id().to_string(),
        instance: instance.line.instance.to_string(),
        pid_inside: group.map(|g| g.pid).unwrap_or_default(),
        created_ns: summary.created_ns,
        command: words(&summary.command),
        exe: group.map(|g| text(&g.exe)).unwrap_or_default(),
        stopped: summary.stopped,
        kernel: instance.host.kernel_release.clone(),
        cpu: instance.host.cpu_name.clone(),
        stored_bytes: checkpoint.stored_bytes(),
        parent: checkpoint.parent().map(|parent| parent.id().to_string()),
        depth: checkpoint.depth(),
        referenced_bytes: checkpoint.referenced_bytes(),
        tiers: tier_rows(&checkpoint),
        loss: LossRow::of(&checkpoint),
        figures: summary.figures.clone(),
        threads: show(Part::Threads).then(|| thread_rows(instance)),
        maps: show(Part::Maps).then(|| map_rows(instance)),
        fds: show(Part::Fds).then(|| fd_rows(instance)),
        pages: show(Part::Pages).then(|| extent_rows(&checkpoint)),
    })
}

fn open(settings: &Settings, reference: &str) -> Result<Checkpoint, ShelfError> {
    Ok(Store::find(&settings.store, reference)?.open()?)
}

/// A command line as words. Programs that rename themselves (setproctitle) leave empty words and
/// blanks behind.
pub(crate) fn words(command: &[Vec<u8>]) -> Vec<String> {
    let mut words: Vec<String> = command.iter().map(|w| text(w).trim_end().to_owned()).collect();
    while words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn thread_rows(instance: &Instance) -> Vec<ThreadRow> {
    let threads = instance.groups.iter().flat_map(|g| &g.threads);
    threads
        .map(|t| ThreadRow {
            tid: t.tid,
            name: text(&t.name),
            rip: format!("{:#x}", t.registers.rip),
            blocked_signals: format!("{:016x}", t.blocked_signals.0),
            pending_signals: t.pending_signals.len(),
        })
        .collect()
}

fn map_rows(instance: &Instance) -> Vec<MapRow> {
    let mappings = instance.spaces.iter().flat_map(|s| &s.mappings);
    mappings
        .map(|m| {
            let flag = |set: bool, letter: char| if set { letter } else { '-' };
            let what = match &m.backing {
                Backing::File { file, offset_bytes } => {
                    format!("{} +{offset_bytes:#x}", text(&file.path))
                }
                Backing::SharedObject { object, offset_bytes } => {
                    format!("{} +{offset_bytes:#x}", MemoryId::Shared(*object))
                }
                Backing::Anonymous | Backing::Special(_) => text(&m.name),
            };
            MapRow {
                start: format!("{:#x}", m.range.start),
                end: format!("{:#x}", m.range.end),
                permissions: [
                    flag(m.protection.read, 'r'),
                    flag(m.protection.write, 'w'),
                    flag(m.protection.exec, 'x'),
                    if m.sharing == Sharing::Private { 'p' } else { 's' },
                ]
                .iter()
                .collect(),
                what,
            }
        })
        .collect()
}

fn fd_rows(instance: &Instance) -> Vec<FdRow> {
    let descriptors = instance.tables.iter().flat_map(|t| &t.descriptors);
    descriptors
        .filter_map(|d| {
            let index = usize::try_from(d.description.0).ok()?;
            let description = instance.descriptions.get(index)?;
            Some(FdRow {
                fd: d.fd,
                what: describe(&description.kind),
                flags: format!("{:o}", description.flags),
                position_bytes: description.position_bytes,
                close_on_exec: d.close_on_exec,
            })
        })
        .collect()
}

fn describe(kind: &DescriptionKind) -> String {
    match kind {
        DescriptionKind::File(file) => text(&file.identity.path),
        DescriptionKind::StatelessDevice { path } | DescriptionKind::Terminal { path } => {
            text(path)
        }
        DescriptionKind::SharedObject(n) => MemoryId::Shared(*n).to_string(),
        DescriptionKind::Pipe { pipe, end } => format!("pipe {} ({end:?} end)", pipe.0),
        DescriptionKind::EventFd { count, .. } => format!("eventfd, count {count}"),
        DescriptionKind::Epoll { interests } => format!("epoll, {} entries", interests.len()),
        DescriptionKind::TimerFd(_) => "timerfd".to_owned(),
        DescriptionKind::SignalFd { mask } => format!("signalfd, mask {:016x}", mask.0),
        DescriptionKind::Socket(n) => format!("socket {n}"),
        DescriptionKind::External { name } => format!("outside: {}", text(name)),
    }
}

fn tier_rows(checkpoint: &Checkpoint) -> Vec<StoredTierRow> {
    let rows = checkpoint.tiers();
    let row = |(tier, sum): (&Tier, &store::TierSum)| StoredTierRow {
        tier: tier.name(),
        pages: sum.page_bytes / mem::PAGE_SIZE,
        bytes: sum.page_bytes,
        stored_bytes: sum.stored_bytes,
        referenced_bytes: sum.referenced_bytes,
        not_stored_bytes: sum.zero_bytes,
    };
    Tier::ALL.iter().zip(&rows).map(row).collect()
}

fn extent_rows(checkpoint: &Checkpoint) -> Vec<ExtentRow> {
    let extents = checkpoint.plan().extents.iter();
    extents
        .map(|e| ExtentRow {
            memory: e.memory.to_string(),
            start: format!("{:#x}", e.pages.start.addr()),
            end: format!("{:#x}", e.pages.end.addr()),
            tier: e.tier.name(),
            treatment: e.treatment.name(),
            reason: e.reason.as_ref().to_owned(),
        })
        .collect()
}
