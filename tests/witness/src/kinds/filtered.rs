//! A seccomp filter: one call that nobody needs is answered with an errno of its own.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::{no_variant, same, sys, wrong};

const ANSWER: i32 = 99;

struct Filtered {
    filters: i64,
}

/// Sets up the filter, for all threads that there are and will be.
pub fn set_up(_context: &Context) -> Outcome<Box<dyn Kind>> {
    sys!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_acct as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | ANSWER as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let (operation, all) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    sys!(libc::syscall(libc::SYS_seccomp, operation, all, &program))?;
    Ok(Box::new(Filtered { filters: 2 }))
}

impl Kind for Filtered {
    fn check(&mut self) -> Outcome<Pass> {
        let mode = sys!(libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0))?;
        same!("seccomp mode", self.filters, mode);
        match sys!(libc::acct(std::ptr::null())) {
            Err(failed) if failed.errno == ANSWER => Ok(Pass::Whole),
            other => wrong!("the filtered call said {other:?}"),
        }
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            // A filter cannot be taken off: what is expected is spoilt instead.
            "mode" => self.filters = 0,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
