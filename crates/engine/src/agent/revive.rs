//! Taking over from agents that were killed.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ::resume::serve::Ledger;
use rustix::fs::FlockOperation;
use sys::task::{Pid, PidFd};

use super::brief::Brief;
use super::link;
use super::record::{self, Record};
use crate::registry::Registry;

/// Descriptors that have to keep their numbers lie from here on.
pub(super) const KEPT_FROM: i32 = 200;
/// How long a new agent may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What the ledger's descriptor leads to.
const LEDGER_LINK: &str = "/memfd:rekindle-ledger (deleted)";
const USERFAULT_LINK: &str = "anon_inode:[userfaultfd]";

/// The brief and the ledger of the agent that is at work on `instance`.
pub(super) fn at_work(registry: &Registry, instance: &str) -> io::Result<(Brief, Ledger)> {
    let gone = || io::Error::other("its agent has just ended");
    let record = record::read(&registry.folder(instance))?.ok_or_else(gone)?;
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
    match record::read(&folder)? {
        None => return Ok(false),
        Some(record) if record.keeper_lives() => return Ok(true),
        Some(_) => {}
    }
    // One at a time.
    let lock = File::options().create(true).append(true).open(folder.join("revive"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    let until = Instant::now() + LIMIT;
    let mut started = false;
    while Instant::now() < until {
        // The record changes when another agent is up, and goes when there is no need of one.
        let Some(record) = record::read(&folder)? else { return Ok(false) };
        if record.keeper_lives() {
            return Ok(true);
        }
        let holder_lives =
            sys::proc::running_since(record.holder) == Some(record.holder_start_ticks);
        // A server that is left has an agent executed by itself. That cannot be told while one
        // holder makes way for the next: the next look tells.
        if holder_lives && !started && server_lives(&record).is_ok_and(|lives| !lives) {
            let mut command = link::command(&record.brief);
            command.args(["--from", &record.holder.to_string()]).spawn()?;
            started = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::other("no agent could take over; were all three processes killed?"))
}

/// Whether the server goes on by itself.
fn server_lives(record: &Record) -> io::Result<bool> {
    let [_, server, _] = open_ledger_of(record.holder)?.status().pids;
    Ok(record::is_called(server, "rekindle-faults"))
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
    let high = rustix::io::fcntl_dupfd_cloexec(&ledger, 4 * KEPT_FROM)?;
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

/// The holder of an earlier agent, to be ended when ours has everything it had.
pub(super) fn old_holder(pid: u64) -> Option<PidFd> {
    let pidfd = PidFd::open(Pid::new(i32::try_from(pid).ok()?)?).ok()?;
    record::is_called(pid, "rekindle-hold").then_some(pidfd)
}

/// Ends a process of ours.
pub(super) fn end(pidfd: &PidFd) {
    // Fails only when it has ended already.
    let _ = pidfd.send_signal(SIGKILL);
}

const SIGKILL: i32 = 9;
