//! Whether two tasks share a kernel object, see `kcmp(2)` (`CONFIG_KCMP`).

use std::cmp::Ordering;
use std::io;

use crate::task::Tid;

/// A kind of object that tasks share as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskObject {
    /// Address space.
    Vm,
    /// Descriptor table.
    Files,
    /// Root, working directory, umask.
    Fs,
    /// Signal actions.
    SignalActions,
    /// IO context.
    Io,
    /// System V semaphore adjustments.
    SysvSem,
}

impl TaskObject {
    fn code(self) -> i32 {
        match self {
            Self::Vm => 1,
            Self::Files => 2,
            Self::Fs => 3,
            Self::SignalActions => 4,
            Self::Io => 5,
            Self::SysvSem => 6,
        }
    }
}

/// Whether `a` and `b` share `object`.
///
/// # Errors
/// `ESRCH` when a task is gone, `EPERM` when we may not look into both, `ENOSYS` on a kernel
/// without the call.
pub fn tasks_share(a: Tid, b: Tid, object: TaskObject) -> io::Result<bool> {
    Ok(kcmp(a, b, object.code(), 0, 0)? == Some(Ordering::Equal))
}

/// How the open file descriptions behind descriptor `fd_a` of `a` and `fd_b` of `b` are ordered:
/// `Equal` is one and the same description. The order is stable as long as both are open.
///
/// # Errors
/// As for [`tasks_share`], and `EBADF` when a descriptor is not open.
pub fn compare_files(a: Tid, fd_a: i32, b: Tid, fd_b: i32) -> io::Result<Ordering> {
    let order = kcmp(a, b, 0, i64::from(fd_a), i64::from(fd_b))?;
    order.ok_or_else(|| io::Error::other("the kernel gave no order"))
}

/// Whether descriptor `fd` of `task` is the file that the epoll instance `epoll_fd` of `task`
/// watches under the number `target_fd`. A watched file stays on the list when its number is
/// reused, so that several may stand under one number: `occurrence` counts them from 0, in the
/// order of fdinfo.
///
/// # Errors
/// As for [`compare_files`], and `ENOENT` when the epoll instance watches nothing under it.
pub fn watches_file(
    task: Tid,
    fd: i32,
    epoll_fd: i32,
    target_fd: i32,
    occurrence: u32,
) -> io::Result<bool> {
    #[repr(C)]
    struct Slot {
        epoll_fd: u32,
        target_fd: u32,
        offset: u32,
    }
    let unsigned = |n: i32| u32::try_from(n).map_err(|_| io::Error::from_raw_os_error(libc::EBADF));
    let slot =
        Slot { epoll_fd: unsigned(epoll_fd)?, target_fd: unsigned(target_fd)?, offset: occurrence };
    let address = i64::try_from((&raw const slot).addr()).map_err(io::Error::other)?;
    // KCMP_EPOLL_TFD (Linux >= 4.13); `slot` lives through the call.
    Ok(kcmp(task, task, 7, i64::from(fd), address)? == Some(Ordering::Equal))
}

fn kcmp(a: Tid, b: Tid, kind: i32, index_a: i64, index_b: i64) -> io::Result<Option<Ordering>> {
    // SAFETY: the call takes integers; for KCMP_EPOLL_TFD the last one is the address of a
    // struct that `watches_file` keeps alive, which the kernel reads. Nothing is changed.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, a.raw(), b.raw(), kind, index_a, index_b) };
    match result {
        0 => Ok(Some(Ordering::Equal)),
        1 => Ok(Some(Ordering::Less)),
        2 => Ok(Some(Ordering::Greater)),
        3 => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::event::epoll;

    use super::*;

    #[test]
    fn duplicates_are_one_description() {
        let me = Tid::current();
        let (a, b) = rustix::pipe::pipe().unwrap();
        let copy = a.try_clone().unwrap();
        let order = |x: &std::os::fd::OwnedFd, y: &std::os::fd::OwnedFd| {
            compare_files(me, x.as_raw_fd(), me, y.as_raw_fd()).unwrap()
        };
        assert_eq!(order(&a, &copy), Ordering::Equal);
        assert_ne!(order(&a, &b), Ordering::Equal);
        assert_eq!(order(&a, &b), order(&b, &a).reverse());
        assert!(tasks_share(me, Tid::current(), TaskObject::Vm).unwrap());
    }

    #[test]
    fn an_epoll_instance_knows_its_file_under_a_reused_number() {
        let me = Tid::current();
        let ep = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let (a, _b) = rustix::pipe::pipe().unwrap();
        epoll::add(&ep, &a, epoll::EventData::new_u64(7), epoll::EventFlags::IN).unwrap();
        let copy = a.try_clone().unwrap();
        let watches = |fd: &std::os::fd::OwnedFd, target: i32| {
            watches_file(me, fd.as_raw_fd(), ep.as_raw_fd(), target, 0).unwrap()
        };
        let number = a.as_raw_fd();
        assert!(watches(&a, number) && watches(&copy, number));
        let (c, _d) = rustix::pipe::pipe().unwrap();
        assert!(!watches(&c, number));
    }
}
