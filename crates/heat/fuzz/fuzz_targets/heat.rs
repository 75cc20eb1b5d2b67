//! Sections behind checksums that fit. The golden file may serve as a corpus: bytes that begin
//! with the magic number are taken as a file whose checksums are put right.
#![no_main]

use heat::{Heat, Reading};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 64;
const ENTRY: usize = 32;
const SECTIONS: usize = 9;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A file with these sections.
fn file(sections: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0; HEADER + ENTRY * sections.len()];
    let mut offset = file.len();
    for (i, section) in sections.iter().enumerate() {
        let at = HEADER + ENTRY * i;
        put(&mut file, at, &u32::try_from(i + 1).unwrap().to_le_bytes());
        put(&mut file, at + 4, &1u32.to_le_bytes());
        put(&mut file, at + 8, &u64::try_from(offset).unwrap().to_le_bytes());
        put(&mut file, at + 16, &u64::try_from(section.len()).unwrap().to_le_bytes());
        put(&mut file, at + 24, &crc32c::crc32c(section).to_le_bytes());
        offset += section.len();
    }
    put(&mut file, 0, b"\x89RKHT\r\n\x1a");
    put(&mut file, 8, &1u32.to_le_bytes());
    put(&mut file, 12, &64u32.to_le_bytes());
    put(&mut file, 16, &u64::try_from(offset).unwrap().to_le_bytes());
    put(&mut file, 40, &u32::try_from(sections.len()).unwrap().to_le_bytes());
    let table = crc32c::crc32c(&file[HEADER..]);
    put(&mut file, 44, &table.to_le_bytes());
    let header = crc32c::crc32c(&file[..60]);
    put(&mut file, 60, &header.to_le_bytes());
    sections.iter().for_each(|section| file.extend_from_slice(section));
    file
}

/// The sections of a file that need not be intact.
fn sections(bytes: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).unwrap_or_default();
        usize::try_from(u64::from_le_bytes(field)).unwrap()
    };
    let section = |i: usize| {
        let (start, length) = (number(HEADER + ENTRY * i + 8), number(HEADER + ENTRY * i + 16));
        let end = start.saturating_add(length).min(bytes.len());
        bytes.get(start.min(end)..end).unwrap_or_default()
    };
    (0..SECTIONS).map(section).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let whole = if bytes.starts_with(b"\x89RKHT") {
        file(&sections(bytes))
    } else {
        let Some((lengths, mut body)) = bytes.split_at_checked(SECTIONS) else { return };
        let mut parts = Vec::new();
        for length in lengths {
            let (section, rest) = body.split_at(usize::from(*length).min(body.len()));
            body = rest;
            parts.push(section);
        }
        file(&parts)
    };
    let Ok(read) = Heat::decode(&whole) else { return };
    assert!(Heat::decode(&read.encode()).unwrap() == read);
    let reading = Reading::at(read.newest_ns());
    for layout in read.layouts() {
        read.for_each_mapped(layout, &reading, |_, _, _| {});
    }
    for key in read.keys() {
        read.operands(key, 0..u64::MAX);
        read.first_touches(key).count();
    }
    read.merged(&read);
});
