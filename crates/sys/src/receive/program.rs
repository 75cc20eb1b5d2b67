//! The BPF program that runs when a system call returns.
//!
//! It is attached to the tracepoint behind every call (`sys_exit`): programs at the kernel's
//! functions themselves (`fexit`) would cost other calls nothing, but not every host lets them be
//! loaded. While it is there each call of anybody on the host takes a little longer, and for other
//! processes ends after one comparison.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{Kind, RecordError, Whose};
use crate::bpf::{
    Btf, Instruction, LINK_CREATE, LinkCreate, NotFound, PROG_LOAD, PROG_TYPE_TRACING, ProgLoad,
    address, bpf, number,
};

/// Bytes of one receipt that are kept, of a call with many parts those of the first.
pub(super) const PAYLOAD_MAX: usize = 16 * 1024;
/// Time, descriptor, kind, returned.
pub(super) const HEAD_BYTES: usize = 24;
/// In front of a receipt in the scratch area: how many could not be kept.
pub(super) const LOST_BYTES: usize = 8;

const TRACE_RAW_TRACEPOINT: u32 = 23;
const FRAME: u8 = 10;

// Instructions, as `linux/bpf.h` and `linux/bpf_common.h` number them.
const LOAD_WIDE: u8 = 0x18;
const LOAD_8: u8 = 0x79;
const LOAD_4: u8 = 0x61;
const STORE_8: u8 = 0x7b;
const STORE_4: u8 = 0x63;
const STORE_NUMBER_4: u8 = 0x62;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD: u8 = 0x0f;
const ADD_NUMBER: u8 = 0x07;
const SHIFT_LEFT: u8 = 0x67;
const AND_NUMBER: u8 = 0x57;
const JUMP: u8 = 0x05;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_IF_NEGATIVE: u8 = 0xc5;
const JUMP_UNLESS_ABOVE_NUMBER: u8 = 0xb5;
const JUMP_UNLESS_ABOVE: u8 = 0xbd;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

// Helpers, as `linux/bpf.h` numbers them.
const MAP_LOOKUP: i32 = 1;
const TIME: i32 = 5;
const CURRENT_TASK: i32 = 35;
const READ_USER: i32 = 112;
const READ_KERNEL: i32 = 113;
const OWN_PID: i32 = 120;
const RING_OUTPUT: i32 = 130;

/// `msg_iov` in `struct user_msghdr`, which is `struct msghdr`.
const MESSAGE_PARTS: i32 = 16;

// Places in the frame.
const PIDS: i16 = -8;
const FD: i16 = -16;
const PART: i16 = -32;
const WORD: i16 = -40;
const KIND: i16 = -48;

/// Places in the program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// Bytes to one place.
    One,
    /// Bytes to places of a list.
    Parts,
    Message,
    Accept,
    Keep,
    Written,
    /// It cannot be kept.
    Lost,
    /// It is not for us.
    Out,
}

#[derive(Default)]
struct Code {
    instructions: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    labels: BTreeMap<Label, usize>,
}

impl Code {
    fn op(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> &mut Self {
        let registers = from << 4 | to;
        self.instructions.push(Instruction { code, registers, offset, immediate });
        self
    }

    fn wide(&mut self, to: u8, from: u8, value: u64) -> &mut Self {
        let [low, high] = [value & 0xffff_ffff, value >> 32]
            .map(|half| u32::try_from(half).unwrap_or(0).cast_signed());
        self.op(LOAD_WIDE, to, from, 0, low).op(0, 0, 0, 0, high)
    }

    /// A map's descriptor, of which the kernel makes its address.
    fn map(&mut self, to: u8, map: &OwnedFd) -> &mut Self {
        const IS_MAP: u8 = 1;
        self.wide(to, IS_MAP, u64::from(number(map.as_raw_fd())))
    }

    fn call(&mut self, helper: i32) -> &mut Self {
        self.op(CALL, 0, 0, 0, helper)
    }

    fn jump(&mut self, code: u8, register: u8, value: i32, to: Label) -> &mut Self {
        self.jumps.push((self.instructions.len(), to));
        self.op(code, register, 0, 0, value)
    }

    fn label(&mut self, label: Label) -> &mut Self {
        self.labels.insert(label, self.instructions.len());
        self
    }

    /// Notes the kind and goes on at `to`.
    fn is(&mut self, kind: Kind, to: Label) -> &mut Self {
        self.op(STORE_NUMBER_4, FRAME, 0, KIND, kind.number()).jump(JUMP, 0, 0, to)
    }

    /// Reads bytes at register 3 plus `offset` into the frame at `place`.
    fn fetch(&mut self, helper: i32, offset: i32, place: i16, bytes: i32) -> &mut Self {
        self.op(ADD_NUMBER, 3, 0, 0, offset)
            .op(MOVE, 1, FRAME, 0, 0)
            .op(ADD_NUMBER, 1, 0, 0, place.into())
            .op(MOVE_NUMBER, 2, 0, 0, bytes)
            .call(helper)
            .jump(JUMP_UNLESS_EQUAL, 0, 0, Label::Out)
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let target = self.labels.get(&label).copied().unwrap_or(at + 1);
            self.instructions[at].offset = i16::try_from(target - at - 1).unwrap_or(0);
        }
        self.instructions
    }
}

