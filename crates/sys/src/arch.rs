//! What the CPU and the kernel's x86-64 port offer: arch_prctl(2), CPUID and XCR0.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

use crate::proc::parse_auxv;

/// `ARCH_MAP_VDSO_64` of arch_prctl(2): maps `[vvar]`, `[vvar_vclock]` and `[vdso]` at an address
/// of choice, once none is mapped (`CONFIG_CHECKPOINT_RESTORE`).
pub const ARCH_MAP_VDSO_64: u64 = 0x2003;

const CPUID_OSXSAVE: u32 = 1 << 27;

/// The state components the kernel enabled (XCR0), or 0 without XSAVE.
pub fn xcr0() -> u64 {
    if __cpuid(1).ecx & CPUID_OSXSAVE == 0 {
        return 0;
    }
    // SAFETY: OSXSAVE says that XGETBV exists and that the kernel allows it in user mode.
    unsafe { read_xcr0() }
}

/// # Safety
/// The CPU must report OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn read_xcr0() -> u64 {
    // SAFETY: the caller made sure of OSXSAVE; register 0 always exists then.
    unsafe { _xgetbv(0) }
}

/// Bytes of an XSAVE area in the non-compacted format for the components in XCR0 (CPUID leaf
/// 13, sub-leaf 0), which is the length of `NT_X86_XSTATE`; 0 without XSAVE.
pub fn xsave_bytes() -> u32 {
    if __cpuid(0).eax < 13 { 0 } else { __cpuid_count(13, 0).ebx }
}

/// Offset and size in bytes of state component `n` (2 to 62) in the non-compacted format, or
/// `None` when the CPU has no such component.
pub fn xsave_component(n: u32) -> Option<(u32, u32)> {
    if __cpuid(0).eax < 13 {
        return None;
    }
    let leaf = __cpuid_count(13, n);
    (leaf.eax != 0).then_some((leaf.ebx, leaf.eax))
}

/// `AT_HWCAP` and `AT_HWCAP2` of this host, what its libraries choose code by; zero where
/// `/proc` does not tell. Not by getauxval(3), which glibc answers with bits of its own.
pub fn hwcap() -> [u64; 2] {
    let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let auxv = parse_auxv(&auxv).unwrap_or_default();
    [libc::AT_HWCAP, libc::AT_HWCAP2]
        .map(|kind| auxv.iter().find(|(k, _)| *k == kind).map_or(0, |(_, value)| *value))
}

/// Where this process has its `[vdso]` (`AT_SYSINFO_EHDR`), or `None` without one.
pub fn vdso_address() -> Option<u64> {
    // SAFETY: getauxval only reads this process's auxiliary vector.
    let address = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    (address != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x87_and_sse_are_always_on() {
        assert_eq!(xcr0() & 3, 3);
        assert!(xsave_bytes() >= 576);
        // FPU, SSE2: bits 0 and 26 of CPUID leaf 1's edx.
        assert_eq!(hwcap()[0] & (1 | 1 << 26), 1 | 1 << 26);
        assert!(vdso_address().is_some_and(|a| a % 4096 == 0));
    }
}
