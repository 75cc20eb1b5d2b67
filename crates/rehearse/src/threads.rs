//! The clone's threads: a fork has one, the others are made again.

use inject::{Arg, Batch, Stub, regs_with_original_call};
use mem::AddrRange;
use process::{TaskGroup, Thread};
use sys::ptrace::{Options, Regs, StoppedThread};

use crate::RehearseError;
use crate::fork::unfit;
use crate::pages::Pages;

/// `RSEQ_FLAG_UNREGISTER`
const UNREGISTER: u64 = 1;

/// Lets go of the first thread's restartable sequences: the kernel writes to their area whenever
/// the thread goes on, and the memory is about to be taken away.
pub(crate) fn forget_rseq(leader: &mut Stub) -> Result<(), RehearseError> {
    let Some(rseq) = leader.thread().rseq()? else { return Ok(()) };
    let mut batch = Batch::new();
    let args: [Arg; 4] = [
        rseq.area.0.into(),
        u64::from(rseq.area_bytes).into(),
        UNREGISTER.into(),
        u64::from(rseq.signature).into(),
    ];
    batch.require(libc::SYS_rseq, &args);
    leader.run(&batch)?;
    Ok(())
}

/// Makes the other threads of `group`, and gives each its registers. All stand still, the first
/// one first.
pub(crate) fn make(
    mut leader: Stub,
    group: &TaskGroup,
    siblings: &[AddrRange],
    pages: &Pages,
) -> Result<Vec<StoppedThread>, RehearseError> {
    let mut stubs = Vec::new();
    for scratch in siblings {
        let mut batch = Batch::new();
        batch.require(libc::SYS_clone, &[sys::clone::THREAD_FLAGS.into()]);
        leader.run(&batch)?;
        let new = leader.new_threads().pop();
        let new = new.ok_or_else(|| unfit("the kernel did not report a thread"))?;
        stubs.push(leader.open_sibling(new, *scratch)?);
    }
    stubs.insert(0, leader);
    let mut threads = Vec::new();
    for (mut stub, thread) in stubs.into_iter().zip(&group.threads) {
        settle(&mut stub, thread, pages)?;
        stub.thread().set_xstate(&thread.xstate)?;
        let then = Regs::from_words(thread.registers.to_words());
        let regs = regs_with_original_call(&then, |at, buffer| pages.peek(at, buffer));
        let mut stopped = stub.into_thread(&regs)?;
        // From here on the instance's own filters bind its clone, too.
        stopped.set_options(Options { suspend_seccomp: false, ..stopped.options() })?;
        threads.push(stopped);
    }
    Ok(threads)
}

/// Ordinary scheduling, and restartable sequences as the thread had them.
fn settle(stub: &mut Stub, thread: &Thread, pages: &Pages) -> Result<(), RehearseError> {
    let mut batch = Batch::new();
    let no_priority = stub.place(&[0; 16])?;
    batch.call(libc::SYS_sched_setscheduler, &[0_u64.into(), 0_u64.into(), no_priority.into()]);
    if let Some(rseq) = thread.rseq {
        // The kernel writes there whenever the thread goes on, without asking for the page.
        pages.touch(rseq.address, u64::from(rseq.size_bytes), true)?;
        let args: [Arg; 4] = [
            rseq.address.into(),
            u64::from(rseq.size_bytes).into(),
            u64::from(rseq.flags).into(),
            u64::from(rseq.signature).into(),
        ];
        batch.call(libc::SYS_rseq, &args);
    }
    stub.run(&batch)?;
    Ok(())
}
