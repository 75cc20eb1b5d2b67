//! Swap for a test that wants pages out of memory.

use crate::sandbox::Place;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A swap file that is on until this is dropped. Swap belongs to the whole host: it is small and
/// of the lowest priority.
#[derive(Debug)]
pub struct Swap {
    file: PathBuf,
}

const BYTES: u64 = 64 << 20;

impl Swap {
    /// Turns a swap file on, if the host lets us.
    pub fn on(place: &Place) -> Option<Self> {
        turn_off_leftovers();
        let file = place.path("swap");
        // Swap files may have no holes.
        std::fs::write(&file, vec![0u8; usize::try_from(BYTES).ok()?]).ok()?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, private).ok()?;
        let on = succeeds("mkswap", &[&file]) && succeeds("swapon", &[Path::new("-p0"), &file]);
        on.then_some(Self { file })
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        succeeds("swapoff", &[&self.file]);
    }
}

fn succeeds(command: &str, arguments: &[&Path]) -> bool {
    let mut command = Command::new(command);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A test that was killed could not turn its swap off.
fn turn_off_leftovers() {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    for name in swaps.lines().filter_map(|line| line.split_whitespace().next()) {
        if name.contains("/rekindle-test-") && !Path::new(name).exists() {
            succeeds("swapoff", &[Path::new(name)]);
        }
    }
}
