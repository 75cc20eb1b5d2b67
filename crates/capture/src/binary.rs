//! What an ELF file tells about itself.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Most program headers looked at, and most bytes of notes: far above what linkers write.
const HEADERS_MAX: usize = 256;
const NOTES_BYTES_MAX: usize = 1 << 20;

const CLASS_64: u8 = 2;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// What was read of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Whether it is an ELF file at all.
    pub(crate) is_elf: bool,
    /// Whether it is one for 64-bit x86.
    pub(crate) is_x86_64: bool,
    /// The GNU build id, empty when it has none.
    pub(crate) build_id: Vec<u8>,
}

/// Reads the headers of `file`. A file that is no ELF file is not an error.
pub(crate) fn read(file: OwnedFd) -> io::Result<Binary> {
    let file = File::from(file);
    let mut header = [0u8; 64];
    let got = read_up_to(&file, &mut header, 0)?;
    if got < header.len() || &header[..4] != b"\x7fELF" {
        let is_elf = got >= 4 && &header[..4] == b"\x7fELF";
        return Ok(Binary { is_elf, ..Binary::default() });
    }
    let is_x86_64 = header[4] == CLASS_64 && u16_at(&header, 18) == 62;
    if !is_x86_64 {
        return Ok(Binary { is_elf: true, ..Binary::default() });
    }
    let offset = u64_at(&header, 32);
    let count = usize::from(u16_at(&header, 56)).min(HEADERS_MAX);
    let entry_bytes = usize::from(u16_at(&header, 54));
    let mut build_id = Vec::new();
    if entry_bytes == 56 {
        let mut table = vec![0u8; count * entry_bytes];
        let got = read_up_to(&file, &mut table, offset)?;
        for entry in table[..got].chunks_exact(entry_bytes) {
            if u32_at(entry, 0) == PT_NOTE && build_id.is_empty() {
                build_id = build_id_in(&file, u64_at(entry, 8), u64_at(entry, 32))?;
            }
        }
    }
    Ok(Binary { is_elf: true, is_x86_64, build_id })
}

fn build_id_in(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(NOTES_BYTES_MAX);
    let mut notes = vec![0u8; length];
    let got = read_up_to(file, &mut notes, offset)?;
    Ok(build_id_of_notes(&notes[..got]).unwrap_or_default().to_vec())
}

/// Finds the build id in the bytes of a note segment.
fn build_id_of_notes(mut notes: &[u8]) -> Option<&[u8]> {
    while notes.len() >= 12 {
        let name_bytes = usize::try_from(u32_at(notes, 0)).ok()?;
        let content_bytes = usize::try_from(u32_at(notes, 4)).ok()?;
        let kind = u32_at(notes, 8);
        let content_at = 12usize.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
        let end = content_at.checked_add(content_bytes)?;
        let content = notes.get(content_at..end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return Some(content);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            // An offset that no file can have: the header lies.
            Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => break,
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes() {
        let mut bytes = Vec::new();
        // A property note first, then the build id.
        bytes.extend([4u32, 8, 5].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(b"GNU\0\x01\x02\x03\x04\x05\x06\x07\x08");
        bytes.extend([4u32, 3, 3].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(b"GNU\0abc\0");
        assert_eq!(build_id_of_notes(&bytes), Some(&b"abc"[..]));
        for cut in 0..bytes.len() {
            build_id_of_notes(&bytes[..cut]);
        }
        assert_eq!(build_id_of_notes(&[0xff; 40]), None);
    }

    #[test]
    fn this_program() {
        let own = read(File::open("/proc/self/exe").unwrap().into()).unwrap();
        assert!(own.is_x86_64, "{own:?}");
        let text = read(File::open("/proc/self/status").unwrap().into()).unwrap();
        assert_eq!(text, Binary::default());
    }
}
