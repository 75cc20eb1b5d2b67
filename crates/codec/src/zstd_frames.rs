//! Zstandard, with or without a base to refer to. One context for each direction, used for every
//! frame; a level change costs nothing.

use std::fmt;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, ResetDirective};

/// Levels below this find next to nothing in a base: they do not index it densely enough.
pub(crate) const DELTA_LEVEL_MIN: i32 = 1;

/// Bytes in a repeat at least in frames of many chunks; the usual levels look for 5. In heaps this
/// saves 1 to 3% more and takes no longer.
const LONG_MATCH_MIN: u32 = 6;

/// What a trained dictionary begins with. zstd would take such a base for one.
const DICTIONARY_MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// The room for the result is too small: `ZSTD_error_dstSize_tooSmall` of `zstd_errors.h`, whose
/// values are stable.
const TOO_LONG: usize = 70_usize.wrapping_neg();

/// Whether zstd takes `base` as it is, as raw content to refer to.
pub(crate) fn is_base(base: &[u8]) -> bool {
    !base.is_empty() && !base.starts_with(&DICTIONARY_MAGIC)
}

/// Compresses.
#[derive(Default)]
pub(crate) struct Compressor(Option<CCtx<'static>>);

/// Decompresses.
#[derive(Default)]
pub(crate) struct Decompressor(Option<DCtx<'static>>);

impl Compressor {
    /// Compresses `pages` into `room` and returns the length, or `None` when it does not fit.
    /// With a base the result refers to it.
    pub(crate) fn compress(
        &mut self,
        pages: &[u8],
        base: Option<&[u8]>,
        level: i32,
        room: &mut [u8],
    ) -> Result<Option<usize>, std::io::Error> {
        let context = self.context()?;
        let compressed = match base {
            Some(base) => context.compress_using_dict(room, pages, base, level),
            None => context.compress(room, pages, level),
        };
        fitting(compressed)
    }

    /// Compresses `pages` into `room` as [`Self::compress`] does without a base, for frames of many
    /// chunks: only repeats of some length are looked for. Short ones are everywhere in so much, and
    /// finding the nearest of them takes the time in which longer ones would be found.
    pub(crate) fn compress_long(
        &mut self,
        pages: &[u8],
        level: i32,
        room: &mut [u8],
    ) -> Result<Option<usize>, std::io::Error> {
        let context = self.context()?;
        let set = context
            .reset(ResetDirective::SessionAndParameters)
            .and_then(|_| context.set_parameter(CParameter::CompressionLevel(level)))
            .and_then(|_| context.set_parameter(CParameter::MinMatch(LONG_MATCH_MIN)));
        fitting(set.and_then(|_| context.compress2(room, pages)))
    }

    /// The context, made when it is first needed.
    fn context(&mut self) -> Result<&mut CCtx<'static>, std::io::Error> {
        Ok(match &mut self.0 {
            Some(context) => context,
            none => none.insert(CCtx::try_create().ok_or_else(out_of_memory)?),
        })
    }
}

/// The length, or `None` when it did not fit.
fn fitting(
    compressed: Result<usize, zstd_safe::ErrorCode>,
) -> Result<Option<usize>, std::io::Error> {
    match compressed {
        Ok(length) => Ok(Some(length)),
        Err(TOO_LONG) => Ok(None),
        Err(code) => Err(std::io::Error::other(zstd_safe::get_error_name(code))),
    }
}

impl Decompressor {
    /// Decompresses into `pages` and returns the length, or what is wrong with `stored`.
    pub(crate) fn decompress(
        &mut self,
        stored: &[u8],
        base: Option<&[u8]>,
        pages: &mut [u8],
    ) -> Result<usize, String> {
        let context = match &mut self.0 {
            Some(context) => context,
            none => none.insert(DCtx::try_create().ok_or_else(|| out_of_memory().to_string())?),
        };
        let length = match base {
            Some(base) => context.decompress_using_dict(pages, stored, base),
            None => context.decompress(pages, stored),
        };
        length.map_err(|code| zstd_safe::get_error_name(code).to_owned())
    }
}

fn out_of_memory() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::OutOfMemory, "no memory for its context")
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}
