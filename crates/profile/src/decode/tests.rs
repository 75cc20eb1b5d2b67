//! Golden cases, and a tiny machine as the judge of random code.

use std::collections::BTreeSet;

use heat::{AccessKind, OperandClass};
use iced_x86::code_asm::{
    AsmRegister64, CodeAssembler, byte_ptr, dword_ptr, ptr, qword_ptr, r8, r9, r10, r12, rax, rbx,
    rcx, rdi, rdx, rsi, rsp, xmm0, xmm1, ymm0, ymmword_ptr,
};
use proptest::prelude::*;
use sys::perf::UserRegs;

use super::*;

const START: u64 = 0x40_0000;

fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut code = CodeAssembler::new(64).unwrap();
    write(&mut code);
    code.assemble(START).unwrap()
}

fn regs() -> UserRegs {
    let mut regs = UserRegs { flags: 0x202, ..UserRegs::default() };
    for (number, value) in regs.general.iter_mut().enumerate() {
        *value = 0x10_0000 * (number as u64 + 1);
    }
    regs
}

/// The accesses round the instruction number `index`, as (place, address, length, kind, class).
fn around(
    bytes: &[u8],
    index: usize,
    regs: &UserRegs,
) -> Vec<(Place, u64, u32, AccessKind, OperandClass)> {
    let block = Block::decode(START, bytes);
    let ip = block.line(index).unwrap().ip;
    let mut found = Vec::new();
    accesses_around(&block, ip, &Values::of_sample(regs, Some(0x7f00_0000)), &mut found);
    found.iter().map(|a| (a.place, a.addr, a.bytes, a.kind, a.operand.class)).collect()
}

#[test]
fn a_sample_behind_a_load_finds_the_load() {
    let code = assemble(|a| {
        a.mov(eax(), dword_ptr(rdi + rsi * 4)).unwrap();
        a.add(rsi, 1).unwrap();
        a.nop().unwrap();
    });
    // rsi has been counted up since: the load was at rsi - 1.
    let r = regs();
    let expected = r.general[7] + (r.general[6] - 1) * 4;
    let found = around(&code, 2, &r);
    assert_eq!(found, [(Place::Before, expected, 4, AccessKind::Read, OperandClass::U32)]);
}

fn eax() -> iced_x86::code_asm::AsmRegister32 {
    iced_x86::code_asm::eax
}

#[test]
fn operands_have_classes_and_widths() {
    let cases: Vec<(Vec<u8>, u32, AccessKind, OperandClass)> = vec![
        (
            assemble(|a| a.add(qword_ptr(rdi), 1).unwrap()),
            8,
            AccessKind::ReadWrite,
            OperandClass::U64,
        ),
        (assemble(|a| a.mov(byte_ptr(rdi), 1).unwrap()), 1, AccessKind::Write, OperandClass::U8),
        (assemble(|a| a.cmovne(rax, ptr(rdi)).unwrap()), 8, AccessKind::Read, OperandClass::U64),
        (assemble(|a| a.addsd(xmm0, ptr(rdi)).unwrap()), 8, AccessKind::Read, OperandClass::F64),
        (
            assemble(|a| a.movss(dword_ptr(rdi), xmm1).unwrap()),
            4,
            AccessKind::Write,
            OperandClass::F32,
        ),
        (
            assemble(|a| a.vmovups(ymm0, ymmword_ptr(rdi)).unwrap()),
            32,
            AccessKind::Read,
            OperandClass::VectorF32,
        ),
        (
            assemble(|a| a.mulpd(xmm0, ptr(rdi)).unwrap()),
            16,
            AccessKind::Read,
            OperandClass::VectorF64,
        ),
        (
            assemble(|a| a.movdqu(xmm0, ptr(rdi)).unwrap()),
            16,
            AccessKind::Read,
            OperandClass::Vector,
        ),
        (
            assemble(|a| a.paddd(xmm0, ptr(rdi)).unwrap()),
            16,
            AccessKind::Read,
            OperandClass::VectorU32,
        ),
        (
            assemble(|a| a.lock().cmpxchg(ptr(rdi), rdx).unwrap()),
            8,
            AccessKind::ReadWrite,
            OperandClass::U64,
        ),
    ];
    for (code, bytes, kind, class) in cases {
        let found = around(&code, 0, &regs());
        assert_eq!(found, [(Place::At, regs().general[7], bytes, kind, class)], "{code:02x?}");
    }
}

