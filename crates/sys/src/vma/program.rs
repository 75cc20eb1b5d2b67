//! The BPF program that is run for each mapping, see `bpf(2)` and the kernel's
//! `Documentation/bpf/bpf_iterators.rst`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::bpf::{
    Btf, Instruction, LINK_CREATE, LinkCreate, NotFound, PROG_LOAD, PROG_TYPE_TRACING, ProgLoad,
    address, bpf, number,
};
use crate::task::Tid;

/// Bytes the program writes for one mapping: start, end, flags.
pub(super) const RECORD_BYTES: usize = 24;

/// Why the mappings cannot be read this way. `/proc/PID/smaps` still can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmaError {
    /// No type information.
    #[error("read /sys/kernel/btf/vmlinux: {0}; the kernel needs CONFIG_DEBUG_INFO_BTF")]
    NoTypes(io::Error),
    /// The type information is another kernel's, or this one has other structures.
    #[error("look for the mappings' flags: {0}")]
    OtherKernel(#[from] NotFound),
    /// The kernel refused.
    #[error("{what} (bpf(2)): {cause}; this needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        cause: io::Error,
    },
}

const ITER_CREATE: libc::c_int = 33;
const TRACE_ITER: u32 = 28;

/// `union bpf_iter_link_info` for tasks (Linux >= 6.1).
#[derive(Default)]
#[repr(C)]
struct TaskInfo {
    tid: u32,
    pid: u32,
    pidfd: u32,
    padding: u32,
}

/// The same for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

/// Loads the program. It writes start, end and flags of the mapping it is called for.
pub(super) fn load(types: &[u8]) -> Result<OwnedFd, VmaError> {
    const LOAD: u8 = 0x79;
    const STORE: u8 = 0x7b;
    const MOVE: u8 = 0xbf;
    const MOVE_NUMBER: u8 = 0xb7;
    const ADD_NUMBER: u8 = 0x07;
    const JUMP_IF_EQUAL: u8 = 0x15;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const SEQ_WRITE: i32 = 127;
    const FRAME: u8 = 10;
    let btf = Btf::parse(types)?;
    let field = |name| btf.field("vm_area_struct", name);
    let fields = [field("vm_start")?, field("vm_end")?, field("vm_flags")?];
    let context = |name| btf.field("bpf_iter__task_vma", name);
    let (meta, vma) = (context("meta")?, context("vma")?);
    let seq = btf.field("bpf_iter_meta", "seq")?;
    let op = |code, to: u8, from: u8, offset, immediate| Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    };
    let mut program = vec![op(LOAD, 2, 1, vma, 0), op(JUMP_IF_EQUAL, 2, 0, 12, 0)];
    for (field, place) in fields.into_iter().zip([-24, -16, -8]) {
        program.push(op(LOAD, 3, 2, field, 0));
        program.push(op(STORE, FRAME, 3, place, 0));
    }
    program.extend([
        op(LOAD, 1, 1, meta, 0),
        op(LOAD, 1, 1, seq, 0),
        op(MOVE, 2, FRAME, 0, 0),
        op(ADD_NUMBER, 2, 0, 0, -24),
        op(MOVE_NUMBER, 3, 0, 0, 24),
        op(CALL, 0, 0, 0, SEQ_WRITE),
        op(MOVE_NUMBER, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]);
    let attributes = ProgLoad {
        kind: PROG_TYPE_TRACING,
        instructions: u32::try_from(program.len()).unwrap_or(0),
        instructions_at: address(program.as_ptr()),
        license_at: address(c"Dual MIT/GPL".as_ptr()),
        expected_attach: TRACE_ITER,
        attach_function: btf.function("bpf_iter_task_vma")?,
        ..ProgLoad::default()
    };
    bpf(PROG_LOAD, &attributes)
        .map_err(|cause| VmaError::Refused { what: "load a program that reads mappings", cause })
}

/// Ties the program to the mappings of thread `tid`'s process.
pub(super) fn link(program: &OwnedFd, tid: Tid) -> Result<OwnedFd, VmaError> {
    let task = TaskInfo { tid: tid.raw().unsigned_abs(), ..TaskInfo::default() };
    let attributes = LinkCreate {
        program: number(program.as_raw_fd()),
        attach: TRACE_ITER,
        info_at: address(&raw const task),
        info_bytes: u32::try_from(size_of::<TaskInfo>()).unwrap_or(0),
        ..LinkCreate::default()
    };
    bpf(LINK_CREATE, &attributes)
        .map_err(|cause| VmaError::Refused { what: "iterate over a process's mappings", cause })
}

/// One run over the mappings, to be read from.
pub(super) fn run(link: &OwnedFd) -> io::Result<OwnedFd> {
    bpf(ITER_CREATE, &IterCreate { link: number(link.as_raw_fd()), flags: 0 })
}
