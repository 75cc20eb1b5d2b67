//! `/proc/PID/stat` and `/proc/PID/task/TID/stat`, see `proc_pid_stat(5)`.

use super::dir::ProcDir;
use super::status::RunState;
use super::text::{Cursor, Malformed};

/// What `stat` tells about a task. The memory fields are zero unless the reader may trace the
/// task (`PTRACE_MODE_READ`) and it has memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Task id in the reader's pid namespace.
    pub tid: i32,
    /// The task's name as it is, up to 15 bytes (longer for kernel threads).
    pub name: Vec<u8>,
    /// Run state.
    pub state: RunState,
    /// Parent's process id.
    pub ppid: i32,
    /// Process group id.
    pub pgid: i32,
    /// Session id.
    pub sid: i32,
    /// Controlling terminal as `makedev` in the kernel's user encoding, 0 without one.
    pub tty: i32,
    /// Foreground process group of the terminal, -1 without one.
    pub tty_pgid: i32,
    /// The kernel's `PF_` flags.
    pub flags: u32,
    /// Nice value.
    pub nice: i64,
    /// When the task started, in clock ticks after boot.
    pub start_time_ticks: u64,
    /// Pages in RAM, as exact as the kernel keeps the number: what each CPU has not added up yet
    /// is missing.
    pub resident_pages: u64,
    /// The exit signal sent to the parent.
    pub exit_signal: i32,
    /// Real-time priority.
    pub rt_priority: u32,
    /// Scheduling policy.
    pub policy: u32,
    /// The memory fields.
    pub memory: StatMemory,
}

/// Where the kernel believes the parts of an address space to be (`mm_struct`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatMemory {
    /// Field 26.
    pub start_code: u64,
    /// Field 27.
    pub end_code: u64,
    /// Field 28.
    pub start_stack: u64,
    /// Field 45.
    pub start_data: u64,
    /// Field 46.
    pub end_data: u64,
    /// Field 47.
    pub start_brk: u64,
    /// Field 48.
    pub arg_start: u64,
    /// Field 49.
    pub arg_end: u64,
    /// Field 50.
    pub env_start: u64,
    /// Field 51.
    pub env_end: u64,
}

impl Stat {
    /// Whether the task belongs to the kernel (`PF_KTHREAD`).
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }

    /// Whether the task is on its way out (`PF_EXITING`).
    pub fn is_exiting(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Whether it has ended, reaped or not. Of a process's first thread: others may run on, see
    /// [`running_since`].
    pub fn has_ended(&self) -> bool {
        matches!(self.state, RunState::Zombie | RunState::Dead)
    }

    /// Whether it forked and has not yet executed another program (`PF_FORKNOEXEC`).
    pub fn forked_without_exec(&self) -> bool {
        self.flags & 0x40 != 0
    }
}

/// When process `pid` started, in clock ticks after boot; `None` when there is none or it has
/// ended, reaped or not. A first thread that has ended shows the state of an ended process while
/// others run on: that one has not.
pub fn running_since(pid: i32) -> Option<u64> {
    let dir = ProcDir::open(pid).ok()?;
    let stat = dir.parse("stat", &mut Vec::new(), parse_stat).ok()?;
    let others = || dir.tids().is_ok_and(|tids| tids.len() > 1);
    (!stat.has_ended() || others()).then_some(stat.start_time_ticks)
}

/// Parses the text of a `stat` file.
///
/// # Errors
/// When it does not have the documented form or too few fields.
pub fn parse_stat(text: &[u8]) -> Result<Stat, Malformed> {
    let bad = || Malformed::new("a line such as 1 (init) S ...", text);
    let mut head = Cursor::new(text);
    let tid = head.signed_as("a task id")?;
    let open = text.iter().position(|b| *b == b'(').ok_or_else(bad)?;
    // A name may hold parentheses and blanks: the last one closes it.
    let close = text.iter().rposition(|b| *b == b')').filter(|c| *c > open).ok_or_else(bad)?;
    let rest = text[close + 1..].trim_ascii();
    let words: Vec<&[u8]> = rest.split(|b| *b == b' ').collect();
    // Fields are numbered from 1; the first after the name is field 3.
    let word = |n: usize| words.get(n - 3).copied().ok_or_else(bad);
    let signed = |n: usize| Cursor::new(word(n)?).signed("a number");
    let small = |n: usize| i32::try_from(signed(n)?).map_err(|_| bad());
    let unsigned = |n: usize| Cursor::new(word(n)?).dec("a number");
    let flags = |n: usize| u32::try_from(unsigned(n)?).map_err(|_| bad());
    let letter = word(3)?.first().copied().ok_or_else(bad)?;
    Ok(Stat {
        tid,
        name: text[open + 1..close].to_vec(),
        state: RunState::from_letter(letter),
        ppid: small(4)?,
        pgid: small(5)?,
        sid: small(6)?,
        tty: small(7)?,
        tty_pgid: small(8)?,
        flags: flags(9)?,
        nice: signed(19)?,
        start_time_ticks: unsigned(22)?,
        resident_pages: unsigned(24)?,
        exit_signal: small(38)?,
        rt_priority: flags(40)?,
        policy: flags(41)?,
        memory: StatMemory {
            start_code: unsigned(26)?,
            end_code: unsigned(27)?,
            start_stack: unsigned(28)?,
            start_data: unsigned(45)?,
            end_data: unsigned(46)?,
            start_brk: unsigned(47)?,
            arg_start: unsigned(48)?,
            arg_end: unsigned(49)?,
            env_start: unsigned(50)?,
            env_end: unsigned(51)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] =
        b"13182 (py) thon 3) R 13178 13178 5444 0 -1 4194560 3255 6582 25 6 4 6 3 3 \
        20 -5 1 0 100488 20279296 3789 18446744073709551615 94270308442112 94270308442453 \
        140732056709024 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0 94270308453808 94270308454424 \
        94271312785408 140732056713461 140732056713508 140732056713508 140732056715215 0\n";

    #[test]
    fn fields() {
        let s = parse_stat(TEXT).unwrap();
        assert_eq!(s.tid, 13182);
        assert_eq!(s.name, b"py) thon 3");
        assert_eq!((s.ppid, s.pgid, s.sid, s.tty, s.tty_pgid), (13178, 13178, 5444, 0, -1));
        assert_eq!((s.nice, s.start_time_ticks, s.exit_signal), (-5, 100_488, 17));
        assert_eq!(s.resident_pages, 3789);
        assert_eq!(s.memory.start_code, 94_270_308_442_112);
        assert_eq!(s.memory.start_stack, 140_732_056_709_024);
        assert_eq!(s.memory.start_brk, 94_271_312_785_408);
        assert_eq!(s.memory.env_end, 140_732_056_715_215);
        assert!(!s.is_kernel_thread());
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..2000, byte: u8, cut in 0usize..2000) {
            let mut text = TEXT.to_vec();
            let at = at % text.len();
            text[at] = byte;
            text.truncate(cut);
            let _ = parse_stat(&text);
        }
    }
}
