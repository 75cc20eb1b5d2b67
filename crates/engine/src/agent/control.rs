//! Asking an agent, and its answers.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use ::resume::serve::Ledger;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::brief::{Brief, Session};
use super::{record, revive};
use crate::failure::{ExitClass, VerbError};
use crate::registry::Registry;
use crate::report::{Outcome, Untouched};

/// How long either side waits for the other.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the keeper, which does nothing else meanwhile, waits for the server's state.
const STATE_WITHIN: Duration = Duration::from_millis(500);

/// How long an agent that does not answer is asked again: one that was killed has a successor then.
pub(super) const SUCCESSOR_WITHIN: Duration = Duration::from_secs(3);

/// What an agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentAnswer {
    pub(crate) pid: i32,
    pub(crate) serving: bool,
    pub(crate) trouble: Option<String>,
    /// What cannot be loaded in the background.
    #[serde(default)]
    pub(crate) unread: Option<String>,
    pub(crate) pages_total: u64,
    pub(crate) pages_present: u64,
    pub(crate) faults: u64,
    pub(crate) servers: u64,
    pub(crate) complete_us: Option<u64>,
    /// The state was written down, as it is after the question.
    #[serde(default)]
    pub(crate) state_given: bool,
    pub(crate) keeper: u64,
    pub(crate) server: u64,
    pub(crate) holder: u64,
}

