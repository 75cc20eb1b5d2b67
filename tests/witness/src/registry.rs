//! All kinds, in the order in which they are set up: what belongs to the process comes first, so
//! that threads begin with it; what compares everything comes last.

use crate::flaw::Outcome;
use crate::kind::{Context, Entry, Kind};
use crate::kinds::{
    advised, clock, events, files, filtered, fired, heap, in_sleep, in_wait, leftovers,
    mapped_files, pairs, pipes, private, process, protected, registers, scheduling, shared,
    signals, sockets, stack, threads, timer_fds, timers, work,
};

type SetUp = fn(&Context) -> Outcome<Box<dyn Kind>>;

const fn on(
    name: &'static str,
    set_up: SetUp,
    variants: &'static [&'static str],
    about: &'static str,
) -> Entry {
    Entry { name, about, by_default: true, variants, set_up }
}

const fn off(entry: Entry) -> Entry {
    Entry { by_default: false, ..entry }
}

const INTERRUPTED: &[&str] = &["interrupted"];

/// The kinds.
static KINDS: &[Entry] = &[
    on("limits", process::limits, &["soft", "core"], "resource limits"),
    on(
        "flags",
        process::flags,
        &["dumpable", "securebits", "subreaper", "personality", "oom", "huge-pages"],
        "dumpable, no_new_privs, personality, oom_score_adj and other flags",
    ),
    on(
        "core-dump-filter",
        process::core_dump_filter,
        &["changed"],
        "which memory a core dump would hold",
    ),
    off(on("filtered", filtered::set_up, &["mode"], "a seccomp filter")),
    on("directory", process::directory, &["directory", "umask"], "cwd, root and umask"),
    on(
        "actions",
        signals::actions,
        &["default", "flags", "mask"],
        "the disposition of every signal",
    ),
    on("heap", heap::set_up, &["byte", "zero"], "malloc, calloc, realloc, free and reuse"),
    on(
        "given-back",
        private::given_back,
        &["byte", "not-zero", "lost"],
        "MADV_DONTNEED, MADV_FREE and holes",
    ),
    on("moved", private::moved, &["byte"], "memory moved, grown and shrunk by mremap"),
    on("paged-out", private::paged_out, &["byte"], "memory in swap"),
    on("reserve", private::reserve, &["open", "gone"], "a 4 GiB PROT_NONE reserve"),
    on("guards", protected::guards, &["removed", "byte"], "MADV_GUARD_INSTALL pages"),
    on(
        "protected",
        protected::protected,
        &["writable", "readable", "code", "hidden-byte"],
        "read-only, hidden and executable data",
    ),
    on(
        "advised",
        advised::set_up,
        &["advice", "unlocked", "byte"],
        "advice, locks and names of mappings",
    ),
    on("huge", advised::huge, &["byte", "not-zero"], "an area advised for huge pages"),
    on("grows-down", stack::grows_down, &["byte"], "a MAP_GROWSDOWN stack"),
    on("statics", stack::statics, &["data", "bss", "brk"], ".data, .bss and the program break"),
    on(
        "copy-on-write",
        mapped_files::copy_on_write,
        &["lost", "byte", "file-page"],
        "a private file mapping, partly written",
    ),
    on(
        "shared-file",
        mapped_files::shared,
        &["byte", "split"],
        "a shared file mapping, also read and written by descriptor",
    ),
    on(
        "memfd",
        shared::memfd,
        &["byte", "hole", "split", "own-page", "offset"],
        "a sealed memfd mapped four times and written by write",
    ),
    on(
        "posix-shm",
        shared::posix,
        &["byte", "unlinked-byte", "renamed"],
        "POSIX shared memory, named and unlinked",
    ),
    on("anonymous-shared", shared::anonymous, &["byte"], "shared anonymous memory, mapped twice"),
    on(
        "event-fds",
        events::event_fds,
        &["count", "token", "empty", "full"],
        "eventfd counters and semaphores",
    ),
    on(
        "epoll",
        events::epoll,
        &["lost", "edge-lost", "level", "data", "rearmed", "nested", "added"],
        "interest lists: level, edge, one-shot, nested",
    ),
    on("epoll-fired", fired::set_up, &["armed", "lost"], "one-shot entries that have fired"),
    on("signal-fd", events::signal_fd, &["mask", "read"], "a signalfd with signals waiting"),
    on(
        "pipes",
        pipes::set_up,
        &["taken", "fifo", "added", "changed", "capacity", "packet", "ended", "flags"],
        "pipes and a FIFO with data in them, packets, lost ends",
    ),
    on(
        "files",
        files::set_up,
        &["offset", "unshared", "flags", "close-on-exec", "closed", "log"],
        "open files: offsets, flags, shared descriptions",
    ),
    on("devices", files::devices, &["swapped", "closed"], "/dev/null, zero, random, urandom"),
    off(on("deleted", files::deleted, &["byte"], "a file deleted while open")),
    on(
        "listeners",
        sockets::listeners,
        &["option", "closed", "flags"],
        "TCP and unix listeners that answer with the status, threads in accept4",
    ),
    on("pairs", pairs::set_up, &["byte", "room"], "pairs of sockets with bytes under way"),
    on("datagrams", sockets::datagrams, &["option", "rebound"], "bound datagram sockets"),
    on(
        "pending-process",
        signals::pending_process,
        &["lost", "queue-lost", "order", "twice"],
        "signals pending for the process",
    ),
    on(
        "pending-thread",
        signals::pending_thread,
        &["lost", "queue-lost", "order", "twice"],
        "signals pending for a thread",
    ),
    on(
        "interval-timers",
        timers::interval,
        &["real", "disarmed", "virtual", "prof", "faster"],
        "the three interval timers",
    ),
    on(
        "posix-timers",
        timers::posix,
        &["deleted", "reset", "period", "armed", "silent"],
        "POSIX timers and their ids",
    ),
    on(
        "timer-fds",
        timer_fds::set_up,
        &["read", "reset", "silent", "armed"],
        "timer descriptors, ticking, long, unread, disarmed",
    ),
    on(
        "registers",
        registers::set_up,
        &["general", "vector", "upper", "opmask", "mxcsr", "x87", "control", "flags"],
        "all registers, in user code and across a system call",
    ),
    on("bases", registers::bases, &["gs"], "the fs and gs bases"),
    on("mask", threads::mask, &["opened"], "signal masks"),
    on(
        "alternate-stack",
        threads::alternate_stack,
        &["moved", "disabled", "byte"],
        "alternate signal stacks, in use",
    ),
    on("robust-list", threads::robust_list, &["head"], "the robust futex list"),
    on("rseq", threads::rseq, &["unregistered"], "restartable sequences"),
    on("name", threads::name, &["name", "slack"], "thread names and timer slack"),
    on("local", threads::local, &["local", "stack", "key"], "thread-local values and stacks"),
    on("ids", threads::ids, &["tid", "pid", "clear-tid"], "process and thread ids"),
    on(
        "scheduling",
        scheduling::set_up,
        &["nice", "policy", "affinity", "io-priority"],
        "nice value, policy, affinity, I/O priority",
    ),
    on("churn", work::churn, &["ended"], "threads that start, end and are joined"),
    on("ring", work::ring, &["token"], "a token passed by mutex and condition variable"),
    on("clock", clock::set_up, &["backwards"], "clocks through the vdso and the kernel"),
    on("in-nanosleep", in_sleep::nanosleep, INTERRUPTED, "inside nanosleep"),
    on("in-nanosleep-until", in_sleep::nanosleep_until, INTERRUPTED, "inside clock_nanosleep"),
    on("in-futex", in_sleep::futex_wait, INTERRUPTED, "inside FUTEX_WAIT"),
    on("in-futex-bitset", in_sleep::futex_bitset, INTERRUPTED, "inside FUTEX_WAIT_BITSET"),
    on("in-sigsuspend", in_sleep::sigsuspend, INTERRUPTED, "inside sigsuspend"),
    on("in-pause", in_sleep::pause, INTERRUPTED, "inside pause"),
    on("in-sigtimedwait", in_sleep::sigtimedwait, INTERRUPTED, "inside sigtimedwait"),
    on("in-signalfd-read", in_sleep::signalfd_read, INTERRUPTED, "inside a read of a signalfd"),
    on("in-poll", in_wait::poll, INTERRUPTED, "inside poll"),
    on("in-ppoll", in_wait::ppoll, INTERRUPTED, "inside ppoll"),
    on("in-select", in_wait::select, INTERRUPTED, "inside select"),
    on("in-pselect", in_wait::pselect, INTERRUPTED, "inside pselect"),
    on("in-epoll-wait", in_wait::epoll_wait, INTERRUPTED, "inside epoll_wait"),
    on("in-epoll-pwait", in_wait::epoll_pwait, INTERRUPTED, "inside epoll_pwait"),
    on("in-pipe-read", in_wait::pipe_read, INTERRUPTED, "inside a read of an empty pipe"),
    on("in-pipe-write", in_wait::pipe_write, INTERRUPTED, "inside a write to a full pipe"),
    on("in-splice", in_wait::splice, INTERRUPTED, "inside splice"),
    on("in-eventfd-read", in_wait::eventfd_read, INTERRUPTED, "inside a read of an eventfd"),
    on("in-timerfd-read", in_wait::timerfd_read, INTERRUPTED, "inside a read of a timerfd"),
    on("in-fifo-open", in_wait::fifo_open, INTERRUPTED, "inside an open of a FIFO"),
    on("in-recv", in_wait::recv, INTERRUPTED, "inside recv"),
    on("in-recv-timed", in_wait::recv_timed, INTERRUPTED, "inside recv with SO_RCVTIMEO"),
    on("in-accept", in_wait::accept, INTERRUPTED, "inside accept"),
    on("image", process::image, &["arguments"], "program, arguments, auxiliary vector"),
    on(
        "credentials",
        process::credentials,
        &["thread-group", "bounding", "namespace"],
        "ids, groups, capabilities, namespaces, cgroup",
    ),
    on(
        "leftovers",
        leftovers::set_up,
        &["descriptor", "closed", "mapping"],
        "nothing added to descriptors and executable memory",
    ),
];

