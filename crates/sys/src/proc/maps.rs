//! `/proc/PID/maps` and `/proc/PID/smaps`, see `proc_pid_maps(5)` and `proc_pid_smaps(5)`.

use mem::{AddrRange, Protection, Sharing};

use super::text::{Cursor, Malformed, lines, unescape_newlines, value_of};

/// One line of `/proc/PID/maps`. It borrows the text: the hot path allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapsEntry<'a> {
    /// Where the mapping lies.
    pub range: AddrRange,
    /// What it allows.
    pub protection: Protection,
    /// Private or shared.
    pub sharing: Sharing,
    /// Offset of its first byte in the file, in bytes. Meaningless without a file.
    pub offset_bytes: u64,
    /// Major and minor number of the file's device; 0, 0 without a file. On btrfs and overlayfs
    /// it is not the `st_dev` that stat(2) reports.
    pub device: (u32, u32),
    /// Inode number, 0 without a file.
    pub inode: u64,
    /// The last column as written: a path, a name in brackets, or nothing.
    pub name_raw: &'a [u8],
}

impl MapsEntry<'_> {
    /// The last column with its line feeds put back.
    pub fn name(&self) -> Vec<u8> {
        unescape_newlines(self.name_raw)
    }

    /// Whether a file or a shared object is behind the mapping.
    pub fn has_inode(&self) -> bool {
        self.inode != 0 || self.device != (0, 0)
    }
}

/// The mappings in the text of `/proc/PID/maps`, ascending by address.
///
/// # Errors
/// Each item is an error when its line does not have the documented form.
pub fn maps_entries(text: &[u8]) -> impl Iterator<Item = Result<MapsEntry<'_>, Malformed>> {
    lines(text).map(entry)
}

fn entry(line: &[u8]) -> Result<MapsEntry<'_>, Malformed> {
    let mut cursor = Cursor::new(line);
    let start = cursor.hex("the mapping's first address")?;
    cursor.literal(b"-", "a dash between two addresses")?;
    let end = cursor.hex("the mapping's end")?;
    if end < start {
        return Err(cursor.malformed("an end behind the start"));
    }
    let (protection, sharing) = permissions(cursor.word("permissions")?)
        .ok_or_else(|| cursor.malformed("permissions such as rw-p"))?;
    let offset_bytes = cursor.hex("an offset")?;
    let major = cursor.hex_as("a device's major number")?;
    cursor.literal(b":", "a colon between major and minor number")?;
    let minor = cursor.hex_as("a device's minor number")?;
    let inode = cursor.dec("an inode number")?;
    cursor.skip_blanks();
    Ok(MapsEntry {
        range: AddrRange::new(start, end),
        protection,
        sharing,
        offset_bytes,
        device: (major, minor),
        inode,
        name_raw: cursor.rest(),
    })
}

fn permissions(word: &[u8]) -> Option<(Protection, Sharing)> {
    let [r, w, x, s] = word.try_into().ok()?;
    let bit = |byte: u8, letter: u8| match byte {
        b'-' => Some(false),
        b if b == letter => Some(true),
        _ => None,
    };
    let sharing = match s {
        b'p' => Sharing::Private,
        b's' => Sharing::Shared,
        _ => return None,
    };
    let protection = Protection { read: bit(r, b'r')?, write: bit(w, b'w')?, exec: bit(x, b'x')? };
    Some((protection, sharing))
}

/// A mapping as smaps lists it: the line of maps and what smaps adds. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmapsEntry {
    /// Where the mapping lies.
    pub range: AddrRange,
    /// What it allows.
    pub protection: Protection,
    /// Private or shared.
    pub sharing: Sharing,
    /// Offset of its first byte in the file, in bytes. Meaningless without a file.
    pub offset_bytes: u64,
    /// Major and minor number of the file's device; 0, 0 without a file.
    pub device: (u32, u32),
    /// Inode number, 0 without a file.
    pub inode: u64,
    /// The last column: a path, a name in brackets, or nothing.
    pub name: Vec<u8>,
    /// Resident in RAM.
    pub rss_bytes: u64,
    /// Resident and touched since [`super::ProcDir::clear_referenced`].
    pub referenced_bytes: u64,
    /// Resident and anonymous: written private pages.
    pub anonymous_bytes: u64,
    /// Anonymous and in huge pages.
    pub anon_huge_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// Locked by mlock(2).
    pub locked_bytes: u64,
    /// Size of the pages backing it; more than 4096 for hugetlbfs.
    pub kernel_page_bytes: u64,
    /// The protection key, 0 where there are none.
    pub protection_key: u64,
    /// The two-letter words of `VmFlags:`, unknown ones included.
    pub vm_flags: Vec<[u8; 2]>,
}

impl SmapsEntry {
    /// A mapping as `/proc/PID/maps` has it, without figures and flags.
    pub fn from_line(line: &MapsEntry<'_>) -> Self {
        Self {
            range: line.range,
            protection: line.protection,
            sharing: line.sharing,
            offset_bytes: line.offset_bytes,
            device: line.device,
            inode: line.inode,
            name: line.name(),
            rss_bytes: 0,
            referenced_bytes: 0,
            anonymous_bytes: 0,
            anon_huge_bytes: 0,
            swap_bytes: 0,
            locked_bytes: 0,
            kernel_page_bytes: 0,
            protection_key: 0,
            vm_flags: Vec::new(),
        }
    }