#[test]
fn what_need_not_happen_is_left_out() {
    let cases = [
        assemble(|a| a.prefetcht0(byte_ptr(rdi)).unwrap()),
        assemble(|a| a.clflush(byte_ptr(rdi)).unwrap()),
        assemble(|a| a.lea(rax, ptr(rdi)).unwrap()),
        assemble(|a| a.nop_1(dword_ptr(rdi)).unwrap()),
        assemble(|a| a.vmaskmovps(ymm0, ymm0, ptr(rdi)).unwrap()),
        assemble(|a| a.mov(rax, qword_ptr(rdi).gs()).unwrap()),
    ];
    for code in cases {
        assert_eq!(around(&code, 0, &regs()), [], "{code:02x?}");
    }
}

#[test]
fn string_instructions_touch_what_their_count_says() {
    let code = assemble(|a| a.rep().movsq().unwrap());
    let mut r = regs();
    r.general[1] = 3;
    let found = around(&code, 0, &r);
    let string = OperandClass::String;
    assert!(found.contains(&(Place::At, r.general[6], 24, AccessKind::Read, string)), "{found:?}");
    assert!(found.contains(&(Place::At, r.general[7], 24, AccessKind::Write, string)));
    r.flags |= 1 << 10;
    let down = around(&code, 0, &r);
    assert!(down.contains(&(Place::At, r.general[7] - 16, 24, AccessKind::Write, string)));
    r.general[1] = 0;
    assert_eq!(around(&code, 0, &r), []);
    let scan = assemble(|a| a.repne().scasb().unwrap());
    let found = around(&scan, 0, &regs());
    assert_eq!(found, [(Place::At, regs().general[7], 1, AccessKind::Read, string)]);
}

#[test]
fn the_stack_is_followed() {
    let code = assemble(|a| {
        a.push(rbx).unwrap();
        a.push(r12).unwrap();
        a.sub(rsp, 32).unwrap();
        a.mov(qword_ptr(rsp + 8), rdi).unwrap();
        a.add(rsp, 32).unwrap();
        a.pop(r12).unwrap();
        a.ret().unwrap();
    });
    let r = regs();
    let sp = r.general[4];
    let found: Vec<_> = around(&code, 3, &r).iter().map(|f| (f.0, f.1, f.3)).collect();
    assert_eq!(
        found,
        [
            (Place::At, sp + 8, AccessKind::Write),
            (Place::Before, sp + 32, AccessKind::Write),
            (Place::Before, sp + 40, AccessKind::Write),
            (Place::Behind, sp + 32, AccessKind::Read),
            (Place::Behind, sp + 40, AccessKind::Read),
        ]
    );
}

#[test]
fn thread_local_memory_needs_its_base() {
    let code = assemble(|a| a.mov(rax, qword_ptr(0x28).fs()).unwrap());
    let found = around(&code, 0, &regs());
    assert_eq!(found[0].1, 0x7f00_0028);
    let block = Block::decode(START, &code);
    let mut none = Vec::new();
    accesses_around(&block, START, &Values::of_sample(&regs(), None), &mut none);
    assert_eq!(none, []);
}

#[test]
fn joins_and_branches_end_the_walk() {
    // 0: load A; loop: 1: load B; 2: inc; 3: jnz loop; 4: load C
    let code = assemble(|a| {
        let mut again = a.create_label();
        a.mov(rax, qword_ptr(r8)).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rax, qword_ptr(r9)).unwrap();
        a.inc(rcx).unwrap();
        a.jnz(again).unwrap();
        a.mov(rax, qword_ptr(r10)).unwrap();
    });
    let r = regs();
    let addresses = |index| -> Vec<u64> { around(&code, index, &r).iter().map(|f| f.1).collect() };
    assert_eq!(addresses(1), [r.general[9]], "the loop's head may have been jumped to");
    assert_eq!(addresses(2), [r.general[9]], "whether the loop goes on is not known");
    assert_eq!(addresses(4), [r.general[10], r.general[9]], "a branch not taken was passed");
    assert_eq!(addresses(0), [r.general[8], r.general[9]]);
}

