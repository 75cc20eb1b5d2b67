//! What a program is made of, as rows: of a checkpoint and of a running program alike.

use mem::{Backing, MemoryId, Sharing};
use plan::Plan;
use process::{DescriptionKind, Instance};
use serde::Serialize;

/// A thread of a checkpoint.
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

/// A command line as words. Programs that rename themselves (setproctitle) leave empty words and
/// blanks behind.
pub(crate) fn words(command: &[Vec<u8>]) -> Vec<String> {
    let mut words: Vec<String> = command.iter().map(|w| text(w).trim_end().to_owned()).collect();
    while words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn thread_rows(instance: &Instance) -> Vec<ThreadRow> {
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

pub(super) fn map_rows(instance: &Instance) -> Vec<MapRow> {
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

pub(super) fn fd_rows(instance: &Instance) -> Vec<FdRow> {
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

/// The extents in load order.
pub(super) fn extent_rows(plan: &Plan) -> Vec<ExtentRow> {
    let mut extents: Vec<_> = plan.extents.iter().collect();
    extents.sort_by_key(|e| (e.tier, e.load_order));
    extents
        .into_iter()
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
