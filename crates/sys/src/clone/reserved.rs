//! Memory that a child shall find at a given address.

use std::io;

use mem::{AddrRange, Protection};

/// Mappings at chosen addresses in this process, so that a child made while they exist has them
/// too. Unmapped here when dropped.
#[derive(Debug)]
pub struct Reserved {
    /// Address and length of each.
    ranges: Vec<(usize, usize)>,
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
            let address = usize::try_from(range.start.0).map_err(io::Error::other)?;
            let at = std::ptr::without_provenance_mut(address);
            let flags = libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: MAP_FIXED_NOREPLACE takes free addresses only, so no Rust object is there.
            let got = unsafe { libc::mmap(at, length, bits, flags, -1, 0) };
            if got == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            reserved.ranges.push((address, length));
        }
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        for (address, length) in &self.ranges {
            let at = std::ptr::without_provenance_mut(*address);
            // SAFETY: the mapping was made by `map` and no reference into it was given out.
            unsafe { libc::munmap(at, *length) };
        }
    }
}
