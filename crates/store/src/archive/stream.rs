//! Reading the stream, member by member; nothing of it is trusted.

use std::io::{ErrorKind, Read};

use super::PIECE_BYTES;
use super::error::ImportError;
use super::member::{BLOCK_BYTES, Block, Member};

/// The stream, how far it is read, and who is asked whether to go on.
pub(crate) struct Stream<'a, E> {
    from: &'a mut dyn Read,
    each: &'a dyn Fn(u64, u64) -> Result<(), E>,
    /// Bytes that were read.
    pub(crate) read_bytes: u64,
    /// Bytes that it has, as far as that is known.
    pub(crate) known_bytes: u64,
}

impl<'a, E: From<ImportError>> Stream<'a, E> {
    pub(crate) fn new(from: &'a mut dyn Read, each: &'a dyn Fn(u64, u64) -> Result<(), E>) -> Self {
        Self { from, each, read_bytes: 0, known_bytes: 0 }
    }

    /// What is not as it was written.
    pub(crate) fn altered(&self, detail: impl Into<String>) -> E {
        ImportError::Altered { at_bytes: self.read_bytes, detail: detail.into() }.into()
    }

    /// Fills `bytes` with what comes next.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), E> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.from.read(&mut bytes[filled..]) {
                Ok(0) => return Err(ImportError::Cut { at_bytes: self.read_bytes }.into()),
                Ok(count) => {
                    filled += count;
                    self.read_bytes += u64::try_from(count).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ImportError::Stream(error).into()),
            }
            (self.each)(self.read_bytes, self.known_bytes)?;
        }
        Ok(())
    }

    /// What begins next; `None` where the archive ends, which is then checked to be its end.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, E> {
        let mut block: Block = [0; BLOCK_BYTES];
        self.fill(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Member::of_header(&block).map(Some).map_err(|detail| self.altered(detail));
        }
        self.fill(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Err(self.altered("it goes on behind the first block of its end"));
        }
        loop {
            match self.from.read(&mut block) {
                Ok(0) => return Ok(None),
                Ok(_) => return Err(self.altered("it goes on behind its end")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    (self.each)(self.read_bytes, self.known_bytes)?;
                }
                Err(error) => return Err(ImportError::Stream(error).into()),
            }
        }
    }

    /// The next member, which has to be this one, at any time.
    pub(crate) fn expect(&mut self, name: &str, bytes: Option<u64>) -> Result<Member, E> {
        match self.next()? {
            Some(member) if member.name == name && bytes.is_none_or(|b| b == member.bytes) => {
                Ok(member)
            }
            Some(Member { name: found, bytes: length, .. }) => {
                Err(self.altered(format!("{found:?} of {length} bytes stands where {name:?} was")))
            }
            None => Err(self.altered(format!("it ends where {name:?} was"))),
        }
    }

    /// Hands the content of `member` on, piece by piece, and reads the filling behind it.
    pub(crate) fn content(
        &mut self,
        member: &Member,
        mut take: impl FnMut(&[u8]) -> Result<(), ImportError>,
    ) -> Result<(), E> {
        let mut left = member.bytes;
        // No more than what comes is allocated for.
        let length = |left: u64| usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; length(left)];
        while left > 0 {
            let piece = &mut piece[..length(left)];
            self.fill(piece)?;
            take(piece)?;
            left -= u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        let mut filling = [0; BLOCK_BYTES];
        let filling = &mut filling[..member.filling()];
        self.fill(filling)?;
        if filling.iter().any(|byte| *byte != 0) {
            return Err(self.altered(format!("the filling behind {:?} is not zero", member.name)));
        }
        Ok(())
    }

    /// The whole content of `member`, which is not longer than `bytes_max`.
    pub(crate) fn whole(&mut self, member: &Member, bytes_max: u64) -> Result<Vec<u8>, E> {
        if member.bytes > bytes_max {
            let Member { name, bytes, .. } = member;
            return Err(self.altered(format!("{name:?} has {bytes} bytes, at most {bytes_max}")));
        }
        let mut all = Vec::new();
        self.content(member, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(all)
    }
}
