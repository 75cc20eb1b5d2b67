//! Privileges: the one capability that is missing is named.

use super::Check;
use crate::MismatchKind;

/// capabilities(7) by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capability(u32, &'static str);

const SETGID: Capability = Capability(6, "CAP_SETGID");
const SETUID: Capability = Capability(7, "CAP_SETUID");
const SETPCAP: Capability = Capability(8, "CAP_SETPCAP");
const SYS_CHROOT: Capability = Capability(18, "CAP_SYS_CHROOT");
const SYS_ADMIN: Capability = Capability(21, "CAP_SYS_ADMIN");
const SYS_NICE: Capability = Capability(23, "CAP_SYS_NICE");
const SYS_RESOURCE: Capability = Capability(24, "CAP_SYS_RESOURCE");
const CHECKPOINT_RESTORE: Capability = Capability(40, "CAP_CHECKPOINT_RESTORE");

impl Check<'_> {
    pub(super) fn rights(&mut self) {
        if !self.has(SYS_ADMIN) {
            self.need(CHECKPOINT_RESTORE, "to choose pids and the memory layout");
        }
        if self.in_own_namespace() {
            let why = "for a pid namespace of its own, since an id of it is in use here (an ended \
                       process keeps its id until its parent has asked for its status), or its \
                       clocks are not ours";
            self.need(SYS_ADMIN, why);
        }
        if !self.credentials.seccomp_filters.is_empty() {
            self.need(SYS_ADMIN, "to install its seccomp filters");
        }
        if !matches!(self.group.root.as_slice(), b"" | b"/") {
            self.need(SYS_CHROOT, "to change its root directory");
        }
        self.identity();
        self.limits_and_scheduling();
    }

    fn identity(&mut self) {
        let (now, wanted) = (self.caller.credentials.clone(), self.credentials);
        if now.uids != wanted.uids {
            self.need(SETUID, "to take its user ids");
        }
        if now.gids != wanted.gids || now.groups != wanted.groups {
            self.need(SETGID, "to take its groups");
        }
        let (has, wants) = (now.capabilities, wanted.capabilities);
        let moving = now.uids != wanted.uids || now.gids != wanted.gids;
        if moving || now.securebits != wanted.securebits || has.bounding != wants.bounding {
            self.need(SETPCAP, "to take its capability sets");
        }
        let more = wants.permitted & !has.permitted | wants.bounding & !has.bounding;
        if more != 0 {
            let cause = format!("it had capabilities that we lack ({more:#x})");
            let lift = "run this command with at least the same";
            self.add(MismatchKind::Permission, "capabilities", cause, lift);
        }
    }

    fn limits_and_scheduling(&mut self) {
        let ours = self.caller.limits.clone();
        let above = self.group.rlimits.iter().zip(&ours).any(|(theirs, ours)| theirs.1 > ours.hard);
        if above {
            self.need(SYS_RESOURCE, "to give it hard limits above ours");
        }
        let own = std::fs::read_to_string("/proc/self/oom_score_adj");
        let own = own.ok().and_then(|text| text.trim().parse::<i32>().ok()).unwrap_or_default();
        if self.group.oom_score_adj < own {
            self.need(SYS_RESOURCE, "to lower its OOM score");
        }
        let own = self.caller.scheduling.attr;
        let faster = self.group.threads.iter().map(|t| &t.scheduling).any(|s| {
            const REAL_TIME: [u32; 3] = [1, 2, 6];
            s.nice < own.nice || REAL_TIME.contains(&s.policy) && s.policy != own.policy
        });
        if faster {
            self.need(SYS_NICE, "to give it its scheduling");
        }
    }

    fn has(&self, capability: Capability) -> bool {
        self.caller.credentials.capabilities.effective >> capability.0 & 1 == 1
    }

    fn need(&mut self, capability: Capability, what: &str) {
        if !self.has(capability) {
            let Capability(_, name) = capability;
            self.add(MismatchKind::Permission, name, format!("needed {what}"), "run as root");
        }
    }
}
