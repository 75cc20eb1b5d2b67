//! `/proc/PID/status` and `/proc/PID/task/TID/status`, see `proc_pid_status(5)`.

use super::text::{Cursor, Malformed, lines, value_of};

/// The run state of a task, the letter after `State:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// `R`.
    Running,
    /// `S`: waiting, a signal wakes it.
    Sleeping,
    /// `D`: waiting, nothing but the event wakes it.
    DiskSleep,
    /// `T`: stopped by a job-control signal.
    Stopped,
    /// `t`: stopped by a tracer.
    Traced,
    /// `Z`: ended and not yet waited for.
    Zombie,
    /// `X`: being removed.
    Dead,
    /// `I`: an idle kernel thread.
    Idle,
    /// A letter this program does not know (`P`, `W`, ...).
    Unknown(u8),
}

impl RunState {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::DiskSleep => "waiting",
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Zombie => "ended",
            Self::Dead => "gone",
            Self::Idle => "idle",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The state for the kernel's letter.
    pub fn from_letter(letter: u8) -> Self {
        match letter {
            b'R' => Self::Running,
            b'S' => Self::Sleeping,
            b'D' => Self::DiskSleep,
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' => Self::Zombie,
            b'X' => Self::Dead,
            b'I' => Self::Idle,
            other => Self::Unknown(other),
        }
    }
}

/// Four ids as `Uid:` and `Gid:` list them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdSet {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved set.
    pub saved: u32,
    /// File system.
    pub file_system: u32,
}

/// The five capability sets as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// Inheritable.
    pub inheritable: u64,
    /// Permitted.
    pub permitted: u64,
    /// Effective.
    pub effective: u64,
    /// Bounding.
    pub bounding: u64,
    /// Ambient.
    pub ambient: u64,
}

/// What `status` tells about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The task's name, escaped as the kernel escapes it here; read `comm` for the bytes.
    pub name: Vec<u8>,
    /// File mode creation mask.
    pub umask: u32,
    /// Run state.
    pub state: RunState,
    /// Thread group id, in the reader's pid namespace.
    pub tgid: i32,
    /// Task id, in the reader's pid namespace.
    pub tid: i32,
    /// Parent's process id, 0 when it has none in the reader's namespace.
    pub ppid: i32,
    /// The tracer's process id, 0 without one.
    pub tracer_pid: i32,
    /// User ids.
    pub uid: IdSet,
    /// Group ids.
    pub gid: IdSet,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Thread group id in each pid namespace, outermost (the reader's) first.
    pub ns_tgid: Vec<i32>,
    /// Task id in each pid namespace, outermost first.
    pub ns_tid: Vec<i32>,
    /// Process group id in each pid namespace, outermost first.
    pub ns_pgid: Vec<i32>,
    /// Session id in each pid namespace, outermost first.
    pub ns_sid: Vec<i32>,
    /// Whether the task is a kernel thread (`Kthread:`, Linux >= 6.8; `None` before).
    pub kthread: Option<bool>,
    /// Whether it is dumping core.
    pub core_dumping: bool,
    /// Whether transparent huge pages are enabled for it (`PR_SET_THP_DISABLE` clears it).
    pub thp_enabled: bool,
    /// Threads in the group.
    pub threads: u32,
    /// Signals pending for the task alone.
    pub signals_pending: u64,
    /// Signals pending for the whole group.
    pub signals_pending_shared: u64,
    /// Blocked signals.
    pub signals_blocked: u64,
    /// Ignored signals.
    pub signals_ignored: u64,
    /// Caught signals.
    pub signals_caught: u64,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp_mode: u32,
    /// How many seccomp filters are attached.
    pub seccomp_filters: u32,
    /// The words after `Speculation_Store_Bypass:`.
    pub speculation_store_bypass: Vec<u8>,
    /// The words after `SpeculationIndirectBranch:`.
    pub speculation_indirect_branch: Vec<u8>,
    /// Resident set in bytes, 0 for a task without memory.
    pub rss_bytes: u64,
    /// Resident anonymous memory in bytes.
    pub rss_anonymous_bytes: u64,
    /// Resident pages of files in bytes.
    pub rss_file_bytes: u64,
    /// Swapped-out anonymous memory in bytes.
    pub swap_bytes: u64,
    /// Memory in hugetlb pages, in bytes.
    pub hugetlb_bytes: u64,
    /// Memory pinned by devices or io_uring, in bytes.
    pub pinned_bytes: u64,
    /// Untagged address mask (`untag_mask`, x86 LAM); all ones when no tagging is on.
    pub untag_mask: u64,
    /// x86 features such as shadow stacks (`x86_Thread_features:`), empty when none.
    pub thread_features: Vec<u8>,
    /// Whether the task has memory of its own or its group's: kernel threads and zombies do not.
    pub has_memory: bool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            umask: 0,
            state: RunState::Unknown(b'?'),
            tgid: 0,
            tid: 0,
            ppid: 0,
            tracer_pid: 0,
            uid: IdSet::default(),
            gid: IdSet::default(),
            groups: Vec::new(),
            ns_tgid: Vec::new(),
            ns_tid: Vec::new(),
            ns_pgid: Vec::new(),
            ns_sid: Vec::new(),
            kthread: None,
            core_dumping: false,
            thp_enabled: true,
            threads: 0,
            signals_pending: 0,
            signals_pending_shared: 0,
            signals_blocked: 0,
            signals_ignored: 0,
            signals_caught: 0,
            capabilities: CapabilitySets::default(),
            no_new_privs: false,
            seccomp_mode: 0,
            seccomp_filters: 0,
            speculation_store_bypass: Vec::new(),
            speculation_indirect_branch: Vec::new(),
            rss_bytes: 0,
            rss_anonymous_bytes: 0,
            rss_file_bytes: 0,
            swap_bytes: 0,
            hugetlb_bytes: 0,
            pinned_bytes: 0,
            untag_mask: u64::MAX,
            thread_features: Vec::new(),
            has_memory: false,
        }
    }
}