    /// Whether a file or a shared object is behind the mapping.
    pub fn has_inode(&self) -> bool {
        self.inode != 0 || self.device != (0, 0)
    }

    /// Whether the kernel listed the two-letter `flag`.
    pub fn has_flag(&self, flag: &[u8; 2]) -> bool {
        self.vm_flags.contains(flag)
    }
}

/// Parses the text of `/proc/PID/smaps`.
///
/// # Errors
/// When a line does not have the documented form, or a mapping comes without `VmFlags`: what
/// restores a mapping depends on them, so a kernel without them cannot be served.
pub fn parse_smaps(text: &[u8]) -> Result<Vec<SmapsEntry>, Malformed> {
    let mut entries: Vec<SmapsEntry> = Vec::new();
    let mut open: Option<SmapsEntry> = None;
    for line in lines(text) {
        // Field names begin with a capital letter, addresses with a lower-case hex digit.
        if line.first().is_some_and(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
            if open.is_some() {
                return Err(Malformed::new("VmFlags before the next mapping", line));
            }
            open = Some(SmapsEntry::from_line(&entry(line)?));
            continue;
        }
        let Some(current) = open.as_mut() else {
            return Err(Malformed::new("a mapping before its fields", line));
        };
        if let Some(words) = value_of(line, b"VmFlags") {
            current.vm_flags = vm_flags(words)?;
            entries.extend(open.take());
        } else {
            field(current, line)?;
        }
    }
    match open {
        Some(_) => Err(Malformed::new("VmFlags before the end", b"")),
        None => Ok(entries),
    }
}

fn field(entry: &mut SmapsEntry, line: &[u8]) -> Result<(), Malformed> {
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return Err(Malformed::new("a field such as Rss:", line));
    };
    let slot = match &line[..colon] {
        b"Rss" => &mut entry.rss_bytes,
        b"Referenced" => &mut entry.referenced_bytes,
        b"Anonymous" => &mut entry.anonymous_bytes,
        b"AnonHugePages" => &mut entry.anon_huge_bytes,
        b"Swap" => &mut entry.swap_bytes,
        b"Locked" => &mut entry.locked_bytes,
        b"KernelPageSize" => &mut entry.kernel_page_bytes,
        b"ProtectionKey" => {
            entry.protection_key = Cursor::new(&line[colon + 1..]).dec("a protection key")?;
            return Ok(());
        }
        _ => return Ok(()),
    };
    let mut cursor = Cursor::new(&line[colon + 1..]);
    let kib = cursor.dec("a size in kB")?;
    *slot = kib.checked_mul(1024).ok_or_else(|| cursor.malformed("a size that fits 64 bits"))?;
    Ok(())
}

fn vm_flags(words: &[u8]) -> Result<Vec<[u8; 2]>, Malformed> {
    let mut flags = Vec::new();
    for word in words.split(|b| *b == b' ').filter(|w| !w.is_empty()) {
        let flag = word.try_into().map_err(|_| Malformed::new("two-letter flags", words))?;
        flags.push(flag);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAPS: &[u8] = b"564d53345000-564d53347000 r--p 00000000 fe:00 247030                     /usr/bin/cat\n\
        7f0000000000-7f0000001000 rw-s 00001000 00:01 1025                       /memfd:my mem (deleted)\n\
        7f0000002000-7f0000003000 ---p 00000000 00:00 0 \n\
        7ffd1000-7ffd2000 rw-p 00000000 00:00 0                          [stack]\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

    #[test]
    fn maps_lines() {
        let all: Vec<_> = maps_entries(MAPS).map(|e| e.unwrap()).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(all[0].range, AddrRange::new(0x564d_5334_5000, 0x564d_5334_7000));
        assert_eq!(all[0].device, (0xfe, 0));
        assert_eq!(all[0].inode, 247_030);
        assert_eq!(all[1].sharing, Sharing::Shared);
        assert_eq!(all[1].offset_bytes, 0x1000);
        assert_eq!(all[1].name(), b"/memfd:my mem (deleted)");
        assert_eq!(all[2].name_raw, b"");
        assert!(!all[2].has_inode());
        assert_eq!(all[2].protection, Protection::default());
        assert_eq!(all[3].name_raw, b"[stack]");
        assert!(all[4].protection.exec && !all[4].protection.read);
    }

    #[test]
    fn smaps_fields() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 [heap]\nSize: 8 kB\nKernelPageSize: 4 kB\n\
            Rss: 8 kB\nAnonymous: 8 kB\nAnonHugePages: 0 kB\nSwap: 4 kB\nLocked: 0 kB\n\
            THPeligible: 0\nProtectionKey: 3\nVmFlags: rd wr mr mw me ac sd \n";
        let all = parse_smaps(text).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].rss_bytes, all[0].swap_bytes), (8192, 4096));
        assert_eq!(all[0].protection_key, 3);
        assert!(all[0].vm_flags.contains(b"ac"));
        assert_eq!(all[0].vm_flags.len(), 7);
    }

    #[test]
    fn smaps_without_flags_is_refused() {
        assert!(parse_smaps(b"1000-3000 rw-p 00000000 00:00 0\nRss: 8 kB\n").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            maps_entries(&text).for_each(drop);
            let _ = parse_smaps(&text);
        }

        #[test]
        fn never_panics_on_damaged_text(at in 0usize..400, byte: u8) {
            let mut text = MAPS.to_vec();
            let at = at % text.len();
            text[at] = byte;
            maps_entries(&text).for_each(drop);
            let _ = parse_smaps(&text);
        }
    }
}
