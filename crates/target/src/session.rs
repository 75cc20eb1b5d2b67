//! A userfaultfd of a process's memory, opened inside it and taken over.
//!
//! userfaultfd(2) makes a descriptor for the memory of the caller, so the process itself has to
//! make the call. All threads stand still meanwhile, so that none forks with the descriptor open
//! or gets another number for a file of its own than it would have had.

use std::io;
use std::time::{Duration, Instant};

use inject::{Batch, InjectError, Injector, Undo};
use sys::userfault::{Kind, Userfault};

use crate::{FreezeError, FreezeOptions, Frozen, Process};

/// Scratch memory for three calls.
const SCRATCH_BYTES: u64 = 16 * 1024;

/// Why no userfaultfd could be had of a process. It runs on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It could not be stopped.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The call could not be made in it.
    #[error("open a userfaultfd in process {pid}: {source}")]
    Inject {
        /// The process.
        pid: i32,
        /// What failed.
        source: InjectError,
    },
    /// The process may not have one.
    #[error(
        "open a userfaultfd in process {pid}: the kernel refuses it to the program's user; set \
         vm.unprivileged_userfaultfd to 1 or run the program with CAP_SYS_PTRACE"
    )]
    Denied {
        /// The process.
        pid: i32,
    },
    /// The descriptor could not be taken over.
    #[error("take over the userfaultfd of process {pid}: {source}")]
    TakeOver {
        /// The process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SessionError {
    /// Whether the program's own privileges, limits or filters are the reason: it may not have one
    /// more descriptor or page, or may not make the call. It will be so again.
    pub fn is_by_the_program(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Inject { source, .. } => {
                source.is_out_of_room()
                    || matches!(
                        source,
                        InjectError::Call { .. }
                            | InjectError::BadBatch { .. }
                            | InjectError::Refused { .. }
                    )
            }
            Self::Freeze(_) | Self::TakeOver { .. } => false,
        }
    }
}

impl Process {
    /// Opens a userfaultfd of this process's memory: one short stop, which leaves nothing in the
    /// process, also when we die in the middle. Says how long the stop lasted.
    ///
    /// With [`Kind::UserModeOnly`] no privilege of the program is needed. A process with seccomp
    /// filters needs our `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// See [`SessionError`]; the process is as it was.
    pub fn open_userfault(
        &self,
        kind: Kind,
        deadline: Instant,
    ) -> Result<(Userfault, Duration), SessionError> {
        // Before the stop: finding room in the program needs none.
        let injector = self.injector()?;
        let options = FreezeOptions { deadline, suspend_seccomp: false };
        let mut frozen = self.freeze(options)?;
        let userfault = open(&mut frozen, &injector, kind)?;
        Ok((userfault, frozen.thaw()))
    }

    fn injector(&self) -> Result<Injector, SessionError> {
        let pid = self.pid().raw();
        Injector::new(self.pid()).map_err(|source| SessionError::Inject { pid, source })
    }
}

impl Frozen<'_> {
    /// As [`Process::open_userfault`], within a stop that is there already.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn open_userfault(&mut self, kind: Kind) -> Result<Userfault, SessionError> {
        let injector = self.process().injector()?;
        open(self, &injector, kind)
    }
}

fn open(
    frozen: &mut Frozen<'_>,
    injector: &Injector,
    kind: Kind,
) -> Result<Userfault, SessionError> {
    let process = frozen.process();
    let pid = process.pid().raw();
    let failed = |source| SessionError::Inject { pid, source };
    let mut injection = injector.open(frozen.leader_mut(), SCRATCH_BYTES).map_err(failed)?;
    let mut batch = Batch::new();
    // Closed inside again by the undo, whatever becomes of us.
    let open = batch.require_with_undo(
        libc::SYS_userfaultfd,
        &[kind.flags().into()],
        Undo::close_result(),
    );
    let number = match injection.run(&batch).and_then(|answers| answers.get(open)) {
        Ok(number) => number,
        Err(InjectError::Call { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
            return Err(SessionError::Denied { pid });
        }
        Err(source) => return Err(failed(source)),
    };
    let number = i32::try_from(number).unwrap_or(-1);
    let userfault = process.descriptor(number);
    injection.finish().map_err(failed)?;
    let userfault = userfault.map_err(|source| SessionError::TakeOver { pid, source })?;
    Ok(Userfault::from_fd(userfault))
}
