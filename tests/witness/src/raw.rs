//! The system calls, with no retry on EINTR and with the call's text in every error.

use crate::flaw::Flaw;
use std::time::Duration;

/// A system call that returned an error.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// The text of the call.
    pub call: &'static str,
    /// Its errno.
    pub errno: i32,
}

impl From<Failed> for Flaw {
    fn from(failed: Failed) -> Self {
        let cause = std::io::Error::from_raw_os_error(failed.errno);
        Self::Wrong(format!("{} said {cause}", failed.call))
    }
}

impl From<std::io::Error> for Flaw {
    fn from(error: std::io::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// Turns a libc return value into a result.
pub fn outcome(call: &'static str, value: i64) -> Result<i64, Failed> {
    if value == -1 { Err(Failed { call, errno: errno() }) } else { Ok(value) }
}

/// The calling thread's errno.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Runs one libc call; `-1` becomes [`Failed`] with the call's text. The call is expanded inside
/// the unsafe block: that is what the macro is for.
#[macro_export]
macro_rules! sys {
    ($($call:tt)*) => {{
        #[allow(unused_unsafe, clippy::macro_metavars_in_unsafe)]
        // SAFETY: every pointer handed over comes from a live value of the caller's frame or from
        // a mapping that its kind owns; a wrong one is a flaw that the witness would report.
        let value = unsafe { $($call)* } as i64;
        $crate::raw::outcome(stringify!($($call)*), value)
    }};
}

/// The calling thread's tid, from the kernel.
pub fn gettid() -> i32 {
    // SAFETY: takes no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// The process id, from the kernel.
pub fn getpid() -> i32 {
    // SAFETY: takes no arguments.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

/// A duration as the kernel wants it.
pub fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Nanoseconds of a timespec.
pub fn nanos(time: &libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads a clock (through the vdso), in nanoseconds.
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives through the call.
    unsafe { libc::clock_gettime(id, &mut now) };
    nanos(&now)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn mono() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// An empty signal set with these members.
pub fn sigset(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a zeroed set is valid, and sigaddset only writes to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// All signals but the ones that faults raise, minus `open`: what a witness thread blocks.
pub fn quiet_mask(open: &[i32]) -> libc::sigset_t {
    // SAFETY: as in `sigset`.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        let faults =
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
        let ends = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGABRT];
        for &signal in faults.iter().chain(&ends).chain(open) {
            libc::sigdelset(&mut set, signal);
        }
        set
    }
}

/// Sets the calling thread's mask.
pub fn set_mask(set: &libc::sigset_t) -> Result<(), Failed> {
    sys!(libc::sigprocmask(libc::SIG_SETMASK, set, std::ptr::null_mut())).map(drop)
}

/// The calling thread's mask, as the kernel's 64 bits.
pub fn mask_bits() -> Result<u64, Failed> {
    let mut bits = 0u64;
    sys!(libc::syscall(
        libc::SYS_rt_sigprocmask,
        libc::SIG_BLOCK,
        std::ptr::null::<u64>(),
        &mut bits as *mut u64,
        8usize
    ))?;
    Ok(bits)
}

/// The `n`-th realtime signal that programs may use.
pub fn rt(n: i32) -> i32 {
    libc::SIGRTMIN() + n
}

/// What each realtime signal is for, so that no two kinds meet.
pub mod signal {
    /// Queued to a thread and left pending.
    pub const PENDING_THREAD: i32 = 0;
    /// Queued to the process and left pending.
    pub const PENDING_PROCESS: i32 = 1;
    /// POSIX timers.
    pub const TIMER: i32 = 2;
    /// Raised onto the alternate stack.
    pub const ALTERNATE: i32 = 3;
    /// Ends a `sigsuspend`.
    pub const SUSPEND: i32 = 4;
    /// Ends a `pause`.
    pub const PAUSE: i32 = 5;
    /// Ends a `sigtimedwait`.
    pub const WAITED: i32 = 6;
    /// Read from a signalfd.
    pub const DESCRIPTOR: i32 = 7;
    /// Read from a signalfd by a blocked thread.
    pub const DESCRIPTOR_BLOCKED: i32 = 8;
    /// Interrupts blocking calls, when sabotage is asked for.
    pub const SABOTAGE: i32 = 9;
    /// Nobody sends it; its action is compared.
    pub const UNUSED: i32 = 12;
}

/// Sends `signal` to a thread of this process with a value (`SI_QUEUE`).
pub fn queue_to_thread(tid: i32, signal: i32, value: i32) -> Result<(), Failed> {
    let mut info = queued(signal, value);
    sys!(libc::syscall(libc::SYS_rt_tgsigqueueinfo, getpid(), tid, signal, &mut info)).map(drop)
}

/// Sends `signal` to this process with a value (`SI_QUEUE`).
pub fn queue_to_process(signal: i32, value: i32) -> Result<(), Failed> {
    let mut info = queued(signal, value);
    sys!(libc::syscall(libc::SYS_rt_sigqueueinfo, getpid(), signal, &mut info)).map(drop)
}

/// The kernel's `siginfo_t` of a queued signal.
#[repr(C)]
pub struct Queued {
    pub si_signo: i32,
    pub si_errno: i32,
    pub si_code: i32,
    pad: i32,
    pub si_pid: i32,
    pub si_uid: u32,
    pub si_value: u64,
    rest: [u64; 12],
}

fn queued(signal: i32, value: i32) -> Queued {
    // SAFETY: takes no arguments.
    let uid = unsafe { libc::getuid() };
    Queued {
        si_signo: signal,
        si_errno: 0,
        si_code: libc::SI_QUEUE,
        pad: 0,
        si_pid: getpid(),
        si_uid: uid,
        si_value: value as u32 as u64,
        rest: [0; 12],
    }
}

/// Takes one pending signal of `set`; `None` as timeout waits for ever. The system call itself:
/// the C library's wrapper changes the code of signals sent by tgkill.
pub fn take_signal(
    set: &libc::sigset_t,
    timeout: Option<Duration>,
) -> Result<libc::siginfo_t, Failed> {
    let time = timeout.map(timespec);
    let time_pointer = time.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: a zeroed siginfo is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let call = libc::SYS_rt_sigtimedwait;
    sys!(libc::syscall(call, set, &mut info, time_pointer, 8usize))?;
    Ok(info)
}

/// Installs a plain handler.
pub fn on_signal(signal: i32, handler: extern "C" fn(i32), flags: i32) -> Result<(), Failed> {
    // SAFETY: a zeroed action is valid; the handlers of the witness only touch atomics.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags;
    sys!(libc::sigaction(signal, &action, std::ptr::null_mut())).map(drop)
}

/// Sleeps; an early end or an error is a failure.
pub fn sleep(duration: Duration) -> Result<(), Flaw> {
    let begin = mono();
    let time = timespec(duration);
    if let Err(failed) = sys!(libc::nanosleep(&time, std::ptr::null_mut())) {
        return Err(failed.into());
    }
    let slept = mono() - begin;
    if u128::from(slept) < duration.as_nanos() {
        return Err(Flaw::Wrong(format!("nanosleep of {duration:?} ended after {slept} ns")));
    }
    Ok(())
}

/// The text of a file; a failure names it.
pub fn read_text(path: &str) -> Result<String, Flaw> {
    std::fs::read_to_string(path).map_err(|e| Flaw::Wrong(format!("reading {path} said {e}")))
}

/// The bytes of a file; a failure names it.
pub fn read_bytes(path: &str) -> Result<Vec<u8>, Flaw> {
    std::fs::read(path).map_err(|e| Flaw::Wrong(format!("reading {path} said {e}")))
}

/// Where a symbolic link leads; a failure names it.
pub fn link(path: &str) -> Result<String, Flaw> {
    let link = std::fs::read_link(path);
    let link = link.map_err(|e| Flaw::Wrong(format!("reading the link {path} said {e}")))?;
    Ok(link.to_string_lossy().into_owned())
}
