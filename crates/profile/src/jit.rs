//! Names of code that a runtime makes while it runs: `/tmp/perf-PID.map`, which the runtime writes.
//!
//! It is written to while it is read: the last line may be cut, and what does not parse is left out
//! for itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use target::Process;

/// Bytes of a map that are read at most: some million functions.
const BYTES_MAX: u64 = 256 << 20;

/// Functions by where they begin.
#[derive(Debug, Default)]
pub(crate) struct JitMap {
    functions: BTreeMap<u64, (u64, String)>,
}

impl JitMap {
    /// The map that `process` writes, which is empty when it writes none.
    pub(crate) fn of(process: &Process) -> Self {
        let text = read(process);
        text.map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Lines `START SIZE NAME`, both numbers hexadecimal. What comes later replaces what was there before.
    fn parse(text: &[u8]) -> Self {
        // Without its end nobody knows whether a line is whole.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = text[..whole].split(|byte| *byte == b'\n');
        let function = |line: &[u8]| -> Option<(u64, (u64, String))> {
            let line = std::str::from_utf8(line).ok()?;
            let mut words = line.trim_end_matches('\r').splitn(3, ' ');
            let [start, size, name] = [words.next()?, words.next()?, words.next()?];
            let number =
                |word: &str| u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok();
            let is_named = !name.trim().is_empty();
            is_named.then_some((number(start)?, (number(size)?, name.to_owned())))
        };
        Self { functions: lines.filter_map(function).collect() }
    }

    /// The function at `addr`, and how far into it that is.
    pub(crate) fn find(&self, addr: u64) -> Option<(&str, u64)> {
        let (start, (size, name)) = self.functions.range(..=addr).next_back()?;
        let offset = addr - start;
        (offset < *size).then_some((name, offset))
    }
}

fn read(process: &Process) -> Option<Vec<u8>> {
    use rustix::fs::OFlags;
    // The runtime names the file after the pid that it knows itself by.
    let status = process.status().ok()?;
    let pid = status.ns_tgid.last().copied().unwrap_or_else(|| process.pid().raw());
    let name = format!("root/tmp/perf-{pid}.map");
    // Anybody may put something else there: it is neither followed nor waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(process.dir().open_file(&name, flags).ok()?);
    let mut text = Vec::new();
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    let read = is_file && file.take(BYTES_MAX).read_to_end(&mut text).is_ok();
    read.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_parse_is_left_out_for_itself() {
        let text = b"1000 20 Builtin:Add(int, int)\nxyz 3 odd\n2000\n2000 10\n2000 10 \n0x3000 0x8 last\r\n\
                     4000 \xff \xfe\n5000 30 cut";
        let map = JitMap::parse(text);
        assert_eq!(map.find(0x1000), Some(("Builtin:Add(int, int)", 0)));
        assert_eq!(map.find(0x101f), Some(("Builtin:Add(int, int)", 0x1f)));
        assert_eq!(map.find(0x3007), Some(("last", 7)));
        for nothing in [0xfff, 0x1020, 0x2000, 0x2008, 0x3008, 0x4000, 0x5000] {
            assert_eq!(map.find(nothing), None, "{nothing:#x}");
        }
        // Cut in the middle of its size, a line would name what is not its.
        assert_eq!(JitMap::parse(b"5000 30 whole\n6000 1").functions.len(), 1);
        assert_eq!(JitMap::parse(b"").functions.len(), 0);
    }

    #[test]
    fn what_comes_later_counts() {
        let map = JitMap::parse(b"1000 20 old\n1000 40 new\n");
        assert_eq!(map.find(0x1030), Some(("new", 0x30)));
    }
}
