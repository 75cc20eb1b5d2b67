//! Reading numbers and words out of the kernel's text files, without allocation.

use std::fmt;

/// A line of a kernel text file that does not have the form its man page gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot understand {found:?}: wanted {wanted}")]
pub struct Malformed {
    /// What should have been there.
    pub wanted: &'static str,
    /// The text that was there, at most [`Malformed::FOUND_BYTES_MAX`] bytes of it.
    pub found: Excerpt,
}

impl Malformed {
    /// How much of the offending text an error carries.
    pub const FOUND_BYTES_MAX: usize = 120;

    pub(crate) fn new(wanted: &'static str, found: &[u8]) -> Self {
        let cut = &found[..found.len().min(Self::FOUND_BYTES_MAX)];
        Self { wanted, found: Excerpt(String::from_utf8_lossy(cut).into_owned()) }
    }
}

/// A piece of kernel text shown in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(String);

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The lines of a text, without their line feeds and without the empty rest after the last one.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let keep = !body.is_empty();
    body.split(|b| *b == b'\n').filter(move |_| keep)
}

/// Walks one line from left to right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    line: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { line, rest: line }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn malformed(&self, wanted: &'static str) -> Malformed {
        Malformed::new(wanted, self.line)
    }

    /// Skips blanks.
    pub(crate) fn skip_blanks(&mut self) {
        let blanks = self.rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        self.rest = &self.rest[blanks..];
    }

    /// Takes `text`, which must be next.
    pub(crate) fn literal(&mut self, text: &[u8], wanted: &'static str) -> Result<(), Malformed> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| self.malformed(wanted))?;
        Ok(())
    }

    /// The next word after any blanks: a non-empty run of bytes that are not blanks.
    pub(crate) fn word(&mut self, wanted: &'static str) -> Result<&'a [u8], Malformed> {
        self.skip_blanks();
        let length = self.rest.iter().take_while(|b| !matches!(b, b' ' | b'\t')).count();
        if length == 0 {
            return Err(self.malformed(wanted));
        }
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(word)
    }

    fn digits(&mut self, base: u64, wanted: &'static str) -> Result<u64, Malformed> {
        let mut value = 0u64;
        let mut length = 0;
        for byte in self.rest {
            let Some(digit) = char::from(*byte).to_digit(36).filter(|d| u64::from(*d) < base)
            else {
                break;
            };
            value = value
                .checked_mul(base)
                .and_then(|v| v.checked_add(u64::from(digit)))
                .ok_or_else(|| self.malformed(wanted))?;
            length += 1;
        }
        if length == 0 {
            return Err(self.malformed(wanted));
        }
        self.rest = &self.rest[length..];
        Ok(value)
    }

    /// A hexadecimal number after any blanks; what follows its digits stays unread.
    pub(crate) fn hex(&mut self, wanted: &'static str) -> Result<u64, Malformed> {
        self.skip_blanks();
        self.digits(16, wanted)
    }

    /// A decimal number after any blanks.
    pub(crate) fn dec(&mut self, wanted: &'static str) -> Result<u64, Malformed> {
        self.skip_blanks();
        self.digits(10, wanted)
    }

    /// An octal number after any blanks.
    pub(crate) fn oct(&mut self, wanted: &'static str) -> Result<u64, Malformed> {
        self.skip_blanks();
        self.digits(8, wanted)
    }

    /// A decimal number after any blanks that fits `T`.
    pub(crate) fn dec_as<T: TryFrom<u64>>(&mut self, wanted: &'static str) -> Result<T, Malformed> {
        let value = self.dec(wanted)?;
        T::try_from(value).map_err(|_| self.malformed(wanted))
    }

    /// A hexadecimal number after any blanks that fits `T`.
    pub(crate) fn hex_as<T: TryFrom<u64>>(&mut self, wanted: &'static str) -> Result<T, Malformed> {
        let value = self.hex(wanted)?;
        T::try_from(value).map_err(|_| self.malformed(wanted))
    }

    /// A decimal number after any blanks, with a sign or without.
    pub(crate) fn signed(&mut self, wanted: &'static str) -> Result<i64, Malformed> {
        self.skip_blanks();
        let negative = self.rest.first() == Some(&b'-');
        if negative {
            self.rest = &self.rest[1..];
        }
        let magnitude = i128::from(self.digits(10, wanted)?);
        let value = if negative { -magnitude } else { magnitude };
        i64::try_from(value).map_err(|_| self.malformed(wanted))
    }

    /// A signed decimal number after any blanks that fits `T`.
    pub(crate) fn signed_as<T: TryFrom<i64>>(
        &mut self,
        wanted: &'static str,
    ) -> Result<T, Malformed> {
        let value = self.signed(wanted)?;
        T::try_from(value).map_err(|_| self.malformed(wanted))
    }
}

/// The value of a `Name:<blanks>value` line, or `None` when the line is about something else.
pub(crate) fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?.strip_prefix(b":")?;
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    Some(&rest[blanks..])
}

/// Puts back the line feeds that `seq_path()` writes as `\012`. The kernel escapes nothing else
/// in maps, so a name that really holds `\012` is told apart only by looking at the file.
pub(crate) fn unescape_newlines(text: &[u8]) -> Vec<u8> {
    unescape(text, |b| b == b'\n')
}

/// Puts back the blanks, tabs, line feeds, backslashes and `#` that mountinfo writes in octal.
pub(crate) fn unescape_mount(text: &[u8]) -> Vec<u8> {
    unescape(text, |b| matches!(b, b' ' | b'\t' | b'\n' | b'\\' | b'#'))
}

fn unescape(text: &[u8], allowed: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if let (b'\\', Some(value)) = (*first, octal_byte(tail))
            && allowed(value)
        {
            out.push(value);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn octal_byte(text: &[u8]) -> Option<u8> {
    let digits = text.get(..3)?;
    let mut value = 0u32;
    for byte in digits {
        value = value * 8 + char::from(*byte).to_digit(8)?;
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked() {
        assert_eq!(Cursor::new(b"  ff-").hex("hex").unwrap(), 255);
        assert_eq!(Cursor::new(b"-12 ").signed("number").unwrap(), -12);
        assert!(Cursor::new(b"x").dec("number").is_err());
        assert!(Cursor::new(b"99999999999999999999999").dec("number").is_err());
        assert!(Cursor::new(b"300").dec_as::<u8>("byte").is_err());
    }

    #[test]
    fn only_what_the_kernel_escapes_is_put_back() {
        assert_eq!(unescape_newlines(br"/a\012b\040c\"), b"/a\nb\\040c\\");
        assert_eq!(unescape_mount(br"/a\040b\134c\777\0"), b"/a b\\c\\777\\0");
    }

    #[test]
    fn lines_of_nothing_are_none() {
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"a\n\nb\n").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
    }
}
