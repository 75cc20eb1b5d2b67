//! From a sample's registers to the memory that the instructions round it touch.
//!
//! A thread that was sampled stands at one instruction of a run of code without joins. The
//! instructions before it in that run have just been executed and those behind it will be, so
//! that every memory operand among them whose registers can be worked out is an access that
//! really happens. Registers are followed through additions, copies and address arithmetic both
//! ways; what was overwritten is unknown, and an operand that needs it is left out: nothing is
//! guessed.
//!
//! Pure: bytes and registers in, accesses out.

mod access;
mod block;
mod line;
mod operand;
mod values;

#[cfg(test)]
mod tests;

pub use access::{Access, Place, accesses_around, operand_at};
pub use block::Block;
use line::{Flow, Line};
pub use values::Values;
