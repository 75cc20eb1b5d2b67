//! Every decoder: the first byte chooses the treatment, the second the number of pages; and all of
//! it as the bytes that several chunks share.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rekindle_codec::{Decoder, LossyHead, Solid, SolidDecoder};
use rekindle_plan::Treatment;

fuzz_target!(|bytes: &[u8]| {
    let mut solid = Solid::new();
    match SolidDecoder::new().decode(bytes, &mut solid) {
        Ok(()) => assert!((0..solid.len()).all(|n| solid.part(n).is_some_and(|p| !p.is_empty()))),
        Err(_) => assert!(solid.is_empty()),
    }
    let [code, pages, stored @ ..] = bytes else { return };
    let Ok(treatment) = Treatment::try_from(code % 17) else { return };
    let mut buffer = vec![0; (usize::from(pages % 16) + 1) * 4096];
    let _ = Decoder::new().decode(treatment, stored, &mut buffer);
    let _ = LossyHead::read(stored, buffer.len());
});
