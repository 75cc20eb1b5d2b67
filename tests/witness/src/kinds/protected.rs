//! Guard pages, read-only data, hidden data, and code.

use crate::area::{Area, PAGE};
use crate::flaw::{Flaw, Outcome};
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive};
use crate::{ensure, no_variant, probe, same};

const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;
const PAGES: usize = 32;

/// Lightweight guard pages inside a mapping (Linux 6.13).
struct Guards {
    area: Area,
    guarded: [bool; PAGES],
    pattern: Pattern,
}

/// Sets up the guard pages.
pub fn guards(context: &Context) -> Outcome<Box<dyn Kind>> {
    let area = Area::private(PAGES * PAGE)?;
    let pattern = Pattern::new(derive(context.seed, "guards", 0));
    pattern.fill(0, area.bytes_mut());
    let mut guards = Guards { area, guarded: [false; PAGES], pattern };
    if let Err(failed) = area.page(0).advise(MADV_GUARD_INSTALL) {
        if failed.errno == libc::EINVAL {
            return Err(Flaw::Absent("the kernel has no MADV_GUARD_INSTALL (Linux 6.13)".into()));
        }
        return Err(failed.into());
    }
    guards.guarded[0] = true;
    for index in [7, 8, 9, 20, PAGES - 1] {
        guards.install(index)?;
    }
    Ok(Box::new(guards))
}

impl Guards {
    fn install(&mut self, index: usize) -> Outcome {
        self.area.page(index).advise(MADV_GUARD_INSTALL)?;
        self.guarded[index] = true;
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Outcome {
        self.area.page(index).advise(MADV_GUARD_REMOVE)?;
        self.pattern.fill(index * PAGE, self.area.page(index).bytes_mut());
        self.guarded[index] = false;
        Ok(())
    }
}

impl Kind for Guards {
    fn check(&mut self) -> Outcome<Pass> {
        for index in 0..PAGES {
            let page = self.area.page(index);
            if self.guarded[index] {
                ensure!(probe::read_faults(page.start + 8), "guard page {index} is readable");
                ensure!(probe::write_faults(page.start, 1), "guard page {index} is writable");
            } else {
                self.pattern.verify("beside a guard page", index * PAGE, page.bytes())?;
            }
        }
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        let index = (step as usize * 5) % PAGES;
        if self.guarded[index] { self.remove(index) } else { self.install(index) }
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let guarded = |wanted| self.guarded.iter().position(|&g| g == wanted).unwrap_or(0);
        match variant {
            "removed" => self.area.page(guarded(true)).advise(MADV_GUARD_REMOVE)?,
            "byte" => self.area.page(guarded(false)).bytes_mut()[5] ^= 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Pages with contents and each protection.
struct Protected {
    read_only: Area,
    hidden: Area,
    code: Area,
    pattern: Pattern,
    answer: u32,
}

/// Sets up the protected pages.
pub fn protected(context: &Context) -> Outcome<Box<dyn Kind>> {
    let pattern = Pattern::new(derive(context.seed, "protected", 0));
    let whole = Area::private(24 * PAGE)?;
    pattern.fill(0, whole.bytes_mut());
    let read_only = whole.part(0, 8 * PAGE);
    let hidden = whole.part(8 * PAGE, 8 * PAGE);
    let code = whole.part(16 * PAGE, 8 * PAGE);
    read_only.protect(libc::PROT_READ)?;
    hidden.protect(libc::PROT_NONE)?;
    let answer = derive(context.seed, "answer", 0) as u32;
    code.bytes_mut()[..6].copy_from_slice(&function(answer));
    code.protect(libc::PROT_READ | libc::PROT_EXEC)?;
    Ok(Box::new(Protected { read_only, hidden, code, pattern, answer }))
}

/// `mov eax, answer; ret`.
fn function(answer: u32) -> [u8; 6] {
    let bytes = answer.to_le_bytes();
    [0xb8, bytes[0], bytes[1], bytes[2], bytes[3], 0xc3]
}

impl Kind for Protected {
    fn check(&mut self) -> Outcome<Pass> {
        self.pattern.verify("read-only data", 0, self.read_only.bytes())?;
        ensure!(probe::write_faults(self.read_only.start + 64, 0), "read-only data is writable");
        ensure!(probe::read_faults(self.hidden.start), "PROT_NONE data is readable");
        self.hidden.protect(libc::PROT_READ)?;
        let outcome = self.pattern.verify("hidden data", self.read_only.len, self.hidden.bytes());
        self.hidden.protect(libc::PROT_NONE)?;
        outcome?;
        ensure!(probe::write_faults(self.code.start + 64, 0), "code is writable");
        let begin = self.read_only.len + self.hidden.len + 8;
        self.pattern.verify("code page", begin, &self.code.bytes()[8..])?;
        same!("code", function(self.answer), self.code.bytes()[..6]);
        // SAFETY: the bytes compared above are a function of this type.
        let run: extern "C" fn() -> u32 = unsafe { std::mem::transmute(self.code.start) };
        same!("what generated code returns", self.answer, run());
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        self.answer = self.answer.rotate_left(1) ^ step as u32;
        self.code.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        self.code.bytes_mut()[..6].copy_from_slice(&function(self.answer));
        self.code.protect(libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "writable" => self.read_only.protect(libc::PROT_READ | libc::PROT_WRITE)?,
            "readable" => self.hidden.protect(libc::PROT_READ)?,
            "code" => {
                self.code.protect(libc::PROT_READ | libc::PROT_WRITE)?;
                self.code.bytes_mut()[2] ^= 1;
                self.code.protect(libc::PROT_READ | libc::PROT_EXEC)?;
            }
            "hidden-byte" => {
                self.hidden.protect(libc::PROT_READ | libc::PROT_WRITE)?;
                self.hidden.bytes_mut()[4000] ^= 1;
                self.hidden.protect(libc::PROT_NONE)?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
