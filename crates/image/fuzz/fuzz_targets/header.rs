//! The header, with the checksum as it comes and as it should be.
#![no_main]

use image::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Header::read(bytes);
    if bytes.len() >= 124 {
        let mut fitting = bytes[..124].to_vec();
        fitting.extend_from_slice(&crc32c::crc32c(&fitting).to_le_bytes());
        let _ = Header::read(&fitting);
    }
});
