//! What is around the program and not in it: its control groups, processors, limits, the size of its
//! pages. The new process of an update may have others than the old one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capture::Captured;
use mem::{Backing, MemoryId, PageSet, PageSource, Sharing};
use plan::Tier;
use process::Instance;
use sys::limits::{LIMIT_NAMES, Limit};
use sys::proc::{ProcDir, cgroup_line_at, parse_limits};
use sys::task::{Pid, Tid};
use target::Process;

use super::after_run::{AfterRun, mostly_filled};
use super::error::UpdateError;
use crate::host::own_mounts;
use crate::report::SurroundingRow;

/// What to give the new process instead of what the old one has.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Directories of control groups, one at most of each hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// Processors for all threads, one bit each, 64 to a word.
    pub processors: Option<Vec<u64>>,
    /// Limits; one that is given twice has the last value.
    pub limits: Vec<LimitChoice>,
    /// Huge pages for anonymous memory.
    pub huge_pages: bool,
    /// On which memory node pages of a tier are to lie.
    pub nodes: Vec<(Tier, u32)>,
}

/// A limit; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChoice {
    /// Its number, `RLIMIT_*`.
    pub resource: u32,
    /// What applies; `u64::MAX` is none.
    pub soft: Option<u64>,
    /// How far the program may raise it.
    pub hard: Option<u64>,
}

impl LimitChoice {
    fn index(&self) -> usize {
        usize::try_from(self.resource).unwrap_or(usize::MAX)
    }

    fn on(&self, now: Limit) -> Limit {
        Limit { soft: self.soft.unwrap_or(now.soft), hard: self.hard.unwrap_or(now.hard) }
    }

    fn name(&self) -> &'static str {
        LIMIT_NAMES.get(self.index()).copied().unwrap_or("?")
    }
}

/// How long a killed child of ours that does nothing may take to end.
const CHILD_LIMIT: Duration = Duration::from_secs(5);
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// [`Surroundings`] as values of this host, tried.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Lines of `/proc/PID/cgroup` as they are to be, all of them: there must be room in each.
    pub(super) cgroups: Vec<Vec<u8>>,
    /// Those that were chosen.
    moved: Vec<Vec<u8>>,
    processors: Option<Vec<u64>>,
    /// As they are tried; what the program has by then counts for what was not chosen of them.
    limits: Vec<(LimitChoice, Limit)>,
    huge_pages: bool,
    nodes: Vec<(Tier, u32)>,
}

impl Surroundings {
    /// Looks whether the new process can be given all of it, with a child of ours in its place.
    /// Nothing of the program is touched.
    pub(super) fn on(&self, process: &Process) -> Result<Chosen, UpdateError> {
        let nodes = self.nodes.clone();
        let mut chosen = Chosen { huge_pages: self.huge_pages, nodes, ..Chosen::default() };
        let mut text = Vec::new();
        // Gone meanwhile: whatever comes next says so.
        let _ = process.dir().read("cgroup", &mut text);
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        chosen.cgroups = lines.map(<[u8]>::to_vec).collect();
        self.find_cgroups(&mut chosen)?;
        if !self.limits.is_empty() {
            let limits = process.dir().parse("limits", &mut text, parse_limits);
            let limits = limits.map_err(|error| {
                refused("read the program's limits".to_owned(), io::Error::other(error))
            })?;
            for choice in &self.limits {
                let now = limits.get(choice.index()).ok_or_else(|| {
                    let cause = io::Error::other("there is no such limit");
                    refused(format!("limit {}", choice.name()), cause)
                })?;
                chosen.limits.push((*choice, choice.on(*now)));
            }
        }
        self.nodes.iter().try_for_each(|(_, node)| node_is_there(*node))?;
        chosen.processors.clone_from(&self.processors);
        chosen.try_on_a_child()?;
        if self.huge_pages {
            huge_pages_allowed(process)?;
        }
        Ok(chosen)
    }

