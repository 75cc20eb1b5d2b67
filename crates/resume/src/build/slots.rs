//! Which descriptor numbers the process uses while it is being built.
//!
//! Everything is opened at high numbers, above all of the instance's own, and put in its place
//! by dup3(2) at the end; so no step needs to know what another left open.

use process::{DescriptionId, Instance, TaskGroup};

use crate::Options;
use crate::options::ExternalPolicy;

/// The high numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    base: u64,
    descriptions: u64,
    objects: u64,
}

impl Slots {
    /// Numbers for everything `group` holds, above `lowest`.
    pub(crate) fn new(instance: &Instance, group: &TaskGroup, lowest: i32) -> Self {
        let table = instance.tables.get(group.table.0 as usize);
        let descriptors = table.map(|t| t.descriptors.as_slice()).unwrap_or_default();
        let interests = instance.descriptions.iter().filter_map(|d| match &d.kind {
            process::DescriptionKind::Epoll { interests } => Some(interests),
            _ => None,
        });
        let highest = descriptors
            .iter()
            .map(|d| d.fd)
            .chain(interests.flatten().map(|i| i.fd))
            .chain([lowest, 2])
            .max()
            .unwrap_or(2);
        Self {
            base: u64::from(highest.unsigned_abs()) + 1,
            descriptions: instance.descriptions.len() as u64,
            objects: instance.objects.len() as u64,
        }
    }

    /// The lowest high number.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// Where description `id` is kept.
    pub(crate) fn description(&self, id: DescriptionId) -> u64 {
        self.base + u64::from(id.0)
    }

    /// Where shared object `index` is kept, open for reading and writing.
    pub(crate) fn object(&self, index: u32) -> u64 {
        self.base + self.descriptions + u64::from(index)
    }

    /// Where `/proc/self` of before any chroot(2) is kept, `O_PATH`.
    pub(crate) const fn proc_self(&self) -> u64 {
        self.base + self.descriptions + self.objects
    }

    /// A number for passing use.
    pub(crate) const fn passing(&self) -> u64 {
        self.proc_self() + 1
    }

    /// Where a process that descriptors are taken over from is kept, as a pidfd.
    pub(crate) const fn old_process(&self) -> u64 {
        self.passing() + 2
    }

    /// How many descriptors the process must be allowed to have (`RLIMIT_NOFILE`).
    pub(crate) const fn needed(&self) -> u64 {
        self.passing() + 4
    }
}

/// What stands in for a description that comes from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StandIn {
    /// The caller's descriptor of this number.
    Caller(i32),
    /// `/dev/null`, or the file at this path.
    Open(Vec<u8>),
    /// Nothing.
    Nothing,
    /// Nobody said what; the lowest descriptor number of it.
    Unsaid(i32),
}

/// What stands in for `description`, or `None` when it is rebuilt.
pub(crate) fn stand_in(
    instance: &Instance,
    group: &TaskGroup,
    description: DescriptionId,
    options: &Options,
) -> Option<StandIn> {
    use process::DescriptionKind as Kind;
    let what = instance.descriptions.get(description.0 as usize)?;
    let table = instance.tables.get(group.table.0 as usize)?;
    let numbers = || table.descriptors.iter().filter(|d| d.description == description);
    let lowest = numbers().map(|d| d.fd).min()?;
    let chosen = numbers().find_map(|d| options.external.iter().find(|(fd, _)| *fd == d.fd));
    if let Some((fd, policy)) = chosen {
        return Some(match policy {
            ExternalPolicy::Inherit => StandIn::Caller(*fd),
            ExternalPolicy::Null => StandIn::Open(b"/dev/null".to_vec()),
            ExternalPolicy::Reopen(path) => {
                StandIn::Open(path.as_os_str().as_encoded_bytes().to_vec())
            }
            ExternalPolicy::Close => StandIn::Nothing,
        });
    }
    match &what.kind {
        Kind::Terminal { .. } if lowest <= 2 => Some(StandIn::Caller(lowest)),
        Kind::Terminal { path } if path == b"/dev/tty" => Some(StandIn::Open(path.clone())),
        Kind::Terminal { path } => {
            let standard = table.descriptors.iter().filter(|d| d.fd <= 2).find(|d| {
                let kind = instance.descriptions.get(d.description.0 as usize).map(|d| &d.kind);
                matches!(kind, Some(Kind::Terminal { path: other }) if other == path)
            });
            match standard {
                Some(same) => stand_in(instance, group, same.description, options),
                None => Some(StandIn::Unsaid(lowest)),
            }
        }
        Kind::External { .. } if lowest <= 2 => Some(StandIn::Caller(lowest)),
        Kind::External { .. } => Some(StandIn::Unsaid(lowest)),
        _ => None,
    }
}
