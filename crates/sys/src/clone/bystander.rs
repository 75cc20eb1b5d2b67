//! A process beside another one: of the same user, in the same pid namespace, without any power.
//!
//! Some restrictions of a task can be read nowhere, and show only in what it may not do to others.
//! Whoever is under Landlock rules may not look into a process that is not (landlock(7), "Ptrace
//! restrictions"), while the same user's other processes may look into a powerless one. What a
//! session keyring would be without one of its own shows in such a process, too.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::raw;
use super::stack::{ChildStack, GiveBack};
use crate::task::{Pid, PidFd};

/// Such a process: it sleeps, holds nothing of ours in its memory, and ends with this value, or
/// with us.
#[derive(Debug)]
pub struct Bystander {
    pid: Pid,
    pidfd: PidFd,
    pid_inside: i32,
    session_keyring: Option<i32>,
    /// It ends when nobody holds this any more.
    _control: OwnedFd,
}

impl Bystander {
    /// Makes one with this user and group, in the pid namespace `pid_namespace`, else in ours.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SETUID` and `CAP_SETGID` where the user is another, or without
    /// `CAP_SYS_ADMIN` where the namespace is.
    pub fn spawn(uid: u32, gid: u32, pid_namespace: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let (control_read, control) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (status_read, status) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let stack = ChildStack::with(|give_back| Args {
            control: control_read.as_raw_fd(),
            status: status.as_raw_fd(),
            uid,
            gid,
            give_back,
        })?;
        let (pid, pidfd) = match pid_namespace {
            None => clone(&stack)?,
            Some(namespace) => {
                let back = File::open("/proc/thread-self/ns/pid_for_children")?;
                let kind = Some(LinkNameSpaceType::ProcessID);
                move_into_link_name_space(namespace, kind)?;
                let made = clone(&stack);
                // Cannot fail: it is our own, or one below.
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&back), kind)?;
                made?
            }
        };
        drop((control_read, status));
        let mut made = Self { pid, pidfd, pid_inside: 0, session_keyring: None, _control: control };
        let mut status = File::from(status_read);
        let mut word = || {
            let mut bytes = [0; 4];
            status.read_exact(&mut bytes).map(|()| i32::from_ne_bytes(bytes))
        };
        match word()? {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        made.pid_inside = word()?;
        made.session_keyring = Some(word()?).filter(|serial| *serial > 0);
        Ok(made)
    }

    /// Its pid in ours.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Its pid in its own pid namespace.
    pub const fn pid_inside(&self) -> i32 {
        self.pid_inside
    }

    /// The serial number of the session keyring that a process of ours would have as this user;
    /// `None` on a kernel without keyrings.
    pub const fn session_keyring(&self) -> Option<i32> {
        self.session_keyring
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        /// Its user may hold it, as one may hold any process of one's own.
        const END_TIMEOUT: Duration = Duration::from_secs(1);
        // Fails only when it has ended already.
        let _ = self.pidfd.send_signal(libc::SIGKILL);
        if self.pidfd.wait_ended(Instant::now() + END_TIMEOUT).unwrap_or(false) {
            super::reap(self.pid);
        }
    }
}

fn clone(stack: &ChildStack) -> io::Result<(Pid, PidFd)> {
    // SAFETY: no CLONE_VM; its arguments are an Args, and `stand_by` makes only system calls.
    unsafe { stack.start(0, stand_by) }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    control: i32,
    status: i32,
    uid: u32,
    gid: u32,
    give_back: GiveBack,
}

/// # Safety
/// Only as the main function of a child made by [`raw::clone3`], with an [`Args`] that lies in the
/// mapping of the child's stack.
unsafe extern "C" fn stand_by(arg: *const u8) -> ! {
    // SAFETY: as promised by the caller; the child has its own copy of everything, one thread,
    // and does nothing but system calls.
    unsafe {
        let args = &*arg.cast::<Args>();
        // Its user may look into it: it must hold nothing of ours.
        raw::close_all_but(&mut [args.control, args.status]);
        args.give_back.now();
        let name = c"rekindle-beside".as_ptr().addr() as u64;
        let set_name = u64::from(libc::PR_SET_NAME.unsigned_abs());
        raw::call(libc::SYS_prctl, [set_name, name, 0, 0, 0, 0]);
        let (result, keyring) = become_user(args);
        if result < 0 {
            let errno = i32::try_from(-result).unwrap_or(libc::EIO);
            raw::write_word(args.status, errno);
            raw::exit(1);
        }
        raw::write_word(args.status, 0);
        let pid = raw::call(libc::SYS_getpid, [0; 6]);
        raw::write_word(args.status, i32::try_from(pid).unwrap_or(0));
        raw::write_word(args.status, keyring);
        raw::read_byte(args.control);
        raw::exit(0);
    }
}

/// Takes the user on, gives up whatever is ours, and lets the user look in. Gives `-errno` or 0,
/// and the serial number of the session keyring that a process of ours has as this user.
///
/// # Safety
/// Only in a child made by [`raw::clone3`].
unsafe fn become_user(args: &Args) -> (i64, i32) {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u64 = 0x2008_0522;
    const KEYCTL_GET_KEYRING_ID: u64 = 0;
    const KEYCTL_JOIN_SESSION_KEYRING: u64 = 1;
    let session = i64::from(-3).cast_unsigned();
    let (uid, gid) = (u64::from(args.uid), u64::from(args.gid));
    // Version and pid 0, which is the caller; then twice three words of nothing.
    let (header, none) = (VERSION, [0_u64; 3]);
    let header_at = (&raw const header).addr() as u64;
    let none_at = none.as_ptr().addr() as u64;
    let root = c"/".as_ptr().addr() as u64;
    let core = u64::from(libc::RLIMIT_CORE);
    let dumpable = u64::from(libc::PR_SET_DUMPABLE.unsigned_abs());
    // SAFETY: integers, a literal with a NUL, and pointers to locals that live across the calls.
    unsafe {
        let result = raw::call(libc::SYS_setgroups, [0; 6]);
        // Who may not give groups up may not take another user on either: it is its own.
        if result < 0 && raw::call(libc::SYS_getuid, [0; 6]).cast_unsigned() != uid {
            return (result, 0);
        }
        for (number, call) in [
            (libc::SYS_setresgid, [gid, gid, gid, 0, 0, 0]),
            (libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0]),
            (libc::SYS_capset, [header_at, none_at, 0, 0, 0, 0]),
            (libc::SYS_chdir, [root, 0, 0, 0, 0, 0]),
            (libc::SYS_setrlimit, [core, none_at, 0, 0, 0, 0]),
        ] {
            let result = raw::call(number, call);
            if result < 0 {
                return (result, 0);
            }
        }
        let keyring = raw::call(libc::SYS_keyctl, [KEYCTL_GET_KEYRING_ID, session, 0, 0, 0, 0]);
        // Ours, which it would possess, is not for this user. Fails only where there are none.
        raw::call(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]);
        let result = raw::call(libc::SYS_prctl, [dumpable, 1, 0, 0, 0, 0]);
        (result.min(0), i32::try_from(keyring).unwrap_or(0))
    }
}
