//! Keeping a program's memory held by a second user.
//!
//! Some things the kernel does only for memory that more than one thread uses. Reading
//! `/proc/PID/mem` counts as using it for as long as the read lasts, and a read into a page of
//! ours that a userfaultfd keeps missing lasts until we let it end. Nothing in the program is
//! touched or locked meanwhile; when we die the read dies with us.

use std::io;
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;

use mem::VirtAddr;

use crate::remote::ProcMem;
use crate::task::Pid;
use crate::trial::TrialPages;
use crate::userfault::{Features, Kind, Modes, Userfault};

/// A second user of a program's memory, until dropped. While it lives a program that ends keeps
/// its memory: drop it soon after.
#[derive(Debug)]
pub struct MemoryHold {
    userfault: Userfault,
    reader: Option<JoinHandle<()>>,
    /// The page that the read goes to; given back after the reader is done with it.
    page: TrialPages,
}

impl MemoryHold {
    /// Holds the memory of `pid`, of which one byte at `addr` has to be readable. Needs the
    /// right to serve faults of system calls: `CAP_SYS_PTRACE`, `vm.unprivileged_userfaultfd` or
    /// access to `/dev/userfaultfd`.
    ///
    /// # Errors
    /// When that right is missing, or the memory may not be read.
    pub fn new(pid: Pid, addr: VirtAddr) -> io::Result<Self> {
        let mem = ProcMem::open(pid)?;
        mem.read_exact(addr, &mut [0])?;
        let mut page = TrialPages::new(1)?;
        page.discard()?;
        let userfault = Userfault::of_ourselves(Kind::Full)
            .or_else(|_| Userfault::of_ourselves_by_device(Kind::Full))
            .map_err(io::Error::other)?;
        userfault.handshake(Features::NONE).map_err(io::Error::other)?;
        userfault.register(page.range(), Modes::Missing).map_err(io::Error::other)?;
        let to = page.range().start;
        let reader = std::thread::Builder::new().name("hold".to_owned()).spawn(move || {
            // SAFETY: the page is mapped and stays so until this thread is joined, and no Rust
            // object lives in it: the kernel may write one byte of it.
            unsafe {
                libc::pread(
                    mem.file().as_raw_fd(),
                    std::ptr::without_provenance_mut(usize::try_from(to.0).unwrap_or_default()),
                    1,
                    addr.0.cast_signed(),
                );
            }
        })?;
        let hold = Self { userfault, reader: Some(reader), page };
        // The fault tells that the read has begun: from here on the memory is held.
        if !hold.userfault.wait(HOLD_WAIT_MS).map_err(io::Error::other)? {
            return Err(io::Error::other("reading the program's memory ended too early"));
        }
        Ok(hold)
    }
}

/// How long the read may take to reach our page.
const HOLD_WAIT_MS: i32 = 2000;

impl Drop for MemoryHold {
    fn drop(&mut self) {
        // The page becomes an ordinary one and the read goes on.
        let range = self.page.range();
        if self.userfault.unregister(range).is_err() {
            let _ = self.userfault.zero(range, false);
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::proc::ProcDir;

    #[test]
    fn a_held_program_lives_ends_and_is_let_go() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let dir = ProcDir::open(pid.raw()).unwrap();
        // The loader has mapped something by now, or will have in a moment.
        let stack = || {
            dir.parse("stat", &mut Vec::new(), crate::proc::parse_stat).unwrap().memory.start_stack
        };
        while stack() == 0 {
            std::thread::yield_now();
        }
        let hold = MemoryHold::new(pid, VirtAddr(stack())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(hold);
    }

    #[test]
    fn memory_that_is_not_there_is_not_held() {
        assert!(MemoryHold::new(Pid::current(), VirtAddr(0x10)).is_err());
    }
}
