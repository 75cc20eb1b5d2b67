//! Bytes come out of the clone's descriptors and go into them.

use super::{Descriptors, Got, Kind, WAITING_MAX};

impl Descriptors<'_> {
    /// Nothing more comes by this stream.
    pub(super) fn end(&mut self, stream: usize) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.ended = true;
        }
        self.tell(stream);
    }

    /// Bytes go into a stream.
    pub(super) fn pour(&mut self, stream: usize, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(stream) {
            let room = WAITING_MAX.saturating_sub(stream.bytes.len());
            stream.bytes.extend(&bytes[..bytes.len().min(room)]);
        }
        self.tell(stream);
    }

    /// Who reads from this stream has news.
    pub(super) fn tell(&mut self, stream: usize) {
        self.changes += 1;
        for open in &mut self.open {
            if matches!(&open.kind, Kind::Stream { from: Some(from), .. } if *from == stream) {
                open.news += 1;
            }
        }
    }

    /// `length` bytes of `fd`, from `at` or from its own position on, which then moves.
    pub(crate) fn read(&mut self, fd: u64, length: u64, at: Option<u64>, flags: u64) -> Got {
        const PEEK: u64 = 2;
        const DONT_WAIT: u64 = 0x40;
        let Some(slot) = self.slot(fd) else { return Got::Error(libc::EBADF) };
        let process = self.process;
        let Some(open) = self.open.get_mut(slot.id) else { return Got::Unknown };
        let is_nonblocking = open.flags & libc::O_NONBLOCK.unsigned_abs() != 0;
        let nothing = if is_nonblocking || flags & DONT_WAIT != 0 {
            Got::Error(libc::EAGAIN)
        } else {
            Got::Waits
        };
        match &mut open.kind {
            Kind::File(source) => {
                let from = at.unwrap_or(open.position_bytes);
                let Some(bytes) = source.read(process, length, from) else { return Got::Unknown };
                if at.is_none() {
                    open.position_bytes += bytes.len() as u64;
                }
                Got::Bytes(bytes)
            }
            Kind::Stream { from: Some(from), .. } => {
                let Some(stream) = self.streams.get_mut(*from) else { return Got::Unknown };
                let count = usize::try_from(length).unwrap_or(0).min(stream.bytes.len());
                if count == 0 && length > 0 {
                    return if stream.ended { Got::Bytes(Vec::new()) } else { nothing };
                }
                let bytes = if flags & PEEK == 0 {
                    stream.bytes.drain(..count).collect()
                } else {
                    stream.bytes.iter().take(count).copied().collect()
                };
                Got::Bytes(bytes)
            }
            Kind::Stream { from: None, .. } => Got::Error(libc::EBADF),
            Kind::Event { count, .. } if *count == 0 => nothing,
            Kind::Event { .. } if length < 8 => Got::Error(libc::EINVAL),
            Kind::Event { count, semaphore } => {
                let taken = if *semaphore { 1 } else { *count };
                *count -= taken;
                Got::Bytes(taken.to_ne_bytes().to_vec())
            }
            Kind::Silent => nothing,
            Kind::Listening { .. } | Kind::Epoll(_) => Got::Error(libc::EINVAL),
        }
    }

    /// Bytes that wait to be read at `fd`.
    pub(crate) fn waiting(&self, fd: u64) -> u32 {
        let stream = match self.at(fd).map(|open| &open.kind) {
            Some(Kind::Stream { from: Some(from), .. }) => self.streams.get(*from),
            _ => None,
        };
        stream.map_or(0, |stream| u32::try_from(stream.bytes.len()).unwrap_or(u32::MAX))
    }

    /// Whether what is written to `fd` is read within the clone.
    pub(crate) fn hears(&self, fd: u64) -> bool {
        let kind = self.at(fd).map(|open| &open.kind);
        matches!(kind, Some(Kind::Stream { into: Some(_), .. } | Kind::Event { .. }))
    }

    /// `length` bytes were written to `fd`, these if [`Self::hears`]. An error, if it is one.
    pub(crate) fn write(&mut self, fd: u64, bytes: &[u8], length: u64, moves: bool) -> Option<i32> {
        let Some(open) = self.at_mut(fd) else { return Some(libc::EBADF) };
        match &mut open.kind {
            Kind::Stream { into: Some(into), .. } => {
                let into = *into;
                self.pour(into, bytes);
            }
            Kind::Event { count, .. } => {
                let word = bytes.first_chunk().copied().unwrap_or_default();
                *count = count.saturating_add(u64::from_ne_bytes(word)).min(u64::MAX - 1);
                open.news += 1;
                self.changes += 1;
            }
            Kind::File(_) if moves => open.position_bytes += length,
            _ => {}
        }
        None
    }

    /// Moves the position of `fd`; `None` when it cannot be told where to.
    pub(crate) fn seek(&mut self, fd: u64, offset: i64, whence: u64) -> Option<i64> {
        const SET: u64 = 0;
        const CURRENT: u64 = 1;
        const END: u64 = 2;
        let process = self.process;
        let open = self.at_mut(fd)?;
        let Kind::File(source) = &mut open.kind else { return None };
        let position = match whence {
            SET => u64::try_from(offset).ok()?,
            CURRENT => open.position_bytes.checked_add_signed(offset)?,
            END => source.file(process)?.metadata().ok()?.len().checked_add_signed(offset)?,
            _ => return None,
        };
        open.position_bytes = position;
        i64::try_from(position).ok()
    }
}
