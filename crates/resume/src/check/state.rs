//! What the instance holds that cannot be rebuilt here, or not without a word of the user.

use mem::{Backing, SpecialMapping};
use process::{DescriptionId, DescriptionKind, SocketState};

use super::Check;
use crate::MismatchKind;
use crate::build::{Slots, StandIn, shown, stand_in};

impl Check<'_> {
    pub(super) fn state(&mut self) {
        self.shape();
        self.externals();
        self.limits();
        self.label();
        self.descriptions();
    }

    fn shape(&mut self) {
        let kind = MismatchKind::State;
        if self.instance.groups.len() != 1 {
            let cause =
                format!("it has {} processes; one can be rebuilt", self.instance.groups.len());
            self.add(kind, "the instance", cause, "");
        }
        if self.group.threads.first().is_none_or(|leader| leader.tid != self.group.pid) {
            self.add(kind, "the instance", "its first thread is not its leader", "");
        }
        let other = Backing::Special(SpecialMapping::Other);
        let special: Vec<_> =
            self.space.mappings.iter().filter(|m| m.backing == other).cloned().collect();
        for mapping in special {
            let object = format!("mapping {} {}", mapping.range, mapping.name.escape_ascii());
            self.add(kind, object, "the kernel makes it, and we cannot", "");
        }
        if self.group.threads.iter().any(|t| t.seccomp_mode == 1) {
            self.add(kind, "seccomp", "strict mode cannot be entered from outside", "");
        }
        if self.caller.credentials.no_new_privs && !self.credentials.no_new_privs {
            let cause = "this process has it set, and it cannot be unset";
            self.add(kind, "no_new_privs", cause, "start this command without it");
        }
    }

    fn externals(&mut self) {
        for (index, description) in (0..).zip(&self.instance.descriptions) {
            let id = DescriptionId(index);
            let (fd, cause) = match stand_in(self.instance, self.group, id, self.options) {
                Some(StandIn::Unsaid(fd)) => {
                    (fd, "its other end is outside the instance".to_owned())
                }
                Some(StandIn::Caller(fd)) if !is_open(fd) => {
                    (fd, format!("descriptor {fd} of this command, its stand-in, is closed"))
                }
                _ => continue,
            };
            let name = match &description.kind {
                DescriptionKind::External { name } | DescriptionKind::Terminal { path: name } => {
                    format!(" ({})", name.escape_ascii())
                }
                _ => String::new(),
            };
            let lift =
                format!("say what stands in: --external fd={fd}:inherit|null|reopen:PATH|close");
            self.add(MismatchKind::External, format!("descriptor {fd}{name}"), cause, lift);
        }
    }

    fn limits(&mut self) {
        let slots = Slots::new(self.instance, self.group, self.caller.highest_descriptor);
        if slots.needed() > self.caller.descriptors_max {
            let (needed, has) = (slots.needed(), self.caller.descriptors_max);
            let cause = format!("{needed} are needed while building, {has} are allowed");
            let lift = format!("raise the hard limit: ulimit -Hn {needed}");
            self.add(MismatchKind::Permission, "descriptors (RLIMIT_NOFILE)", cause, lift);
        }
    }

    fn label(&mut self) {
        let own = std::fs::read("/proc/self/attr/current").unwrap_or_default();
        let trim = |label: &[u8]| label.trim_ascii_end().trim_suffix_nul().to_vec();
        if !self.group.lsm_label.is_empty() && trim(&self.group.lsm_label) != trim(&own) {
            let label = self.group.lsm_label.escape_ascii().to_string();
            let cause = format!("it was confined as {label}, and we are not");
            let lift = "start this command under the same label (aa-exec(1), runcon(1))";
            self.add(MismatchKind::Permission, "security label", cause, lift);
        }
    }

    fn descriptions(&mut self) {
        for (index, socket) in (0..).zip(&self.instance.sockets) {
            let held = |kind: &DescriptionKind| *kind == DescriptionKind::Socket(index);
            let peer = socket.peer.is_some_and(|peer| {
                let held = |kind: &DescriptionKind| *kind == DescriptionKind::Socket(peer);
                self.instance.descriptions.iter().any(|d| held(&d.kind))
            });
            if socket.state == SocketState::Pair
                && self.instance.descriptions.iter().any(|d| held(&d.kind))
                && !peer
            {
                let cause = "its peer is not part of the instance";
                self.add(MismatchKind::State, shown(socket), cause, "");
            }
        }
    }
}

trait TrimNul {
    fn trim_suffix_nul(&self) -> &[u8];
}

impl TrimNul for [u8] {
    fn trim_suffix_nul(&self) -> &[u8] {
        self.strip_suffix(b"\0").unwrap_or(self)
    }
}

fn is_open(fd: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}
