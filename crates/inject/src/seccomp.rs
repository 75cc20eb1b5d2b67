//! Would the thread's seccomp filters let it find its way back without us?
//!
//! While we trace, filters are suspended. Should we die they are back at once, and a call they
//! forbid would kill the thread on its way back. So the filters are run here, beforehand, on the
//! calls of that way.

/// Bytes in an instruction (`struct sock_filter`).
const INSTRUCTION_BYTES: usize = 8;
/// `AUDIT_ARCH_X86_64`
const ARCH: u32 = 0xc000_003e;
/// `SECCOMP_RET_LOG`: allowed, and logged. All that is above is allowed as well.
const RETURN_LOG: u32 = 0x7ffc_0000;
const MEMORY_WORDS: usize = 16;

/// The filters of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    programs: Vec<Vec<u8>>,
}

/// A system call as filters see it (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallData {
    pub(crate) number: u32,
    /// Address behind the `syscall` instruction.
    pub(crate) instruction: u64,
    pub(crate) args: [u64; 6],
}

impl Filters {
    pub(crate) const fn new(programs: Vec<Vec<u8>>) -> Self {
        Self { programs }
    }

    /// Whether every filter lets `call` pass. A program that is not understood lets nothing pass.
    pub(crate) fn allow(&self, call: &CallData) -> bool {
        let data = call.bytes();
        // The filter of least value decides, and all values from "log" on let the call pass.
        self.programs.iter().all(|program| {
            // Actions are ordered as signed numbers: "kill the process" has the highest bit.
            run(program, &data).is_some_and(|value| value.cast_signed() >= RETURN_LOG.cast_signed())
        })
    }
}

impl CallData {
    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&self.number.to_ne_bytes());
        bytes[4..8].copy_from_slice(&ARCH.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.instruction.to_ne_bytes());
        for (bytes, arg) in bytes[16..].as_chunks_mut::<8>().0.iter_mut().zip(self.args) {
            *bytes = arg.to_ne_bytes();
        }
        bytes
    }
}

/// What a classic BPF program returns for `data`. `None`: it is not a valid seccomp filter.
/// Jumps lead forward only, so that it ends.
fn run(program: &[u8], data: &[u8; 64]) -> Option<u32> {
    let instructions = program.as_chunks::<INSTRUCTION_BYTES>().0;
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut memory = [0_u32; MEMORY_WORDS];
    let mut at = 0;
    loop {
        let [c0, c1, if_true, if_false, k0, k1, k2, k3] = *instructions.get(at)?;
        let code = u16::from_ne_bytes([c0, c1]);
        let k = u32::from_ne_bytes([k0, k1, k2, k3]);
        let index = usize::try_from(k).ok()?;
        at += 1;
        match code {
            0x20 => a = u32::from_ne_bytes(data.get(index..index + 4)?.try_into().ok()?),
            0x80 | 0x81 => {
                let length = 64;
                if code == 0x80 { a = length } else { x = length }
            }
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = *memory.get(index)?,
            0x61 => x = *memory.get(index)?,
            0x02 => *memory.get_mut(index)? = a,
            0x03 => *memory.get_mut(index)? = x,
            0x07 => x = a,
            0x87 => a = x,
            0x06 => return Some(k),
            0x16 => return Some(a),
            0x84 => a = a.wrapping_neg(),
            0x05 => at = at.checked_add(index)?,
            _ if code & 0x07 == 0x04 => {
                a = calculate(code, a, if code & 0x08 == 0 { k } else { x })?
            }
            _ if code & 0x07 == 0x05 => {
                let other = if code & 0x08 == 0 { k } else { x };
                let holds = compare(code, a, other)?;
                at += usize::from(if holds { if_true } else { if_false });
            }
            _ => return None,
        }
    }
}

fn calculate(code: u16, a: u32, b: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b)?,
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a.checked_shl(b)?,
        0x70 => a.checked_shr(b)?,
        0xa0 => a ^ b,
        _ => return None,
    })
}

fn compare(code: u16, a: u32, b: u32) -> Option<bool> {
    Some(match code & 0xf0 {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{CallData, Filters};

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let bytes = |&(code, if_true, if_false, k): &(u16, u8, u8, u32)| {
            let [c0, c1] = code.to_ne_bytes();
            let [k0, k1, k2, k3] = k.to_ne_bytes();
            [c0, c1, if_true, if_false, k0, k1, k2, k3]
        };
        instructions.iter().flat_map(bytes).collect()
    }

    const ALLOW: u32 = 0x7fff_0000;
    const KILL_PROCESS: u32 = 0x8000_0000;
    const ERRNO: u32 = 0x0005_0001;

    fn call(number: u32, first: u64) -> CallData {
        CallData { number, instruction: 0x7000, args: [first, 0, 0, 0, 0, 0] }
    }

    /// Kills on another architecture, forbids `munmap` with an error, and calls above 200 of which
    /// the first argument has its lowest bit set.
    fn usual() -> Vec<u8> {
        program(&[
            (0x20, 0, 0, 4),
            (0x15, 1, 0, 0xc000_003e),
            (0x06, 0, 0, KILL_PROCESS),
            (0x20, 0, 0, 0),
            (0x15, 0, 1, 11),
            (0x06, 0, 0, ERRNO),
            (0x25, 0, 2, 200),
            (0x20, 0, 0, 16),
            (0x45, 1, 0, 1),
            (0x06, 0, 0, ALLOW),
            (0x06, 0, 0, KILL_PROCESS),
        ])
    }

    #[test]
    fn filters_are_understood() {
        let filters = Filters::new(vec![usual()]);
        let cases = [(39, 0, true), (39, 1, true), (11, 0, false), (201, 2, true), (201, 3, false)];
        for (number, first, allowed) in cases {
            assert_eq!(filters.allow(&call(number, first)), allowed, "{number}({first})");
        }
    }

    #[test]
    fn the_strictest_filter_decides_and_nonsense_forbids() {
        let all = program(&[(0x06, 0, 0, ALLOW)]);
        assert!(Filters::default().allow(&call(11, 0)));
        assert!(Filters::new(vec![all.clone(), all.clone()]).allow(&call(11, 0)));
        assert!(!Filters::new(vec![all.clone(), usual()]).allow(&call(11, 0)));
        assert!(!Filters::new(vec![all, vec![0xff; 8]]).allow(&call(39, 0)));
        assert!(!Filters::new(vec![Vec::new()]).allow(&call(39, 0)));
        assert!(!Filters::new(vec![program(&[(0x05, 0, 0, u32::MAX)])]).allow(&call(39, 0)));
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        // ((5 + 3) * 4 ^ 1) & 0xff == 33, through memory and x
        let program = program(&[
            (0x00, 0, 0, 5),
            (0x04, 0, 0, 3),
            (0x01, 0, 0, 4),
            (0x2c, 0, 0, 0),
            (0xa4, 0, 0, 1),
            (0x02, 0, 0, 7),
            (0x00, 0, 0, 0),
            (0x60, 0, 0, 7),
            (0x54, 0, 0, 0xff),
            (0x15, 0, 1, 33),
            (0x06, 0, 0, ALLOW),
            (0x06, 0, 0, KILL_PROCESS),
        ]);
        assert!(Filters::new(vec![program]).allow(&call(0, 0)));
    }
}
