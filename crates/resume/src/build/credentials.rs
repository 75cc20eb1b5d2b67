//! Credentials, one thread at a time: the kernel's own system calls change one thread only.

use inject::Arg;
use process::Credentials;

use super::script::Script;
use crate::ResumeError;

const NO_SETUID_FIXUP: u32 = 1 << 2;
const CAPABILITY_VERSION_3: u64 = 0x2008_0522;
const CAPABILITIES: u64 = 64;

/// The steps from one set of credentials to another.
pub(super) struct Steps<'a> {
    /// What the thread has now.
    pub(super) now: &'a Credentials,
    /// What it shall have.
    pub(super) wanted: &'a Credentials,
}

impl Steps<'_> {
    /// Whether anything but `no_new_privs` differs.
    pub(super) fn differ(&self) -> bool {
        let strip = |c: &Credentials| {
            let mut groups = c.groups.clone();
            groups.sort_unstable();
            (c.uids, c.gids, groups, c.capabilities, c.securebits)
        };
        strip(self.now) != strip(self.wanted)
    }

    /// Changes the thread's credentials. Nothing that needs a privilege can come afterwards.
    pub(super) fn take(&self, script: &mut Script<'_>) -> Result<(), ResumeError> {
        let (now, wanted) = (self.now, self.wanted);
        if self.differ() {
            if now.groups != wanted.groups {
                self.groups(script);
            }
            let moving = now.uids != wanted.uids || now.gids != wanted.gids;
            // Without this the kernel would drop capabilities when user ids change.
            let mut bits = now.securebits;
            if moving {
                bits |= NO_SETUID_FIXUP;
                secure_bits(script, bits);
            }
            self.inheritable_and_bounding(script);
            if moving {
                self.ids(script);
            }
            self.ambient(script);
            if bits != wanted.securebits {
                secure_bits(script, wanted.securebits);
            }
            let to = wanted.capabilities;
            if moving || now.capabilities != to {
                capabilities(script, to.permitted, to.effective, to.inheritable);
            }
        }
        script.flush()
    }

    fn groups(&self, script: &mut Script<'_>) {
        let bytes: Vec<u8> = self.wanted.groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        let at = script.bytes(&bytes);
        let count = self.wanted.groups.len() as u64;
        let step = "set the supplementary groups (CAP_SETGID)";
        script.call(step, libc::SYS_setgroups, &[count.into(), at.into()]);
    }

    fn inheritable_and_bounding(&self, script: &mut Script<'_>) {
        let (now, to) = (self.now.capabilities, self.wanted.capabilities);
        if now.inheritable != to.inheritable {
            // While the bounding set still allows it, and with every privilege kept.
            capabilities(script, now.permitted, now.effective, to.inheritable);
        }
        for capability in (0..CAPABILITIES).filter(|c| (now.bounding & !to.bounding) >> c & 1 == 1)
        {
            let option = u64::from(libc::PR_CAPBSET_DROP.unsigned_abs());
            let step = "limit the bounding set (CAP_SETPCAP)";
            script.call(step, libc::SYS_prctl, &[option.into(), capability.into()]);
        }
    }

    fn ids(&self, script: &mut Script<'_>) {
        let three = |ids: [u32; 4]| -> [Arg; 3] {
            [u64::from(ids[0]).into(), u64::from(ids[1]).into(), u64::from(ids[2]).into()]
        };
        let (uids, gids) = (self.wanted.uids, self.wanted.gids);
        script.call("set the group ids (CAP_SETGID)", libc::SYS_setresgid, &three(gids));
        script.call("set the user ids (CAP_SETUID)", libc::SYS_setresuid, &three(uids));
        script.call("set the file group id", libc::SYS_setfsgid, &[u64::from(gids[3]).into()]);
        script.call("set the file user id", libc::SYS_setfsuid, &[u64::from(uids[3]).into()]);
    }

    fn ambient(&self, script: &mut Script<'_>) {
        const PR_CAP_AMBIENT: u64 = 47;
        const RAISE: u64 = 2;
        const CLEAR_ALL: u64 = 4;
        let (now, to) = (self.now.capabilities.ambient, self.wanted.capabilities.ambient);
        if now & !to != 0 {
            let args: [Arg; 5] =
                [PR_CAP_AMBIENT.into(), CLEAR_ALL.into(), 0_u64.into(), 0_u64.into(), 0_u64.into()];
            script.call("clear the ambient set", libc::SYS_prctl, &args);
        }
        for capability in (0..CAPABILITIES).filter(|c| to >> c & 1 == 1) {
            let args: [Arg; 5] = [
                PR_CAP_AMBIENT.into(),
                RAISE.into(),
                capability.into(),
                0_u64.into(),
                0_u64.into(),
            ];
            script.call("raise an ambient capability", libc::SYS_prctl, &args);
        }
    }
}

fn secure_bits(script: &mut Script<'_>, bits: u32) {
    let option = u64::from(libc::PR_SET_SECUREBITS.unsigned_abs());
    let step = "set the secure bits (CAP_SETPCAP)";
    script.call(step, libc::SYS_prctl, &[option.into(), u64::from(bits).into()]);
}

/// capset(2) of the calling thread.
fn capabilities(script: &mut Script<'_>, permitted: u64, effective: u64, inheritable: u64) {
    let header = script.words(&[CAPABILITY_VERSION_3]);
    let half = |set: u64, high: bool| if high { set >> 32 } else { set & 0xffff_ffff };
    // Two of `effective, permitted, inheritable`, 32 bits each: the low halves, then the high.
    let data: Vec<u8> = [false, true]
        .into_iter()
        .flat_map(|high| [half(effective, high), half(permitted, high), half(inheritable, high)])
        .flat_map(|word| word.to_le_bytes()[..4].to_vec())
        .collect();
    let at = script.bytes(&data);
    script.call("set the capabilities", libc::SYS_capset, &[header.into(), at.into()]);
}

/// `no_new_privs` of the calling thread.
pub(super) fn no_new_privs(script: &mut Script<'_>) {
    let option = u64::from(libc::PR_SET_NO_NEW_PRIVS.unsigned_abs());
    let args: [Arg; 5] = [option.into(), 1_u64.into(), 0_u64.into(), 0_u64.into(), 0_u64.into()];
    script.call("set no_new_privs", libc::SYS_prctl, &args);
}

/// Installs the instance's seccomp filters in every thread at once, the oldest first.
pub(super) fn filters(
    script: &mut Script<'_>,
    credentials: &Credentials,
) -> Result<(), ResumeError> {
    const SET_MODE_FILTER: u64 = 1;
    const FLAG_TSYNC: u64 = 1;
    const FLAG_LOG: u64 = 2;
    const FLAG_SPEC_ALLOW: u64 = 4;
    const FLAG_TSYNC_ESRCH: u64 = 16;
    for filter in &credentials.seccomp_filters {
        let program = script.bytes(&filter.program);
        let count = (filter.program.len() / 8) as u64;
        let at = script.words(&[count, program]);
        // With ESRCH a thread that cannot follow is an error, not a positive answer.
        let all = FLAG_TSYNC | FLAG_TSYNC_ESRCH;
        let flags = filter.flags & (FLAG_LOG | FLAG_SPEC_ALLOW) | all;
        let args: [Arg; 3] = [SET_MODE_FILTER.into(), flags.into(), at.into()];
        script.call("install a seccomp filter (CAP_SYS_ADMIN)", libc::SYS_seccomp, &args);
        script.flush()?;
    }
    Ok(())
}
