//! The CPU: what the instance uses or chose its code by.

use std::collections::BTreeSet;

use sys::arch;
use sys::proc::parse_cpuinfo;

use super::Check;
use crate::MismatchKind;

/// Flags of `/proc/cpuinfo` that user code can depend on. Others (mitigations, virtualisation,
/// power) may differ.
const USED: [&str; 73] = [
    "3dnowprefetch",
    "abm",
    "adx",
    "aes",
    "amx_bf16",
    "amx_complex",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "avx",
    "avx2",
    "avx512_4fmaps",
    "avx512_4vnniw",
    "avx512_bf16",
    "avx512_bitalg",
    "avx512_fp16",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_vp2intersect",
    "avx512_vpopcntdq",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512er",
    "avx512f",
    "avx512ifma",
    "avx512pf",
    "avx512vbmi",
    "avx512vl",
    "avx_ifma",
    "avx_ne_convert",
    "avx_vnni",
    "avx_vnni_int8",
    "bmi1",
    "bmi2",
    "cldemote",
    "clflushopt",
    "clwb",
    "clzero",
    "cmov",
    "cx16",
    "erms",
    "f16c",
    "fma",
    "fma4",
    "fsgsbase",
    "fsrm",
    "gfni",
    "hle",
    "lahf_lm",
    "movbe",
    "movdir64b",
    "movdiri",
    "ospke",
    "pclmulqdq",
    "popcnt",
    "prefetchwt1",
    "rdpid",
    "rdrand",
    "rdseed",
    "rdtscp",
    "rtm",
    "serialize",
    "sha512",
    "sha_ni",
    "sse4_1",
    "sse4_2",
    "sse4a",
    "ssse3",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
    "xop",
];
/// Components whose place in the XSAVE area is the same on every processor: x87, SSE, AVX.
const FIXED_PLACES: u64 = 7;
/// AMX tiles: a process has to ask for them.
const AMX: u64 = 3 << 17;

impl Check<'_> {
    pub(super) fn cpu(&mut self) {
        let host = &self.instance.host;
        let (used, theirs, ours) = (host.xstate_in_use, host.xcr0, arch::xcr0());
        let cpu =
            if host.cpu_name.is_empty() { "the CPU".to_owned() } else { host.cpu_name.clone() };
        let lift = "resume on a CPU like the one it was captured on";
        let lacking = used & !ours;
        if lacking != 0 {
            let cause = format!("it uses register state that this CPU lacks ({lacking:#x})");
            self.add(MismatchKind::Cpu, &cpu, cause, lift);
        } else if theirs != ours && used & !FIXED_PLACES != 0 {
            let cause =
                format!("its register state is laid out for {theirs:#x}, ours is {ours:#x}");
            self.add(MismatchKind::Cpu, &cpu, cause, lift);
        }
        if used & AMX != 0 {
            let cause = "it uses AMX tiles, which are not rebuilt yet";
            self.add(MismatchKind::State, &cpu, cause, "");
        }
        for (name, theirs, ours) in [
            ("AT_HWCAP", host.hwcap[0], arch::hwcap()[0]),
            ("AT_HWCAP2", host.hwcap[1], arch::hwcap()[1]),
        ] {
            if theirs & !ours != 0 {
                let cause = format!("its libraries chose their code by {:#x} more", theirs & !ours);
                self.add(MismatchKind::Cpu, name, cause, lift);
            }
        }
        let missing = missing_flags(&host.cpu_flags, &own_flags());
        if !missing.is_empty() {
            let cause = format!("this CPU lacks {}", missing.join(", "));
            self.add(MismatchKind::Cpu, cpu, cause, lift);
        }
    }
}

fn own_flags() -> Vec<String> {
    let text = std::fs::read("/proc/cpuinfo").unwrap_or_default();
    parse_cpuinfo(&text).map(|info| info.flags).unwrap_or_default()
}

fn missing_flags(theirs: &[String], ours: &[String]) -> Vec<String> {
    let ours: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
    let used = theirs.iter().filter(|flag| USED.contains(&flag.as_str()));
    used.filter(|flag| !ours.contains(flag.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_flags_that_code_can_depend_on_count() {
        let theirs = flags("avx2 constant_tsc ibrs md_clear avx512f");
        assert_eq!(missing_flags(&theirs, &flags("avx2 sse4_2")), ["avx512f"]);
    }
}
