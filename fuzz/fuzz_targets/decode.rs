//! Every decoder: the first byte chooses the treatment, the second the number of pages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rekindle_codec::{Decoder, LossyHead};
use rekindle_plan::Treatment;

fuzz_target!(|bytes: &[u8]| {
    let [code, pages, stored @ ..] = bytes else { return };
    let Ok(treatment) = Treatment::try_from(code % 16) else { return };
    let mut buffer = vec![0; (usize::from(pages % 16) + 1) * 4096];
    let _ = Decoder::new().decode(treatment, stored, &mut buffer);
    let _ = LossyHead::read(stored, buffer.len());
});
