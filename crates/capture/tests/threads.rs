//! Threads, signals, timers and settings of a process: what was captured is what the child set up.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use process::{LineIdentity, PosixTimerNotify, SignalSet};
use support::{instance, python};
use sys::ptrace::Regs;

#[test]
fn signals_of_a_process_and_of_a_thread() {
    let Some(child) = python(
        "
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, 40})
signal.signal(signal.SIGHUP, lambda *a: None)
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
signal.siginterrupt(signal.SIGHUP, False)
go = threading.Event()
def body():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
    libc.prctl(15, b'second', 0, 0, 0)
    libc.prctl(29, 123456, 0, 0, 0)
    go.set()
    time.sleep(1000)
threading.Thread(target=body, daemon=True).start()
go.wait()
os.kill(os.getpid(), signal.SIGUSR1)
class Info(ctypes.Structure):
    _fields_ = [('signo', ctypes.c_int), ('errno', ctypes.c_int), ('code', ctypes.c_int),
                ('pad', ctypes.c_int), ('pid', ctypes.c_int), ('uid', ctypes.c_int),
                ('value', ctypes.c_ulong), ('rest', ctypes.c_char * 96)]
for value in (11, 22):
    call(129, os.getpid(), 40, ctypes.byref(Info(40, 0, -1, 0, os.getpid(), 0, value)))
stack = mapping(65536)
class Stack(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]
call(131, ctypes.byref(Stack(stack, 0, 65536)), 0)
tell(hex(stack))
",
    ) else {
        return;
    };
    let instance = instance(&child);
    let group = &instance.groups[0];
    let leader = &group.threads[0];
    let bit = |signal: i32| 1u64 << (signal - 1);
    let blocked = bit(libc::SIGUSR1) | bit(libc::SIGUSR2) | bit(40);
    assert_eq!(leader.blocked_signals, SignalSet(blocked));
    assert_eq!(leader.alternate_stack.base, child.number(0, 0));
    assert_eq!((leader.alternate_stack.flags, leader.alternate_stack.size_bytes), (0, 65536));
    let second = &group.threads[1];
    assert_eq!(second.name, b"second");
    assert_eq!(second.timer_slack_ns, 123_456);
    assert_eq!(second.blocked_signals, SignalSet(blocked | bit(libc::SIGTERM)));
    assert_eq!(second.pending_signals.len(), 1);
    assert_eq!(second.pending_signals[0].signal(), libc::SIGUSR2);
    assert_ne!(second.clear_child_tid, 0);
    assert_ne!(second.robust_list.head, 0);
    assert!(second.rseq.is_some());
    let waiting: Vec<_> = group.pending_signals.iter().map(|s| (s.signal(), s.code())).collect();
    assert_eq!(waiting, [(libc::SIGUSR1, 0), (40, -1), (40, -1)]);
    let values: Vec<u8> = group.pending_signals[1..].iter().map(|s| s.siginfo[24]).collect();
    assert_eq!(values, [11, 22]);
    let action = |signal: i32| group.signal_actions[usize::try_from(signal - 1).unwrap()];
    assert_eq!(action(libc::SIGPIPE).handler, 1);
    assert!(action(libc::SIGHUP).handler > 1);
    assert_ne!(action(libc::SIGHUP).flags & 0x1000_0000, 0, "SA_RESTART");
    assert_eq!(action(libc::SIGUSR1).handler, 0);
}

#[test]
fn timers() {
    let Some(child) = python(
        "
signal.setitimer(signal.ITIMER_REAL, 1000, 7.5)
signal.setitimer(signal.ITIMER_PROF, 2000, 0)
class Event(ctypes.Structure):
    _fields_ = [('value', ctypes.c_ulong), ('signal', ctypes.c_int), ('notify', ctypes.c_int),
                ('tid', ctypes.c_int), ('pad', ctypes.c_int * 11)]
made = ctypes.c_int()
ids = []
for event, clock in ((Event(0x1234, 10, 0), 1), (Event(0x77, 0, 1), 0),
                     (Event(0x99, 12, 4, libc.gettid()), 1)):
    call(222, clock, ctypes.byref(event), ctypes.byref(made))
    ids.append(made.value)
call(223, ids[0], 0, struct.pack('4q', 5, 600, 3000, 0), 0)
tell(*ids)
",
    ) else {
        return;
    };
    let instance = instance(&child);
    let group = &instance.groups[0];
    let [real, virt, prof] = group.interval_timers.map(|timer| timer.setting);
    assert_eq!(real.interval_ns, 7_500_000_000);
    assert!((900_000_000_000..=1_000_000_000_000).contains(&real.value_ns), "{real:?}");
    assert_eq!((virt.value_ns, virt.interval_ns), (0, 0));
    assert!(prof.value_ns > 1_900_000_000_000);
    let timers = &group.posix_timers;
    assert_eq!(timers.len(), 3);
    assert_eq!(i64::from(timers[0].id), child.number(0, 0).cast_signed());
    assert_eq!((timers[0].signal, timers[0].value, timers[0].clock), (10, 0x1234, 1));
    assert_eq!(timers[0].notify, PosixTimerNotify::Process);
    assert_eq!(timers[0].setting.interval_ns, 5_000_000_600);
    assert!(timers[0].setting.value_ns > 2_900_000_000_000);
    assert_eq!((timers[1].notify, timers[1].clock), (PosixTimerNotify::None, 0));
    assert_eq!(timers[1].setting.value_ns, 0);
    assert_eq!(timers[2].notify, PosixTimerNotify::Thread(group.pid));
}

