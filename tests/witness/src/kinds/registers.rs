//! Registers: general, vector (SSE, AVX, AVX-512 as far as the CPU has them), floating point
//! control, flags and segment bases, held by threads in user code and across a system call.

use crate::crew::{Crew, Member};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind};
use crate::pattern::{derive, mix};
use crate::{no_variant, raw, same, sys};
use std::time::Duration;

/// What is loaded into and stored from the registers; the assembly below knows the offsets.
#[repr(C, align(64))]
#[derive(Clone)]
struct Registers {
    /// rax rbx rcx rdx rsi rdi rbp r8..r15, then the flags.
    general: [u64; 16],
    vector: [[u8; 64]; 32],
    opmask: [u64; 8],
    mxcsr: u32,
    control: u16,
    fill: [u8; 58],
    x87: [[u8; 16]; 8],
}

const FLAGS: usize = 15;
/// The direction flag, which no instruction here changes.
const FLAGS_HELD: u64 = 1 << 10;
/// The identification flag. It is set in some rounds, but neither ptrace nor a return from a
/// signal can set it in another process, so it may be lost.
const FLAGS_FREE: u64 = 1 << 21;

unsafe extern "C" {
    /// Loads everything, sleeps in the kernel if `time` is given, spins, stores everything.
    /// `level` is 0 for SSE, 1 for AVX, 2 for AVX-512. Returns what nanosleep returned.
    fn witness_hold(
        load: *const Registers,
        store: *mut Registers,
        spins: u64,
        time: *const libc::timespec,
        level: u64,
    ) -> i64;
}

