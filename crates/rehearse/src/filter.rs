//! The clone's seccomp filter: the second wall, which stands also when nobody traces it.

use crate::table::PASSED;

/// `AUDIT_ARCH_X86_64`
const ARCH: u32 = 0xc000_003e;
const RETURN_ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ERRNO` with `EPERM`.
const RETURN_EPERM: u32 = 0x0005_0001;
/// Load a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Bytes of a `struct sock_filter`.
pub(crate) const INSTRUCTION_BYTES: usize = 8;

/// A filter (classic BPF) that lets [`PASSED`] pass, threads be made, and signals be sent to the
/// process `own_pid` (as it sees itself) alone. Everything else fails with `EPERM`.
pub(crate) fn program(own_pid: u32) -> Vec<u8> {
    let number = |nr: i64| u32::try_from(nr).unwrap_or(u32::MAX);
    let mut code = vec![
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, ARCH),
        (RETURN, 0, 0, RETURN_EPERM),
        (LOAD, 0, 0, NUMBER),
    ];
    for nr in PASSED {
        code.push((JUMP_IF_EQUAL, 0, 1, number(*nr)));
        code.push((RETURN, 0, 0, RETURN_ALLOW));
    }
    // A signal to itself, by which our code reports; a thread, not a process.
    let thread = libc::CLONE_THREAD.unsigned_abs();
    for (nr, test, argument) in
        [(libc::SYS_tgkill, JUMP_IF_EQUAL, own_pid), (libc::SYS_clone, JUMP_IF_ANY_BIT, thread)]
    {
        code.push((JUMP_IF_EQUAL, 0, 4, number(nr)));
        code.push((LOAD, 0, 0, FIRST_ARGUMENT));
        code.push((test, 0, 1, argument));
        code.push((RETURN, 0, 0, RETURN_ALLOW));
        code.push((RETURN, 0, 0, RETURN_EPERM));
    }
    code.push((RETURN, 0, 0, RETURN_EPERM));
    let bytes = |(code, if_true, if_false, k): (u16, u8, u8, u32)| {
        let [c0, c1] = code.to_ne_bytes();
        let [k0, k1, k2, k3] = k.to_ne_bytes();
        [c0, c1, if_true, if_false, k0, k1, k2, k3]
    };
    code.into_iter().flat_map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program returns for a call: only the instructions that are used.
    fn run(program: &[u8], arch: u32, nr: u32, first: u32) -> u32 {
        let code: Vec<_> = program.as_chunks::<INSTRUCTION_BYTES>().0.iter().collect();
        let (mut at, mut a) = (0, 0);
        loop {
            let [c0, c1, yes, no, k0, k1, k2, k3] = *code[at];
            let k = u32::from_ne_bytes([k0, k1, k2, k3]);
            at += 1;
            match u16::from_ne_bytes([c0, c1]) {
                LOAD => a = [nr, arch, 0, 0, first][usize::try_from(k).unwrap() / 4],
                JUMP_IF_EQUAL => at += usize::from(if a == k { yes } else { no }),
                JUMP_IF_ANY_BIT => at += usize::from(if a & k != 0 { yes } else { no }),
                RETURN => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_named_passes() {
        let program = program(77);
        assert!(program.len() / INSTRUCTION_BYTES < 4096);
        for nr in 0..600_u32 {
            let passed = PASSED.contains(&i64::from(nr));
            let expected = if passed { RETURN_ALLOW } else { RETURN_EPERM };
            assert_eq!(run(&program, ARCH, nr, 0), expected, "{nr}");
            assert_eq!(run(&program, 0x4000_0003, nr, 77), RETURN_EPERM, "32-bit {nr}");
            assert_eq!(run(&program, ARCH, nr | 1 << 30, 77), RETURN_EPERM, "x32 {nr}");
        }
    }

    #[test]
    fn signals_go_to_itself_and_clones_are_threads() {
        let program = program(77);
        let (tgkill, clone) = (234, 56);
        assert_eq!(run(&program, ARCH, tgkill, 77), RETURN_ALLOW);
        assert_eq!(run(&program, ARCH, tgkill, 78), RETURN_EPERM);
        assert_eq!(run(&program, ARCH, clone, 0x1_0f00), RETURN_ALLOW);
        assert_eq!(run(&program, ARCH, clone, 0x100), RETURN_EPERM);
    }
}