/// The status listeners are always there.
const ALWAYS: &str = "listeners";

/// The kinds of a list: names, or changes (`+A`, `-A`) to the default.
pub fn choose(list: &str) -> Result<Vec<&'static Entry>, String> {
    let words: Vec<&str> = list.split(',').filter(|word| !word.is_empty()).collect();
    let relative = words.iter().all(|word| word.starts_with(['+', '-']));
    let mut chosen: Vec<bool> = KINDS.iter().map(|entry| relative && entry.by_default).collect();
    for word in words {
        let name = word.trim_start_matches(['+', '-']);
        let index = KINDS.iter().position(|entry| entry.name == name);
        let index = index.ok_or_else(|| format!("no kind named {name}; --list shows all"))?;
        chosen[index] = !word.starts_with('-');
    }
    let kept = |(entry, chosen): &(&'static Entry, bool)| *chosen || entry.name == ALWAYS;
    Ok(KINDS.iter().zip(chosen).filter(kept).map(|(entry, _)| entry).collect())
}

/// A kind's name and one of its variants, the first if none is named.
pub fn variant(kind: &str, variant: &str) -> Result<(String, String), String> {
    let entry = KINDS.iter().find(|entry| entry.name == kind);
    let entry = entry.ok_or_else(|| format!("no kind named {kind}; --list shows all"))?;
    let found = entry.variants.iter().find(|known| variant.is_empty() || **known == variant);
    match found {
        Some(found) => Ok((kind.to_owned(), (*found).to_owned())),
        None => Err(format!("{kind} has no sabotage {variant}, only {:?}", entry.variants)),
    }
}

/// One line per kind: name, whether it is on by default, variants, what it holds.
pub fn list() -> String {
    let line = |entry: &Entry| {
        let default = if entry.by_default { "on" } else { "off" };
        format!("{}\t{default}\t{}\t{}\n", entry.name, entry.variants.join(","), entry.about)
    };
    KINDS.iter().map(line).collect()
}
