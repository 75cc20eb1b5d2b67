//! Calls that bring bytes or take them are answered.

use super::Reply::{Unknown, Waits};
use super::{Reply, error, number};
use crate::RehearseError;
use crate::calls::{Caller, halves};
use crate::descriptors::{Got, Kind};
use crate::operations::{BYTES_MAX, Buffers, PARTS_MAX};
use crate::table::Timeout;

impl Caller<'_> {
    /// The stretches of memory that `buffers` are: start and length.
    fn parts(&self, buffers: Buffers) -> Result<Vec<(u64, u64)>, RehearseError> {
        let (list, count) = match buffers {
            Buffers::One(start, length) => return Ok(vec![(start, length)]),
            Buffers::Parts(list, count) => (list, count),
            Buffers::Message(header) => {
                let mut bytes = [0; 16];
                self.pages.read(header + 16, &mut bytes)?;
                halves(&bytes)
            }
        };
        let mut bytes = vec![0; usize::try_from(count.min(PARTS_MAX) * 16).unwrap_or(0)];
        self.pages.read(list, &mut bytes)?;
        let mut left = BYTES_MAX;
        let cut = |part| {
            let (start, length) = halves(part);
            let length = length.min(left);
            left -= length;
            (start, length)
        };
        Ok(bytes.as_chunks::<16>().0.iter().map(cut).collect())
    }

    pub(super) fn read(
        &mut self,
        fd: u64,
        to: Buffers,
        at: Option<u64>,
        (flags, length_at): (u64, u64),
    ) -> Result<Reply, RehearseError> {
        let parts = self.parts(to)?;
        let length = parts.iter().map(|(_, length)| length).sum();
        Ok(match self.descriptors.read(fd, length, at, flags) {
            Got::Bytes(bytes) => {
                let mut rest = bytes.as_slice();
                for (start, length) in parts {
                    let length = usize::try_from(length).unwrap_or(0).min(rest.len());
                    let (part, others) = rest.split_at(length);
                    self.pages.write(start, part)?;
                    rest = others;
                }
                if length_at != 0 {
                    self.pages.write(length_at, &0_u32.to_ne_bytes())?;
                }
                if let Buffers::Message(header) = to {
                    // No sender, nothing beside the bytes, no flags.
                    self.pages.write(header + 8, &0_u32.to_ne_bytes())?;
                    self.pages.write(header + 40, &[0; 12])?;
                }
                number(bytes.len())
            }
            Got::Error(code) => error(code),
            Got::Waits => Waits { timeout: Timeout::Never, told: -i64::from(libc::EINTR) },
            Got::Unknown => Unknown,
        })
    }

    pub(super) fn write(
        &mut self,
        fd: u64,
        from: Buffers,
        moves: bool,
    ) -> Result<Reply, RehearseError> {
        if let Buffers::Message(header) = from {
            let mut beside = [0; 8];
            self.pages.read(header + 40, &mut beside)?;
            // Descriptors that are handed on would be missed.
            if beside != [0; 8] {
                return Ok(Unknown);
            }
        }
        let is_heard = self.descriptors.hears(fd);
        let mut bytes = Vec::new();
        let mut all = 0;
        for (start, length) in self.parts(from)? {
            if is_heard {
                let mut part = vec![0; usize::try_from(length).unwrap_or(0)];
                self.pages.read(start, &mut part)?;
                bytes.extend(part);
            } else {
                self.pages.touch(start, length, false)?;
            }
            all += length;
        }
        Ok(self.descriptors.write(fd, &bytes, all, moves).map_or_else(|| number(all), error))
    }

    pub(super) fn send(
        &mut self,
        to: u64,
        from: u64,
        offset_at: u64,
        length: u64,
    ) -> Result<Reply, RehearseError> {
        let mut offset = [0; 8];
        if offset_at != 0 {
            self.pages.read(offset_at, &mut offset)?;
        }
        let at = u64::from_ne_bytes(offset);
        if !matches!(self.descriptors.at(from).map(|open| &open.kind), Some(Kind::File(_))) {
            return Ok(Unknown);
        }
        let Got::Bytes(bytes) =
            self.descriptors.read(from, length, (offset_at != 0).then_some(at), 0)
        else {
            return Ok(Unknown);
        };
        let sent = bytes.len() as u64;
        if offset_at != 0 {
            self.pages.write(offset_at, &(at + sent).to_ne_bytes())?;
        }
        Ok(self.descriptors.write(to, &bytes, sent, true).map_or_else(|| number(sent), error))
    }
}
