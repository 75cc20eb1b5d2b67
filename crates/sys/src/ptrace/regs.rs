//! The general registers.

/// Words in `struct user_regs_struct`, the register set `NT_PRSTATUS` of x86-64.
pub const REGS_WORDS: usize = 27;

/// The general registers of a 64-bit thread, in the kernel's order (`struct user_regs_struct`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "each field is the register of its name")]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the system call the thread is in, or -1 when in none.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Regs {
    /// The registers as words, in the kernel's order.
    pub const fn to_words(self) -> [u64; REGS_WORDS] {
        // SAFETY: `Regs` is repr(C) and consists of exactly REGS_WORDS u64 fields.
        unsafe { std::mem::transmute(self) }
    }

    /// Registers from words in the kernel's order.
    pub const fn from_words(words: [u64; REGS_WORDS]) -> Self {
        // SAFETY: `Regs` is repr(C) and consists of exactly REGS_WORDS u64 fields.
        unsafe { std::mem::transmute(words) }
    }

    /// The system call the thread was stopped in, or `None`.
    pub const fn syscall(&self) -> Option<u64> {
        if self.orig_rax.cast_signed() >= 0 { Some(self.orig_rax) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::Regs;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<Regs>(), size_of::<libc::user_regs_struct>());
        macro_rules! same_offset {
            ($($field:ident)*) => {$(
                assert_eq!(
                    std::mem::offset_of!(Regs, $field),
                    std::mem::offset_of!(libc::user_regs_struct, $field),
                    stringify!($field)
                );
            )*};
        }
        same_offset!(r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs
            eflags rsp ss fs_base gs_base ds es fs gs);
    }
}
