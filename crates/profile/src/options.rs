//! What is asked of a profile.

/// What is asked of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most that the program may be slowed down, in thousandths of its CPU time.
    pub slowdown_permille_max: u32,
    /// Also track reads exactly, by hint faults: a setting of the whole host meanwhile, and more
    /// faults than the slowdown asked for allows.
    pub exact: bool,
    /// Clear the processor's Referenced bits at the beginning and count them at the end: a check of
    /// the totals, which costs a walk over all memory each.
    pub gauge: bool,
    /// The address at which tracking of writes begins its round over memory: where the profile before
    /// left off.
    pub writes_from: u64,
    /// Random: names the windows of this profile for good.
    pub window_id: u64,
}
