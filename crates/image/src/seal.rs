//! Pages to stored bytes with their checks, and back.

use std::fmt;

use codec::{Decoder, EncodeError, Encoder, Want};
use plan::Treatment;

use crate::{Frame, FrameHash, LineKey, OpenError};

/// Encodes and hashes frames; one for each thread.
pub struct Sealer {
    key: LineKey,
    encoder: Encoder,
}

/// A frame ready to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// How `bytes` become pages again.
    pub treatment: Treatment,
    /// What to store.
    pub bytes: &'a [u8],
    /// Keyed hash of the pages; all zero for zero frames.
    pub hash: FrameHash,
    /// crc32c of `bytes`.
    pub stored_crc32c: u32,
}

impl Sealer {
    /// A sealer of the line with this key.
    pub fn new(key: &LineKey) -> Self {
        Self { key: key.clone(), encoder: Encoder::new() }
    }

    /// Seals `pages`, 1 to 16 whole pages.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn seal<'a>(&'a mut self, pages: &'a [u8], want: Want) -> Result<Sealed<'a>, EncodeError> {
        let frame = self.encoder.encode(pages, want)?;
        let hash = match frame.treatment {
            Treatment::Zero => FrameHash::default(),
            _ => FrameHash::of(&self.key, pages),
        };
        Ok(Sealed {
            treatment: frame.treatment,
            bytes: frame.bytes,
            hash,
            stored_crc32c: crc32c::crc32c(frame.bytes),
        })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Checks and decodes frames; one for each thread.
#[derive(Debug)]
pub struct Opener {
    key: LineKey,
    decoder: Decoder,
}

impl Opener {
    /// An opener of the line with this key.
    pub fn new(key: &LineKey) -> Self {
        Self { key: key.clone(), decoder: Decoder::new() }
    }

    /// Fills `pages`, exactly as long as the pages the frame holds, from its `stored` bytes. After an
    /// error the content of `pages` is unspecified and must not be used.
    ///
    /// # Errors
    /// When the stored bytes are not those that were written.
    pub fn open(
        &mut self,
        frame: &Frame,
        stored: &[u8],
        pages: &mut [u8],
    ) -> Result<(), OpenError> {
        check_stored(frame, stored)?;
        self.decoder.decode(frame.treatment, stored, pages)?;
        if frame.treatment == Treatment::Zero {
            return Ok(());
        }
        self.check_pages(frame, pages)
    }

    /// Checks a raw frame, whose stored bytes are its pages: nothing is copied.
    ///
    /// # Errors
    /// When the stored bytes are not those that were written, or the frame is not raw.
    pub fn check_raw(&self, frame: &Frame, stored: &[u8]) -> Result<(), OpenError> {
        if frame.treatment != Treatment::Raw {
            return Err(codec::DecodeError::Unsupported(frame.treatment).into());
        }
        check_stored(frame, stored)?;
        self.check_pages(frame, stored)
    }

    fn check_pages(&self, frame: &Frame, pages: &[u8]) -> Result<(), OpenError> {
        let found = FrameHash::of(&self.key, pages);
        if found != frame.hash {
            return Err(OpenError::Hash { expected: frame.hash, found });
        }
        Ok(())
    }
}

fn check_stored(frame: &Frame, stored: &[u8]) -> Result<(), OpenError> {
    let found = crc32c::crc32c(stored);
    if found != frame.stored_crc32c {
        return Err(OpenError::Checksum { expected: frame.stored_crc32c, found });
    }
    Ok(())
}