/// Loads the program for `whose` calls. It writes to `ring` by way of `scratch`.
pub(super) fn load(
    btf: &Btf<'_>,
    whose: Whose,
    (ring, scratch): (&OwnedFd, &OwnedFd),
) -> Result<OwnedFd, RecordError> {
    let mut code = Code::default();
    choose(&mut code, btf, whose)?;
    find_bytes(&mut code);
    keep(&mut code, ring, scratch);
    code.label(Label::Out).op(MOVE_NUMBER, 0, 0, 0, 0).op(EXIT, 0, 0, 0, 0);
    let program = code.finish();
    let attributes = ProgLoad {
        kind: PROG_TYPE_TRACING,
        instructions: u32::try_from(program.len()).unwrap_or(0),
        instructions_at: address(program.as_ptr()),
        license_at: address(c"Dual MIT/GPL".as_ptr()),
        expected_attach: TRACE_RAW_TRACEPOINT,
        attach_function: btf.typedef("btf_trace_sys_exit")?,
        ..ProgLoad::default()
    };
    bpf(PROG_LOAD, &attributes).map_err(RecordError::refused("load a program that records"))
}

/// A device number as the kernel keeps it, of one as stat(2) gives it.
fn kernel_device(device: u64) -> u64 {
    u64::from(libc::major(device)) << 20 | u64::from(libc::minor(device))
}

/// Only calls of the process that receive go on. Leaves in 7 what the call returned, in 9 its second
/// argument, in the frame its first.
fn choose(code: &mut Code, btf: &Btf<'_>, whose: Whose) -> Result<(), NotFound> {
    let regs = |name| btf.field("pt_regs", name);
    let call = |number: i64| i32::try_from(number).unwrap_or(-1);
    code.op(MOVE, 6, 1, 0, 0)
        .wide(1, 0, kernel_device(whose.namespace.0))
        .wide(2, 0, whose.namespace.1)
        .op(MOVE, 3, FRAME, 0, 0)
        .op(ADD_NUMBER, 3, 0, 0, PIDS.into())
        .op(MOVE_NUMBER, 4, 0, 0, 8)
        .call(OWN_PID)
        .jump(JUMP_UNLESS_EQUAL, 0, 0, Label::Out)
        .op(LOAD_4, 1, FRAME, PIDS + 4, 0)
        .jump(JUMP_UNLESS_EQUAL, 1, whose.pid, Label::Out)
        .op(LOAD_8, 7, 6, 8, 0)
        .jump(JUMP_IF_NEGATIVE, 7, 0, Label::Out)
        .op(LOAD_8, 8, 6, 0, 0)
        .op(LOAD_8, 9, 8, regs("si")?, 0)
        .op(LOAD_8, 1, 8, regs("di")?, 0)
        .op(STORE_8, FRAME, 1, FD, 0)
        .op(LOAD_8, 1, 8, regs("orig_ax")?, 0)
        .op(STORE_NUMBER_4, FRAME, 0, KIND, Kind::Receive.number())
        .jump(JUMP_IF_EQUAL, 1, call(libc::SYS_recvfrom), Label::One)
        .jump(JUMP_IF_EQUAL, 1, call(libc::SYS_recvmsg), Label::Message)
        .jump(JUMP_IF_EQUAL, 1, call(libc::SYS_accept4), Label::Accept)
        .jump(JUMP_IF_EQUAL, 1, call(libc::SYS_accept), Label::Accept)
        .op(JUMP_IF_EQUAL, 1, 0, 1, call(libc::SYS_read))
        .jump(JUMP_UNLESS_EQUAL, 1, call(libc::SYS_readv), Label::Out);
    only_of_sockets_and_pipes(code, btf)?;
    code.op(STORE_NUMBER_4, FRAME, 0, KIND, Kind::Read.number())
        .op(LOAD_8, 1, 8, regs("orig_ax")?, 0)
        .jump(JUMP_IF_EQUAL, 1, call(libc::SYS_read), Label::One)
        .is(Kind::ReadParts, Label::Parts);
    Ok(())
}

