//! System V semaphores of the caller's IPC namespace, see `sysvipc(7)`.

use std::io;

use crate::task::Pid;

/// Semaphores looked at, at most (`SEMMNS` is 1024000000 by default; nobody has that many).
const SEMAPHORES_MAX: u32 = 1 << 20;

/// Who operated on the semaphores of the caller's IPC namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operated {
    /// Nobody yet, or there are none.
    Never,
    /// Others were the last ones to do so.
    ByOthers,
    /// The process in question, as the last one to operate on some semaphore.
    ByIt,
}

/// Who operated on the semaphores, with regard to process `pid`. The kernel shows nobody the
/// adjustments (`SEM_UNDO`) that it will make when a process ends; who made one is the last
/// operator of its semaphore until another process comes.
///
/// # Errors
/// When the semaphores cannot be listed.
pub fn operated(pid: Pid) -> io::Result<Operated> {
    let text = match std::fs::read_to_string("/proc/sysvipc/sem") {
        Ok(text) => text,
        // A kernel without System V IPC has no semaphores.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Operated::Never),
        Err(cause) => return Err(cause),
    };
    let sets = sets(&text).ok_or_else(|| io::Error::other("/proc/sysvipc/sem is malformed"))?;
    let mut found = Operated::Never;
    for set in sets.iter().filter(|set| set.is_used) {
        found = Operated::ByOthers;
        for number in 0..set.semaphores.min(SEMAPHORES_MAX) {
            let number = i32::try_from(number).map_err(io::Error::other)?;
            // SAFETY: GETPID takes no further argument and touches no memory of ours.
            if unsafe { libc::semctl(set.id, number, libc::GETPID) } == pid.raw() {
                return Ok(Operated::ByIt);
            }
        }
    }
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
struct Set {
    id: i32,
    semaphores: u32,
    /// Somebody operated on it (semop(2)).
    is_used: bool,
}

fn sets(text: &str) -> Option<Vec<Set>> {
    let line = |line: &str| {
        // key semid perms nsems uid gid cuid cgid otime ctime
        let mut words = line.split_whitespace().skip(1);
        let id = words.next()?.parse().ok()?;
        let semaphores = words.nth(1)?.parse().ok()?;
        let operated_s: i64 = words.nth(4)?.parse().ok()?;
        Some(Set { id, semaphores, is_used: operated_s != 0 })
    };
    text.lines().skip(1).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
                    \x20        0          3   600          5     0     0     0     0          0 1795359999\n";
        let set = Set { id: 3, semaphores: 5, is_used: false };
        assert_eq!(sets(text), Some(vec![set]));
        assert_eq!(sets("head\nbad\n"), None);
    }

    #[test]
    fn who_operated_last_is_found() {
        let of_us = || operated(Pid::current());
        // SAFETY: creates a set of two semaphores and removes it; no memory is passed but one
        // operation on the stack.
        unsafe {
            let id = libc::semget(libc::IPC_PRIVATE, 2, 0o600);
            assert!(id >= 0);
            let before = of_us();
            let mut add = libc::sembuf { sem_num: 1, sem_op: 1, sem_flg: 0 };
            let done = libc::semop(id, &raw mut add, 1);
            let after = of_us();
            let to_others = operated(Pid::new(1).unwrap());
            libc::semctl(id, 0, libc::IPC_RMID);
            assert_eq!(done, 0);
            assert_ne!(before.unwrap(), Operated::ByIt);
            assert_eq!(after.unwrap(), Operated::ByIt);
            assert_eq!(to_others.unwrap(), Operated::ByOthers);
        }
    }
}
