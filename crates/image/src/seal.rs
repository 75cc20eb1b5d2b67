//! Pages to stored bytes with their checks, and back.

use std::fmt;

use codec::{Decoder, EncodeError, Encoder, Solid, SolidDecoder, Want};
use plan::Treatment;

use crate::hash::PageHasher;
use crate::{Frame, FrameHash, LineKey, OpenError, PageHash, TwinPlace};

/// Encodes and hashes frames; one for each thread.
pub struct Sealer {
    key: LineKey,
    hasher: PageHasher,
    encoder: Encoder,
    twin: [u8; TwinPlace::BYTES],
}

/// A frame ready to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// How `bytes` become pages again.
    pub treatment: Treatment,
    /// What to store.
    pub bytes: &'a [u8],
    /// Keyed hash of the pages' hashes; all zero for zero frames.
    pub hash: FrameHash,
    /// crc32c of `bytes`.
    pub stored_crc32c: u32,
}

impl Sealer {
    /// A sealer of the line with this key.
    pub fn new(key: &LineKey) -> Self {
        let hasher = PageHasher::new(key);
        let twin = [0; TwinPlace::BYTES];
        Self { key: key.clone(), hasher, encoder: Encoder::new(), twin }
    }

    /// Appends the hash of each of `pages` to `hashes`.
    pub fn hash(&self, pages: &[u8], hashes: &mut Vec<PageHash>) {
        self.hasher.hash(pages, hashes);
    }

    /// Seals `pages`, 1 to 16 whole pages with these hashes; with a base as the difference to
    /// it, where that is shorter.
    ///
    /// # Errors
    /// As [`Encoder::encode_against`].
    pub fn seal<'a>(
        &'a mut self,
        pages: &'a [u8],
        hashes: &[PageHash],
        base: Option<&[u8]>,
        want: Want,
    ) -> Result<Sealed<'a>, EncodeError> {
        let frame = match base {
            Some(base) => self.encoder.encode_against(pages, base, want)?,
            None => self.encoder.encode(pages, want)?,
        };
        let hash = match frame.treatment {
            Treatment::Zero => FrameHash::default(),
            _ => FrameHash::of(&self.key, hashes),
        };
        Ok(Sealed {
            treatment: frame.treatment,
            bytes: frame.bytes,
            hash,
            stored_crc32c: crc32c::crc32c(frame.bytes),
        })
    }

    /// Seals pages with these hashes that are encoded already, as `bytes`.
    pub fn seal_encoded<'a>(
        &self,
        treatment: Treatment,
        bytes: &'a [u8],
        hashes: &[PageHash],
    ) -> Sealed<'a> {
        let hash = FrameHash::of(&self.key, hashes);
        Sealed { treatment, bytes, hash, stored_crc32c: crc32c::crc32c(bytes) }
    }

    /// Seals pages with these hashes, which are at `place` of a file.
    pub fn seal_twin(&mut self, hashes: &[PageHash], place: TwinPlace) -> Sealed<'_> {
        self.twin = place.encode();
        self.seal_encoded(Treatment::Twin, &self.twin, hashes)
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
    hasher: PageHasher,
    decoder: Decoder,
    solid_decoder: SolidDecoder,
    solid: Solid,
    hashes: Vec<PageHash>,
}

impl Opener {
    /// An opener of the line with this key.
    pub fn new(key: &LineKey) -> Self {
        let hasher = PageHasher::new(key);
        let (decoder, solid_decoder, solid) = (Decoder::new(), SolidDecoder::new(), Solid::new());
        Self { hasher, decoder, solid_decoder, solid, hashes: Vec::new() }
    }

    /// Fills `pages`, exactly as long as the pages that the frame holds, from its `stored` bytes.
    /// A delta needs its base: the bytes of those of the pages held that the parent has.
    /// After an error the content of `pages` is unspecified and must not be used.
    ///
    /// # Errors
    /// When the stored bytes are not those that were written.
    pub fn open(
        &mut self,
        frame: &Frame,
        stored: &[u8],
        base: Option<&[u8]>,
        pages: &mut [u8],
    ) -> Result<(), OpenError> {
        if frame.treatment == Treatment::Solid {
            let mut solid = std::mem::take(&mut self.solid);
            let opened = self
                .open_solid(frame, stored, &mut solid)
                .and_then(|()| self.open_part(frame, &solid, pages));
            self.solid = solid;
            return opened;
        }
        check_stored(frame, stored)?;
        match (frame.treatment, base) {
            (Treatment::Delta, Some(base)) => self.decoder.decode_delta(base, stored, pages)?,
            (treatment, _) => self.decoder.decode(treatment, stored, pages)?,
        }
        if frame.treatment == Treatment::Zero {
            return Ok(());
        }
        self.check_pages(frame, pages)
    }

    /// Decodes the `stored` bytes that the frame shares with others: all parts of them. Each is
    /// still to be [checked](Self::open_part).
    ///
    /// # Errors
    /// When the stored bytes are not those that were written.
    pub fn open_solid(
        &mut self,
        frame: &Frame,
        stored: &[u8],
        solid: &mut Solid,
    ) -> Result<(), OpenError> {
        check_stored(frame, stored)?;
        Ok(self.solid_decoder.decode(stored, solid)?)
    }

    /// Fills `pages`, exactly as long as the pages that the frame holds, from what it shares with
    /// others.
    ///
    /// # Errors
    /// When its part is not what was written.
    pub fn open_part(
        &mut self,
        frame: &Frame,
        solid: &Solid,
        pages: &mut [u8],
    ) -> Result<(), OpenError> {
        let part = solid.part(frame.slot.into()).filter(|part| part.len() == pages.len());
        let Some(part) = part else {
            return Err(OpenError::Part { slot: frame.slot, parts: solid.len() });
        };
        pages.copy_from_slice(part);
        self.check_pages(frame, pages)
    }

    /// Checks the stored bytes of a frame of which nothing can be decoded: that they are those that
    /// were written, nothing about what they mean.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_stored(frame: &Frame, stored: &[u8]) -> Result<(), OpenError> {
        check_stored(frame, stored)
    }

    /// Checks a raw frame, whose stored bytes are its pages: nothing is copied.
    ///
    /// # Errors
    /// When the stored bytes are not those that were written, or the frame is not raw.
    pub fn check_raw(&mut self, frame: &Frame, stored: &[u8]) -> Result<(), OpenError> {
        if frame.treatment != Treatment::Raw {
            return Err(codec::DecodeError::Unsupported(frame.treatment).into());
        }
        check_stored(frame, stored)?;
        self.check_pages(frame, stored)
    }

    /// Where the pages are that a frame of the treatment `Twin` holds: they are to be read there,
    /// and [checked](Self::check_read).
    ///
    /// # Errors
    /// When the stored bytes are not those that were written.
    pub fn twin_place(frame: &Frame, stored: &[u8]) -> Result<TwinPlace, OpenError> {
        check_stored(frame, stored)?;
        Ok(TwinPlace::decode(stored)?)
    }

    /// Checks pages of a frame that were read from elsewhere.
    ///
    /// # Errors
    /// When they are not those that the frame holds.
    pub fn check_read(&mut self, frame: &Frame, pages: &[u8]) -> Result<(), OpenError> {
        self.check_pages(frame, pages)
    }

    /// The hashes of the pages of the frame that was opened last.
    pub fn hashes(&self) -> &[PageHash] {
        &self.hashes
    }

    fn check_pages(&mut self, frame: &Frame, pages: &[u8]) -> Result<(), OpenError> {
        let found = self.hasher.frame(pages, &mut self.hashes);
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