#[test]
fn the_faulting_operand_is_found() {
    let code = assemble(|a| a.movsq().unwrap());
    let block = Block::decode(START, &code);
    let (r, at) = (regs(), |addr| {
        let values = Values::of_sample(&regs(), None);
        operand_at(&block, START, Some(&values), addr).map(|(kind, _)| kind)
    });
    assert_eq!(at(r.general[6] + 7), Some(AccessKind::Read));
    assert_eq!(at(r.general[7]), Some(AccessKind::Write));
    assert_eq!(at(0x999), None, "neither operand is there");
    let single = assemble(|a| a.inc(qword_ptr(rdi)).unwrap());
    let block = Block::decode(START, &single);
    assert_eq!(operand_at(&block, START, None, 5).map(|f| f.0), Some(AccessKind::ReadWrite));
}

#[test]
fn without_a_function_the_surroundings_agree() {
    let code = assemble(|a| {
        for _ in 0..12 {
            a.mov(rax, qword_ptr(r8 + 0x11_2233)).unwrap();
            a.add(rbx, 0x1122_3344).unwrap();
            a.imul_3(rdx, rcx, 0x55).unwrap();
        }
    });
    let whole = Block::decode(START, &code);
    let mut sure = 0;
    for index in 0..whole.len() {
        let ip = whole.line(index).unwrap().ip;
        let cut = Block::decode_around(START, &code, ip);
        assert!(cut.index_of(ip).is_some());
        // Nothing but true instructions, however few.
        for line in 0..cut.len() {
            assert!(whole.index_of(cut.line(line).unwrap().ip).is_some());
        }
        sure += usize::from(cut.index_of(ip).unwrap() > 0);
    }
    assert!(sure > whole.len() / 2, "{sure} of {} could be read backwards", whole.len());
}

/// The registers that random code works on; rsp is left to push and pop.
const USED: [AsmRegister64; 6] = [rax, rbx, rcx, rdx, rsi, rdi];
const NUMBERS: [usize; 6] = [0, 3, 1, 2, 6, 7];

