//! What runs in the init: plain system calls, no libc, no allocation, no panic.

use super::parked;
use super::raw::{self, CloneArgs};
use super::stack::GiveBack;

/// A report's first word when all is well.
pub(super) const OK: i32 = 0;

/// What the init was doing when it failed; the second word of a report is the errno.
pub(super) const STEPS: [&str; 6] = [
    "",
    "make the mounts of a new pid namespace private",
    "mount /proc in a new pid namespace (needs CAP_SYS_ADMIN)",
    "make a time namespace (needs CAP_SYS_ADMIN and CAP_SYS_TIME)",
    "make the main process of a new pid namespace (needs CAP_CHECKPOINT_RESTORE)",
    "make a session",
];

/// What the init is told. It lies at the start of the mapping its stack is in, and so do the
/// arrays it points to.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct InitArgs {
    pub(super) control_read: i32,
    pub(super) control_write: i32,
    pub(super) status_write: i32,
    pub(super) main_pid: i32,
    pub(super) new_session: i32,
    pub(super) new_clocks: i32,
    pub(super) offsets: [u8; 128],
    pub(super) offsets_bytes: u64,
    pub(super) give_back: GiveBack,
}

/// The init's main function.
///
/// # Safety
/// Only as the main function of a child made by [`raw::clone3`] that is the first process of a
/// pid namespace, with an [`InitArgs`] that lies in the mapping of the child's stack.
pub(super) unsafe extern "C" fn main(arg: *const u8) -> ! {
    // SAFETY: as promised by the caller; the child has its own copy of everything, one thread,
    // and does nothing but system calls.
    unsafe {
        let args = &*arg.cast::<InitArgs>();
        parked::die_with_parent();
        call1(libc::SYS_close, args.control_write);
        let name = c"rekindle-init".as_ptr().addr() as u64;
        let set_name = u64::from(libc::PR_SET_NAME.unsigned_abs());
        raw::call(libc::SYS_prctl, [set_name, name, 0, 0, 0, 0]);
        let failed = prepare(args);
        if failed.0 != OK {
            report(args, failed);
            raw::exit(1);
        }
        let (child, pidfd) = make_main(args);
        if child < 0 {
            report(args, (4, errno(child)));
            raw::exit(1);
        }
        report(args, (OK, pidfd));
        if await_byte(args) != Some(b'k') {
            raw::exit(1);
        }
        shrink(args);
        let mut said = await_byte(args);
        if said == Some(b'o') {
            // From here on it ends when nobody is left who could say how to go on.
            outlive_parent();
            tell(args, OK);
            said = await_byte(args);
        }
        if said != Some(b'g') {
            raw::exit(1);
        }
        outlive_parent();
        call1(libc::SYS_close, args.control_read);
        tell(args, OK);
        serve(args, child)
    }
}

/// Takes back that it dies with the thread that made it.
///
/// # Safety
/// Only in the init.
unsafe fn outlive_parent() {
    let option = u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs());
    // SAFETY: this prctl takes integers only.
    unsafe { raw::call(libc::SYS_prctl, [option, 0, 0, 0, 0, 0]) };
}

