//! Stored bytes of every treatment, deltas with any base; and what is encoded comes back.
#![no_main]

use codec::{Decoder, Encoder, Want};
use libfuzzer_sys::fuzz_target;
use plan::Treatment;

fuzz_target!(|bytes: &[u8]| {
    let [code, pages, stored @ ..] = bytes else { return };
    let mut buffer = vec![0; 4096 * usize::from(pages % 18)];
    if let Ok(treatment) = Treatment::try_from(code % 20) {
        let _ = Decoder::new().decode(treatment, stored, &mut buffer);
    }
    let (base, delta) = stored.split_at(stored.len() / 2);
    let _ = Decoder::new().decode_delta(base, delta, &mut buffer);
    let mut frame = stored.to_vec();
    frame.resize(4096 * (1 + usize::from(pages % 16)), *code);
    for want in [Want::Raw, Want::Lz4, Want::Zstd(1 + i32::from(code % 3))] {
        let mut encoder = Encoder::new();
        let encoded = encoder.encode(&frame, want).unwrap();
        let mut decoded = vec![1; frame.len()];
        Decoder::new().decode(encoded.treatment, encoded.bytes, &mut decoded).unwrap();
        assert!(decoded == frame);
        let mut base = frame.clone();
        base.rotate_left(usize::from(*code));
        base.truncate(4096 * (1 + usize::from(*code) % 16));
        let encoded = encoder.encode_against(&frame, &base, want).unwrap();
        decoded.fill(1);
        match encoded.treatment {
            Treatment::Delta => Decoder::new().decode_delta(&base, encoded.bytes, &mut decoded),
            other => Decoder::new().decode(other, encoded.bytes, &mut decoded),
        }
        .unwrap();
        assert!(decoded == frame);
    }
});