    fn find_cgroups(&self, chosen: &mut Chosen) -> Result<(), UpdateError> {
        let mounts = own_mounts();
        for wanted in &self.cgroups {
            let named = || format!("put it into {}", wanted.display());
            let path = fs::canonicalize(wanted).map_err(|cause| refused(named(), cause))?;
            if let Some(frozen) = path.ancestors().find(|group| is_frozen(group)) {
                let why = format!("control group {} is frozen; thaw it first", frozen.display());
                return Err(refused(named(), io::Error::other(why)));
            }
            let mut lines = chosen.cgroups.iter_mut();
            let found = lines.find_map(|line| {
                let new = cgroup_line_at(line, &path, &mounts)?;
                line.clone_from(&new);
                Some(new)
            });
            let moved = found.ok_or_else(|| {
                refused(named(), io::Error::other("that is no directory of a control group"))
            })?;
            chosen.moved.push(moved);
        }
        Ok(())
    }
}

/// Whether who enters this control group, of either version, is stopped there until it is thawed.
fn is_frozen(group: &Path) -> bool {
    let says = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    says("cgroup.freeze").trim() == "1" || says("freezer.state").trim().starts_with("FR")
}

/// Puts `line` in the place of the one of the same hierarchy, and gives that; `None` when there is none.
fn put_line(lines: &mut [Vec<u8>], line: &[u8]) -> Option<Vec<u8>> {
    let hierarchy = |line: &[u8]| line.splitn(3, |b| *b == b':').nth(1).map(<[u8]>::to_vec);
    let wanted = hierarchy(line);
    let found = lines.iter_mut().find(|found| hierarchy(found) == wanted)?;
    Some(std::mem::replace(found, line.to_vec()))
}

/// Fails where there is nothing to choose from, or not that node.
fn node_is_there(node: u32) -> Result<(), UpdateError> {
    let what = || format!("place pages on memory node {node}");
    let all = sys::numa::nodes_with_memory().map_err(|cause| refused(what(), cause))?;
    match all.as_slice() {
        [_] => Err(refused(what(), io::Error::other("unavailable: this host has one memory node"))),
        all if all.contains(&node) => Ok(()),
        all => Err(refused(what(), io::Error::other(format!("this host has nodes {all:?}")))),
    }
}

/// Fails when the program, or the host, has huge pages turned off.
fn huge_pages_allowed(process: &Process) -> Result<(), UpdateError> {
    let refuse = |why: &str| {
        let what = "give it huge pages".to_owned();
        Err(refused(what, io::Error::new(io::ErrorKind::Unsupported, why.to_owned())))
    };
    match fs::read_to_string(THP) {
        Err(cause) => return Err(refused(format!("give it huge pages: {THP}"), cause)),
        Ok(text) if text.contains("[never]") => {
            return refuse(&format!("they are off on this host ({THP} says never)"));
        }
        Ok(_) => {}
    }
    let status = process.dir().parse("status", &mut Vec::new(), sys::proc::parse_status);
    match status {
        Ok(status) if !status.thp_enabled => {
            refuse("the program turned them off for itself (PR_SET_THP_DISABLE)")
        }
        _ => Ok(()),
    }
}

fn refused(what: String, cause: io::Error) -> UpdateError {
    UpdateError::Surroundings { what, cause }
}

impl Chosen {
    /// Gives a child of ours, which does nothing and ends here, what the new process is to have.
    fn try_on_a_child(&self) -> Result<(), UpdateError> {
        if self.moved.is_empty() && self.processors.is_none() && self.limits.is_empty() {
            return Ok(());
        }
        let child = sys::clone::park(None, rustix::process::Signal::CHILD.as_raw())
            .map_err(|cause| refused("try it on a child".to_owned(), cause))?;
        let tried = self.give(child.pid);
        // It is ours, and sleeps.
        let _ = child.pidfd.send_signal(rustix::process::Signal::KILL.as_raw());
        // Where a group was frozen meanwhile it ends when that is thawed, and whoever is its parent
        // by then takes it away.
        if !child.pidfd.wait_ended(Instant::now() + CHILD_LIMIT).unwrap_or(true) {
            let why = "it does not end there; is the control group frozen?";
            return Err(refused("try it on a child".to_owned(), io::Error::other(why)));
        }
        sys::clone::reap(child.pid);
        tried
    }

