//! Single calls by an instruction that is there already.

use std::time::{Duration, Instant};

use mem::VirtAddr;
use sys::ptrace::{Event, Regs, Resume, Stop, StoppedThread, Traced};
use sys::task::Tid;

use crate::InjectError;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes system call `nr` in `thread`, which belongs to a process of our own, with the `syscall`
/// instruction at `instruction` and otherwise the registers `regs`. Nothing is put back.
///
/// Gives what the call returned, negative error numbers included, and the thread or child that it
/// created, when the thread has [`trace_clone`](sys::ptrace::Options::trace_clone): stopped behind
/// the same instruction with the same registers and options.
///
/// # Errors
/// When the thread ends or does not return from the call within ten seconds.
pub fn call_at(
    thread: &mut StoppedThread,
    regs: &Regs,
    instruction: VirtAddr,
    nr: i64,
    args: [u64; 6],
) -> Result<(i64, Option<StoppedThread>), InjectError> {
    let [rdi, rsi, rdx, r10, r8, r9] = args;
    let (rax, rip) = (nr.cast_unsigned(), instruction.0);
    let regs = Regs { rax, rdi, rsi, rdx, r10, r8, r9, rip, orig_rax: u64::MAX, ..*regs };
    thread.set_regs(&regs)?;
    let deadline = Instant::now() + CALL_TIMEOUT;
    let (mut call_stops, mut created) = (0, None);
    while call_stops < 2 {
        match thread.resume_and_wait(Resume::Syscall(0), deadline)? {
            Stop::Syscall => call_stops += 1,
            Stop::Event(Event::Clone | Event::Fork | Event::Vfork) => {
                let tid = i32::try_from(thread.event_message()?).ok().and_then(Tid::new);
                if let Some(tid) = tid {
                    let child = Traced::adopt(tid, thread.options());
                    created = Some(child.into_next_stop(deadline)?);
                }
            }
            _ => {}
        }
    }
    Ok((thread.regs()?.rax.cast_signed(), created))
}
