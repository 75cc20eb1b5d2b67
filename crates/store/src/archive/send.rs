//! Writing the stream.

use std::io::{Read, Write};

use image::CheckpointId;

use super::PIECE_BYTES;
use super::error::ExportError;
use super::member::{BLOCK_BYTES, Member};
use crate::error::{IoFailure, ReadError};
use crate::store::{CHECKPOINTS, LAYOUT, LAYOUT_TEXT, LINES, TEMPORARY};
use crate::{Checkpoint, layout, line};

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The checkpoints, a parent before its child; the last one is the one that was asked for.
    pub checkpoints: Vec<CheckpointId>,
    /// Bytes of the stream.
    pub stream_bytes: u64,
}

impl Checkpoint {
    /// Writes it and those behind it to `to`, as they are stored: pages are not checked here but
    /// where the stream is read. `each` hears of the bytes that were just written, and is asked
    /// whether to go on.
    ///
    /// # Errors
    /// When it cannot be read, `to` fails, or `each` does.
    pub fn export<E: From<ExportError>>(
        &self,
        to: &mut dyn Write,
        each: &dyn Fn(u64) -> Result<(), E>,
    ) -> Result<Exported, E> {
        let mut stream = Sender { to, each, sent_bytes: 0 };
        let instance = &self.instance().line.instance;
        let made_s = |checkpoint: &Self| checkpoint.summary().created_ns / 1_000_000_000;
        let now = made_s(self);
        stream.bytes(LAYOUT.to_owned(), LAYOUT_TEXT.as_bytes(), now)?;
        stream.directory(LINES.to_owned(), now)?;
        stream.directory(format!("{LINES}/{instance}"), now)?;
        stream.bytes(format!("{LINES}/{instance}/{}", line::KEY), self.key.as_bytes(), now)?;
        stream.directory(TEMPORARY.to_owned(), now)?;
        stream.directory(CHECKPOINTS.to_owned(), now)?;
        let mut chain: Vec<&Self> = self.chain().collect();
        chain.reverse();
        for checkpoint in &chain {
            stream.checkpoint(checkpoint, made_s(checkpoint))?;
        }
        stream.put(&[0; 2 * BLOCK_BYTES])?;
        stream.to.flush().map_err(ExportError::Stream)?;
        let checkpoints = chain.into_iter().map(Self::id).collect();
        Ok(Exported { checkpoints, stream_bytes: stream.sent_bytes })
    }
}

struct Sender<'a, E> {
    to: &'a mut dyn Write,
    each: &'a dyn Fn(u64) -> Result<(), E>,
    sent_bytes: u64,
}

impl<E: From<ExportError>> Sender<'_, E> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.to.write_all(bytes).map_err(ExportError::Stream)?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.sent_bytes += count;
        (self.each)(count)
    }

    fn head(&mut self, member: &Member) -> Result<(), E> {
        let block = member.header().map_err(ExportError::Member)?;
        self.put(&block)
    }

    fn directory(&mut self, name: String, made_s: u64) -> Result<(), E> {
        self.head(&Member::directory(name, made_s))
    }

    fn bytes(&mut self, name: String, bytes: &[u8], made_s: u64) -> Result<(), E> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let member = Member::file(name, length, made_s);
        self.head(&member)?;
        self.put(bytes)?;
        self.put(&[0; BLOCK_BYTES][..member.filling()])
    }

    /// One checkpoint, without those behind it: the manifest, then what that tells of.
    fn checkpoint(&mut self, checkpoint: &Checkpoint, made_s: u64) -> Result<(), E> {
        let folder = format!("{CHECKPOINTS}/{}", checkpoint.id());
        self.directory(folder.clone(), made_s)?;
        let files = &checkpoint.manifest.files;
        let manifest_bytes = checkpoint.stored_bytes().saturating_sub(files.stored_bytes());
        let names = [(layout::MANIFEST, manifest_bytes)].into_iter().chain(files.each());
        for (name, bytes) in names {
            let member = Member::file(format!("{folder}/{name}"), bytes, made_s);
            self.head(&member)?;
            self.content(checkpoint, name, bytes)?;
            self.put(&[0; BLOCK_BYTES][..member.filling()])?;
        }
        Ok(())
    }

    /// All of a file, which has to be as long as was said.
    fn content(&mut self, checkpoint: &Checkpoint, name: &str, bytes: u64) -> Result<(), E> {
        let dir = &checkpoint.dir;
        let refused = |failure: IoFailure| ExportError::from(failure);
        let mut file = dir.open(name).map_err(refused)?.take(bytes);
        let mut piece = vec![0; PIECE_BYTES];
        let mut sent = 0;
        while sent < bytes {
            let read = file.read(&mut piece);
            let count = read.map_err(|e| refused(IoFailure::on("read", dir.join(name))(e)))?;
            if count == 0 {
                let path = dir.join(name);
                let shorter = ReadError::Length { path, expected: bytes, found: sent };
                return Err(ExportError::Read(shorter).into());
            }
            self.put(&piece[..count])?;
            sent += u64::try_from(count).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}