std::arch::global_asm!(
    ".globl witness_hold",
    "witness_hold:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 104",
    "mov [rsp], rdx",      // spins
    "mov [rsp + 8], rsi",  // where to store
    "mov [rsp + 16], rcx", // how long to sleep
    "mov [rsp + 24], r8",  // level
    "stmxcsr [rsp + 32]",
    "fnstcw [rsp + 36]",
    "mov [rsp + 48], rdi", // what to load
    "mov qword ptr [rsp + 56], 0",
    "pushfq",
    "pop qword ptr [rsp + 64]", // pop computes this address after it moved the stack pointer
    // Vectors.
    "lea r9, [rdi + 128]",
    "cmp r8, 1",
    "je 21f",
    "ja 22f",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movups xmm\\n, [r9 + 64 * \\n]",
    ".endr",
    "jmp 29f",
    "21:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovups ymm\\n, [r9 + 64 * \\n]",
    ".endr",
    "jmp 29f",
    "22:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovups zmm\\n, [r9 + 64 * \\n]",
    ".endr",
    ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "vmovups zmm\\n, [r9 + 64 * \\n]",
    ".endr",
    ".irp n, 0,1,2,3,4,5,6,7",
    "kmovq k\\n, [rdi + 2176 + 8 * \\n]",
    ".endr",
    "29:",
    // Floating point: the last one loaded is st(0).
    "ldmxcsr [rdi + 2240]",
    "fninit",
    ".irp n, 7,6,5,4,3,2,1,0",
    "fld tbyte ptr [rdi + 2304 + 16 * \\n]",
    ".endr",
    "fldcw [rdi + 2244]",
    // Flags, then the general registers, the pointer last.
    "push qword ptr [rdi + 120]",
    "popfq",
    "mov rax, [rdi]",
    "mov rbx, [rdi + 8]",
    "mov rcx, [rdi + 16]",
    "mov rdx, [rdi + 24]",
    "mov rsi, [rdi + 32]",
    "mov rbp, [rdi + 48]",
    "mov r8, [rdi + 56]",
    "mov r9, [rdi + 64]",
    "mov r10, [rdi + 72]",
    "mov r11, [rdi + 80]",
    "mov r12, [rdi + 88]",
    "mov r13, [rdi + 96]",
    "mov r14, [rdi + 104]",
    "mov r15, [rdi + 112]",
    "mov rdi, [rdi + 40]",
    "cmp qword ptr [rsp + 16], 0",
    "je 30f",
    // nanosleep(time, NULL): only rax, rcx, r11 and the arguments are not held across it.
    "mov rdi, [rsp + 16]",
    "xor esi, esi",
    "mov eax, 35",
    "syscall",
    "mov [rsp + 56], rax",
    "mov rdi, [rsp + 48]",
    "mov rax, [rdi]",
    "mov rcx, [rdi + 16]",
    "mov rsi, [rdi + 32]",
    "mov r11, [rdi + 80]",
    "mov rdi, [rdi + 40]",
    "30:",
    "pause",
    "dec qword ptr [rsp]",
    "jnz 30b",
    // Store, through the pointer kept on the stack.
    "xchg rdi, [rsp + 8]",
    "mov [rdi], rax",
    "mov [rdi + 8], rbx",
    "mov [rdi + 16], rcx",
    "mov [rdi + 24], rdx",
    "mov [rdi + 32], rsi",
    "mov rax, [rsp + 8]",
    "mov [rdi + 40], rax",
    "mov [rdi + 48], rbp",
    "mov [rdi + 56], r8",
    "mov [rdi + 64], r9",
    "mov [rdi + 72], r10",
    "mov [rdi + 80], r11",
    "mov [rdi + 88], r12",
    "mov [rdi + 96], r13",
    "mov [rdi + 104], r14",
    "mov [rdi + 112], r15",
    "pushfq",
    "pop rax",
    "mov [rdi + 120], rax",
    "cld",
    "fnstcw [rdi + 2244]",
    "stmxcsr [rdi + 2240]",
    ".irp n, 0,1,2,3,4,5,6,7",
    "fstp tbyte ptr [rdi + 2304 + 16 * \\n]",
    ".endr",
    "lea r9, [rdi + 128]",
    "mov r8, [rsp + 24]",
    "cmp r8, 1",
    "je 41f",
    "ja 42f",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movups [r9 + 64 * \\n], xmm\\n",
    ".endr",
    "jmp 49f",
    "41:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovups [r9 + 64 * \\n], ymm\\n",
    ".endr",
    "vzeroupper",
    "jmp 49f",
    "42:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovups [r9 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "vmovups [r9 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0,1,2,3,4,5,6,7",
    "kmovq [rdi + 2176 + 8 * \\n], k\\n",
    ".endr",
    "vzeroupper",
    "49:",
    "ldmxcsr [rsp + 32]",
    "fninit",
    "fldcw [rsp + 36]",
    "push qword ptr [rsp + 64]",
    "popfq",
    "mov rax, [rsp + 56]",
    "add rsp, 104",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

impl Registers {
    fn of(seed: u64) -> Self {
        let mut registers = Self {
            general: [0; 16],
            vector: [[0; 64]; 32],
            opmask: [0; 8],
            mxcsr: 0x1f80 | (mix(seed) as u32 & 0xe040),
            control: 0x037f & !0x0300 | (mix(seed ^ 1) as u16 & 0x0f00),
            fill: [0; 58],
            x87: [[0; 16]; 8],
        };
        for (index, value) in registers.general.iter_mut().enumerate() {
            *value = derive(seed, "general", index as u64);
        }
        // Interrupts on, the reserved bit, and the two of ours.
        registers.general[FLAGS] = 0x202 | (registers.general[FLAGS] & (FLAGS_HELD | FLAGS_FREE));
        for (index, value) in registers.vector.iter_mut().enumerate() {
            for (part, chunk) in value.chunks_mut(8).enumerate() {
                let number = (index * 8 + part) as u64;
                chunk.copy_from_slice(&derive(seed, "vector", number).to_le_bytes());
            }
        }
        for (index, value) in registers.opmask.iter_mut().enumerate() {
            *value = derive(seed, "opmask", index as u64);
        }
        for (index, value) in registers.x87.iter_mut().enumerate() {
            let mantissa = derive(seed, "x87", index as u64) | (1 << 63);
            value[..8].copy_from_slice(&mantissa.to_le_bytes());
            value[8..10].copy_from_slice(&(0x3fff + index as u16).to_le_bytes());
        }
        registers
    }

    fn compare(&self, found: &Self, level: u64) -> Outcome {
        const NAMES: [&str; 15] = [
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12",
            "r13", "r14", "r15",
        ];
        for (index, name) in NAMES.iter().enumerate() {
            same!(name, self.general[index], found.general[index]);
        }
        let flags = (self.general[FLAGS] & FLAGS_HELD, found.general[FLAGS] & FLAGS_HELD);
        same!("flags", flags.0, flags.1);
        same!("mxcsr", self.mxcsr, found.mxcsr);
        same!("x87 control word", self.control, found.control);
        same!("x87 registers", self.x87, found.x87);
        let (count, width) = [(16, 16), (16, 32), (32, 64)][level as usize];
        for index in 0..count {
            let what = format!("vector register {index}");
            same!(what, self.vector[index][..width], found.vector[index][..width]);
        }
        if level == 2 {
            same!("opmask registers", self.opmask, found.opmask);
        }
        Ok(())
    }
}

/// Even numbers sleep in the kernel with the registers loaded, odd ones spin.
struct Holder {
    seed: u64,
    level: u64,
    sleeps: bool,
    busy: bool,
    spoilt: Option<String>,
}

/// The widest vectors of this CPU: 0 for SSE, 1 for AVX, 2 for AVX-512.
fn level() -> u64 {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        2
    } else {
        u64::from(is_x86_feature_detected!("avx"))
    }
}

/// Sets up the register holders.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let (seed, busy) = (context.seed, context.busy);
    let make = move |number| {
        let seed = derive(seed, "registers", number);
        Ok(Holder { seed, level: level(), sleeps: number % 2 == 0, busy, spoilt: None })
    };
    Crew::start("registers", 4, &[], make)?.boxed()
}

