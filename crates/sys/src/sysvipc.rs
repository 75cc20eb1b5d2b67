//! System V semaphores of the caller's IPC namespace, see `sysvipc(7)`.

use std::io;

use crate::task::Pid;

/// Semaphores looked at, at most (`SEMMNS` is 1024000000 by default; nobody has that many).
const SEMAPHORES_MAX: u32 = 1 << 20;

/// Whether process `pid` was the last to operate on any semaphore. The kernel shows nobody the
/// adjustments (`SEM_UNDO`) that it will make when a process ends; who made one is the last
/// operator of its semaphore until another process comes.
///
/// # Errors
/// When the semaphores cannot be listed.
pub fn operated_last(pid: Pid) -> io::Result<bool> {
    let text = match std::fs::read_to_string("/proc/sysvipc/sem") {
        Ok(text) => text,
        // A kernel without System V IPC has no semaphores.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(cause),
    };
    let sets = sets(&text).ok_or_else(|| io::Error::other("/proc/sysvipc/sem is malformed"))?;
    for (id, count) in sets {
        for number in 0..count.min(SEMAPHORES_MAX) {
            let number = i32::try_from(number).map_err(io::Error::other)?;
            // SAFETY: GETPID takes no further argument and touches no memory of ours.
            if unsafe { libc::semctl(id, number, libc::GETPID) } == pid.raw() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Id and number of semaphores of each set.
fn sets(text: &str) -> Option<Vec<(i32, u32)>> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let id = words.next()?.parse().ok()?;
        let count = words.nth(1)?.parse().ok()?;
        Some((id, count))
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
        assert_eq!(sets(text), Some(vec![(3, 5)]));
        assert_eq!(sets("head\nbad\n"), None);
    }

    #[test]
    fn who_operated_last_is_found() {
        // SAFETY: creates a set of two semaphores and removes it; no memory is passed but one
        // operation on the stack.
        unsafe {
            let id = libc::semget(libc::IPC_PRIVATE, 2, 0o600);
            assert!(id >= 0);
            let before = operated_last(Pid::current());
            let mut add = libc::sembuf { sem_num: 1, sem_op: 1, sem_flg: 0 };
            let done = libc::semop(id, &raw mut add, 1);
            let after = operated_last(Pid::current());
            libc::semctl(id, 0, libc::IPC_RMID);
            assert_eq!(done, 0);
            assert!(!before.unwrap());
            assert!(after.unwrap());
        }
    }
}
