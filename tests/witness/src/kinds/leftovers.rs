//! Nothing may be added: no descriptor and no executable memory that the program did not make.

use crate::area::Area;
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::{no_variant, raw, same, sys, wrong};
use std::collections::BTreeMap;

/// Passes after which a descriptor counts as left behind: other threads open files for a moment.
const PASSES: u32 = 4;

/// Pictures that are laid over each other to know what belongs to the program.
const LOOKS: u32 = 3;

/// The descriptor table by number and sort, and the executable mappings.
#[derive(Default)]
struct Leftovers {
    expected: Option<(BTreeMap<i32, String>, Vec<String>)>,
    strangers: BTreeMap<(i32, String), u32>,
    looks: u32,
}

/// Sets up the comparison; the picture is taken at the first checks.
pub fn set_up(_context: &Context) -> Outcome<Box<dyn Kind>> {
    Ok(Box::new(Leftovers::default()))
}

/// Descriptors by number, without the numbers that the kernel gives to pipes and sockets.
fn descriptors() -> Outcome<BTreeMap<i32, String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        // One that was closed meanwhile has no link; the listing itself is one that ends.
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        let text = link.display().to_string();
        if text.ends_with("/fd") && text.starts_with("/proc/") {
            continue;
        }
        let sort = ["pipe:", "socket:"].iter().find(|sort| text.starts_with(**sort));
        let number = entry.file_name().to_string_lossy().parse().unwrap_or(-1);
        all.insert(number, sort.map_or(text.clone(), ToString::to_string));
    }
    Ok(all)
}

/// Bounds and rights of executable memory.
fn executable() -> Outcome<Vec<String>> {
    let maps = raw::read_text("/proc/self/maps")?;
    let is = |line: &&str| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x'));
    Ok(maps.lines().filter(is).map(|line| line.chars().take(50).collect()).collect())
}

impl Kind for Leftovers {
    fn check(&mut self) -> Outcome<Pass> {
        let (open, code) = (descriptors()?, executable()?);
        if self.looks < LOOKS {
            // What another thread has open for a moment is not in all of the first pictures.
            let (held, _) = self.expected.get_or_insert((open.clone(), code));
            held.retain(|number, link| open.get(number) == Some(link));
            self.looks += 1;
            return Ok(Pass::Whole);
        }
        let Some((expected, expected_code)) = &self.expected else {
            return Ok(Pass::Part);
        };
        for (number, link) in expected {
            // The standard streams may be those of whoever resumes; they must be there.
            if *number <= 2 && open.contains_key(number) {
                continue;
            }
            same!(format!("descriptor {number}"), Some(link), open.get(number));
        }
        let mut strangers = BTreeMap::new();
        for stranger in open.into_iter().filter(|(number, _)| !expected.contains_key(number)) {
            let seen = self.strangers.get(&stranger).copied().unwrap_or(0) + 1;
            if seen > PASSES {
                wrong!("descriptor {} to {} was added", stranger.0, stranger.1);
            }
            strangers.insert(stranger, seen);
        }
        self.strangers = strangers;
        same!("executable mappings", expected_code, &code);
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        match variant {
            "descriptor" => drop(sys!(libc::dup(0))?),
            "closed" => drop(sys!(libc::close(0))?),
            "mapping" => {
                let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
                Area::map(4096, rights, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
