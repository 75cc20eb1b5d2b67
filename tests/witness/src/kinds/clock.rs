//! Clocks and the vdso.

use crate::crew::{Crew, Member};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind};
use crate::{ensure, no_variant, raw, same, sys, wrong};

/// A thread that reads clocks through the vdso and by system call in turn.
struct Clocks {
    last: u64,
    busy: bool,
}

/// Sets up the clock readers.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let busy = context.busy;
    vdso()?;
    Crew::start("clock", 2, &[], move |_| Ok(Clocks { last: 0, busy }))?.boxed()
}

/// The vdso's address in the auxiliary vector must be a mapping of that name.
fn vdso() -> Outcome {
    // SAFETY: reads the auxiliary vector.
    let address = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    if address == 0 {
        return Ok(());
    }
    let maps = raw::read_text("/proc/self/maps")?;
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else {
        wrong!("no [vdso] among the mappings");
    };
    let start = line.split('-').next().and_then(|text| u64::from_str_radix(text, 16).ok());
    same!("address of the vdso", Some(address), start);
    Ok(())
}

fn by_system_call(clock: i32) -> Outcome<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    sys!(libc::syscall(libc::SYS_clock_gettime, clock, &mut now))?;
    Ok(raw::nanos(&now))
}

impl Member for Clocks {
    fn verify(&mut self, round: u64) -> Outcome {
        for _ in 0..if self.busy { 20_000 } else { 200 } {
            let before = by_system_call(libc::CLOCK_MONOTONIC)?;
            let between = raw::mono();
            let after = by_system_call(libc::CLOCK_MONOTONIC)?;
            ensure!(self.last <= before, "the clock went back from {} to {before}", self.last);
            ensure!(
                before <= between && between <= after,
                "the vdso's clock says {between} between {before} and {after} of the kernel's"
            );
            self.last = after;
        }
        let before = by_system_call(libc::CLOCK_BOOTTIME)?;
        let between = raw::clock(libc::CLOCK_BOOTTIME);
        ensure!(before <= between, "the vdso's boot clock says {between}, before {before}");
        if round.is_multiple_of(16) { vdso() } else { Ok(()) }
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            // As if the clock had been ahead.
            "backwards" => self.last = raw::mono() + 1_000_000_000_000,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
