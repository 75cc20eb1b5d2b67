//! The verb `run`: start a command under a stable outer pid.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use ::resume::Exit;

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It could not be started.
    #[error("start {command}: {cause}")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It could not be waited for.
    #[error("wait for {command}: {cause}")]
    Wait {
        /// The command.
        command: String,
        /// What the system said.
        cause: io::Error,
    },
}

impl RunError {
    /// What shells and their kin exit with: 127 not found, 126 not executable, 125 our failure.
    pub fn shell_code(&self) -> u8 {
        match self {
            Self::Start { cause, .. } if cause.kind() == io::ErrorKind::NotFound => 127,
            Self::Start { .. } => 126,
            Self::Wait { .. } => 125,
        }
    }
}

/// Runs `command`, passes signals on to it, and returns how it ended.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn run(command: &[OsString]) -> Result<Exit, RunError> {
    let name = command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
    let start = |cause| RunError::Start { command: name.clone(), cause };
    let wait = |cause| RunError::Wait { command: name.clone(), cause };
    let (program, arguments) =
        command.split_first().ok_or_else(|| start(io::Error::from(io::ErrorKind::InvalidInput)))?;
    sys::supervise::catch_signals_for_program().map_err(wait)?;
    let mut child = Command::new(program).args(arguments).spawn().map_err(start)?;
    if let Ok(pid) = i32::try_from(child.id()) {
        sys::supervise::pass_signals_to(pid);
    }
    let status = child.wait().map_err(wait)?;
    sys::supervise::stop_passing_signals();
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    })
}
