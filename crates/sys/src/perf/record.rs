//! Records of a ring as typed values. Pure: bytes in, values out.

use mem::VirtAddr;

/// The registers asked for (`asm/perf_regs.h`): AX to IP, FLAGS, R8 to R15.
pub(super) const USER_REGS_MASK: u64 = 0xff_03ff;

/// Values that the kernel writes for that mask.
const USER_REGS_COUNT: usize = USER_REGS_MASK.count_ones() as usize;

const RECORD_LOST: u32 = 2;
const RECORD_COMM: u32 = 3;
const RECORD_THROTTLE: u32 = 5;
const RECORD_SAMPLE: u32 = 9;
const RECORD_LOST_SAMPLES: u32 = 13;
const MISC_CPUMODE: u16 = 7;
const MISC_USER: u16 = 2;
const MISC_COMM_EXEC: u16 = 1 << 13;

/// The user registers of a thread when it was sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserRegs {
    /// The general registers by their hardware number: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8
    /// to r15.
    pub general: [u64; 16],
    /// The instruction pointer. In a system call, where it goes on.
    pub rip: u64,
    /// The flags.
    pub flags: u64,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The instruction that was running; an address of the kernel's when it was in a system call.
    pub ip: VirtAddr,
    /// Whether `ip` is an address of the program's.
    pub in_user: bool,
    /// The process, in the sampler's pid namespace.
    pub pid: i32,
    /// The thread, in the sampler's pid namespace.
    pub tid: i32,
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// For page faults the address that was touched, to the byte; else 0.
    pub addr: VirtAddr,
    /// The registers; none for a 32-bit thread or one that has no user space.
    pub regs: Option<UserRegs>,
}

/// One record of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A sample.
    Sample(Sample),
    /// So many records did not fit the ring.
    Lost(u64),
    /// The kernel stopped sampling for the rest of a tick because samples took too much time.
    Throttled,
    /// The process executes another program: its memory is a new one from here on.
    Exec {
        /// The process.
        pid: i32,
    },
}

impl Record {
    /// Reads one record, its header included; `None` for kinds that are of no use here and for
    /// what is too short to be what it says.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = Words(bytes);
        let header = words.next()?;
        let kind = u32::try_from(header & 0xffff_ffff).ok()?;
        let misc = u16::try_from(header >> 32 & 0xffff).ok()?;
        match kind {
            RECORD_SAMPLE => sample(&mut words, misc).map(Self::Sample),
            RECORD_LOST => {
                // The event's id comes first.
                words.next()?;
                words.next().map(Self::Lost)
            }
            RECORD_LOST_SAMPLES => words.next().map(Self::Lost),
            RECORD_THROTTLE => Some(Self::Throttled),
            RECORD_COMM if misc & MISC_COMM_EXEC != 0 => {
                let (pid, _) = words.pair()?;
                Some(Self::Exec { pid })
            }
            _ => None,
        }
    }
}

fn sample(words: &mut Words<'_>, misc: u16) -> Option<Sample> {
    let ip = VirtAddr(words.next()?);
    let (pid, tid) = words.pair()?;
    let time_ns = words.next()?;
    let addr = VirtAddr(words.next()?);
    // 0: no registers, 1: 32-bit, 2: 64-bit (`enum perf_sample_regs_abi`).
    let regs = match words.next()? {
        2 => Some(user_regs(words)?),
        _ => None,
    };
    let in_user = misc & MISC_CPUMODE == MISC_USER;
    Some(Sample { ip, in_user, pid, tid, time_ns, addr, regs })
}

fn user_regs(words: &mut Words<'_>) -> Option<UserRegs> {
    let mut values = [0u64; USER_REGS_COUNT];
    for value in &mut values {
        *value = words.next()?;
    }
    let [ax, bx, cx, dx, si, di, bp, sp, rip, flags, high @ ..] = values;
    let mut general = [0u64; 16];
    general[..8].copy_from_slice(&[ax, cx, dx, bx, sp, bp, si, di]);
    general[8..].copy_from_slice(&high);
    Some(UserRegs { general, rip, flags })
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// Two 32-bit numbers in one word.
    fn pair(&mut self) -> Option<(i32, i32)> {
        let word = self.next()?;
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).ok().map(u32::cast_signed);
        Some((half(word)?, half(word >> 32)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn header(kind: u32, misc: u16, words: usize) -> u64 {
        u64::from(kind) | u64::from(misc) << 32 | (words as u64 * 8) << 48
    }

    #[test]
    fn a_sample_with_registers() {
        let mut words = vec![header(9, 2, 24), 0x4010, 7 | 8 << 32, 123, 0x7000, 2];
        words.extend(100..118);
        let Some(Record::Sample(sample)) = Record::parse(&bytes_of(&words)) else {
            panic!("no sample")
        };
        assert_eq!((sample.ip.0, sample.pid, sample.tid), (0x4010, 7, 8));
        assert_eq!((sample.time_ns, sample.addr.0, sample.in_user), (123, 0x7000, true));
        let regs = sample.regs.unwrap();
        // The kernel's order is ax bx cx dx si di bp sp ip flags r8..r15.
        assert_eq!(regs.general[..8], [100, 102, 103, 101, 107, 106, 104, 105]);
        assert_eq!(regs.general[8..], [110, 111, 112, 113, 114, 115, 116, 117]);
        assert_eq!((regs.rip, regs.flags), (108, 109));
    }

    #[test]
    fn losses_and_execs_are_told() {
        let lost = bytes_of(&[header(2, 0, 3), 99, 41]);
        assert_eq!(Record::parse(&lost), Some(Record::Lost(41)));
        let exec = bytes_of(&[header(3, 1 << 13, 3), 5 | 5 << 32, 0]);
        assert_eq!(Record::parse(&exec), Some(Record::Exec { pid: 5 }));
        let renamed = bytes_of(&[header(3, 0, 3), 5 | 5 << 32, 0]);
        assert_eq!(Record::parse(&renamed), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn short_samples_are_refused(count in 0usize..24) {
            let mut words = vec![header(9, 2, 24), 0x4010, 7, 123, 0x7000, 2];
            words.extend(100..118);
            words.truncate(count);
            prop_assert_eq!(Record::parse(&bytes_of(&words)), None);
        }
    }
}
