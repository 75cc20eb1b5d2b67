//! The host an instance was captured on, as far as an instance can tell hosts apart.

/// What must fit for an instance to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// uname(2) release.
    pub kernel_release: String,
    /// uname(2) nodename, for messages only.
    pub host_name: String,
    /// CPU vendor and model name, for messages only.
    pub cpu_name: String,
    /// XCR0: the state components the kernel enabled.
    pub xcr0: u64,
    /// The union of the state components in use by any thread (XSTATE_BV of each header).
    pub xstate_in_use: u64,
    /// `AT_HWCAP` and `AT_HWCAP2` of the instance's auxv: what its libraries chose code by.
    pub hwcap: [u64; 2],
    /// The CPU flags of `/proc/cpuinfo`, sorted.
    pub cpu_flags: Vec<String>,
    /// The clocks at the freeze.
    pub clocks: Clocks,
}

/// Readings of the clocks at the freeze, in the instance's time namespace, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// `CLOCK_REALTIME`.
    pub realtime_ns: i128,
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: i128,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: i128,
}
