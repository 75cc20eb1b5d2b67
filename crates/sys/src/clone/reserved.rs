//! Memory that a child shall find at a given address.

use std::io;

use mem::{AddrRange, Protection};

/// Mappings at chosen addresses in this process, so that a child made while they exist has them
/// too. Unmapped here when dropped.
#[derive(Debug)]
pub struct Reserved {
    ranges: Vec<AddrRange>,
}

impl Reserved {
    /// Maps every range as private anonymous memory with its protection. Nothing is replaced.
    ///
    /// # Errors
    /// `EEXIST` when something else is there already.
    pub fn map(ranges: &[(AddrRange, Protection)]) -> io::Result<Self> {
        let mut reserved = Self { ranges: Vec::new() };
        for (range, protection) in ranges {
            let bits = [
                (protection.read, libc::PROT_READ),
                (protection.write, libc::PROT_WRITE),
                (protection.exec, libc::PROT_EXEC),
            ];
            let bits = bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
            let length = usize::try_from(range.len()).map_err(io::Error::other)?;
            let at = std::ptr::without_provenance_mut(range.start.0 as usize);
            let flags = libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: MAP_FIXED_NOREPLACE takes free addresses only, so no Rust object is there.
            let got = unsafe { libc::mmap(at, length, bits, flags, -1, 0) };
            if got == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            reserved.ranges.push(*range);
        }
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        for range in &self.ranges {
            let at = std::ptr::without_provenance_mut(range.start.0 as usize);
            // SAFETY: the mapping was made by `map` and no reference into it was given out.
            unsafe { libc::munmap(at, range.len() as usize) };
        }
    }
}
