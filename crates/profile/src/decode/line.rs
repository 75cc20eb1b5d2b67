//! One decoded instruction, cut down to what the walk through a block needs.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::Values;
use super::operand::MemoryOperand;
use super::values::number_of;

const RSP: u8 = 4;

/// Where execution goes behind an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next one.
    Next,
    /// To the next one or to the target.
    Branch,
    /// To the target.
    Jump(u64),
    /// Somewhere else, or not known.
    Elsewhere,
}

/// What an instruction does to one register that can be followed, beside what it overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing of the kind.
    None,
    /// `register += value`.
    Add(u8, u64),
    /// `to = from`, all 64 bits.
    Copy {
        /// Written.
        to: u8,
        /// Read.
        from: u8,
    },
    /// `register = value`.
    Set(u8, u64),
    /// `to = base + index * scale + displacement` (`lea`).
    Address {
        /// Written.
        to: u8,
        /// Read, if any.
        base: Option<u8>,
        /// Read, if any.
        index: Option<u8>,
        /// 1, 2, 4 or 8.
        scale: u8,
        /// Added.
        displacement: u64,
    },
}

/// One instruction.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its address.
    pub(crate) ip: u64,
    pub(crate) flow: Flow,
    pub(crate) step: Step,
    /// Registers overwritten with what cannot be followed, bit by hardware number.
    pub(crate) clobbers: u16,
    /// Where a direct branch goes.
    pub(crate) target: Option<u64>,
    pub(crate) operands: Box<[MemoryOperand]>,
}

impl Line {
    pub(crate) fn new(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> Self {
        let info = factory.info(instruction);
        let mut written = 0u16;
        for used in info.used_registers() {
            let writes = !matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if writes && let Some(number) = number_of(used.register()) {
                written |= 1 << number;
            }
        }
        let operands =
            info.used_memory().iter().filter_map(|used| MemoryOperand::new(instruction, *used));
        let operands = operands.collect();
        let (step, followed) = step_of(instruction, written);
        Self {
            ip: instruction.ip(),
            flow: flow_of(instruction),
            step,
            clobbers: written & !followed,
            target: branch_target(instruction),
            operands,
        }
    }

    /// Turns what is known before the instruction into what is known behind it.
    pub(crate) fn forwards(&self, values: &mut Values) {
        let result = match self.step {
            Step::None => None,
            Step::Add(register, value) => {
                let old = values.get(usize::from(register));
                Some((register, old.map(|old| old.wrapping_add(value))))
            }
            Step::Copy { to, from } => Some((to, values.get(usize::from(from)))),
            Step::Set(register, value) => Some((register, Some(value))),
            Step::Address { to, base, index, scale, displacement } => {
                let part = |register: Option<u8>| match register {
                    None => Some(0),
                    Some(register) => values.get(usize::from(register)),
                };
                let sum = part(base).zip(part(index)).map(|(base, index)| {
                    base.wrapping_add(index.wrapping_mul(u64::from(scale)))
                        .wrapping_add(displacement)
                });
                Some((to, sum))
            }
        };
        values.forget(self.clobbers);
        if let Some((register, value)) = result {
            values.set(usize::from(register), value);
        }
    }

    /// Turns what is known behind the instruction into what is known before it.
    pub(crate) fn backwards(&self, values: &mut Values) {
        values.forget(self.clobbers);
        match self.step {
            Step::None => {}
            Step::Add(register, value) => {
                let old = values.get(usize::from(register)).map(|v| v.wrapping_sub(value));
                values.set(usize::from(register), old);
            }
            Step::Copy { to, from } => {
                let (to, from) = (usize::from(to), usize::from(from));
                if values.get(from).is_none() {
                    values.set(from, values.get(to));
                }
                if to != from {
                    values.set(to, None);
                }
            }
            Step::Set(register, _) | Step::Address { to: register, .. } => {
                values.set(usize::from(register), None);
            }
        }
    }
}

fn flow_of(instruction: &Instruction) -> Flow {
    match instruction.flow_control() {
        FlowControl::Next => Flow::Next,
        FlowControl::ConditionalBranch => Flow::Branch,
        FlowControl::UnconditionalBranch => match branch_target(instruction) {
            Some(target) => Flow::Jump(target),
            None => Flow::Elsewhere,
        },
        _ => Flow::Elsewhere,
    }
}

fn branch_target(instruction: &Instruction) -> Option<u64> {
    matches!(instruction.op0_kind(), OpKind::NearBranch64).then(|| instruction.near_branch_target())
}

/// What can be followed, and the registers it accounts for.
fn step_of(instruction: &Instruction, written: u16) -> (Step, u16) {
    let none = (Step::None, 0);
    if matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pop) {
        // `pop rsp` overwrites what it moves.
        if instruction.mnemonic() == Mnemonic::Pop && instruction.op0_register() == Register::RSP {
            return none;
        }
        let moved = i64::from(instruction.stack_pointer_increment()).cast_unsigned();
        return (Step::Add(RSP, moved), 1 << RSP);
    }
    if instruction.op0_kind() != OpKind::Register || !instruction.op0_register().is_gpr64() {
        return none;
    }
    let Some(to) = number_of(instruction.op0_register()).and_then(|n| u8::try_from(n).ok()) else {
        return none;
    };
    let immediate = instruction.try_immediate(1).ok();
    let step = match instruction.mnemonic() {
        Mnemonic::Inc => Step::Add(to, 1),
        Mnemonic::Dec => Step::Add(to, u64::MAX),
        Mnemonic::Add => match immediate {
            Some(value) => Step::Add(to, value),
            None => return none,
        },
        Mnemonic::Sub => match immediate {
            Some(value) => Step::Add(to, value.wrapping_neg()),
            None => return none,
        },
        Mnemonic::Mov => match (immediate, source(instruction)) {
            (Some(value), _) => Step::Set(to, value),
            (None, Some(from)) => Step::Copy { to, from },
            (None, None) => return none,
        },
        Mnemonic::Lea => match address(instruction, to) {
            Some(step) => step,
            None => return none,
        },
        _ => return none,
    };
    (step, written & 1 << to)
}

/// The 64-bit register that a move copies.
fn source(instruction: &Instruction) -> Option<u8> {
    let register = instruction.op1_register();
    (instruction.op1_kind() == OpKind::Register && register.is_gpr64())
        .then(|| number_of(register))
        .flatten()
        .and_then(|number| u8::try_from(number).ok())
}

/// What `lea` computes, when it computes with 64-bit registers.
fn address(instruction: &Instruction, to: u8) -> Option<Step> {
    let part = |register: Register| -> Option<Option<u8>> {
        match register {
            Register::None => Some(None),
            r if r.is_gpr64() => Some(number_of(r).and_then(|n| u8::try_from(n).ok())),
            _ => None,
        }
    };
    let displacement = instruction.memory_displacement64();
    if instruction.is_ip_rel_memory_operand() {
        return Some(Step::Set(to, displacement));
    }
    let (base, index) = (part(instruction.memory_base())?, part(instruction.memory_index())?);
    if base == Some(to) && index.is_none() {
        return Some(Step::Add(to, displacement));
    }
    let scale = u8::try_from(instruction.memory_index_scale()).ok()?;
    Some(Step::Address { to, base, index, scale, displacement })
}