#[test]
fn limits_names_and_scheduling() {
    let folder = tempfile::tempdir().unwrap();
    let Some(child) = python(&format!(
        "
import resource
os.chdir({folder:?})
os.umask(0o037)
resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.setpriority(os.PRIO_PROCESS, 0, 3)
os.sched_setaffinity(0, {{0}})
open('/proc/self/oom_score_adj', 'w').write('77')
libc.personality(0x0040000)
libc.prctl(36, 1)
libc.prctl(41, 1, 0, 0, 0)
libc.prctl(4, 0)
libc.prctl(1, 15)
call(251, 1, 0, 2 << 13 | 5)
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
",
        folder = folder.path().to_str().unwrap()
    )) else {
        return;
    };
    let instance = instance(&child);
    let group = &instance.groups[0];
    assert_eq!(group.umask, 0o037);
    assert_eq!(group.cwd, folder.path().as_os_str().as_encoded_bytes());
    assert_eq!(group.root, b"/");
    assert!(group.exe.starts_with(b"/usr/bin/python3"));
    assert_eq!((group.rlimits[7], group.rlimits[4]), ((123, 456), (0, 0)));
    assert_eq!(group.oom_score_adj, 77);
    assert_eq!(group.personality, 0x0004_0000);
    assert!(group.child_subreaper && group.thp_disable);
    assert_eq!(group.dumpable, 0);
    assert_eq!(group.parent_death_signal, 15);
    assert_eq!(group.exit_signal, 17);
    assert_eq!((group.pid, group.pid_outside), (child.pid(), child.pid()));
    let scheduling = &group.threads[0].scheduling;
    assert_eq!((scheduling.nice, scheduling.policy), (3, 3));
    assert_eq!(scheduling.affinity, [1]);
    assert_eq!(scheduling.io_priority, 2 << 13 | 5);
    assert!(instance.host.xcr0 & 3 == 3 && instance.host.xstate_in_use != 0);
    assert!(instance.host.hwcap[0] != 0);
    assert!(instance.host.clocks.monotonic_ns > 0);
}

#[test]
fn credentials_and_filters() {
    let Some(child) = python(
        "
if os.getuid() != 0:
    unavailable('root')
libc.prctl(28, 0x10, 0, 0, 0)
libc.prctl(24, 20, 0, 0, 0)
os.setgroups([5, 7])
os.setresgid(1001, 1002, 1003)
os.setresuid(1004, 1005, 1006)
libc.prctl(4, 1)
libc.prctl(38, 1, 0, 0, 0)
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
def install(filler, flags):
    code = b''.join(struct.pack('HBBI', 0x15, 0, 0, filler) for _ in range(2))
    code = struct.pack('HBBI', 0x20, 0, 0, 0) + code + struct.pack('HBBI', 6, 0, 0, 0x7fff0000)
    keep = ctypes.create_string_buffer(code)
    call(317, 1, flags, ctypes.byref(Program(len(code) // 8, ctypes.addressof(keep))))
install(111, 0)
install(222, 2)
threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
libc.prctl(1, 9)
",
    ) else {
        return;
    };
    let instance = instance(&child);
    let credentials = &instance.credentials[0];
    assert_eq!(credentials.uids, [1004, 1005, 1006, 1005]);
    assert_eq!(credentials.gids, [1001, 1002, 1003, 1002]);
    assert_eq!(credentials.groups, [5, 7]);
    assert_eq!(credentials.securebits & 0x10, 0x10);
    assert_eq!(credentials.capabilities.bounding >> 20 & 1, 0);
    assert!(credentials.no_new_privs);
    let filters = &credentials.seccomp_filters;
    let fillers: Vec<_> = filters.iter().map(|f| f.program[12]).collect();
    assert_eq!(fillers, [111, 222], "the oldest first");
    assert_eq!((filters[0].flags, filters[1].flags), (0, 2), "SECCOMP_FILTER_FLAG_LOG");
    assert!(instance.groups[0].threads.iter().all(|t| t.seccomp_mode == 2 && t.no_new_privs));
}

#[test]
fn an_alarm_is_captured_either_as_armed_or_as_pending() {
    const SIGTIMEDWAIT: u64 = 128;
    const ERESTARTNOHAND: i64 = -514;
    let Some(child) = python(
        "
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
def alarms():
    # A long one is still armed when a busy host gets round to looking, a short one never is.
    while True:
        for seconds in (0.001, 0.02):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            signal.sigwait({signal.SIGALRM})
threading.Thread(target=alarms, daemon=True).start()
",
    ) else {
        return;
    };
    let process = child.process();
    let survey = support::look(&process);
    let mut seen = [0, 0];
    for _ in 0..400 {
        let mut frozen = support::freeze(&process);
        let captured =
            rekindle_capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap();
        frozen.thaw();
        let group = &captured.instance.groups[0];
        let registers = group.threads[1].registers.to_words();
        let regs = Regs::from_words(registers);
        // Elsewhere it may be about to arm the next one.
        let waits = regs.orig_rax == SIGTIMEDWAIT && regs.rax.cast_signed() == ERESTARTNOHAND;
        if waits {
            let armed = group.interval_timers[0].setting.value_ns != 0;
            let pending = group.pending_signals.iter().any(|s| s.signal() == libc::SIGALRM);
            assert_ne!(armed, pending, "the alarm is lost, or comes twice");
            seen[usize::from(pending)] += 1;
        }
    }
    assert!(seen.iter().all(|times| *times > 0), "armed and pending: {seen:?}");
}
