//! The rights of the agent's processes: what they cannot do their work without.
//!
//! `resume` needs many; of them its agent keeps
//! - `CAP_SYS_NICE`: a program stands still until a fault is answered, and whoever loads in the
//!   background is to make way, also in a server that takes over.
//! - `CAP_DAC_READ_SEARCH`, and only if that is not enough `CAP_DAC_OVERRIDE`, when a step on the
//!   way fails without: a store in a folder of another user, twins that only another user may
//!   read, an executable that only another user may execute. They are put aside at the start, and
//!   every step is tried without them first ([`with_files`]).
//!
//! A userfaultfd asks for no right once it is open, and processes of the same user can be ended
//! and looked at without. The holder keeps none.
//!
//! What is kept stays in all five sets that it was in: a successor is executed, and whether it has
//! a right by its user, by its file or by inheritance, it has it by the same way again. The
//! bounding set of a file that has rights of its own is left alone: the kernel executes such a file
//! only with all of them in it, and `no_new_privs` gives a successor no more than we have anyway.
//!
//! docs/decisions/0019-agent-rights.md says why calls that are not on the list fail.

use std::io;

use rustix::fs::{Access, AtFlags, CWD, accessat, getxattr};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use store::Checkpoint;

use super::keeper::AgentStart;

/// Our own file, which a successor is executed from.
const SELF: &str = "/proc/self/exe";
/// The rights to files of others, the lesser one first: to read and to search, and to execute.
const FILES: [CapabilitySet; 2] = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE];

/// Puts the rights to files of others aside until a step needs them.
pub(super) fn put_files_aside() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    FILES.into_iter().for_each(|right| sets.effective.remove(right));
    Ok(set_capabilities(None, sets)?)
}

/// Does a step without the rights to files of others, and if that fails with one of them or both,
/// from then on.
pub(super) fn with_files<T>(step: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match step() {
            Err(error) if !take_more()? => return Err(error),
            Err(_) => {}
            done => return done,
        }
    }
}

/// Takes the next right to files of others up; says whether there was one.
fn take_more() -> io::Result<bool> {
    let mut sets = capabilities(None)?;
    let aside = sets.permitted.difference(sets.effective);
    let next = FILES.into_iter().find(|right| aside.contains(*right));
    sets.effective.insert(next.unwrap_or(CapabilitySet::empty()));
    set_capabilities(None, sets)?;
    Ok(next.is_some())
}

/// Has the keeper of `checkpoint`, and what it starts, keep what serving and starting successors
/// takes, and make only the calls of an agent. What the kernel refuses of that is told and nothing
/// else: the program's pages come first.
pub(super) fn confine(start: &AgentStart, checkpoint: &Checkpoint) {
    if let Err(error) = needed(start, checkpoint).and_then(keep_only) {
        tracing::warn!(%error, "the agent has more rights than it needs");
    }
    // A successor that a server has executed has its filter; each call would pass one more.
    if matches!(start, AgentStart::Ledger(_)) {
        return;
    }
    if let Err(error) = sys::confine::to_serving() {
        tracing::warn!(%error, "the agent's system calls are not filtered");
    }
}

fn needed(start: &AgentStart, checkpoint: &Checkpoint) -> io::Result<CapabilitySet> {
    // What nobody can open now may be put back later: what there is of rights is kept then.
    let _ = with_files(|| checkpoint.open_twins());
    let _ = with_files(|| Ok(accessat(CWD, SELF, Access::EXEC_OK, AtFlags::EACCESS)?));
    // Where the limit holds, a user with that many processes would get no other server.
    let _ = setrlimit(Resource::Nproc, Rlimit { current: None, maximum: None });
    let files = FILES.into_iter().fold(CapabilitySet::empty(), CapabilitySet::union);
    let mut kept = CapabilitySet::SYS_NICE | capabilities(None)?.effective & files;
    // The holder of the agent that it follows may be another user's.
    kept.set(CapabilitySet::KILL, matches!(start, AgentStart::Holder(_)));
    Ok(kept)
}

/// Has the holder keep nothing, and sleep.
pub(super) fn confine_holder() {
    // It has less than the keeper already.
    let _ = keep_only(CapabilitySet::empty());
    let _ = sys::confine::to_sleeping();
}

/// Gives up the right to end processes of other users, which takes over from an agent of one.
pub(super) fn give_up_ending() {
    let Ok(sets) = capabilities(None) else { return };
    if sets.permitted.contains(CapabilitySet::KILL) {
        let _ = keep_only(sets.permitted.difference(CapabilitySet::KILL));
    }
}

/// Gives up all rights but `kept`, in all sets.
fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    let is_bounded = sets.effective.contains(CapabilitySet::SETPCAP) && !has_file_rights();
    // What is given up later can be taken from this set only now.
    let lasting = kept.difference(CapabilitySet::KILL);
    for (_, capability) in CapabilitySet::all().difference(lasting).iter_names() {
        // A kernel that does not know it has nothing to take away.
        let _ = configure_capability_in_ambient_set(capability, false);
        if is_bounded {
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        *set &= kept;
    }
    Ok(set_capabilities(None, sets)?)
}

/// Whether our executable has rights of its own; if that cannot be told it may.
fn has_file_rights() -> bool {
    let found = getxattr(SELF, "security.capability", &mut [0_u8; 64][..]);
    !matches!(found, Err(Errno::NODATA | Errno::NOTSUP))
}
