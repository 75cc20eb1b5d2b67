//! Calls on open files that the standard library has no name for.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The next run of data in `file` at or behind `from`, as offsets `start..end`, or `None` when
/// only a hole is left (`SEEK_DATA` and `SEEK_HOLE` of lseek(2)). Moves the file's position: give
/// a description of our own.
///
/// # Errors
/// What lseek(2) says.
pub fn next_data(file: impl AsFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(&file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(cause) => return Err(cause.into()),
    };
    let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?;
    if end <= start {
        return Err(io::Error::other("the file changed while its holes were listed"));
    }
    Ok(Some((start, end)))
}

/// The bytes a pipe can hold (`F_GETPIPE_SZ`).
///
/// # Errors
/// What fcntl(2) says.
pub fn pipe_capacity(pipe: impl AsFd) -> io::Result<u64> {
    Ok(rustix::pipe::fcntl_getpipe_size(pipe)? as u64)
}

/// The seals of a memfd (`F_GET_SEALS`).
///
/// # Errors
/// `EINVAL` for a file that cannot be sealed.
pub fn seals(file: impl AsFd) -> io::Result<u32> {
    Ok(rustix::fs::fcntl_get_seals(file)?.bits())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn holes_are_left_out() {
        let file = std::fs::File::from(memfd_create("holes", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(1 << 20).unwrap();
        file.write_all_at(&[1], 3 * 4096).unwrap();
        file.write_all_at(&[1; 5000], 9 * 4096).unwrap();
        let first = next_data(&file, 0).unwrap().unwrap();
        assert_eq!(first, (3 * 4096, 4 * 4096));
        let second = next_data(&file, first.1).unwrap().unwrap();
        assert_eq!(second, (9 * 4096, 11 * 4096));
        assert_eq!(next_data(&file, second.1).unwrap(), None);
    }
}