    fn give(&self, child: Pid) -> Result<(), UpdateError> {
        let mounts = own_mounts();
        for line in &self.moved {
            let entered = sys::proc::cgroup_directory(line, &mounts)
                .ok_or_else(|| io::Error::other("its hierarchy is not mounted here"))
                .and_then(|to| fs::write(to.group.join("cgroup.procs"), child.to_string()));
            entered.map_err(|cause| {
                refused(format!("put a process into {}", line.escape_ascii()), cause)
            })?;
        }
        if let Some(processors) = &self.processors {
            let thread = child.main_thread();
            sys::pin::set_affinity(thread, processors)
                .and_then(|()| has_processors(thread, processors))
                .map_err(|cause| refused("give a thread those processors".to_owned(), cause))?;
        }
        for (choice, limit) in &self.limits {
            sys::limits::set_limit(child, choice.resource, *limit)
                .map_err(|cause| refused(format!("set limit {}", choice.name()), cause))?;
        }
        Ok(())
    }

    /// `instance` as the new process is to be, and what is different.
    pub(super) fn apply(&self, instance: &mut Instance) -> Vec<SurroundingRow> {
        let mut rows = Vec::new();
        let mut row = |what: String, before: String, after: String| {
            rows.push(SurroundingRow { what, before, after });
        };
        for group in &mut instance.groups {
            for after in &self.moved {
                // Where else it was moved meanwhile it stays.
                let Some(before) = put_line(&mut group.cgroups, after) else { continue };
                let shown = |line: &[u8]| line.escape_ascii().to_string();
                row("cgroup".to_owned(), shown(&before), shown(after));
            }
            for thread in &mut group.threads {
                if let Some(processors) = &self.processors {
                    let now = &mut thread.scheduling.affinity;
                    let what = format!("processors of thread {}", thread.tid);
                    row(what, processor_list(now), processor_list(processors));
                    now.clone_from(processors);
                }
            }
            for (choice, _) in &self.limits {
                let Some(now) = group.rlimits.get_mut(choice.index()) else { continue };
                let before = Limit { soft: now.0, hard: now.1 };
                let limit = choice.on(before);
                row(format!("limit {}", choice.name()), limit_text(before), limit_text(limit));
                *now = (limit.soft, limit.hard);
            }
        }
        if self.huge_pages {
            for mapping in instance.spaces.iter_mut().flat_map(|space| &mut space.mappings) {
                let own = mapping.backing == Backing::Anonymous
                    && mapping.sharing == Sharing::Private
                    && !mapping.has_flag(b"nh");
                if own && !mapping.has_flag(b"hg") {
                    mapping.vm_flags.push(*b"hg");
                }
            }
        }
        rows
    }

    /// Fails when process `pid`, which was built, does not have all of it.
    pub(super) fn verify(&self, pid: i32) -> Result<(), UpdateError> {
        let failed = |cause| UpdateError::Io { step: "look what is around the new process", cause };
        let other = |error| failed(io::Error::other(error));
        let dir = ProcDir::open(pid).map_err(other)?;
        let mut text = Vec::new();
        dir.read("cgroup", &mut text).map_err(other)?;
        for line in &self.moved {
            if !text.split(|b| *b == b'\n').any(|has| has == line.as_slice()) {
                let why = format!("it did not get into {}", line.escape_ascii());
                return Err(failed(io::Error::other(why)));
            }
        }
        if !self.limits.is_empty() {
            let limits = dir.parse("limits", &mut text, parse_limits).map_err(other)?;
            for (choice, _) in &self.limits {
                let has = limits.get(choice.index()).copied();
                if has.is_none_or(|has| choice.on(has) != has) {
                    let has = has.map_or_else(String::new, limit_text);
                    let why = format!("its limit {} is {has}", choice.name());
                    return Err(failed(io::Error::other(why)));
                }
            }
        }
        let Some(processors) = &self.processors else { return Ok(()) };
        let threads = dir.tids().map_err(other)?;
        let mut threads = threads.into_iter().filter_map(Tid::new);
        threads.try_for_each(|thread| has_processors(thread, processors)).map_err(failed)
    }

