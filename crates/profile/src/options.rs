//! What is asked of a profile.

/// What is asked of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most that the program may be slowed down, in thousandths of its CPU time.
    pub slowdown_permille_max: u32,
    /// Also track reads exactly, by hint faults: a setting of the whole host meanwhile, and more
    /// faults than the slowdown asked for allows.
    pub exact: bool,
    /// Random: names the windows of this profile for good.
    pub window_id: u64,
}