/// Parses the text of a `status` file.
///
/// # Errors
/// When a line that is understood does not have its documented form, or one that every kernel
/// writes (`Tgid`, `Uid`, `SigBlk`, `CapEff`) is missing.
pub fn parse_status(text: &[u8]) -> Result<Status, Malformed> {
    let mut status = Status::default();
    let mut seen = 0u32;
    for line in lines(text) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return Err(Malformed::new("a field such as Tgid:", line));
        };
        let (name, value) = (&line[..colon], value_of(line, &line[..colon]).unwrap_or_default());
        match name {
            b"Tgid" | b"Uid" | b"SigBlk" | b"CapEff" => seen += 1,
            _ => {}
        }
        identity(&mut status, name, value)?;
        signals_and_rights(&mut status, name, value)?;
        memory(&mut status, name, value)?;
    }
    if seen < 4 {
        return Err(Malformed::new("Tgid, Uid, SigBlk and CapEff", b""));
    }
    Ok(status)
}

fn identity(status: &mut Status, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(value);
    match name {
        b"Name" => status.name = value.to_vec(),
        b"Umask" => {
            let mask = cursor.oct("an octal mask")?;
            status.umask = u32::try_from(mask).map_err(|_| cursor.malformed("a mask"))?;
        }
        b"State" => {
            let letter = value.first().ok_or_else(|| cursor.malformed("a state letter"))?;
            status.state = RunState::from_letter(*letter);
        }
        b"Tgid" => status.tgid = cursor.signed_as("a process id")?,
        b"Pid" => status.tid = cursor.signed_as("a task id")?,
        b"PPid" => status.ppid = cursor.signed_as("a process id")?,
        b"TracerPid" => status.tracer_pid = cursor.signed_as("a process id")?,
        b"Uid" => status.uid = ids(&mut cursor)?,
        b"Gid" => status.gid = ids(&mut cursor)?,
        b"Groups" => status.groups = numbers(value)?,
        b"NStgid" => status.ns_tgid = numbers(value)?,
        b"NSpid" => status.ns_tid = numbers(value)?,
        b"NSpgid" => status.ns_pgid = numbers(value)?,
        b"NSsid" => status.ns_sid = numbers(value)?,
        b"Kthread" => status.kthread = Some(cursor.dec("0 or 1")? != 0),
        b"Threads" => status.threads = cursor.dec_as("a number of threads")?,
        _ => {}
    }
    Ok(())
}

fn signals_and_rights(status: &mut Status, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    const MASK: &str = "a hexadecimal mask";
    let mut cursor = Cursor::new(value);
    let caps = &mut status.capabilities;
    match name {
        b"SigPnd" => status.signals_pending = cursor.hex(MASK)?,
        b"ShdPnd" => status.signals_pending_shared = cursor.hex(MASK)?,
        b"SigBlk" => status.signals_blocked = cursor.hex(MASK)?,
        b"SigIgn" => status.signals_ignored = cursor.hex(MASK)?,
        b"SigCgt" => status.signals_caught = cursor.hex(MASK)?,
        b"CapInh" => caps.inheritable = cursor.hex(MASK)?,
        b"CapPrm" => caps.permitted = cursor.hex(MASK)?,
        b"CapEff" => caps.effective = cursor.hex(MASK)?,
        b"CapBnd" => caps.bounding = cursor.hex(MASK)?,
        b"CapAmb" => caps.ambient = cursor.hex(MASK)?,
        b"NoNewPrivs" => status.no_new_privs = cursor.dec("0 or 1")? != 0,
        b"Seccomp" => status.seccomp_mode = cursor.dec_as("a seccomp mode")?,
        b"Seccomp_filters" => status.seccomp_filters = cursor.dec_as("a number of filters")?,
        b"Speculation_Store_Bypass" => status.speculation_store_bypass = value.to_vec(),
        b"SpeculationIndirectBranch" => status.speculation_indirect_branch = value.to_vec(),
        _ => {}
    }
    Ok(())
}

