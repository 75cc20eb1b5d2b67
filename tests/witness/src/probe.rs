//! Touching memory that may fault, and the handlers of faults.

use crate::flaw::{Flaw, Outcome, fail};
use crate::sys;

std::arch::global_asm!(
    ".globl witness_probe_read",
    "witness_probe_read:",
    "movzx eax, byte ptr [rdi]",
    "xor eax, eax",
    "ret",
    ".globl witness_probe_write",
    "witness_probe_write:",
    "mov byte ptr [rdi], sil",
    "xor eax, eax",
    "ret",
    ".globl witness_probe_fault",
    "witness_probe_fault:",
    "mov eax, 1",
    "ret",
);

unsafe extern "C" {
    fn witness_probe_read(address: usize) -> u32;
    fn witness_probe_write(address: usize, value: u8) -> u32;
    fn witness_probe_fault();
}

/// Whether a one-byte read of `address` faults.
pub fn read_faults(address: usize) -> bool {
    // SAFETY: a fault at the probe's first instruction is turned into a return value by `on_fault`.
    unsafe { witness_probe_read(address) == 1 }
}

/// Whether a one-byte write to `address` faults; otherwise `value` is there afterwards.
pub fn write_faults(address: usize, value: u8) -> bool {
    // SAFETY: as in `read_faults`; the caller owns the byte.
    unsafe { witness_probe_write(address, value) == 1 }
}

/// Installs the handlers of SIGSEGV and SIGBUS.
pub fn install() -> Outcome {
    // SAFETY: a zeroed action is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
        sys!(libc::sigaction(signal, &action, std::ptr::null_mut()))?;
    }
    Ok(())
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands valid pointers to an SA_SIGINFO handler.
    let (address, registers) = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        ((*info).si_addr() as usize, &mut context.uc_mcontext.gregs)
    };
    let rip = registers[libc::REG_RIP as usize];
    let read = witness_probe_read as *const () as i64;
    let write = witness_probe_write as *const () as i64;
    if rip == read || rip == write {
        registers[libc::REG_RIP as usize] = witness_probe_fault as *const () as i64;
        return;
    }
    let text = format!("signal {signal} at address {address:#x}, instruction {rip:#x}");
    fail("fault", &Flaw::Wrong(text));
}
