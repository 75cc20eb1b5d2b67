//! Section tables and sections behind checksums that fit: the first byte says how many sections
//! there are, the rest becomes their entries and bytes.
#![no_main]

use image::{LineKey, Manifest};
use libfuzzer_sys::fuzz_target;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap().to_le_bytes()
}

fuzz_target!(|bytes: &[u8]| {
    let key = [7; 32];
    let Some((count, rest)) = bytes.split_first() else { return };
    let count = usize::from(count % 6);
    let lengths: Vec<usize> = rest.chunks(2).take(count).map(|c| usize::from(c[0])).collect();
    let mut body = &rest[rest.len().min(2 * count)..];
    let mut sections = Vec::new();
    for length in lengths {
        // In steps, so that one byte reaches far enough.
        let (section, others) = body.split_at((length * 16).min(body.len()));
        body = others;
        sections.push(section);
    }
    let mut manifest = vec![0; 128 + 48 * sections.len()];
    let mut offset = manifest.len();
    for (i, section) in sections.iter().enumerate() {
        let at = 128 + 48 * i;
        put(&mut manifest, at, &u32::try_from(i + 1).unwrap().to_le_bytes());
        put(&mut manifest, at + 4, &1u16.to_le_bytes());
        put(&mut manifest, at + 8, &u64::try_from(offset).unwrap().to_le_bytes());
        put(&mut manifest, at + 16, &length(section));
        put(&mut manifest, at + 24, &crc32c::crc32c(section).to_le_bytes());
        offset += section.len();
    }
    put(&mut manifest, 0, b"\x89RKDL\r\n\x1a");
    put(&mut manifest, 8, &1u32.to_le_bytes());
    put(&mut manifest, 12, &128u32.to_le_bytes());
    put(&mut manifest, 16, &u64::try_from(offset + 32).unwrap().to_le_bytes());
    put(&mut manifest, 64, &LineKey::new(key).fingerprint());
    put(&mut manifest, 88, &u64::try_from(offset + 32).unwrap().to_le_bytes());
    put(&mut manifest, 96, &u32::try_from(sections.len()).unwrap().to_le_bytes());
    let table = crc32c::crc32c(&manifest[128..]);
    put(&mut manifest, 100, &table.to_le_bytes());
    let header = crc32c::crc32c(&manifest[..124]);
    put(&mut manifest, 124, &header.to_le_bytes());
    sections.iter().for_each(|section| manifest.extend_from_slice(section));
    let hash = blake3::keyed_hash(&key, &manifest);
    manifest.extend_from_slice(hash.as_bytes());
    if let Ok(decoded) = Manifest::decode(&manifest, &LineKey::new(key)) {
        let again = decoded.encode(&LineKey::new(key)).unwrap();
        let mut expected = decoded;
        let mut found = Manifest::decode(&again, &LineKey::new(key)).unwrap();
        // A section that was absent is written as an empty one.
        expected.page_bytes = 0;
        found.page_bytes = 0;
        assert_eq!(found, expected);
    }
});