#[derive(Clone, Copy, Debug)]
enum Op {
    Set(usize, u32),
    Copy(usize, usize),
    Add(usize, i32),
    Inc(usize),
    Lea(usize, usize, usize, i32),
    Load(usize, usize, i32),
    Store(usize, usize, i32),
    Bump(usize, i32),
    Multiply(usize, usize),
    Push(usize),
    Pop(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let r = || 0usize..USED.len();
    let d = || -4000i32..4000;
    prop_oneof![
        (r(), any::<u32>()).prop_map(|(a, v)| Op::Set(a, v >> 1)),
        (r(), r()).prop_map(|(a, b)| Op::Copy(a, b)),
        (r(), d()).prop_map(|(a, v)| Op::Add(a, v)),
        r().prop_map(Op::Inc),
        (r(), r(), r(), d()).prop_map(|(a, b, c, v)| Op::Lea(a, b, c, v)),
        (r(), r(), d()).prop_map(|(a, b, v)| Op::Load(a, b, v)),
        (r(), r(), d()).prop_map(|(a, b, v)| Op::Store(a, b, v)),
        (r(), d()).prop_map(|(a, v)| Op::Bump(a, v)),
        (r(), r()).prop_map(|(a, b)| Op::Multiply(a, b)),
        r().prop_map(Op::Push),
        r().prop_map(Op::Pop),
    ]
}

fn emit(a: &mut CodeAssembler, op: Op) {
    let u = |n: usize| USED[n];
    match op {
        Op::Set(r, v) => a.mov(u(r), u64::from(v)),
        Op::Copy(r, f) => a.mov(u(r), u(f)),
        Op::Add(r, v) => a.add(u(r), v),
        Op::Inc(r) => a.inc(u(r)),
        Op::Lea(r, b, i, v) => a.lea(u(r), ptr(u(b) + u(i) * 4 + v)),
        Op::Load(r, b, v) => a.mov(u(r), qword_ptr(u(b) + v)),
        Op::Store(r, b, v) => a.mov(qword_ptr(u(b) + v), u(r)),
        Op::Bump(b, v) => a.add(qword_ptr(u(b) + v), 1),
        Op::Multiply(r, f) => a.imul_2(u(r), u(f)),
        Op::Push(r) => a.push(u(r)),
        Op::Pop(r) => a.pop(u(r)),
    }
    .unwrap();
}

/// Executes one operation: the address it touches, if any. Loads bring made-up values.
fn execute(regs: &mut UserRegs, op: Op, made_up: u64) -> Option<u64> {
    let g = &mut regs.general;
    let n = |r: usize| NUMBERS[r];
    let wide = |v: i32| i64::from(v).cast_unsigned();
    match op {
        Op::Set(r, v) => g[n(r)] = u64::from(v),
        Op::Copy(r, f) => g[n(r)] = g[n(f)],
        Op::Add(r, v) => g[n(r)] = g[n(r)].wrapping_add(wide(v)),
        Op::Inc(r) => g[n(r)] = g[n(r)].wrapping_add(1),
        Op::Lea(r, b, i, v) => {
            g[n(r)] = g[n(b)].wrapping_add(g[n(i)].wrapping_mul(4)).wrapping_add(wide(v));
        }
        Op::Load(r, b, v) => {
            let at = g[n(b)].wrapping_add(wide(v));
            g[n(r)] = made_up;
            return Some(at);
        }
        Op::Store(_, b, v) | Op::Bump(b, v) => return Some(g[n(b)].wrapping_add(wide(v))),
        Op::Multiply(r, f) => g[n(r)] = g[n(r)].wrapping_mul(g[n(f)]),
        Op::Push(_) => {
            g[4] -= 8;
            return Some(g[4]);
        }
        Op::Pop(r) => {
            let at = g[4];
            g[4] += 8;
            g[n(r)] = made_up;
            return Some(at);
        }
    }
    None
}

proptest! {
    /// Whatever is reported really happened or happens, at that instruction and address; and the
    /// instruction that the sample stands at is never missed.
    #[test]
    fn every_access_told_is_true(
        ops in proptest::collection::vec(op(), 1..24),
        seed: u64,
        stop in 0usize..24,
    ) {
        let stop = stop % ops.len();
        let code = assemble(|a| ops.iter().for_each(|op| emit(a, *op)));
        let block = Block::decode(START, &code);
        prop_assert_eq!(block.len(), ops.len());
        let mut machine = regs();
        let mut truth = BTreeSet::new();
        let mut at_stop = machine;
        for (index, op) in ops.iter().enumerate() {
            if index == stop {
                at_stop = machine;
            }
            let made_up = (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            if let Some(addr) = execute(&mut machine, *op, made_up) {
                truth.insert((block.line(index).unwrap().ip, addr));
            }
        }
        let ip = block.line(stop).unwrap().ip;
        let mut found = Vec::new();
        accesses_around(&block, ip, &Values::of_sample(&at_stop, None), &mut found);
        for access in &found {
            prop_assert!(
                truth.contains(&(access.instruction, access.addr)),
                "{access:x?} is none of {truth:x?}"
            );
        }
        // Addresses beyond what programs can have are left out.
        let here = truth.iter().filter(|(at, addr)| *at == ip && *addr < 1 << 55).count();
        let told = found.iter().filter(|a| a.place == Place::At).count();
        prop_assert!(told >= here, "{told} of {here} at the instruction itself");
    }

    #[test]
    fn any_bytes_can_be_decoded(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..200,
        values: [u64; 16],
    ) {
        let ip = START + at as u64;
        let sample = UserRegs { general: values, rip: ip, flags: values[0] };
        let values = Values::of_sample(&sample, Some(values[1]));
        let mut found = Vec::new();
        for block in [Block::decode(START, &bytes), Block::decode_around(START, &bytes, ip)] {
            accesses_around(&block, ip, &values, &mut found);
            let _ = operand_at(&block, ip, Some(&values), 7);
        }
        prop_assert!(found.iter().all(|a| a.addr.checked_add(u64::from(a.bytes)).is_some()));
    }
}