impl Member for Holder {
    fn verify(&mut self, round: u64) -> Outcome {
        let expected = Registers::of(mix(self.seed ^ round));
        let mut load = expected.clone();
        match self.spoilt.as_deref() {
            None => {}
            Some("general") => load.general[9] ^= 1 << 40,
            Some("vector") => load.vector[13][15] ^= 1,
            Some("upper") => {
                load.vector[if self.level == 2 { 31 } else { 15 }]
                    [[15, 31, 63][self.level as usize]] ^= 1;
            }
            Some("opmask") if self.level == 2 => load.opmask[3] ^= 1 << 50,
            Some("opmask") => load.vector[0][0] ^= 1,
            Some("mxcsr") => load.mxcsr ^= 0x2000,
            Some("x87") => load.x87[4][0] ^= 1,
            Some("control") => load.control ^= 0x0400,
            Some("flags") => load.general[FLAGS] ^= 1 << 10,
            Some(other) => no_variant!(other),
        }
        let mut store = Registers::of(!self.seed);
        let time = raw::timespec(Duration::from_millis(60));
        let time_pointer = if self.sleeps { &raw const time } else { std::ptr::null() };
        let spins = if self.sleeps { 1000 } else { 20_000 };
        // SAFETY: the function keeps the C calling convention and writes only to `store`.
        let slept = unsafe { witness_hold(&load, &mut store, spins, time_pointer, self.level) };
        same!("what nanosleep returned", 0, slept);
        expected.compare(&store, self.level)
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        self.spoilt = Some(variant.to_owned());
        Ok(())
    }

    fn rest(&self) -> Option<Duration> {
        (!self.sleeps && !self.busy).then_some(Duration::from_millis(20))
    }
}

/// The gs base, which nobody else uses on x86-64 Linux: it points at our own variable.
struct Bases {
    cell: Box<u64>,
    fs: u64,
}

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;

/// Sets up threads with a gs base.
pub fn bases(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = context.seed;
    let make = move |number| {
        let cell = Box::new(derive(seed, "gs", number));
        let address = &raw const *cell as u64;
        sys!(libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, address))?;
        let bases = Bases { cell, fs: base(ARCH_GET_FS)? };
        Ok(bases)
    };
    Crew::start("bases", 2, &[], make)?.boxed()
}

fn base(which: i32) -> Outcome<u64> {
    let mut value = 0u64;
    sys!(libc::syscall(libc::SYS_arch_prctl, which, &mut value))?;
    Ok(value)
}

impl Member for Bases {
    fn verify(&mut self, _round: u64) -> Outcome {
        same!("gs base", &raw const *self.cell as u64, base(ARCH_GET_GS)?);
        same!("fs base", self.fs, base(ARCH_GET_FS)?);
        let value: u64;
        // SAFETY: the base was compared above; it points at the boxed cell.
        unsafe { std::arch::asm!("mov {}, gs:[0]", out(reg) value, options(readonly)) };
        same!("what gs:[0] holds", *self.cell, value);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "gs" => {
                sys!(libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, &raw const *self as u64))?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
