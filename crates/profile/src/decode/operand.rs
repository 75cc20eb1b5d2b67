//! Memory operands: where, how and what.

use heat::{AccessKind, Operand, OperandClass};
use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpAccess, Register, UsedMemory};

use super::Values;

/// The longest run of bytes that one string instruction is taken to touch: more would only say
/// that a big copy is going on.
const STRING_BYTES_MAX: u64 = 256 << 10;

/// One memory operand of an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryOperand {
    used: UsedMemory,
    /// What is done to it.
    pub(crate) kind: AccessKind,
    /// What kind of value it is.
    pub(crate) operand: Operand,
    /// Bytes of one access.
    bytes: u32,
    repeat: Repeat,
}

/// Whether rcx tells how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    No,
    /// `rep` without a condition: exactly rcx times.
    Counted,
    /// `repe` and `repne`: at least once when rcx is not 0.
    AtLeastOnce,
}

impl MemoryOperand {
    /// The operand as far as it certainly is an access; none for prefetches, masked vectors,
    /// gathers and the like, which need not touch what they name.
    pub(crate) fn new(instruction: &Instruction, used: UsedMemory) -> Option<Self> {
        let string = instruction.is_string_instruction();
        let kind = match used.access() {
            OpAccess::Read => AccessKind::Read,
            OpAccess::Write => AccessKind::Write,
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => AccessKind::ReadWrite,
            OpAccess::CondRead if string || is_conditional_move(instruction) => AccessKind::Read,
            OpAccess::CondWrite if string => AccessKind::Write,
            _ => return None,
        };
        if used.vsib_size() != 0
            || is_address_only(instruction.code())
            || instruction.has_op_mask()
            || is_masked_move(instruction.mnemonic())
        {
            return None;
        }
        let has_prefix = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        let repeat = match (string && has_prefix, is_compare(instruction.mnemonic())) {
            (false, _) => Repeat::No,
            (true, false) => Repeat::Counted,
            (true, true) => Repeat::AtLeastOnce,
        };
        // With a prefix the operand's own size is that of all repetitions: unknown.
        let size = if string { instruction.memory_size() } else { used.memory_size() };
        let class = if string { OperandClass::String } else { class_of(instruction, size) };
        let bytes = u32::try_from(size.size()).ok()?;
        let width_bytes = u8::try_from(bytes).unwrap_or(u8::MAX);
        Some(Self { used, kind, operand: Operand { class, width_bytes }, bytes, repeat })
    }

    /// The address and length in bytes, when the registers that make it up are known and the
    /// access certainly happens.
    pub(crate) fn place(&self, values: &Values) -> Option<(u64, u32)> {
        let start = self.used.virtual_address(0, |register, _, _| values.of(register))?;
        let element = u64::from(self.bytes.max(1));
        let count = match self.repeat {
            Repeat::No => 1,
            _ if values.of(Register::RCX)? == 0 => return None,
            Repeat::AtLeastOnce => 1,
            Repeat::Counted => values.of(Register::RCX)?,
        };
        let total = count.saturating_mul(element).min(STRING_BYTES_MAX);
        let start = if self.repeat == Repeat::Counted && values.runs_backwards() {
            start.checked_sub(total - element)?
        } else {
            start
        };
        // Nothing of a program's lies in the upper half, and no access wraps round.
        let end = start.checked_add(total)?;
        (end <= 1 << 56).then_some(())?;
        u32::try_from(total).ok().map(|total| (start, total))
    }
}

/// `cmov`: it loads whether or not it moves.
fn is_conditional_move(instruction: &Instruction) -> bool {
    let conditional = Mnemonic::Cmova as u32..=Mnemonic::Cmovs as u32;
    conditional.contains(&(instruction.mnemonic() as u32))
}

fn is_compare(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
    )
}

/// Instructions that name memory for the cache's or the debugger's sake.
fn is_address_only(code: Code) -> bool {
    matches!(code.mnemonic(), Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb)
}

/// Moves of those elements that a mask names, perhaps none.
fn is_masked_move(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Vmaskmovps
            | Mnemonic::Vmaskmovpd
            | Mnemonic::Vpmaskmovd
            | Mnemonic::Vpmaskmovq
            | Mnemonic::Maskmovq
            | Mnemonic::Maskmovdqu
            | Mnemonic::Vmaskmovdqu
    )
}

/// Moves of whole registers: compilers use them for any content, so they tell no element.
fn is_plain_vector_move(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Movdqa
            | Mnemonic::Movdqu
            | Mnemonic::Lddqu
            | Mnemonic::Movntdq
            | Mnemonic::Movntdqa
            | Mnemonic::Vmovdqa
            | Mnemonic::Vmovdqu
            | Mnemonic::Vlddqu
            | Mnemonic::Vmovntdq
            | Mnemonic::Vmovntdqa
            | Mnemonic::Vmovdqa32
            | Mnemonic::Vmovdqa64
            | Mnemonic::Vmovdqu8
            | Mnemonic::Vmovdqu16
            | Mnemonic::Vmovdqu32
            | Mnemonic::Vmovdqu64
    )
}

fn class_of(instruction: &Instruction, size: MemorySize) -> OperandClass {
    if is_plain_vector_move(instruction.mnemonic()) {
        return OperandClass::Vector;
    }
    let scalar = scalar_class(size.element_type());
    if !size.is_packed() {
        return scalar;
    }
    match scalar {
        OperandClass::U8 => OperandClass::VectorU8,
        OperandClass::U16 => OperandClass::VectorU16,
        OperandClass::U32 => OperandClass::VectorU32,
        OperandClass::U64 => OperandClass::VectorU64,
        OperandClass::F32 => OperandClass::VectorF32,
        OperandClass::F64 => OperandClass::VectorF64,
        _ => OperandClass::Vector,
    }
}

fn scalar_class(size: MemorySize) -> OperandClass {
    match size {
        MemorySize::UInt8 | MemorySize::Int8 => OperandClass::U8,
        MemorySize::UInt16 | MemorySize::Int16 | MemorySize::WordOffset => OperandClass::U16,
        MemorySize::UInt32 | MemorySize::Int32 | MemorySize::DwordOffset => OperandClass::U32,
        MemorySize::UInt64 | MemorySize::Int64 | MemorySize::UInt52 | MemorySize::QwordOffset => {
            OperandClass::U64
        }
        MemorySize::Float32 => OperandClass::F32,
        MemorySize::Float64 => OperandClass::F64,
        MemorySize::Float80 => OperandClass::F80,
        MemorySize::Unknown => OperandClass::Unknown,
        _ => OperandClass::Other,
    }
}
