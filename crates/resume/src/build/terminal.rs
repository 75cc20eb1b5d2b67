//! The terminal of a program in the foreground.

use std::fs::File;
use std::os::fd::AsFd;

use process::TaskGroup;
use rustix::process::{Pid as RawPid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use sys::task::Pid;

/// Our terminal, in which the program's process group has the foreground.
#[derive(Debug)]
pub(crate) struct Terminal {
    file: File,
    program: RawPid,
}

/// Gives the program the foreground of our terminal when it leads a process group of its own and
/// we have the foreground; else nothing changes.
pub(super) fn hand_over(group: &TaskGroup, pid: Pid, detach: bool) -> Option<Terminal> {
    if detach || group.process_group != group.pid || group.session == group.pid {
        return None;
    }
    let file = File::open("/dev/tty").ok()?;
    if tcgetpgrp(file.as_fd()).ok()? != getpgrp() {
        return None;
    }
    let terminal = Terminal { file, program: RawPid::from_raw(pid.raw())? };
    terminal.to_program();
    Some(terminal)
}

impl Terminal {
    /// The program has the foreground. A terminal that is gone is not worth a failure.
    pub(crate) fn to_program(&self) {
        let _ = tcsetpgrp(self.file.as_fd(), self.program);
    }

    /// We have it. The caller has `SIGTTOU` blocked.
    pub(crate) fn to_us(&self) {
        let _ = tcsetpgrp(self.file.as_fd(), getpgrp());
    }
}