fn memory(status: &mut Status, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(value);
    match name {
        b"RssAnon" => status.rss_anonymous_bytes = kib(&mut cursor)?,
        b"RssFile" => status.rss_file_bytes = kib(&mut cursor)?,
        b"VmRSS" => {
            status.has_memory = true;
            status.rss_bytes = kib(&mut cursor)?;
        }
        b"VmSwap" => status.swap_bytes = kib(&mut cursor)?,
        b"VmPin" => status.pinned_bytes = kib(&mut cursor)?,
        b"HugetlbPages" => status.hugetlb_bytes = kib(&mut cursor)?,
        b"CoreDumping" => status.core_dumping = cursor.dec("0 or 1")? != 0,
        b"THP_enabled" => status.thp_enabled = cursor.dec("0 or 1")? != 0,
        b"untag_mask" => {
            cursor.literal(b"0x", "a mask that begins with 0x")?;
            status.untag_mask = cursor.hex("a hexadecimal mask")?;
        }
        b"x86_Thread_features" => status.thread_features = value.trim_ascii().to_vec(),
        _ => {}
    }
    Ok(())
}

fn kib(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let kib = cursor.dec("a size in kB")?;
    kib.checked_mul(1024).ok_or_else(|| cursor.malformed("a size that fits 64 bits"))
}

fn ids(cursor: &mut Cursor<'_>) -> Result<IdSet, Malformed> {
    const ID: &str = "four ids";
    Ok(IdSet {
        real: cursor.dec_as(ID)?,
        effective: cursor.dec_as(ID)?,
        saved: cursor.dec_as(ID)?,
        file_system: cursor.dec_as(ID)?,
    })
}

fn numbers<T: TryFrom<u64>>(value: &[u8]) -> Result<Vec<T>, Malformed> {
    value
        .split(|b| matches!(b, b' ' | b'\t'))
        .filter(|w| !w.is_empty())
        .map(|word| Cursor::new(word).dec_as("a list of numbers"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t7124\nNgid:\t0\n\
        Pid:\t7124\nPPid:\t7110\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t256\n\
        Groups:\t10 20 30 \nNStgid:\t7124\t12\nNSpid:\t7124\t12\nNSpgid:\t7110\t0\nNSsid:\t5444\t0\n\
        Kthread:\t0\nVmPeak:\t    3060 kB\nVmRSS:\t    1760 kB\nRssAnon:\t     400 kB\nRssFile:\t    1360 kB\nVmSwap:\t       8 kB\n\
        HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n\
        untag_mask:\t0xffffffffffffffff\nThreads:\t3\nSigQ:\t0/96365\nSigPnd:\t0000000000000001\n\
        ShdPnd:\t0000000000000002\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000000008\n\
        SigCgt:\t0000000000000010\nCapInh:\t0000000000000000\nCapPrm:\t000001fffeffffff\n\
        CapEff:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n\
        Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n\
        x86_Thread_features:\tshstk \nMems_allowed_list:\t0\n";

    #[test]
    fn fields() {
        let s = parse_status(TEXT).unwrap();
        assert_eq!(s.name, b"cat");
        assert_eq!((s.umask, s.state, s.threads), (0o22, RunState::Running, 3));
        assert_eq!((s.tgid, s.tid, s.ppid), (7124, 7124, 7110));
        assert_eq!((s.uid.real, s.uid.file_system, s.gid.effective), (1, 4, 6));
        assert_eq!(s.groups, [10, 20, 30]);
        assert_eq!(s.ns_tid, [7124, 12]);
        assert_eq!(s.capabilities.effective, 0x1ff_feff_ffff);
        assert!(s.no_new_privs && s.has_memory);
        assert_eq!((s.seccomp_mode, s.seccomp_filters), (2, 3));
        assert_eq!((s.rss_bytes, s.swap_bytes), (1760 * 1024, 8192));
        assert_eq!((s.rss_anonymous_bytes, s.rss_file_bytes), (400 * 1024, 1360 * 1024));
        assert_eq!((s.signals_pending, s.signals_pending_shared, s.signals_blocked), (1, 2, 4));
        assert_eq!(s.thread_features, b"shstk");
        assert_eq!(s.kthread, Some(false));
    }

    #[test]
    fn a_cut_text_is_refused() {
        assert!(parse_status(&TEXT[..200]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..2000, byte: u8, cut in 0usize..2000) {
            let mut text = TEXT.to_vec();
            let at = at % text.len();
            text[at] = byte;
            text.truncate(cut);
            let _ = parse_status(&text);
        }
    }
}
