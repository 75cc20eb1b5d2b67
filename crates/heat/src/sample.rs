//! One seen access.

use mem::{PageIndex, VirtAddr};

/// One access to memory that a collector saw, or an estimate of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The page touched, by its virtual address in the program that is being looked at.
    pub page: PageIndex,
    /// What was done to it.
    pub kind: AccessKind,
    /// How many accesses the sample stands for; 1 for an access that was seen itself.
    pub weight: u32,
    /// The address of the instruction, or `None` where the collector cannot tell it.
    pub instruction: Option<VirtAddr>,
    /// What the instruction moved.
    pub operand: Operand,
    /// The thread (a tid as the instance's host sees it), 0 where it is not known.
    pub thread: u32,
    /// When, in nanoseconds of the clock that the [`crate::Accumulator`] was started with.
    pub time_ns: u64,
    /// Who saw it.
    pub source: Source,
}

/// Load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// One instruction that loads and stores (`add [x], 1`, `lock xadd`).
    ReadWrite,
}

impl AccessKind {
    /// Whether memory was loaded.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether memory was stored to.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

macro_rules! coded {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $name:ident = $code:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$vdoc])* $name = $code,)+
        }

        impl $type {
            /// Every value, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code that the `.heat` file uses. A code is never given a second meaning.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code),+ }
            }

            /// The name used in JSON and messages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The value of `code`, or `None` for one that this version does not know.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

coded! {
    /// The collector that made a sample.
    Source {
        /// Asynchronous write protection, read back with `PAGEMAP_SCAN`: exact, writes only.
        WriteTracking = 1 "write tracking",
        /// The page-fault software event: exact address and instruction of a fault.
        Fault = 2 "page faults",
        /// Clock samples decoded into operands: statistical.
        Clock = 3 "clock samples",
        /// NUMA hint faults: exact, reads and writes.
        Hint = 4 "hint faults",
        /// The tracked run of a clone at the pause.
        Rehearsal = 5 "rehearsal",
        /// Faults of a resumed instance that was not complete yet.
        ResumeFault = 6 "resume faults",
    }
}

impl Source {
    /// Whether the collector sees every access of its kind while it watches. A statistical one
    /// sees a few, so that what it did not see tells nothing.
    pub const fn is_exact(self) -> bool {
        !matches!(self, Self::Clock)
    }
}

/// What an instruction moved: the class of its memory operand and the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operand {
    /// What kind of value.
    pub class: OperandClass,
    /// Bytes moved by one access, 0 where not known. For vectors the whole vector, for strings
    /// one element.
    pub width_bytes: u8,
}

impl Operand {
    /// Nothing is known about it.
    pub const UNKNOWN: Self = Self { class: OperandClass::Unknown, width_bytes: 0 };
}

coded! {
    /// The class of a memory operand, as the instruction tells it. An instruction seldom tells
    /// whether an integer has a sign, so `u32` stands for both.
    OperandClass {
        /// The instruction is not known or not decoded.
        Unknown = 0 "unknown",
        /// 8-bit integer.
        U8 = 1 "u8",
        /// 16-bit integer.
        U16 = 2 "u16",
        /// 32-bit integer.
        U32 = 3 "u32",
        /// 64-bit integer or pointer.
        U64 = 4 "u64",
        /// Single precision.
        F32 = 5 "f32",
        /// Double precision.
        F64 = 6 "f64",
        /// x87 extended precision.
        F80 = 7 "f80",
        /// Vector of 8-bit integers.
        VectorU8 = 8 "vector of u8",
        /// Vector of 16-bit integers.
        VectorU16 = 9 "vector of u16",
        /// Vector of 32-bit integers.
        VectorU32 = 10 "vector of u32",
        /// Vector of 64-bit integers.
        VectorU64 = 11 "vector of u64",
        /// Vector of single precision.
        VectorF32 = 12 "vector of f32",
        /// Vector of double precision.
        VectorF64 = 13 "vector of f64",
        /// A vector whose elements the instruction does not tell (`movdqu`).
        Vector = 14 "vector",
        /// A string instruction (`rep movsb`, `scas`).
        String = 15 "string",
        /// Something else: saved processor state, descriptors, far pointers.
        Other = 16 "other",
    }
}
