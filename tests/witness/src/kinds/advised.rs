//! Advice, locks and names of mappings, as /proc/self/smaps shows them, with contents.

use crate::area::{Area, PAGE};
use crate::flaw::{Flaw, Outcome};
use crate::kind::{Context, Kind, Pass};
use crate::pattern::{Pattern, derive};
use crate::raw;
use crate::{ensure, no_variant, same, sys, wrong};

const PR_SET_VMA: i32 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: usize = 0;
/// Reading smaps walks all memory: not on every pass.
const PASSES_BETWEEN_LOOKS: u64 = 10;

struct Advised {
    areas: Vec<(&'static str, Area)>,
    flags: Vec<String>,
    pattern: Pattern,
    passes: u64,
}

/// Sets up the advised areas.
pub fn set_up(context: &Context) -> Outcome<Box<dyn Kind>> {
    let pattern = Pattern::new(derive(context.seed, "advised", 0));
    let areas = [
        ("dc", area(libc::MADV_DONTFORK)?),
        ("wf", area(libc::MADV_WIPEONFORK)?),
        ("dd", area(libc::MADV_DONTDUMP)?),
        ("sr", area(libc::MADV_SEQUENTIAL)?),
        ("rr", area(libc::MADV_RANDOM)?),
        ("nh", area(libc::MADV_NOHUGEPAGE)?),
        ("lo", locked(0)?),
        ("lo", locked(libc::MLOCK_ONFAULT)?),
        ("nr", no_reserve()?),
        ("mg", mergeable()?),
        ("gd", grows_down()?),
    ];
    let areas: Vec<_> = areas.into_iter().filter_map(|(f, area)| Some((f, area?))).collect();
    for (_, area) in &areas {
        pattern.fill(0, area.bytes_mut());
    }
    let name = c"witness area";
    let first = areas[0].1;
    let named =
        sys!(libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, first.start, first.len, name.as_ptr()));
    let mut advised = Advised { areas, flags: Vec::new(), pattern, passes: 0 };
    advised.flags = advised.look()?;
    for ((wanted, _), found) in advised.areas.iter().zip(&advised.flags) {
        ensure!(found.contains(wanted), "advice {wanted} not in {found}");
    }
    if named.is_ok() {
        ensure!(advised.flags[0].contains("[anon:witness area]"), "no name in smaps");
    }
    Ok(Box::new(advised))
}

/// Areas apart from each other, so that no two mappings merge.
fn apart() -> Outcome<Area> {
    let all = Area::map(6 * PAGE, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
    let inner = all.part(PAGE, 4 * PAGE);
    inner.protect(libc::PROT_READ | libc::PROT_WRITE)?;
    Ok(inner)
}

fn area(advice: i32) -> Outcome<Option<Area>> {
    let area = apart()?;
    area.advise(advice)?;
    Ok(Some(area))
}

/// KSM may be configured away.
fn mergeable() -> Outcome<Option<Area>> {
    let area = apart()?;
    Ok(area.advise(libc::MADV_MERGEABLE).is_ok().then_some(area))
}

fn locked(flags: u32) -> Outcome<Option<Area>> {
    let area = apart()?;
    sys!(libc::syscall(libc::SYS_mlock2, area.start, area.len, flags))?;
    Ok(Some(area))
}

fn no_reserve() -> Outcome<Option<Area>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // Rights of its own keep it from merging with a neighbour.
    Ok(Some(Area::map(4 * PAGE, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, flags)?))
}

/// What makes such a mapping again must not leave its own advice on it.
fn grows_down() -> Outcome<Option<Area>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN;
    Ok(Some(Area::map(4 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags)?))
}

impl Advised {
    /// For each area: its bounds, rights, name and VmFlags.
    fn look(&self) -> Outcome<Vec<String>> {
        let text = raw::read_text("/proc/self/smaps")?;
        self.areas.iter().map(|(_, area)| describe(&text, area)).collect()
    }
}

fn describe(smaps: &str, area: &Area) -> Outcome<String> {
    let head = format!("{:x}-{:x} ", area.start, area.start + area.len);
    let Some(at) = smaps.find(&head) else {
        wrong!("no mapping {head}in smaps");
    };
    let mut lines = smaps[at..].lines();
    let (line, flags) = (lines.next(), lines.find(|line| line.starts_with("VmFlags:")));
    match (line, flags) {
        // The soft-dirty flag comes and goes by itself. That writes are tracked from outside (`uw`)
        // shows here and nowhere else; it must go again, which who tracks has to test.
        (Some(line), Some(flags)) => {
            Ok(format!("{line} {}", flags.replace(" sd", "").replace(" uw", "")))
        }
        _ => wrong!("smaps ends at {head}"),
    }
}

impl Kind for Advised {
    fn check(&mut self) -> Outcome<Pass> {
        for (name, area) in &self.areas {
            self.pattern.verify(&format!("area advised {name}"), 0, area.bytes())?;
        }
        self.passes += 1;
        if self.passes % PASSES_BETWEEN_LOOKS != 1 {
            return Ok(Pass::Part);
        }
        same!("mapping flags", self.flags, self.look()?);
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let (_, area) = self.areas[0];
        match variant {
            "advice" => area.advise(libc::MADV_DOFORK)?,
            "unlocked" => {
                for (_, area) in self.areas.iter().filter(|(flag, _)| *flag == "lo") {
                    sys!(libc::munlock(area.pointer(), area.len))?;
                }
            }
            "byte" => area.bytes_mut()[17] ^= 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// An area for huge pages, partly given back.
struct Huge {
    area: Area,
    pattern: Pattern,
    dropped: usize,
}

const HUGE: usize = 2 << 20;

/// Sets up the huge area.
pub fn huge(context: &Context) -> Outcome<Box<dyn Kind>> {
    let raw_area = Area::private(4 * HUGE)?;
    let area = raw_area.part(raw_area.start.next_multiple_of(HUGE) - raw_area.start, 3 * HUGE);
    if let Err(failed) = area.advise(libc::MADV_HUGEPAGE) {
        return Err(Flaw::Absent(format!("MADV_HUGEPAGE said errno {}", failed.errno)));
    }
    let pattern = Pattern::new(derive(context.seed, "huge", 0));
    pattern.fill(0, area.bytes_mut());
    let huge = Huge { area, pattern, dropped: 300 };
    huge.area.page(huge.dropped).advise(libc::MADV_DONTNEED)?;
    Ok(Box::new(huge))
}

impl Kind for Huge {
    fn check(&mut self) -> Outcome<Pass> {
        let hole = self.area.page(self.dropped);
        crate::pattern::verify_zero("page given back inside a huge page", hole.bytes())?;
        let at = self.dropped * PAGE;
        self.pattern.verify("huge area", 0, &self.area.bytes()[..at])?;
        self.pattern.verify("huge area", at + PAGE, &self.area.bytes()[at + PAGE..])?;
        Ok(Pass::Whole)
    }

    fn mutate(&mut self, step: u64) -> Outcome {
        if step.is_multiple_of(5) {
            let at = self.dropped * PAGE;
            self.pattern.fill(at, self.area.page(self.dropped).bytes_mut());
            self.dropped = (self.dropped + 601) % self.area.pages();
            self.area.page(self.dropped).advise(libc::MADV_DONTNEED)?;
        }
        Ok(())
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "byte" => {
                let at = (self.dropped + 1) % self.area.pages();
                self.area.page(at).bytes_mut()[1] ^= 1;
            }
            "not-zero" => self.area.page(self.dropped).bytes_mut()[1] = 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
