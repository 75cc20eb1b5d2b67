//! What is known of the registers at one instruction.

use iced_x86::Register;

use sys::perf::UserRegs;

/// The direction flag of the flags register.
const DIRECTION: u64 = 1 << 10;

/// General registers by hardware number, each known or not, and what segment-relative operands
/// need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    pub(crate) general: [Option<u64>; 16],
    fs_base: Option<u64>,
    backwards: bool,
}

impl Values {
    /// What a sample knows. `fs_base` is the thread's, where it is known.
    pub fn of_sample(regs: &UserRegs, fs_base: Option<u64>) -> Self {
        Self { general: regs.general.map(Some), fs_base, backwards: regs.flags & DIRECTION != 0 }
    }

    /// The value of `register`, or the base address of a segment.
    pub(crate) fn of(&self, register: Register) -> Option<u64> {
        if register.is_segment_register() {
            return match register {
                Register::FS => self.fs_base,
                // Not used by programs of the x86-64 ABI; its base is not known to us.
                Register::GS => None,
                _ => Some(0),
            };
        }
        let value = self.general[number_of(register)?]?;
        match register.size() {
            8 => Some(value),
            4 => Some(value & 0xffff_ffff),
            2 => Some(value & 0xffff),
            // ah and its kin never make up an address.
            _ => None,
        }
    }

    pub(crate) fn get(&self, number: usize) -> Option<u64> {
        self.general.get(number).copied().flatten()
    }

    pub(crate) fn set(&mut self, number: usize, value: Option<u64>) {
        if let Some(slot) = self.general.get_mut(number) {
            *slot = value;
        }
    }

    /// Forgets the registers of `mask`, bit by hardware number.
    pub(crate) fn forget(&mut self, mask: u16) {
        for (number, slot) in self.general.iter_mut().enumerate() {
            if mask >> number & 1 == 1 {
                *slot = None;
            }
        }
    }

    /// Whether string instructions go down.
    pub(crate) fn runs_backwards(&self) -> bool {
        self.backwards
    }
}

/// The hardware number of a general register or a part of one.
pub(crate) fn number_of(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}
