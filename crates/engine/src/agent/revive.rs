//! Taking over from agents that were killed.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ::resume::serve::Ledger;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sys::task::{Pid, PidFd};

use super::brief::Brief;
use super::{keeper, link};
use crate::registry::Registry;

/// How long a new agent may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What the ledger's descriptor leads to.
const LEDGER_LINK: &str = "/memfd:rekindle-ledger (deleted)";
const USERFAULT_LINK: &str = "anon_inode:[userfaultfd]";

/// What is written down of an agent, for whoever finds it dead.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    keeper: u32,
    holder: i32,
    holder_start_ticks: u64,
    brief: Brief,
}

fn path(folder: &Path) -> std::path::PathBuf {
    folder.join("agent")
}

/// Writes down who holds the descriptors.
pub(super) fn record(brief: &Brief, holder: Pid) -> io::Result<()> {
    let record = Record {
        keeper: std::process::id(),
        holder: holder.raw(),
        holder_start_ticks: sys::proc::running_since(holder.raw()).unwrap_or_default(),
        brief: brief.clone(),
    };
    let fresh = brief.folder().join("agent.new");
    fs::write(&fresh, serde_json::to_vec(&record)?)?;
    fs::rename(fresh, path(&brief.folder()))
}

/// Holds off whoever begins or ends in the folder of an instance, where the agent of a program
/// that has ended and that of its next resume may meet.
pub(super) fn hold_folder(brief: &Brief) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(brief.folder().join("agent.lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// There is no agent any more, and no need of one; unless it is another's folder by now.
pub(super) fn forget(brief: &Brief) {
    let Ok(_held) = hold_folder(brief) else { return };
    let record = read(&brief.folder()).ok().flatten();
    if record.is_some_and(|record| record.keeper != std::process::id()) {
        return;
    }
    for name in ["agent", "sock"] {
        // Not there when the program ended before it was written.
        let _ = fs::remove_file(brief.folder().join(name));
    }
}

/// Whether pages of the process that runs as `pid` since `start_time_ticks` were missing when the
/// last agent of `instance` was written down.
///
/// # Errors
/// When what is written down cannot be read.
pub(crate) fn is_recorded(
    registry: &Registry,
    instance: &str,
    run: (i32, u64),
) -> io::Result<bool> {
    let session = read(&registry.folder(instance))?.and_then(|record| record.brief.session);
    Ok(session.is_some_and(|session| (session.pid, session.start_time_ticks) == run))
}

/// What is written down in an instance's folder; `None` when nothing is.
fn read(folder: &Path) -> io::Result<Option<Record>> {
    match fs::read(path(folder)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The brief and the ledger of the agent that is at work on `instance`.
pub(super) fn at_work(registry: &Registry, instance: &str) -> io::Result<(Brief, Ledger)> {
    let record: Record = serde_json::from_slice(&fs::read(path(&registry.folder(instance)))?)?;
    let ledger = open_ledger_of(record.holder)?;
    Ok((record.brief, ledger))
}

/// Has an agent take over when the last one and its server were killed. Says whether there is one;
/// an instance that is all there has no need of one.
///
/// # Errors
/// When there should be one and none could take over.
pub(crate) fn revive_if_needed(registry: &Registry, instance: &str) -> io::Result<bool> {
    let folder = registry.folder(instance);
    match read(&folder)? {
        None => return Ok(false),
        Some(record) if keeper_lives(&record) => return Ok(true),
        Some(_) => {}
    }
    // One at a time.
    let lock = File::options().create(true).append(true).open(folder.join("revive"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    let until = Instant::now() + LIMIT;
    let mut started = false;
    while Instant::now() < until {
        // The record changes when another agent is up, and goes when there is no need of one.
        let Some(record) = read(&folder)? else { return Ok(false) };
        if keeper_lives(&record) {
            return Ok(true);
        }
        let holder_lives =
            sys::proc::running_since(record.holder) == Some(record.holder_start_ticks);
        // A server that is left has an agent executed by itself. That cannot be told while one
        // holder makes way for the next: the next look tells.
        if holder_lives && !started && server_lives(&record).is_ok_and(|lives| !lives) {
            let mut command = link::command(&record.brief)?;
            command.args(["--from", &record.holder.to_string()]).spawn()?;
            started = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::other("no agent could take over; were all three processes killed?"))
}

/// The keeper of `instance`; `None` when none runs.
pub(super) fn keeper_of(registry: &Registry, instance: &str) -> Option<PidFd> {
    let record = read(&registry.folder(instance)).ok()??;
    let pidfd = PidFd::open(Pid::new(i32::try_from(record.keeper).ok()?)?).ok()?;
    keeper_lives(&record).then_some(pidfd)
}

fn is_called(pid: u64, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        && !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
}

fn keeper_lives(record: &Record) -> bool {
    is_called(u64::from(record.keeper), "rekindle-agent")
}

/// Whether the server goes on by itself.
fn server_lives(record: &Record) -> io::Result<bool> {
    let [_, server, _] = open_ledger_of(record.holder)?.status().pids;
    Ok(is_called(server, "rekindle-faults"))
}

fn links(pid: i32) -> io::Result<Vec<(i32, String)>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let number = |e: &fs::DirEntry| e.file_name().to_str().and_then(|n| n.parse().ok());
    let each = entries.flatten().filter_map(|e| {
        Some((number(&e)?, fs::read_link(e.path()).ok()?.to_string_lossy().into_owned()))
    });
    Ok(each.collect())
}

fn open_ledger_of(holder: i32) -> io::Result<Ledger> {
    let number = links(holder)?.into_iter().find(|(_, link)| link == LEDGER_LINK);
    let (number, _) = number.ok_or_else(|| io::Error::other("the holder has no ledger"))?;
    Ledger::open(pull(holder, number)?)
}

fn pull(holder: i32, number: i32) -> io::Result<OwnedFd> {
    let pid = Pid::new(holder).ok_or_else(|| io::Error::other("there is no holder"))?;
    PidFd::open(pid)?.descriptor(number)
}

/// Takes every userfaultfd and the ledger out of the holder's table, under the same numbers.
pub(super) fn pull_from(holder: i32) -> io::Result<Ledger> {
    let ledger = open_ledger_of(holder)?;
    // Ours goes out of the way of the numbers wanted.
    let high = rustix::io::fcntl_dupfd_cloexec(&ledger, 4 * keeper::KEPT_FROM)?;
    drop(ledger);
    let ledger = Ledger::open(high)?;
    for number in ledger.descriptors() {
        let found = pull(holder, number)?;
        let shown = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        if shown.as_os_str() != USERFAULT_LINK {
            return Err(io::Error::other("the holder's table has changed"));
        }
        if found.as_raw_fd() == number {
            std::mem::forget(found);
        } else {
            sys::inherit::place_descriptor(&found, number)?;
        }
    }
    Ok(ledger)
}

/// The ledger that was inherited under `number`, with everything it names.
pub(super) fn open_inherited(number: i32) -> io::Result<Ledger> {
    sys::inherit::set_close_on_exec(number, true)?;
    let ledger = Ledger::open(sys::inherit::take_descriptor(number)?)?;
    for number in ledger.descriptors() {
        sys::inherit::set_close_on_exec(number, true)?;
    }
    Ok(ledger)
}

/// Ends the holder of an earlier agent: ours has everything it had.
pub(super) fn end_holder(pid: i32) {
    let is_holder = fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|comm| comm.trim() == "rekindle-hold");
    if let (true, Some(pid)) = (is_holder, Pid::new(pid))
        && let Ok(pidfd) = PidFd::open(pid)
    {
        end(&pidfd);
    }
}

/// Ends a process of ours.
pub(super) fn end(pidfd: &PidFd) {
    // Fails only when it has ended already.
    let _ = pidfd.send_signal(SIGKILL);
}

const SIGKILL: i32 = 9;
