//! Why bytes are not heat.

/// Why a `.heat` file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeatError {
    /// Something else altogether.
    #[error("the file does not begin with the magic number of a heat file")]
    Magic,
    /// Made by a later version.
    #[error(
        "the file has format version {version}, this program reads up to {known}: use a newer one"
    )]
    NewerVersion {
        /// Its version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// A section or flag that must be understood is not.
    #[error("{what} is required and not known to this program: use a newer one")]
    Unknown {
        /// Which.
        what: String,
    },
    /// The bytes end too soon, or go on too long.
    #[error("the file has {found} bytes instead of {expected}")]
    Length {
        /// How many it should have, as far as known.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The bytes are not those that were written.
    #[error("{what} does not match its checksum: the file is damaged")]
    Checksum {
        /// Which part.
        what: String,
    },
    /// A count or length above its stated maximum.
    #[error("{what} is {found}, at most {max} is allowed")]
    Limit {
        /// Which count.
        what: &'static str,
        /// The claim.
        found: u64,
        /// The maximum.
        max: u64,
    },
    /// Intact and yet without sense.
    #[error("section {section:?} {detail}")]
    Invalid {
        /// Which section.
        section: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}
