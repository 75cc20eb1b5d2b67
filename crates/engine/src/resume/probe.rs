//! Whether the program answers.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::ResumeVerbError;

/// Runs `probe` until it succeeds.
pub(crate) fn answered(probe: &str, timeout: Duration, pid: i32) -> Result<(), ResumeVerbError> {
    let begun = Instant::now();
    loop {
        let run = Command::new("sh")
            .args(["-c", probe])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let last = match run {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        if begun.elapsed() >= timeout {
            let after_ms = begun.elapsed().as_millis();
            return Err(ResumeVerbError::Probe { probe: probe.to_owned(), after_ms, last, pid });
        }
        // A probe is a poll by nature; this only keeps a failing one from burning a core.
        std::thread::sleep(Duration::from_millis(1));
    }
}
