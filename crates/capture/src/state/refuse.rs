//! State that has no place in the graph, found at the freeze.

use inject::InjectError;
use process::{Blocker, ChangeKind, Credentials, StateKind, Thread};
use sys::kcmp::{TaskObject, tasks_share};
use sys::proc::Status;
use sys::task::Tid;
use target::Frozen;

use super::{StateError, Told};
use crate::Survey;
use crate::credentials;
use crate::findings::Findings;
use crate::injected::ThreadAnswers;

/// Threads that do not share the tables which threads share as a rule.
pub(super) fn unshared(frozen: &Frozen<'_>, findings: &mut Findings) {
    let leader = frozen.process().pid().main_thread();
    for stopped in &frozen.threads()[1..] {
        let tid: Tid = stopped.tid();
        for (object, what) in [
            (TaskObject::Files, "descriptor table"),
            (TaskObject::Fs, "current directory and umask"),
            (TaskObject::SysvSem, "System V semaphore adjustments"),
        ] {
            if tasks_share(leader, tid, object).is_ok_and(|shares| !shares) {
                let object = format!("thread {tid}, which has a {what} of its own");
                let lift = "run the program so that its threads share it (unshare(2))";
                findings.block(StateKind::Unknown, object, lift);
            }
        }
    }
}

/// The filters of the first thread; other threads must have the same ones.
pub(super) fn filters(
    frozen: &Frozen<'_>,
    statuses: &[Status],
    findings: &mut Findings,
) -> Result<Vec<process::SeccompFilter>, StateError> {
    let mut first = None;
    for (stopped, status) in frozen.threads().iter().zip(statuses) {
        let filters = match status.seccomp_mode {
            2 => credentials::seccomp_filters(stopped, findings)?,
            _ => Vec::new(),
        };
        match &first {
            None => first = Some(filters),
            Some(leader) if *leader == filters => {}
            Some(_) => {
                let object =
                    format!("thread {}, whose filters differ from the first's", stopped.tid());
                let lift = "the program has to filter all its threads (SECCOMP_FILTER_FLAG_TSYNC)";
                findings.block(StateKind::Seccomp, object, lift);
            }
        }
    }
    Ok(first.unwrap_or_default())
}

/// Settings that have no place in the graph.
pub(super) fn unusual(told: &Told, threads: &[Thread], findings: &mut Findings) {
    let lift = "run the program without this setting";
    if let Some(what) = told.group.unusual {
        findings.block(StateKind::Unknown, format!("the process: {what}"), lift);
    }
    for (number, (answer, thread)) in told.threads.iter().zip(threads).enumerate() {
        if let Some(what) = answer.unusual {
            let object = format!("thread {}: {what}", thread.tid_outside);
            findings.block(StateKind::Unknown, object, lift);
        }
        if number > 0 && answer.parent_death_signal != 0 {
            let object = format!("thread {}: a parent death signal", thread.tid_outside);
            let lift = "only the first thread may have one (PR_SET_PDEATHSIG)";
            findings.block(StateKind::Unknown, object, lift);
        }
        if answer.memory_policy != 0 {
            let what = format!("thread {}: its NUMA policy is the default", thread.tid_outside);
            findings.change(ChangeKind::Placement, what);
        }
    }
}

/// What it means that the program could not be asked about itself: a blocker where its own limits
/// and filters are the reason.
pub(super) fn to_be_asked(cause: InjectError) -> StateError {
    let (kind, lift) = match &cause {
        cause if cause.is_out_of_room() => {
            let lift = "it needs room for a few pages more: raise its limit of address space \
                        (prlimit --as), of data (--data) or of locked memory (--memlock)";
            (StateKind::Limits, lift)
        }
        InjectError::BadBatch { .. } | InjectError::Call { .. } => {
            let lift = "its seccomp filters have to allow the calls that it is asked by";
            (StateKind::Seccomp, lift)
        }
        InjectError::Refused { .. } => {
            (StateKind::Unknown, "run the program without what is named here")
        }
        _ => return StateError::Inject(cause),
    };
    let (object, lift) = (format!("what the kernel said: {cause}"), lift.to_owned());
    let holder = String::new();
    StateError::Blocked(vec![Blocker { kind, object, holder, lift, transient: false }])
}

/// Threads under rules that can be read nowhere, and would be gone.
pub(super) fn restricted(
    told: &Told,
    threads: &[Thread],
    statuses: &[Status],
    findings: &mut Findings,
) {
    // One of another user may not look into a process of this one anyhow, and is refused for that.
    let user = |status: &Status| (status.uid.real, status.gid.real);
    let users = statuses.first().map(user);
    for ((answer, thread), status) in told.threads.iter().zip(threads).zip(statuses) {
        if answer.is_restricted.is_none() {
            let object = "what its user may do, which was to be seen".to_owned();
            let lift = "the process that shows it has been killed; try again";
            findings.block_for_now(StateKind::Permission, object, "", lift);
        } else if answer.is_restricted == Some(true) && users == Some(user(status)) {
            let object = format!(
                "thread {}, which may not look into other processes of its user (Landlock rules)",
                thread.tid_outside
            );
            let lift = "run the program, or rekindle, so that both are under the same rules";
            findings.block(StateKind::Landlock, object, lift);
        }
    }
}

/// Keys that only the program can reach, and a session keyring other than the caller's.
pub(super) fn keyrings(told: &Told, threads: &[Thread], survey: &Survey, findings: &mut Findings) {
    for (answer, thread) in told.threads.iter().zip(threads) {
        if answer.has_own_keys {
            let object = format!("a keyring of thread {} or its process", thread.tid_outside);
            let lift = "the program has to keep its keys in another keyring (keyctl(2))";
            findings.block(StateKind::Keyring, object, lift);
        }
    }
    let theirs = told.threads.first().and_then(|leader| leader.session_keyring);
    let callers = survey.kept.bystander.as_ref().and_then(|process| process.session_keyring());
    if let (Some(theirs), Some(callers)) = (theirs, callers)
        && theirs != callers
    {
        let what = format!("its session keyring ({theirs}) stays behind: it gets the caller's");
        findings.change(ChangeKind::Session, what);
    }
}

/// Mappings that lose their NUMA policy.
pub(super) fn memory_policies(told: &Told, findings: &mut Findings) {
    let Some(first) = told.placed.first() else { return };
    let what = format!(
        "the NUMA policy of {} mappings is the default (mbind(2)), the first at {first}",
        told.placed.len()
    );
    findings.change(ChangeKind::Placement, what);
}

/// Threads with credentials of their own.
pub(super) fn mixed_credentials(
    statuses: &[Status],
    answers: &[ThreadAnswers],
    findings: &mut Findings,
) {
    let all: Vec<(i32, Credentials)> = statuses
        .iter()
        .zip(answers)
        .map(|(status, answer)| {
            let securebits = answer.securebits;
            (status.tid, Credentials { securebits, ..credentials::of_status(status) })
        })
        .collect();
    credentials::refuse_mixed(&all, findings);
}
