//! Calls that name a file are answered.

use std::fs::Metadata;

use super::Reply::{Unknown, Value};
use super::{CLOEXEC, Reply, error, low, new_fd};
use crate::RehearseError;
use crate::calls::Caller;
use crate::descriptors::Kind;
use crate::files::{REGULAR, Source};
use crate::operations::{At, EMPTY_PATH, NO_FOLLOW};
use crate::paths::Found;
use crate::stat;

/// The longest path.
const PATH_BYTES: usize = 4096;

impl Caller<'_> {
    /// The text at `start`; `None` when it is too long.
    fn text(&self, start: u64) -> Result<Option<Vec<u8>>, RehearseError> {
        let mut text = Vec::new();
        while text.len() < PATH_BYTES {
            let at = start + text.len() as u64;
            // To the end of the page, behind which there may be nothing.
            let mut part = vec![0; usize::try_from(256 - at % 256).unwrap_or(1)];
            self.pages.read(at, &mut part)?;
            let end = part.iter().position(|byte| *byte == 0);
            text.extend(&part[..end.unwrap_or(part.len())]);
            if end.is_some() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn find(&self, at: At) -> Result<Found, RehearseError> {
        let Some(path) = self.text(at.path)? else { return Ok(Found::Unknown) };
        // Below another directory than the current one: not followed.
        if at.directory != libc::AT_FDCWD && path.first() != Some(&b'/') {
            return Ok(Found::Unknown);
        }
        Ok(self.paths.find(&path, at.flags & NO_FOLLOW == 0))
    }

    /// Opens what is there, and only what is there. What is opened for writing is read here, too:
    /// what is written goes nowhere.
    pub(super) fn open(&mut self, at: At) -> Result<Reply, RehearseError> {
        const TREATED: i32 = libc::O_ACCMODE
            | libc::O_CLOEXEC
            | libc::O_NONBLOCK
            | libc::O_NOCTTY
            | libc::O_APPEND
            | libc::O_NOATIME
            | libc::O_SYNC
            | libc::O_CREAT;
        const CREATE: u64 = 0o100;
        // O_LARGEFILE
        if at.flags & !(u64::from(TREATED.unsigned_abs()) | 0x8000) != 0 {
            return Ok(Unknown);
        }
        let flags = at.flags;
        let source = match self.find(At { flags: 0, ..at })? {
            Found::There(found, metadata) => self.paths.open(&found, &metadata).map(Source::Ours),
            Found::Text(text) if flags & 3 == 0 => Some(Source::Text(text)),
            Found::Error(code) if flags & CREATE == 0 => return Ok(error(code)),
            _ => None,
        };
        let Some(source) = source else { return Ok(Unknown) };
        let status = low(flags & !(CLOEXEC | CREATE));
        Ok(new_fd(self.descriptors.add(Kind::File(source), status, flags & CLOEXEC != 0)))
    }

    fn metadata(&mut self, at: At) -> Result<Result<stat::Known, Reply>, RehearseError> {
        let is_descriptor = at.flags & EMPTY_PATH != 0
            && (at.path == 0 || self.text(at.path)?.is_some_and(|path| path.is_empty()));
        if !is_descriptor {
            return Ok(match self.find(at)? {
                Found::There(_, metadata) => Ok(stat::Known::from(&metadata)),
                Found::Error(code) => Err(error(code)),
                _ => Err(Unknown),
            });
        }
        let fd = u64::try_from(at.directory).unwrap_or(u64::MAX);
        let process = self.process;
        let Some(open) = self.descriptors.at_mut(fd) else { return Ok(Err(error(libc::EBADF))) };
        Ok(match &mut open.kind {
            Kind::File(Source::Text(_)) => Ok(stat::Known::of_kind(REGULAR | 0o444)),
            Kind::File(source) => {
                let metadata: Option<Metadata> =
                    source.file(process).and_then(|file| file.metadata().ok());
                metadata.map(|metadata| stat::Known::from(&metadata)).ok_or(Unknown)
            }
            Kind::Stream { socket: Some(_), .. } | Kind::Listening { .. } => {
                Ok(stat::Known::of_kind(0o140_777))
            }
            Kind::Stream { socket: None, .. } => Ok(stat::Known::of_kind(0o010_600)),
            _ => Err(Unknown),
        })
    }

    pub(super) fn stat(&mut self, at: At, to: u64, long: bool) -> Result<Reply, RehearseError> {
        // `AT_NO_AUTOMOUNT` is how it is done anyway.
        const NO_AUTOMOUNT: u64 = 0x800;
        if at.flags & !(EMPTY_PATH | NO_FOLLOW | NO_AUTOMOUNT) != 0 {
            return Ok(Unknown);
        }
        match self.metadata(at)? {
            Ok(known) => {
                let bytes = if long { known.statx().to_vec() } else { known.stat().to_vec() };
                self.pages.write(to, &bytes)?;
                Ok(Value(0))
            }
            Err(reply) => Ok(reply),
        }
    }

    pub(super) fn access(&mut self, at: At, mode: u64) -> Result<Reply, RehearseError> {
        const EXISTS: u64 = 0;
        const READ: u64 = 4;
        Ok(match self.find(at)? {
            Found::There(_, metadata) => match mode {
                EXISTS => Value(0),
                READ if self.paths.may_read(&metadata) => Value(0),
                _ => Unknown,
            },
            Found::Error(code) => error(code),
            _ => Unknown,
        })
    }
}
