//! The clone becomes a process that can be worked in: our code's room, walls, no terminal.

use inject::{Stub, StubRoom, call_at};
use mem::{AddrRange, PAGE_SIZE, VirtAddr};
use sys::ptrace::StoppedThread;
use sys::remote;

use crate::life::Life;
use crate::{Fork, RehearseError, filter};

/// For the tables of the first thread: the moves of a thousand mappings.
pub(crate) const SCRATCH_BYTES: u64 = 512 * 1024;
/// For those of every other thread.
pub(crate) const SIBLING_BYTES: u64 = 16 * 1024;

/// A clone with our code in it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) life: Life,
    pub(crate) stub: Stub,
    /// Scratch areas for its other threads.
    pub(crate) siblings: Vec<AddrRange>,
}

impl Fork {
    /// Puts our code and the walls in place. `threads`: how many it is going to have.
    pub(crate) fn settle(self, threads: usize) -> Result<Settled, RehearseError> {
        // Should this fail half-way, `life` is dropped first: it is killed, not let go.
        let Self { mut thread, instruction, life, .. } = self;
        let room = lay_out(&mut thread, instruction, threads)?;
        let code = AddrRange::new(room.start.0, room.start.0 + PAGE_SIZE);
        let scratch = AddrRange::new(code.end.0, code.end.0 + SCRATCH_BYTES);
        let sibling = |start| AddrRange::new(start, start + SIBLING_BYTES);
        let others = (scratch.end.0..room.end.0).step_by(step());
        let siblings = others.map(sibling).collect();
        let stub = Stub::open(life.pid, thread, StubRoom { code, scratch })?;
        Ok(Settled { life, stub, siblings })
    }
}

fn step() -> usize {
    usize::try_from(SIBLING_BYTES).unwrap_or(usize::MAX)
}

/// Maps the room and raises the walls, by single calls.
fn lay_out(
    thread: &mut StoppedThread,
    instruction: VirtAddr,
    threads: usize,
) -> Result<AddrRange, RehearseError> {
    let (tid, regs) = (thread.tid(), thread.regs()?);
    let mut call = |what: &'static str, nr: i64, args: [u64; 6]| {
        let (returned, _) = call_at(thread, &regs, instruction, nr, args)?;
        RehearseError::check(what, returned)
    };
    // Out of the terminal's and the group's reach.
    call("leave the session", libc::SYS_setsid, [0; 6])?;
    let own_pid = call("ask for its pid", libc::SYS_getpid, [0; 6])?;
    let others = u64::try_from(threads.saturating_sub(1)).unwrap_or(0) * SIBLING_BYTES;
    let bytes = PAGE_SIZE + SCRATCH_BYTES + others;
    let (read_write, private_anonymous) = (3, 0x22);
    let start = call(
        "map a room for our code",
        libc::SYS_mmap,
        [0, bytes, read_write, private_anonymous, u64::MAX, 0],
    )?;
    let read_exec = 5;
    call("make our code's page so", libc::SYS_mprotect, [start, PAGE_SIZE, read_exec, 0, 0, 0])?;
    // Walls: no dump of it is ever written, nothing gives it rights, no call but a few.
    let scratch = start + PAGE_SIZE;
    let program = filter::program(u32::try_from(own_pid).unwrap_or(0));
    let count = program.len() / filter::INSTRUCTION_BYTES;
    let (limit_at, program_at) = (scratch + 32, scratch + 64);
    // `struct sock_fprog`
    let mut head = Vec::from(u64::try_from(count).unwrap_or(0).to_ne_bytes());
    head.extend(program_at.to_ne_bytes());
    let put = |at: u64, bytes: &[u8]| {
        remote::write(tid, VirtAddr(at), bytes).map_err(RehearseError::io("write to the clone"))
    };
    put(scratch, &head)?;
    put(limit_at, &[0; 16])?;
    put(program_at, &program)?;
    let core = u64::from(libc::RLIMIT_CORE);
    call("forbid dumps", libc::SYS_prlimit64, [0, core, limit_at, 0, 0, 0])?;
    let no_new_privs = u64::from(libc::PR_SET_NO_NEW_PRIVS.unsigned_abs());
    call("forbid new rights", libc::SYS_prctl, [no_new_privs, 1, 0, 0, 0, 0])?;
    let filter_mode = 1;
    call("forbid its calls", libc::SYS_seccomp, [filter_mode, 0, scratch, 0, 0, 0])?;
    Ok(AddrRange::new(start, start + bytes))
}