/// Goes on only when the descriptor is a socket's or a pipe's.
fn only_of_sockets_and_pipes(code: &mut Code, btf: &Btf<'_>) -> Result<(), NotFound> {
    const FORMAT: i32 = 0xf000;
    const SOCKET: i32 = 0xc000;
    const PIPE: i32 = 0x1000;
    let at = |structure, name| btf.field(structure, name).map(i32::from);
    code.call(CURRENT_TASK).op(MOVE, 3, 0, 0, 0);
    for field in [at("task_struct", "files")?, at("files_struct", "fdt")?, at("fdtable", "fd")?] {
        code.fetch(READ_KERNEL, field, WORD, 8).op(LOAD_8, 3, FRAME, WORD, 0);
    }
    code.op(LOAD_4, 1, FRAME, FD, 0).op(SHIFT_LEFT, 1, 0, 0, 3).op(ADD, 3, 1, 0, 0);
    for field in [0, at("file", "f_inode")?] {
        code.fetch(READ_KERNEL, field, WORD, 8).op(LOAD_8, 3, FRAME, WORD, 0);
    }
    code.fetch(READ_KERNEL, at("inode", "i_mode")?, WORD, 4)
        .op(LOAD_4, 1, FRAME, WORD, 0)
        .op(AND_NUMBER, 1, 0, 0, FORMAT)
        .op(JUMP_IF_EQUAL, 1, 0, 1, SOCKET)
        .jump(JUMP_UNLESS_EQUAL, 1, PIPE, Label::Out);
    Ok(())
}

/// Leaves in 9 where the bytes are, in 8 how many.
fn find_bytes(code: &mut Code) {
    code.label(Label::Message)
        .op(MOVE, 3, 9, 0, 0)
        .fetch(READ_USER, MESSAGE_PARTS, WORD, 8)
        .op(LOAD_8, 9, FRAME, WORD, 0)
        .op(STORE_NUMBER_4, FRAME, 0, KIND, Kind::Message.number())
        .label(Label::Parts)
        .op(MOVE, 3, 9, 0, 0)
        .fetch(READ_USER, 0, PART, 16)
        .op(LOAD_8, 9, FRAME, PART, 0)
        .op(MOVE, 8, 7, 0, 0)
        .op(LOAD_8, 1, FRAME, PART + 8, 0)
        .op(JUMP_UNLESS_ABOVE, 8, 1, 1, 0)
        .op(MOVE, 8, 1, 0, 0)
        .jump(JUMP, 0, 0, Label::Keep)
        .label(Label::Accept)
        .op(MOVE_NUMBER, 8, 0, 0, 0)
        .is(Kind::Accept, Label::Keep)
        .label(Label::One)
        .op(MOVE, 8, 7, 0, 0)
        .label(Label::Keep);
}

/// Puts the receipt together and into the ring.
fn keep(code: &mut Code, ring: &OwnedFd, scratch: &OwnedFd) {
    let most = i32::try_from(PAYLOAD_MAX).unwrap_or(0);
    let place = |field: usize| i16::try_from(LOST_BYTES + field).unwrap_or(0);
    let head = i32::try_from(HEAD_BYTES).unwrap_or(0);
    code.op(JUMP_UNLESS_ABOVE_NUMBER, 8, 0, 1, most)
        .op(MOVE_NUMBER, 8, 0, 0, most)
        .op(STORE_NUMBER_4, FRAME, 0, WORD, 0)
        .map(1, scratch)
        .op(MOVE, 2, FRAME, 0, 0)
        .op(ADD_NUMBER, 2, 0, 0, WORD.into())
        .call(MAP_LOOKUP)
        .jump(JUMP_IF_EQUAL, 0, 0, Label::Out)
        .op(MOVE, 6, 0, 0, 0)
        .call(TIME)
        .op(STORE_8, 6, 0, place(0), 0)
        .op(LOAD_8, 1, FRAME, FD, 0)
        .op(STORE_4, 6, 1, place(8), 0)
        .op(LOAD_4, 1, FRAME, KIND, 0)
        .op(STORE_4, 6, 1, place(12), 0)
        .op(STORE_8, 6, 7, place(16), 0)
        .jump(JUMP_IF_EQUAL, 8, 0, Label::Written)
        .op(MOVE, 1, 6, 0, 0)
        .op(ADD_NUMBER, 1, 0, 0, place(HEAD_BYTES).into())
        .op(MOVE, 2, 8, 0, 0)
        .op(MOVE, 3, 9, 0, 0)
        .call(READ_USER)
        .jump(JUMP_UNLESS_EQUAL, 0, 0, Label::Lost)
        .label(Label::Written)
        .map(1, ring)
        .op(MOVE, 2, 6, 0, 0)
        .op(ADD_NUMBER, 2, 0, 0, place(0).into())
        .op(MOVE, 3, 8, 0, 0)
        .op(ADD_NUMBER, 3, 0, 0, head)
        .op(MOVE_NUMBER, 4, 0, 0, 0)
        .call(RING_OUTPUT)
        .jump(JUMP_IF_EQUAL, 0, 0, Label::Out)
        .label(Label::Lost)
        .op(LOAD_8, 1, 6, 0, 0)
        .op(ADD_NUMBER, 1, 0, 0, 1)
        .op(STORE_8, 6, 1, 0, 0);
}

/// Has the program run from now on, until what is given is closed.
pub(super) fn attach(program: &OwnedFd) -> Result<OwnedFd, RecordError> {
    let attributes = LinkCreate {
        program: number(program.as_raw_fd()),
        attach: TRACE_RAW_TRACEPOINT,
        ..LinkCreate::default()
    };
    bpf(LINK_CREATE, &attributes).map_err(RecordError::refused("have a program record"))
}
