//! The one bit of the flags register that ptrace(2) does not set.
//!
//! `ID` (bit 21) tells programs that CPUID exists, and any program may hold it either way. The
//! kernel keeps a thread's own `ID` when a tracer sets its registers, so the thread has to change
//! it itself, with `popfq`, before it gets its registers.

use inject::Stub;
use mem::VirtAddr;
use sys::ptrace::Regs;

use super::room::{Desk, Room};
use super::script::failed;
use crate::{Phase, ResumeError};

const ID: u64 = 1 << 21;

/// `mov rsp, r9; pushfq; or qword [rsp], ID; popfq; syscall`
const SET: [u8; 24] = code([0x48, 0x81, 0x0c, 0x24, 0x00, 0x00, 0x20, 0x00]);
/// `mov rsp, r9; pushfq; and qword [rsp], ~ID; popfq; syscall`
const CLEAR: [u8; 24] = code([0x48, 0x81, 0x24, 0x24, 0xff, 0xff, 0xdf, 0xff]);

const fn code(change: [u8; 8]) -> [u8; 24] {
    let [a, b, c, d, e, f, g, h] = change;
    let (mov, pushf, popf) = ([0x4c, 0x89, 0xcc], 0x9c, 0x9d);
    let syscall = [0x0f, 0x05];
    [
        mov[0], mov[1], mov[2], pushf, a, b, c, d, e, f, g, h, popf, syscall[0], syscall[1], 0xcc,
        0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
    ]
}

/// Gives the thread the `ID` bit of `wanted`.
pub(super) fn give_id(
    stub: &mut Stub,
    desk: &Desk,
    room: &Room,
    wanted: &Regs,
) -> Result<(), ResumeError> {
    let step = "set the ID flag of a thread";
    let regs = stub.thread().regs().map_err(|e| failed(Phase::Start, step, e.into()))?;
    if (regs.eflags ^ wanted.eflags) & ID == 0 {
        return Ok(());
    }
    let code = if wanted.eflags & ID == 0 { CLEAR } else { SET };
    let at = room.own_code.start.0;
    for (at, word) in (at..).step_by(8).zip(code.as_chunks::<8>().0) {
        let word = u64::from_ne_bytes(*word);
        let poked = stub.thread().poke(VirtAddr(at), word);
        poked.map_err(|e| failed(Phase::Start, step, e.into()))?;
    }
    const STACK_BYTES: u64 = 64;
    let stack = desk.arguments.end.0 - STACK_BYTES;
    let args = [0, 0, 0, 0, 0, stack];
    stub.call_at(VirtAddr(at), libc::SYS_getpid, args)
        .map_err(|e| failed(Phase::Start, step, e))?;
    Ok(())
}
