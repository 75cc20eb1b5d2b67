//! Threads inside blocking system calls.

use std::io;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Beat, fail, watch};

/// How long the calls with a timeout last.
const SHORT: Duration = Duration::from_millis(20);
/// How much later than asked for a call may return on a busy machine.
const LATE: Duration = Duration::from_secs(4);
/// How often the threads that wait for something get it.
const EVERY: Duration = Duration::from_millis(7);

const SHORT_SPEC: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };

pub fn set_of(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |all, signal| all | 1 << (signal - 1))
}

pub fn set_mask(mask: u64) {
    // SAFETY: eight bytes are read from a live u64.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            null::<u64>(),
            8,
        )
    };
    assert_eq!(result, 0);
}

fn mask() -> u64 {
    let mut mask = 0_u64;
    // SAFETY: eight bytes are written to a live u64.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, null::<u64>(), &raw mut mask, 8)
    };
    assert_eq!(result, 0);
    mask
}

fn nr(call: i64, args: [usize; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers below pass live memory of the right size.
    let result = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    if result < 0 { -i64::from(io::Error::last_os_error().raw_os_error().unwrap()) } else { result }
}

fn at<T>(place: &T) -> usize {
    std::ptr::from_ref(place).addr()
}

/// Calls that return `EINTR` on any stop (signal(7)), and the most we can do is to be quick.
const STOPS_SHOW: [&str; 7] = [
    "sigtimedwait",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "recv-timeout",
    "semtimedop",
    "io_getevents",
];

/// Makes `call` for ever: it must return `expected` not before `least` has passed, and leave the
/// signal mask alone.
fn expect(
    name: &'static str,
    expected: i64,
    least: Duration,
    beat: &Beat,
    mut call: impl FnMut() -> i64,
) {
    let own_mask = mask();
    let stops_show = STOPS_SHOW.contains(&name) && std::env::var_os(super::STOPS_SHOW).is_some();
    loop {
        let started = Instant::now();
        let result = call();
        let passed = started.elapsed();
        if stops_show && result == -i64::from(libc::EINTR) {
            super::SHOWN.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if result != expected {
            fail(name, &format!("returned {result}, not {expected}, after {passed:?}"));
        }
        if passed < least || passed > least + LATE {
            fail(name, &format!("returned after {passed:?} instead of {least:?}"));
        }
        if mask() != own_mask {
            fail(name, &format!("its signal mask is {:x}, not {own_mask:x}", mask()));
        }
        beat.tick();
    }
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn install_handlers() {
    for (signal, flags) in [(libc::SIGUSR1, 0), (libc::SIGUSR2, libc::SA_RESTART)] {
        // SAFETY: the handler only adds to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = flags;
            action.sa_sigaction = handle as *const () as usize;
            assert_eq!(libc::sigaction(signal, &raw const action, null_mut()), 0);
        }
    }
}

/// What is done again and again, every few milliseconds, by one thread for all.
static ERRANDS: Mutex<Vec<Box<dyn FnMut() + Send>>> = Mutex::new(Vec::new());

fn every_few_milliseconds(errand: impl FnMut() + Send + 'static) {
    let mut errands = ERRANDS.lock().unwrap();
    errands.push(Box::new(errand));
    if errands.len() == 1 {
        std::thread::spawn(|| {
            set_mask(u64::MAX);
            loop {
                std::thread::sleep(EVERY);
                ERRANDS.lock().unwrap().iter_mut().for_each(|errand| errand());
            }
        });
    }
}

/// Has `signal` sent to the calling thread again and again.
fn be_poked(signal: i32) {
    // SAFETY: gettid and getpid take nothing.
    let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
    every_few_milliseconds(move || {
        nr(libc::SYS_tgkill, [pid as usize, tid as usize, signal as usize, 0, 0, 0]);
    });
}

/// A pipe into which a byte falls again and again.
fn dripping_pipe() -> i32 {
    let [read, write] = pipe();
    every_few_milliseconds(move || {
        nr(libc::SYS_write, [write as usize, at(&7_u8), 1, 0, 0, 0]);
    });
    read
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: two ints are written to a live array.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

/// Threads in calls that end by a timeout.
pub fn timeouts() {
    let none = [0_usize; 6];
    watch("nanosleep", &[], move |beat| {
        expect("nanosleep", 0, SHORT, beat, || {
            nr(libc::SYS_nanosleep, [at(&SHORT_SPEC), 0, 0, 0, 0, 0])
        });
    });
    watch("clock_nanosleep", &[1, 2, 3], move |beat| {
        expect("clock_nanosleep", 0, SHORT, beat, || {
            nr(libc::SYS_clock_nanosleep, [1, 0, at(&SHORT_SPEC), 0, 0, 0])
        });
    });
    watch("poll", &[10], move |beat| {
        let slot = libc::pollfd { fd: pipe()[0], events: libc::POLLIN, revents: 0 };
        expect("poll", 0, SHORT, beat, || nr(libc::SYS_poll, [at(&slot), 1, 20, 0, 0, 0]));
    });
    watch("ppoll", &[10], move |beat| {
        let slot = libc::pollfd { fd: pipe()[0], events: libc::POLLIN, revents: 0 };
        let inside = set_of(&[12]);
        expect("ppoll", 0, SHORT, beat, || {
            let left = SHORT_SPEC;
            nr(libc::SYS_ppoll, [at(&slot), 1, at(&left), at(&inside), 8, 0])
        });
    });
    watch("select", &[], move |beat| {
        expect("select", 0, SHORT, beat, || {
            let left = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
            nr(libc::SYS_select, [0, 0, 0, 0, at(&left), 0])
        });
    });
    watch("pselect", &[10], move |beat| {
        let inside = set_of(&[12]);
        expect("pselect", 0, SHORT, beat, || {
            let left = SHORT_SPEC;
            let pack = [at(&inside), 8];
            nr(libc::SYS_pselect6, [0, 0, 0, 0, at(&left), at(&pack)])
        });
    });
    watch("futex", &[10], move |beat| {
        let word = 5_u32;
        expect("futex", -i64::from(libc::ETIMEDOUT), SHORT, beat, || {
            nr(libc::SYS_futex, [at(&word), 0, 5, at(&SHORT_SPEC), 0, 0])
        });
    });
    watch("sigtimedwait", &[10, 12], move |beat| {
        let waited_for = set_of(&[12]);
        let mut args = none;
        args[0] = at(&waited_for);
        args[2] = at(&SHORT_SPEC);
        args[3] = 8;
        expect("sigtimedwait", -i64::from(libc::EAGAIN), SHORT, beat, || {
            nr(libc::SYS_rt_sigtimedwait, args)
        });
    });
    epoll_timeouts();
    socket_and_ipc_timeouts();
}

fn epoll_timeouts() {
    for (name, call, with_mask) in [
        ("epoll_wait", libc::SYS_epoll_wait, false),
        ("epoll_pwait", libc::SYS_epoll_pwait, true),
        ("epoll_pwait2", libc::SYS_epoll_pwait2, true),
    ] {
        watch(name, &[10], move |beat| {
            // SAFETY: epoll_create1 takes an integer.
            let epoll = unsafe { libc::epoll_create1(0) };
            // SAFETY: plain integers.
            let event: libc::epoll_event = unsafe { std::mem::zeroed() };
            let inside = set_of(&[12]);
            let mask_at = if with_mask { at(&inside) } else { 0 };
            let timeout = if call == libc::SYS_epoll_pwait2 { at(&SHORT_SPEC) } else { 20 };
            expect(name, 0, SHORT, beat, || {
                nr(call, [epoll as usize, at(&event), 1, timeout, mask_at, 8])
            });
        });
    }
}

fn socket_and_ipc_timeouts() {
    watch("recv-timeout", &[], move |beat| {
        let (socket, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket) as usize;
        let byte = 0_u8;
        // Counted in ticks of the kernel's clock, so up to one of them shorter.
        let least = SHORT.saturating_sub(Duration::from_millis(10));
        expect("recv-timeout", -i64::from(libc::EAGAIN), least, beat, || {
            nr(libc::SYS_recvfrom, [fd, at(&byte), 1, 0, 0, 0])
        });
    });
    watch("semtimedop", &[], move |beat| {
        let id = nr(libc::SYS_semget, [0, 1, 0o1600, 0, 0, 0]) as usize;
        let take = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        // The set goes with the last process that could use it: marked now would end the wait, so
        // the parent removes sets by the pid of their creator.
        expect("semtimedop", -i64::from(libc::EAGAIN), SHORT, beat, || {
            nr(libc::SYS_semtimedop, [id, at(&take), 1, at(&SHORT_SPEC), 0, 0])
        });
    });
    watch("io_getevents", &[], move |beat| {
        let context = AtomicU64::new(0);
        if nr(libc::SYS_io_setup, [4, at(&context), 0, 0, 0, 0]) != 0 {
            fail("io_getevents", "io_setup failed");
        }
        let event = [0_u64; 4];
        let context = usize::try_from(context.into_inner()).unwrap();
        expect("io_getevents", 0, SHORT, beat, || {
            let left = SHORT_SPEC;
            nr(libc::SYS_io_getevents, [context, 1, 1, at(&event), at(&left), 0])
        });
    });
}

/// Threads in calls that end because something comes.
pub fn arrivals() {
    watch("read", &[], |beat| {
        let (fd, byte) = (dripping_pipe() as usize, 0_u8);
        expect("read", 1, Duration::ZERO, beat, || nr(libc::SYS_read, [fd, at(&byte), 1, 0, 0, 0]));
    });
    watch("poll-forever", &[], |beat| {
        let slot = libc::pollfd { fd: dripping_pipe(), events: libc::POLLIN, revents: 0 };
        let byte = 0_u8;
        expect("poll-forever", 1, Duration::ZERO, beat, || {
            let result = nr(libc::SYS_poll, [at(&slot), 1, usize::MAX, 0, 0, 0]);
            nr(libc::SYS_read, [slot.fd as usize, at(&byte), 1, 0, 0, 0]);
            result
        });
    });
    watch("accept", &[], |beat| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        every_few_milliseconds(move || drop(std::net::TcpStream::connect(address)));
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener) as usize;
        expect("accept", 0, Duration::ZERO, beat, || {
            let got = nr(libc::SYS_accept, [fd, 0, 0, 0, 0, 0]);
            nr(libc::SYS_close, [usize::try_from(got).unwrap_or(usize::MAX), 0, 0, 0, 0, 0])
        });
    });
}

/// Threads in calls that a signal handler ends: each end must be `EINTR`, and come.
pub fn handlers() {
    install_handlers();
    let eintr = -i64::from(libc::EINTR);
    let far = libc::timespec { tv_sec: 1000, tv_nsec: 0 };
    watch("sigsuspend", &[10, 12], move |beat| {
        be_poked(libc::SIGUSR1);
        let inside = set_of(&[12]);
        expect("sigsuspend", eintr, Duration::ZERO, beat, || {
            nr(libc::SYS_rt_sigsuspend, [at(&inside), 8, 0, 0, 0, 0])
        });
    });
    watch("ppoll-handler", &[10], move |beat| {
        be_poked(libc::SIGUSR1);
        let inside = 0_u64;
        expect("ppoll-handler", eintr, Duration::ZERO, beat, || {
            nr(libc::SYS_ppoll, [0, 0, 0, at(&inside), 8, 0])
        });
    });
    watch("epoll_pwait-handler", &[10], move |beat| {
        be_poked(libc::SIGUSR1);
        // SAFETY: epoll_create1 takes an integer.
        let epoll = unsafe { libc::epoll_create1(0) };
        // SAFETY: plain integers.
        let event: libc::epoll_event = unsafe { std::mem::zeroed() };
        let inside = 0_u64;
        expect("epoll_pwait-handler", eintr, Duration::ZERO, beat, || {
            let args = [epoll as usize, at(&event), 1, usize::MAX, at(&inside), 8];
            nr(libc::SYS_epoll_pwait, args)
        });
    });
    watch("pause", &[], move |beat| {
        be_poked(libc::SIGUSR1);
        expect("pause", eintr, Duration::ZERO, beat, || nr(libc::SYS_pause, [0; 6]));
    });
    watch("nanosleep-handler", &[], move |beat| {
        be_poked(libc::SIGUSR1);
        expect("nanosleep-handler", eintr, Duration::ZERO, beat, || {
            nr(libc::SYS_nanosleep, [at(&far), 0, 0, 0, 0, 0])
        });
    });
    watch("epoll_wait-handler", &[], move |beat| {
        be_poked(libc::SIGUSR1);
        // SAFETY: epoll_create1 takes an integer.
        let epoll = unsafe { libc::epoll_create1(0) };
        // SAFETY: plain integers.
        let event: libc::epoll_event = unsafe { std::mem::zeroed() };
        expect("epoll_wait-handler", eintr, Duration::ZERO, beat, || {
            nr(libc::SYS_epoll_wait, [epoll as usize, at(&event), 1, usize::MAX, 0, 0])
        });
    });
    watch("read-handler", &[], move |beat| {
        be_poked(libc::SIGUSR1);
        let (fd, byte) = (pipe()[0] as usize, 0_u8);
        expect("read-handler", eintr, Duration::ZERO, beat, || {
            nr(libc::SYS_read, [fd, at(&byte), 1, 0, 0, 0])
        });
    });
    watch("read-restart", &[], move |beat| {
        be_poked(libc::SIGUSR2);
        let (fd, byte) = (dripping_pipe() as usize, 0_u8);
        expect("read-restart", 1, Duration::ZERO, beat, || {
            nr(libc::SYS_read, [fd, at(&byte), 1, 0, 0, 0])
        });
    });
}

/// Handles every signal that would otherwise be ignored, and fails when one comes.
pub fn handle_ignored_signals() {
    extern "C" fn unexpected(signal: i32) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(40 + signal) }
    }
    for signal in [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD, libc::SIGPIPE] {
        // SAFETY: the handler only ends the process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = unexpected as *const () as usize;
            assert_eq!(libc::sigaction(signal, &raw const action, null_mut()), 0);
        }
    }
}

/// Counts the first real-time signal as [`shown`](super::SHOWN).
pub fn count_signals() {
    extern "C" fn count(_: i32) {
        super::SHOWN.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_RESTART;
        action.sa_sigaction = count as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGRTMIN(), &raw const action, null_mut()), 0);
    }
}

/// Has the calling thread killed when it makes system call `number`.
pub fn forbid(number: u32) {
    let kill = libc::SECCOMP_RET_KILL_PROCESS;
    let filter = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: number },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: kill },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its instructions live across the calls, which only read them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program), 0);
    }
}
