//! Is the original, or whoever has its ids, alive?

use std::fs;
use std::os::unix::fs::MetadataExt;

use mem::{Backing, Sharing};
use process::{DescriptionKind, SharedObjectKind};

use super::Check;
use crate::build::{place, taken};
use crate::{MismatchKind, PidPolicy};

impl Check<'_> {
    pub(super) fn running(&mut self) {
        if self.options.as_copy {
            self.copy();
        } else if self.original_lives() {
            let pid = self.instance.line.pid;
            let cause = "the original is alive, and both would write the same files";
            let lift = "end it first, or use --as-copy when it holds no writable file";
            self.add(MismatchKind::AlreadyRunning, format!("process {pid}"), cause, lift);
        }
        if self.options.pid == PidPolicy::Same {
            let ids = self.group.threads.iter().map(|t| t.tid).filter(|tid| taken(*tid));
            let ids: Vec<_> = ids.collect();
            for id in ids {
                let lift = "let it have a pid namespace of its own";
                self.add(MismatchKind::Pid, format!("id {id}"), "somebody else has it", lift);
            }
        }
    }

    fn original_lives(&self) -> bool {
        let line = &self.instance.line;
        let ours = fs::metadata("/proc/self/ns/pid").map(|m| m.ino()).ok();
        if line.boot_id != self.instance.host.boot_id && !line.boot_id.is_empty() {
            // The run this checkpoint shows began under another boot than it was captured in:
            // impossible, so trust neither and compare with this boot alone.
            tracing::debug!("the line's boot id differs from the host's");
        }
        let same_boot = sys::proc::boot_id().is_ok_and(|id| id == line.boot_id);
        if !same_boot || ours != Some(line.pid_namespace) {
            return false;
        }
        sys::proc::running_since(line.pid) == Some(line.start_time_ticks)
    }

    /// A copy must not write what the original writes.
    fn copy(&mut self) {
        let lift = "resume it without --as-copy once the original has ended";
        let cause = "the original may write it, too";
        let kind = MismatchKind::AlreadyRunning;
        for description in &self.instance.descriptions {
            let reads_only = description.flags & libc::O_ACCMODE.cast_unsigned() == 0;
            let object = match &description.kind {
                DescriptionKind::File(file) if !reads_only => &file.identity.path,
                _ => continue,
            };
            self.add(kind, object.escape_ascii().to_string(), cause, lift);
        }
        for mapping in self.space.mappings.iter().filter(|m| m.sharing == Sharing::Shared) {
            let writable = mapping.protection.write || mapping.has_flag(b"mw");
            if let (true, Backing::File { file, .. }) = (writable, &mapping.backing) {
                self.add(kind, file.path.escape_ascii().to_string(), cause, lift);
            }
        }
        for pipe in self.instance.pipes.iter().filter(|p| !p.fifo_path.is_empty()) {
            self.add(kind, pipe.fifo_path.escape_ascii().to_string(), cause, lift);
        }
        for object in &self.instance.objects {
            if let SharedObjectKind::PosixShm { path, deleted: false, .. } = &object.kind {
                self.add(kind, path.escape_ascii().to_string(), cause, lift);
            }
        }
    }

    /// Whether it will live in a pid namespace of its own.
    pub(super) fn in_own_namespace(&self) -> bool {
        place(self.instance, self.group, self.options) != crate::build::Place::Here
    }
}
