//! `/proc/PID/limits`, see `proc_pid_limits(5)`. Unlike prlimit(2) it needs no right over a
//! process of other ids.

use super::text::{Cursor, Malformed, lines};
use crate::limits::Limit;

/// The names of the limits by `RLIMIT_` number.
const NAMES: [&[u8]; 16] = [
    b"Max cpu time",
    b"Max file size",
    b"Max data size",
    b"Max stack size",
    b"Max core file size",
    b"Max resident set",
    b"Max processes",
    b"Max open files",
    b"Max locked memory",
    b"Max address space",
    b"Max file locks",
    b"Max pending signals",
    b"Max msgqueue size",
    b"Max nice priority",
    b"Max realtime priority",
    b"Max realtime timeout",
];

/// Parses the text of a limits file: the limits by `RLIMIT_` number.
///
/// # Errors
/// When a line does not have the documented form, or a limit is missing or unknown.
pub fn parse_limits(text: &[u8]) -> Result<Vec<Limit>, Malformed> {
    let mut limits: [Option<Limit>; NAMES.len()] = [None; NAMES.len()];
    for line in lines(text).skip(1) {
        let number = NAMES
            .iter()
            .position(|name| line.strip_prefix(*name).is_some_and(|rest| rest.starts_with(b"  ")));
        let number = number.ok_or_else(|| Malformed::new("a limit known here", line))?;
        let mut cursor = Cursor::new(&line[NAMES[number].len()..]);
        let soft = value(&mut cursor)?;
        let hard = value(&mut cursor)?;
        limits[number] = Some(Limit { soft, hard });
    }
    let all: Option<Vec<Limit>> = limits.into_iter().collect();
    all.ok_or_else(|| Malformed::new("all 16 limits", text))
}

fn value(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    match cursor.word("a limit")? {
        b"unlimited" => Ok(u64::MAX),
        word => Cursor::new(word).dec("a limit"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn own_limits_agree_with_getrlimit() {
        let text = std::fs::read("/proc/self/limits").unwrap();
        let limits = parse_limits(&text).unwrap();
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(open_files.current, Some(limits[7].soft));
        let stack = rustix::process::getrlimit(rustix::process::Resource::Stack);
        assert_eq!(stack.maximum.unwrap_or(u64::MAX), limits[3].hard);
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..2000, byte: u8, cut in 0usize..2000) {
            let mut text = std::fs::read("/proc/self/limits").unwrap();
            let at = at % text.len();
            text[at] = byte;
            text.truncate(cut);
            let _ = parse_limits(&text);
        }
    }
}