    /// What of the program comes later.
    pub(super) fn after_run(&self, captured: &Captured, plan: &plan::Plan) -> AfterRun {
        let memory = MemoryId::Private(0);
        let placed =
            self.nodes.iter().map(|(tier, node)| (*tier, *node, plan.tier_pages(memory, *tier)));
        let filled = || captured.memory.pages(memory).unwrap_or_default();
        let huge_pages = if self.huge_pages { mostly_filled(&filled()) } else { PageSet::new() };
        AfterRun { placed: placed.collect(), huge_pages }
    }
}

fn has_processors(thread: Tid, wanted: &[u64]) -> io::Result<()> {
    let has = sys::sched::affinity(thread)?;
    let words = wanted.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    if wanted.get(..words) == Some(&has) {
        return Ok(());
    }
    let (wanted, has) = (processor_list(wanted), processor_list(&has));
    Err(io::Error::other(format!("of processors {wanted} only {has} are there for it")))
}

fn limit_text(limit: Limit) -> String {
    let shown = |value: u64| match value {
        u64::MAX => "unlimited".to_owned(),
        some => some.to_string(),
    };
    format!("{}:{}", shown(limit.soft), shown(limit.hard))
}

/// A set of processors as `0-3,8`.
fn processor_list(set: &[u64]) -> String {
    let has = |cpu: usize| set.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1);
    let (mut parts, mut cpu) = (Vec::new(), 0);
    while cpu < set.len() * 64 {
        let first = cpu;
        while has(cpu) {
            cpu += 1;
        }
        match cpu - first {
            0 => {}
            1 => parts.push(first.to_string()),
            _ => parts.push(format!("{first}-{}", cpu - 1)),
        }
        cpu += 1;
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_as_ranges() {
        assert_eq!(processor_list(&[0b1111_0101]), "0,2,4-7");
        assert_eq!(processor_list(&[1 << 63, 1]), "63-64");
        assert_eq!(processor_list(&[]), "");
    }

    #[test]
    fn only_the_chosen_group_is_another() {
        let mut lines = [&b"4:memory:/a"[..], b"6:freezer:/b", b"0::/c"].map(<[u8]>::to_vec);
        assert_eq!(put_line(&mut lines, b"4:memory:/x").unwrap(), b"4:memory:/a");
        assert_eq!(put_line(&mut lines, b"0::/y").unwrap(), b"0::/c");
        assert_eq!(put_line(&mut lines, b"9:pids:/z"), None);
        assert_eq!(lines, [&b"4:memory:/x"[..], b"6:freezer:/b", b"0::/y"]);
    }

    #[test]
    fn a_frozen_group_is_one_of_either_version() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text, is) in [
            ("cgroup.freeze", "0\n", false),
            ("cgroup.freeze", "1\n", true),
            ("freezer.state", "THAWED\n", false),
            ("freezer.state", "FREEZING\n", true),
            ("freezer.state", "FROZEN\n", true),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(is_frozen(dir.path()), is, "{text}");
            fs::remove_file(dir.path().join(file)).unwrap();
        }
    }

    #[test]
    fn limits_that_are_others_do_not_pass() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let files = LIMIT_NAMES.iter().position(|name| *name == "nofile").unwrap();
        let dir = ProcDir::open(pid).unwrap();
        let now = dir.parse("limits", &mut Vec::new(), parse_limits).unwrap()[files];
        let with = |soft, hard| {
            let choice = LimitChoice { resource: u32::try_from(files).unwrap(), soft, hard };
            Chosen { limits: vec![(choice, choice.on(now))], ..Chosen::default() }
        };
        with(Some(now.soft), None).verify(pid).unwrap();
        let error = with(Some(now.soft), Some(now.hard + 1)).verify(pid).unwrap_err();
        assert!(error.to_string().contains("limit nofile"), "{error}");
    }
}
