//! Nice value, policy, priority, affinity and I/O priority of threads.

use super::threads::bind_to;
use crate::crew::{Crew, Member};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind};
use crate::{no_variant, same, sys};

#[derive(Debug, PartialEq, Eq)]
struct Scheduling {
    nice: i64,
    policy: i64,
    priority: i32,
    affinity: Vec<u8>,
    io_priority: i64,
}

const IOPRIO_WHO_PROCESS: i32 = 1;
/// Class best effort (2), level 6.
const IO_PRIORITY: i32 = 2 << 13 | 6;

/// Sets up threads that differ in how they are scheduled.
pub fn set_up(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let make = |number| {
        match number {
            0 => {
                let batch = libc::sched_param { sched_priority: 0 };
                sys!(libc::sched_setscheduler(0, libc::SCHED_BATCH, &batch))?;
                sys!(libc::setpriority(libc::PRIO_PROCESS, 0, 7))?;
            }
            1 => bind_to(&[0])?,
            2 => {
                let process = IOPRIO_WHO_PROCESS;
                sys!(libc::syscall(libc::SYS_ioprio_set, process, 0, IO_PRIORITY))?;
                sys!(libc::setpriority(libc::PRIO_PROCESS, 0, 3))?;
            }
            _ => {
                // Realtime scheduling needs a privilege: without it this thread stays ordinary.
                let realtime = libc::sched_param { sched_priority: 2 };
                let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
                let _ = sys!(libc::sched_setscheduler(0, policy, &realtime));
            }
        }
        Ok(Thread { expected: Scheduling::of_this_thread()? })
    };
    Crew::start("scheduling", 4, &[], make)?.boxed()
}

impl Scheduling {
    fn of_this_thread() -> Outcome<Self> {
        let mut parameters = libc::sched_param { sched_priority: 0 };
        sys!(libc::sched_getparam(0, &mut parameters))?;
        let mut affinity = vec![0u8; 128];
        let len = affinity.len();
        let pointer = affinity.as_mut_ptr();
        sys!(libc::syscall(libc::SYS_sched_getaffinity, 0, len, pointer))?;
        Ok(Self {
            // The system call says 20 - nice, so that no nice value looks like an error.
            nice: 20 - sys!(libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0))?,
            policy: sys!(libc::sched_getscheduler(0))?,
            priority: parameters.sched_priority,
            affinity,
            io_priority: sys!(libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0))?,
        })
    }
}

struct Thread {
    expected: Scheduling,
}

impl Member for Thread {
    fn verify(&mut self, _round: u64) -> Outcome {
        same!("scheduling", self.expected, Scheduling::of_this_thread()?);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        let ordinary = libc::sched_param { sched_priority: 0 };
        match variant {
            "nice" => {
                sys!(libc::sched_setscheduler(0, libc::SCHED_OTHER, &ordinary))?;
                self.expected = Scheduling::of_this_thread()?;
                sys!(libc::setpriority(libc::PRIO_PROCESS, 0, 9))?;
            }
            "policy" => drop(sys!(libc::sched_setscheduler(0, libc::SCHED_IDLE, &ordinary))?),
            "affinity" => {
                let first = self.expected.affinity.iter().position(|&byte| byte != 0);
                let byte = self.expected.affinity[first.unwrap_or(0)];
                if byte.count_ones() < 2 {
                    // One CPU cannot be narrowed; the comparison itself is spoilt instead.
                    self.expected.affinity[0] ^= 2;
                }
                bind_to(&[first.unwrap_or(0) * 8 + byte.trailing_zeros() as usize])?;
            }
            "io-priority" => {
                let (process, other) = (IOPRIO_WHO_PROCESS, 2 << 13 | 1);
                sys!(libc::syscall(libc::SYS_ioprio_set, process, 0, other))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