/// Opens the control socket in the instance's folder.
pub(super) fn listen(brief: &Brief) -> io::Result<UnixListener> {
    let path = record::socket(&brief.folder());
    std::fs::create_dir_all(brief.folder())?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Answers one caller. One that does not speak is not waited for long.
pub(super) fn answer(
    listener: &UnixListener,
    ledger: &Ledger,
    session: &Session,
    bell: BorrowedFd<'_>,
) {
    let told = listener.accept().and_then(|(stream, _)| {
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let mut question = String::new();
        BufReader::new(&stream).read_line(&mut question)?;
        let state_given = match question.trim() {
            "fill" => {
                ledger.ask_to_fill();
                false
            }
            "state" => is_state_given(ledger, bell),
            _ => false,
        };
        let status = ledger.status();
        let [keeper, server, holder] = status.pids;
        let answer = AgentAnswer {
            pid: session.pid,
            serving: status.serving,
            trouble: status.trouble,
            unread: status.unread,
            pages_total: status.pages_total,
            pages_present: status.pages_present,
            faults: status.faults,
            servers: status.servers,
            complete_us: status.complete_after.map(crate::report::micros),
            state_given,
            keeper,
            server,
            holder,
        };
        writeln!(&stream, "{}", serde_json::to_string(&answer)?)
    });
    if let Err(error) = told {
        tracing::debug!(%error, "a caller was not answered");
    }
}

/// Has the server write its state down; says whether it did. It may be dead, which is not known
/// before this returns.
fn is_state_given(ledger: &Ledger, bell: BorrowedFd<'_>) -> bool {
    let until = Instant::now() + STATE_WITHIN;
    let question = ledger.ask_for_state();
    // Full only if it was rung 2^64 times and nobody heard.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
    while !ledger.is_state_given(question) {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    true
}

/// Faults answered so far for `instance`; `None` when nobody serves it.
pub(crate) fn faults(registry: &Registry, instance: &str) -> Option<u64> {
    ask(registry, instance, "status").map(|answer| answer.faults)
}

/// Asks the agent of `instance`; `None` when there is none, or it ends before it answers. Its other
/// processes hold its socket open then: its end has to be looked for.
pub(crate) fn ask(registry: &Registry, instance: &str, question: &str) -> Option<AgentAnswer> {
    let keeper = record::keeper_of(registry, instance)?;
    let path = record::socket(&registry.folder(instance));
    let stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    writeln!(&stream, "{question}").ok()?;
    let mut either = [
        PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN),
    ];
    let limit = Timespec::try_from(LIMIT).ok()?;
    poll(&mut either, Some(&limit)).ok()?;
    if either[0].revents().is_empty() {
        return None;
    }
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

/// One instance in `status`.
#[derive(Clone, Debug, Serialize)]
pub struct StatusRow {
    /// The instance.
    pub instance: String,
    /// Its pid.
    pub pid: i32,
    /// The checkpoint it was resumed from.
    pub checkpoint: String,
    /// `complete`, `loading`, or `blocked`: threads wait for pages nobody serves or that cannot
    /// be had.
    pub state: &'static str,
    /// What threads of it wait for when it is `blocked`, and what cannot be loaded when it is
    /// `loading`.
    pub needs: Option<String>,
    /// Share of its pages that is there, in thousandths.
    pub resident_share: u64,
    /// Faults answered, also when the agent is gone; `None` of a program that was loaded before its
    /// start.
    pub faults: Option<u64>,
    /// Fault servers there have been: more than one when one was killed.
    pub servers: Option<u64>,
    /// How long it took until everything was there, in microseconds; kept when the agent is gone.
    pub complete_us: Option<u64>,
    /// Processes of ours that stay with it: keeper, fault server, holder.
    pub processes: Vec<u64>,
}

/// What `status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// `rekindle.status/1`.
    pub schema: &'static str,
    /// It touches no instance.
    #[serde(flatten)]
    pub untouched: Untouched,
    /// Resumed instances that run.
    pub instances: Vec<StatusRow>,
    /// Watches that run.
    pub watches: Vec<crate::watch::WatchStatus>,
}

/// Why `status` failed.
#[derive(Debug, thiserror::Error)]
#[error("find a resumed or watched instance {target}: none of that pid or id runs")]
pub struct StatusError {
    target: String,
}

impl VerbError for StatusError {
    fn class(&self) -> ExitClass {
        ExitClass::Usage
    }

    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// Looks at every resumed instance, or at `target`. One whose agents were killed gets another.
///
/// # Errors
/// When `target` is none of them.
pub fn status(registry: &Registry, target: Option<&str>) -> Result<StatusReport, StatusError> {
    let boot = crate::host::boot_id().unwrap_or_default();
    let alive = registry.runs().into_iter().filter(|run| {
        run.boot_id == boot && sys::proc::running_since(run.pid) == Some(run.start_time_ticks)
    });
    let wanted = |run: &crate::registry::RunState| {
        target.is_none_or(|t| t == run.instance || t == run.pid.to_string())
    };
    let instances: Vec<StatusRow> = alive.filter(wanted).map(|run| row(registry, run)).collect();
    let mut watches = crate::watch::watches(registry);
    watches.retain(|w| target.is_none_or(|t| t == w.instance || t == w.pid.to_string()));
    match target {
        Some(target) if instances.is_empty() && watches.is_empty() => {
            Err(StatusError { target: target.to_owned() })
        }
        _ => Ok(StatusReport {
            schema: "rekindle.status/1",
            untouched: Untouched::default(),
            instances,
            watches,
        }),
    }
}

/// What the agent of `instance` says, or its successor when it was killed; `None` when the instance
/// is all there.
fn ask_whoever_is_there(registry: &Registry, instance: &str) -> io::Result<Option<AgentAnswer>> {
    let until = Instant::now() + SUCCESSOR_WITHIN;
    while revive::revive_if_needed(registry, instance)? {
        if let Some(answer) = ask(registry, instance, "status") {
            return Ok(Some(answer));
        }
        // It was killed since, ends this moment, or has not opened its socket yet.
        if Instant::now() >= until {
            return Err(io::Error::other("its agent does not answer"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

fn row(registry: &Registry, run: crate::registry::RunState) -> StatusRow {
    let told = ask_whoever_is_there(registry, &run.instance);
    let answer = told.as_ref().ok().cloned().flatten();
    let state = match &answer {
        None if told.is_err() => "blocked",
        None => "complete",
        Some(answer) if answer.complete_us.is_some() => "complete",
        Some(answer) if answer.trouble.is_some() || !answer.serving => "blocked",
        Some(_) => "loading",
    };
    // Its agent has gone when everything was there.
    let loaded = (told.is_ok() && answer.is_none())
        .then(|| {
            record::Loaded::of(&registry.folder(&run.instance), (run.pid, run.start_time_ticks))
        })
        .flatten();
    let answered = answer.clone().unwrap_or_default();
    let share = match answered.pages_total {
        0 => 1000,
        total => answered.pages_present.saturating_mul(1000) / total,
    };
    let needs = match (&answered.trouble, &answered.unread) {
        (Some(trouble), _) => Some(format!(
            "{trouble}; its threads wait, and go on by themselves when checkpoint {} can be read \
             again",
            run.checkpoint
        )),
        (None, Some(unread)) => Some(format!(
            "{unread}; it runs, and the rest is loaded when checkpoint {} can be read again",
            run.checkpoint
        )),
        (None, None) => told.err().map(|error| error.to_string()),
    };
    StatusRow {
        needs,
        instance: run.instance,
        pid: run.pid,
        checkpoint: run.checkpoint,
        state,
        resident_share: if state == "complete" { 1000 } else { share },
        faults: answer.as_ref().map(|a| a.faults).or(loaded.as_ref().map(|l| l.faults)),
        servers: answer.as_ref().map(|a| a.servers).or(loaded.as_ref().map(|l| l.servers)),
        complete_us: answered.complete_us.or(loaded.map(|l| l.complete_us)),
        processes: answer.map(|a| vec![a.keeper, a.server, a.holder]).unwrap_or_default(),
    }
}
