//! Becoming another user.

use crate::flaw::Outcome;
use crate::sys;

/// Takes the groups and ids of `user`, and makes the program readable to itself again: a change
/// of user clears the dumpable flag, and with it the ownership of /proc/self.
pub fn drop_to(user: u32) -> Outcome {
    let groups = [user, user + 1, 100];
    sys!(libc::setgroups(groups.len(), groups.as_ptr()))?;
    sys!(libc::setresgid(user, user, user))?;
    sys!(libc::setresuid(user, user, user))?;
    sys!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))?;
    Ok(())
}
