//! The kernel's objects without a place in a file system.

use process::{DescriptionKind, SignalSet, StateKind, TimerFd, TimerSetting};
use sys::proc::{FdDetail, TimerfdInfo};

use super::slots::Slot;
use super::{CLOSE, Reader};
use crate::outside::inode_in;

impl Reader<'_> {
    /// eventfd, epoll, timerfd, signalfd, and all that blocks.
    pub(super) fn anonymous(&mut self, slot: &Slot) -> DescriptionKind {
        let name = slot.name.strip_prefix(b"anon_inode:").unwrap_or(&slot.name);
        match (name, &slot.info.detail) {
            (b"[eventfd]", FdDetail::Eventfd { count, semaphore, .. }) => {
                let Some(semaphore) = *semaphore else {
                    let lift = "Linux 6.5 or later tells whether it is a semaphore";
                    return self.blocked(slot, StateKind::EventFd, lift);
                };
                DescriptionKind::EventFd { count: *count, semaphore }
            }
            // An instance that watches nothing has no lines of its own. The list is filled in
            // when every description is known.
            (b"[eventpoll]", FdDetail::Epoll(_) | FdDetail::None) => {
                DescriptionKind::Epoll { interests: Vec::new() }
            }
            (b"[timerfd]", FdDetail::Timerfd(timer)) => self.timerfd(slot, timer),
            (b"[signalfd]", FdDetail::Signalfd { mask }) => {
                DescriptionKind::SignalFd { mask: SignalSet(*mask) }
            }
            _ => match refused_kind(name) {
                // They hang on nothing of the process that has them open.
                StateKind::Inotify | StateKind::PidFd if self.context.options.takeover => {
                    DescriptionKind::External { name: slot.name.clone() }
                }
                kind => self.blocked(slot, kind, CLOSE),
            },
        }
    }

    fn timerfd(&mut self, slot: &Slot, timer: &TimerfdInfo) -> DescriptionKind {
        let value_ns = u64::try_from(timer.value_ns);
        let interval_ns = u64::try_from(timer.interval_ns);
        let (Ok(value_ns), Ok(interval_ns)) = (value_ns, interval_ns) else {
            let lift = "set the timer to a time less than 584 years ahead";
            return self.blocked(slot, StateKind::TimerFd, lift);
        };
        DescriptionKind::TimerFd(TimerFd {
            clock: timer.clock,
            ticks: timer.ticks,
            settime_flags: timer.settime_flags,
            setting: TimerSetting { value_ns, interval_ns },
        })
    }
}

/// The kind of state that an object with this name is.
fn refused_kind(name: &[u8]) -> StateKind {
    match name {
        b"inotify" => StateKind::Inotify,
        b"[fanotify]" => StateKind::Fanotify,
        b"[io_uring]" => StateKind::IoUring,
        b"[userfaultfd]" => StateKind::Userfaultfd,
        b"[perf_event]" => StateKind::PerfEvent,
        b"[pidfd]" => StateKind::PidFd,
        b"[landlock-ruleset]" | b"landlock-ruleset" => StateKind::Landlock,
        b"seccomp notify" => StateKind::Seccomp,
        name if name.starts_with(b"bpf") || name.starts_with(b"[bpf") => StateKind::Bpf,
        name if inode_in(name, b"pidfd:[").is_some() => StateKind::PidFd,
        name if is_namespace(name) => StateKind::Namespace,
        _ => StateKind::Unknown,
    }
}

/// Whether it is a link of `/proc/PID/ns`, such as `net:[4026531833]`.
fn is_namespace(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] =
        [b"cgroup:[", b"ipc:[", b"mnt:[", b"net:[", b"pid:[", b"time:[", b"user:[", b"uts:["];
    NAMES.iter().any(|prefix| inode_in(name, prefix).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_kind() {
        let cases: [(&[u8], StateKind); 8] = [
            (b"inotify", StateKind::Inotify),
            (b"[io_uring]", StateKind::IoUring),
            (b"bpf-map", StateKind::Bpf),
            (b"bpf_link", StateKind::Bpf),
            (b"[pidfd]", StateKind::PidFd),
            (b"pidfd:[12]", StateKind::PidFd),
            (b"net:[4026531833]", StateKind::Namespace),
            (b"[something new]", StateKind::Unknown),
        ];
        for (name, kind) in cases {
            assert_eq!(refused_kind(name), kind);
        }
    }
}
