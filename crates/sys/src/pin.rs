//! Which processors a thread may use: sched_setaffinity(2).
//!
//! A tracer and its tracee that take turns do so five to twenty times faster on one processor
//! than across two.

use std::io;
use std::marker::PhantomData;

use crate::sched::affinity;
use crate::task::Tid;

/// The calling thread on one processor. Dropping it gives the thread its old set back. What the
/// thread creates meanwhile is bound to that processor, too.
#[derive(Debug)]
pub struct Pinned {
    cpu: u32,
    before: Vec<u64>,
    /// It speaks of the thread that made it.
    _bound_to_thread: PhantomData<*const ()>,
}

impl Pinned {
    /// Binds the calling thread to the processor it runs on.
    ///
    /// # Errors
    /// When the kernel refuses, which it does for no thread of ours.
    pub fn here() -> io::Result<Self> {
        // SAFETY: sched_getcpu takes nothing.
        let cpu = unsafe { libc::sched_getcpu() };
        Self::to(u32::try_from(cpu).map_err(|_| io::Error::last_os_error())?)
    }

    /// Binds the calling thread to processor `cpu`.
    ///
    /// # Errors
    /// `EINVAL` when it may not use that one.
    pub fn to(cpu: u32) -> io::Result<Self> {
        let thread = Tid::current();
        let before = affinity(thread)?;
        let word = usize::try_from(cpu / u64::BITS).map_err(io::Error::other)?;
        let mut only = vec![0; word + 1];
        only[word] = 1 << (cpu % u64::BITS);
        set_affinity(thread, &only)?;
        Ok(Self { cpu, before, _bound_to_thread: PhantomData })
    }

    /// The processor.
    pub const fn cpu(&self) -> u32 {
        self.cpu
    }

    /// The set the thread gets back.
    pub fn before(&self) -> &[u64] {
        &self.before
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Fails only when all of those processors were taken away meanwhile.
        let _ = set_affinity(Tid::current(), &self.before);
    }
}

/// Lets thread `tid` use the processors in `set`, one bit each, 64 to a word.
///
/// # Errors
/// `EINVAL` when none of them is there for it; `EPERM` when it belongs to somebody else and we
/// lack `CAP_SYS_NICE`.
pub fn set_affinity(tid: Tid, set: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads the bytes of `set`, whose length is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, tid.raw(), size_of_val(set), set.as_ptr())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_its_processors_back() {
        let before = affinity(Tid::current()).unwrap();
        let pinned = Pinned::here().unwrap();
        let now = affinity(Tid::current()).unwrap();
        assert_eq!(now.iter().map(|word| word.count_ones()).sum::<u32>(), 1);
        assert_eq!(pinned.before(), before);
        drop(pinned);
        assert_eq!(affinity(Tid::current()).unwrap(), before);
    }
}