/// Session, mounts and clocks. Gives the failed step and its errno, or `OK`.
///
/// # Safety
/// Only in the init.
unsafe fn prepare(args: &InitArgs) -> (i32, i32) {
    let root = c"/".as_ptr().addr() as u64;
    let proc = c"proc".as_ptr().addr() as u64;
    let at = c"/proc".as_ptr().addr() as u64;
    // SAFETY: every pointer is a literal with a NUL, or null where the call allows it.
    unsafe {
        // A SIGCHLD that somebody ignores would reap children without telling us.
        let default = [0_u64; 4];
        let chld = u64::from(libc::SIGCHLD.unsigned_abs());
        let action = default.as_ptr().addr() as u64;
        raw::call(libc::SYS_rt_sigaction, [chld, action, 0, 8, 0, 0]);
        if args.new_session != 0 {
            let result = raw::call(libc::SYS_setsid, [0; 6]);
            if result < 0 {
                return (5, errno(result));
            }
        }
        let result = raw::call(libc::SYS_mount, [0, root, 0, libc::MS_REC | libc::MS_SLAVE, 0, 0]);
        if result < 0 {
            return (1, errno(result));
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let result = raw::call(libc::SYS_mount, [proc, at, proc, flags, 0, 0]);
        if result < 0 {
            return (2, errno(result));
        }
        if args.new_clocks != 0 {
            let result = make_clocks(args);
            if result < 0 {
                return (3, errno(result));
            }
        }
    }
    (OK, 0)
}

/// # Safety
/// Only in the init, with `/proc` mounted.
unsafe fn make_clocks(args: &InitArgs) -> i64 {
    let path = c"/proc/self/timens_offsets".as_ptr().addr() as u64;
    // SAFETY: integers, a literal with a NUL, and an array of `args` with its length.
    unsafe {
        let flag = u64::from(libc::CLONE_NEWTIME.unsigned_abs());
        let result = raw::call(libc::SYS_unshare, [flag, 0, 0, 0, 0, 0]);
        if result < 0 {
            return result;
        }
        let at = i64::from(libc::AT_FDCWD).cast_unsigned();
        let write = u64::from(libc::O_WRONLY.unsigned_abs());
        let file = raw::call(libc::SYS_openat, [at, path, write, 0, 0, 0]);
        if file < 0 {
            return file;
        }
        let text = args.offsets.as_ptr().addr() as u64;
        let fd = file.cast_unsigned();
        let result = raw::call(libc::SYS_write, [fd, text, args.offsets_bytes, 0, 0, 0]);
        raw::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        result
    }
}

/// Makes the main child: its pid in this namespace or `-errno`, and a pidfd of it.
///
/// # Safety
/// Only in the init.
unsafe fn make_main(args: &InitArgs) -> (i64, i32) {
    let mut pidfd: i32 = -1;
    let set_tid = [args.main_pid];
    let clone = CloneArgs {
        flags: u64::from(libc::CLONE_PIDFD.unsigned_abs()),
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        set_tid: (&raw const set_tid).addr() as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: no CLONE_VM; everything pointed to lives across the call; the child's main
    // function takes no argument and makes only system calls.
    let child = unsafe { raw::clone3(&clone, sleep_in_namespace, std::ptr::null()) };
    (child, pidfd)
}

/// # Safety
/// Only as the main function of a child made by [`raw::clone3`].
unsafe extern "C" fn sleep_in_namespace(_: *const u8) -> ! {
    // SAFETY: this is such a child. Should the init be gone already, so is this process.
    unsafe { parked::sleep() }
}

/// Gives back memory and descriptors that only the forking process needs.
///
/// # Safety
/// Only in the init; the ranges must hold nothing that `serve` uses.
unsafe fn shrink(args: &InitArgs) {
    // SAFETY: nothing but the two pipes and the stack is used from here on.
    unsafe {
        raw::close_all_but(&mut [args.control_read, args.status_write]);
        args.give_back.now();
    }
}

/// Reaps, passes signals on, and ends with the last child.
///
/// # Safety
/// Only in the init.
unsafe fn serve(args: &InitArgs, main: i64) -> ! {
    let every = u64::MAX;
    let set = (&raw const every).addr() as u64;
    let mut main_alive = true;
    let mut code = 0;
    loop {
        // SAFETY: integers, and pointers to locals that live across the calls.
        unsafe {
            if reap_all(args, main, &mut main_alive, &mut code) {
                raw::exit(code);
            }
            let mut info = [0_u64; 16];
            let info_at = info.as_mut_ptr().addr() as u64;
            let signal = raw::call(libc::SYS_rt_sigtimedwait, [set, info_at, 0, 8, 0, 0]);
            if signal <= 0 || signal == i64::from(libc::SIGCHLD) {
                continue;
            }
            let si_code = low_word(info[1]);
            if main_alive {
                pass_on(main, signal, si_code, info_at);
            } else if si_code <= 0 {
                raw::exit(code);
            }
        }
    }
}

/// Hands a signal that a process sent on to the main child. Signals from the kernel itself (the
/// terminal's) reach the child, which is in our session, without us.
///
/// # Safety
/// Only in the init; `info_at` is the address of the signal's siginfo.
unsafe fn pass_on(main: i64, signal: i64, si_code: i32, info_at: u64) {
    let (pid, number) = (main.cast_unsigned(), signal.cast_unsigned());
    // SAFETY: integers and the siginfo.
    unsafe {
        if si_code < 0 && si_code != libc::SI_TKILL {
            raw::call(libc::SYS_rt_sigqueueinfo, [pid, number, info_at, 0, 0, 0]);
        } else if si_code <= 0 {
            raw::call(libc::SYS_kill, [pid, number, 0, 0, 0, 0]);
        }
    }
}

/// Reaps every child that ended and tells the main one's changes. True when no child is left.
///
/// # Safety
/// Only in the init.
unsafe fn reap_all(args: &InitArgs, main: i64, main_alive: &mut bool, code: &mut i32) -> bool {
    let any = (-1_i64).cast_unsigned();
    let options = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED | libc::__WALL;
    loop {
        let mut status: i32 = 0;
        let at = (&raw mut status).addr() as u64;
        let options = u64::from(options.unsigned_abs());
        // SAFETY: integers and a live i32.
        let pid = unsafe { raw::call(libc::SYS_wait4, [any, at, options, 0, 0, 0]) };
        if pid == -i64::from(libc::EINTR) {
            continue;
        }
        if pid <= 0 {
            return pid < 0;
        }
        if pid != main || !*main_alive {
            continue;
        }
        // SAFETY: as above.
        unsafe { tell(args, status) };
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            *main_alive = false;
            *code = if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128 + libc::WTERMSIG(status)
            };
        }
    }
}

/// # Safety
/// Only in the init.
unsafe fn await_byte(args: &InitArgs) -> Option<u8> {
    // SAFETY: as promised by the caller.
    unsafe { raw::read_byte(args.control_read) }
}

/// # Safety
/// Only in the init.
unsafe fn report(args: &InitArgs, words: (i32, i32)) {
    // SAFETY: as promised by the caller.
    unsafe {
        tell(args, words.0);
        tell(args, words.1);
    }
}

/// Writes one word to the status pipe; nobody may be listening any more.
///
/// # Safety
/// Only in the init.
unsafe fn tell(args: &InitArgs, word: i32) {
    // SAFETY: as promised by the caller. The pipe does not block, SIGPIPE is blocked.
    unsafe { raw::write_word(args.status_write, word) };
}

/// # Safety
/// Only in a child made by [`raw::clone3`].
unsafe fn call1(number: i64, fd: i32) {
    // SAFETY: for close(2), which takes one integer.
    unsafe { raw::call(number, [u64::from(fd.unsigned_abs()), 0, 0, 0, 0, 0]) };
}

fn errno(result: i64) -> i32 {
    i32::try_from(-result).unwrap_or(libc::EIO)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half of the word is wanted")]
const fn low_word(word: u64) -> i32 {
    (word as u32).cast_signed()
}
