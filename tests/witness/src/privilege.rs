//! Becoming another user.

use crate::flaw::Outcome;
use crate::sys;

/// The capability that stays: CAP_NET_BIND_SERVICE, as services have it that were given one.
const KEPT: u32 = 10;
const VERSION_3: u32 = 0x2008_0522;

/// Takes the groups and ids of `user`, and keeps one capability: permitted, inheritable and
/// ambient, but not effective. Then makes the program readable to itself again, for a change of
/// user clears the dumpable flag, and with it the ownership of /proc/self.
pub fn drop_to(user: u32) -> Outcome {
    let groups = [user, user + 1, 100];
    sys!(libc::setgroups(groups.len(), groups.as_ptr()))?;
    sys!(libc::setresgid(user, user, user))?;
    sys!(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
    sys!(libc::setresuid(user, user, user))?;
    sys!(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))?;
    let header = [VERSION_3, 0];
    // Effective, permitted and inheritable; the upper 32 capabilities follow.
    let sets = [0, 1 << KEPT, 1 << KEPT, 0, 0, 0];
    sys!(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()))?;
    sys!(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, KEPT, 0, 0))?;
    sys!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))?;
    Ok(())
}
