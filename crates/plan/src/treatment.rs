//! Tiers, treatments and numeric types, with the codes that formats use for them.

macro_rules! coded {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $name:ident = $code:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$vdoc])* $name,)+
        }

        impl $type {
            /// Every value, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code that formats use. A code is never given a second meaning.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code),+ }
            }

            /// The name used in JSON and messages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The value with this name, as [`Self::name`] gives it.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl TryFrom<u8> for $type {
            type Error = UnknownCode;

            fn try_from(code: u8) -> Result<Self, UnknownCode> {
                match code {
                    $($code => Ok(Self::$name),)+
                    _ => Err(UnknownCode(code)),
                }
            }
        }
    };
}

coded! {
    /// How soon an extent is needed.
    Tier {
        /// Saved fully, loaded before the first instruction.
        Critical = 1 "critical",
        /// Saved compressed, loaded in load order while the program runs.
        Warm = 2 "warm",
        /// Not saved in the pause, brought back on demand.
        Cold = 3 "cold",
    }
}

coded! {
    /// How an extent's bytes come back.
    Treatment {
        /// Stored as they are.
        Raw = 1 "raw",
        /// All zero; nothing stored.
        Zero = 2 "zero",
        /// LZ4 block.
        Lz4 = 3 "lz4",
        /// Zstandard frame.
        Zstd = 4 "zstd",
        /// Difference to a frame of a parent checkpoint.
        Delta = 5 "delta",
        /// Typed numeric encoding, lossless.
        Typed = 6 "typed",
        /// Error-bounded lossy encoding of a range that somebody named.
        Lossy = 7 "lossy",
        /// Clean page of a file mapping; the kernel reads it again.
        File = 8 "file",
        /// Equal to a block of some file.
        Twin = 9 "twin",
        /// Recomputed by a declared rule.
        Rule = 10 "rule",
        /// Proven to be of no use.
        Dead = 11 "dead",
        /// Equal to another page of this checkpoint.
        Same = 12 "same",
        /// Written outside the pause, read only when touched.
        Spill = 13 "spill",
        /// Unchanged since a parent checkpoint, which holds it.
        Parent = 14 "parent",
        /// Left out because somebody asked for it (`--exclude`).
        Excluded = 15 "excluded",
        /// Zstandard frame of several chunks together; only what is stored again in less space.
        Solid = 16 "solid",
    }
}

coded! {
    /// What the elements of a numeric range are.
    NumericType {
        /// Unsigned, 1 byte.
        U8 = 1 "u8",
        /// Unsigned, 2 bytes.
        U16 = 2 "u16",
        /// Unsigned, 4 bytes.
        U32 = 3 "u32",
        /// Unsigned, 8 bytes.
        U64 = 4 "u64",
        /// Signed, 1 byte.
        I8 = 5 "i8",
        /// Signed, 2 bytes.
        I16 = 6 "i16",
        /// Signed, 4 bytes.
        I32 = 7 "i32",
        /// Signed, 8 bytes.
        I64 = 8 "i64",
        /// IEEE 754 single precision.
        F32 = 9 "f32",
        /// IEEE 754 double precision.
        F64 = 10 "f64",
    }
}

impl NumericType {
    /// Bytes of one element.
    pub const fn width_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// A code that no value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode(pub u8);

impl std::fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "code {} is not known to this version", self.0)
    }
}

impl std::error::Error for UnknownCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_round() {
        for code in 0..=u8::MAX {
            if let Ok(tier) = Tier::try_from(code) {
                assert_eq!(tier.code(), code);
                assert_eq!(Tier::from_name(tier.name()), Some(tier));
            }
            if let Ok(treatment) = Treatment::try_from(code) {
                assert_eq!(treatment.code(), code);
                assert_eq!(Treatment::from_name(treatment.name()), Some(treatment));
            }
            if let Ok(numeric) = NumericType::try_from(code) {
                assert_eq!(numeric.code(), code);
                assert_eq!(NumericType::from_name(numeric.name()), Some(numeric));
            }
        }
        assert_eq!(Tier::ALL.len(), 3);
        assert_eq!(Treatment::ALL.len(), 16);
    }
}
