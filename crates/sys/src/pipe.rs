//! Looking into a pipe that another process holds too, without changing it: the descriptor is a
//! copy made by `pidfd_getfd(2)`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, tee};

/// The bytes a pipe can hold (`F_GETPIPE_SZ`).
///
/// # Errors
/// What fcntl(2) says.
pub fn capacity(pipe: impl AsFd) -> io::Result<u64> {
    Ok(rustix::pipe::fcntl_getpipe_size(pipe)? as u64)
}

/// Whether no process at all holds the other end of the pipe: its readers see the end of file,
/// its writers a broken pipe.
///
/// # Errors
/// What poll(2) says.
pub fn is_broken(end: impl AsFd) -> io::Result<bool> {
    let mut ask = [PollFd::new(&end, PollFlags::IN | PollFlags::OUT)];
    poll(&mut ask, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(ask[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// What was written to a pipe and not yet read, left in it (`tee(2)`): one element, or in packet
/// mode (`packets`) one for each packet; nothing for an empty pipe. `read_end` is open for
/// reading.
///
/// # Errors
/// What the kernel says; `EBUSY` when the content does not fit a pipe of ours.
pub fn peek(read_end: impl AsFd, packets: bool) -> io::Result<Vec<Vec<u8>>> {
    let size = usize::try_from(capacity(&read_end)?).map_err(io::Error::other)?;
    // A copy made by tee keeps the mark that ends a packet, whatever our own pipe's mode is.
    let (ours, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    if fcntl_setpipe_size(&entry, size)? < size {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    match tee(&read_end, &entry, usize::MAX >> 1, SpliceFlags::NONBLOCK) {
        Ok(_) => {}
        Err(Errno::AGAIN) => return Ok(Vec::new()),
        Err(cause) => return Err(cause.into()),
    }
    drop(entry);
    read_all(ours, size, packets)
}

fn read_all(pipe: OwnedFd, size: usize, packets: bool) -> io::Result<Vec<Vec<u8>>> {
    let mut file = File::from(pipe);
    let mut content = Vec::new();
    if !packets {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if !bytes.is_empty() {
            content.push(bytes);
        }
        return Ok(content);
    }
    let mut buffer = vec![0u8; size];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(content),
            count => content.push(buffer[..count].to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn peeking_leaves_the_content() {
        let (r, w) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert!(peek(&r, false).unwrap().is_empty());
        let mut w = File::from(w);
        w.write_all(b"one").unwrap();
        w.write_all(b"two").unwrap();
        for _ in 0..2 {
            assert_eq!(peek(&r, false).unwrap(), [b"onetwo".to_vec()]);
        }
        // What is there can still be written behind.
        w.write_all(b"three").unwrap();
        drop(w);
        assert_eq!(peek(&r, false).unwrap(), [b"onetwothree".to_vec()]);
        let mut all = Vec::new();
        File::from(r).read_to_end(&mut all).unwrap();
        assert_eq!(all, b"onetwothree");
    }

    #[test]
    fn a_broken_pipe_is_told_from_a_whole_one() {
        let (r, w) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert!(!is_broken(&r).unwrap() && !is_broken(&w).unwrap());
        File::from(w.try_clone().unwrap()).write_all(b"left").unwrap();
        drop(w);
        assert!(is_broken(&r).unwrap());
        let (r, w) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(r);
        assert!(is_broken(&w).unwrap());
    }

    #[test]
    fn packets_stay_apart() {
        let (r, w) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).unwrap();
        let mut w = File::from(w);
        w.write_all(b"one").unwrap();
        w.write_all(b"two").unwrap();
        assert_eq!(peek(&r, true).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn a_full_pipe_of_any_size() {
        for size in [4096usize, 65536, 1 << 20] {
            let (r, w) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            let size = fcntl_setpipe_size(&w, size).unwrap();
            let mut w = File::from(w);
            let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            assert_eq!(w.write(&bytes).unwrap(), size);
            assert_eq!(peek(&r, false).unwrap(), [bytes]);
        }
    }
}
