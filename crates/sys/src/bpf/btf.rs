//! The kernel's own type information (BTF, `/sys/kernel/btf/vmlinux`), as far as our
//! programs need it: where the fields of a structure lie, and the numbers of functions.

/// Not the kernel's type information, or without what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's type information (BTF) has no {0}")]
pub struct NotFound(pub(crate) &'static str);

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
/// Anonymous structures within each other, at most.
const DEPTH_MAX: u32 = 8;

/// Parsed type information.
pub(crate) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; number 0 is `void`.
    starts: Vec<usize>,
}

impl<'a> Btf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, NotFound> {
        const MAGIC: u32 = 0xeb9f;
        let malformed = NotFound("valid header");
        let header = |at: usize| word(bytes, at).and_then(to_usize).ok_or(malformed);
        if word(bytes, 0).is_none_or(|first| first & 0xffff != MAGIC) {
            return Err(malformed);
        }
        let base = header(4)?;
        let part = |offset: usize, length: usize| {
            let start = base.checked_add(offset)?;
            bytes.get(start..start.checked_add(length)?)
        };
        let types = part(header(8)?, header(12)?).ok_or(malformed)?;
        let strings = part(header(16)?, header(20)?).ok_or(malformed)?;
        let mut starts = vec![usize::MAX];
        let mut at = 0;
        while at + TYPE_BYTES <= types.len() {
            starts.push(at);
            let info = word(types, at + 4).unwrap_or(0);
            let count = to_usize(info & 0xffff).unwrap_or(0);
            at += TYPE_BYTES
                + match kind(info) {
                    1 | 14 | 17 => 4,
                    3 => 12,
                    STRUCT | UNION | 15 | 19 => count * 12,
                    6 | 13 => count * 8,
                    _ => 0,
                };
        }
        Ok(Self { types, strings, starts })
    }

    /// The number of the function `name`.
    pub(crate) fn function(&self, name: &'static str) -> Result<u32, NotFound> {
        let (number, _) = self.named(FUNC, name).ok_or(NotFound(name))?;
        u32::try_from(number).map_err(|_| NotFound(name))
    }

    /// The number of the named type `name`.
    pub(crate) fn typedef(&self, name: &'static str) -> Result<u32, NotFound> {
        let (number, _) = self.named(TYPEDEF, name).ok_or(NotFound(name))?;
        u32::try_from(number).map_err(|_| NotFound(name))
    }

    /// The offset in bytes of the field `field` of the structure `name`, also when it lies in an
    /// anonymous part of it.
    pub(crate) fn field(&self, name: &'static str, field: &'static str) -> Result<i16, NotFound> {
        let (_, at) = self.named(STRUCT, name).ok_or(NotFound(name))?;
        let bits = self.member(at, field, 0).ok_or(NotFound(field))?;
        i16::try_from(bits / 8).map_err(|_| NotFound(field))
    }

    fn named(&self, wanted: u32, name: &str) -> Option<(usize, usize)> {
        self.starts.iter().copied().enumerate().skip(1).find(|(_, at)| {
            word(self.types, at + 4).is_some_and(|info| kind(info) == wanted)
                && self.name_at(*at) == Some(name.as_bytes())
        })
    }

    fn name_at(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.strings.get(to_usize(word(self.types, at)?)?..)?;
        rest.split(|byte| *byte == 0).next()
    }

    /// The offset in bits of member `name` of the structure at `at`.
    fn member(&self, at: usize, name: &str, depth: u32) -> Option<u32> {
        const BIT_FIELDS: u32 = 1 << 31;
        let info = word(self.types, at + 4)?;
        if depth > DEPTH_MAX || !matches!(kind(info), STRUCT | UNION) {
            return None;
        }
        let mask = if info & BIT_FIELDS == 0 { u32::MAX } else { 0x00ff_ffff };
        (0..to_usize(info & 0xffff)?).find_map(|number| {
            let member = at + TYPE_BYTES + number * MEMBER_BYTES;
            let offset = word(self.types, member + 8)? & mask;
            match self.name_at(member)? {
                b"" => {
                    let inner = *self.starts.get(to_usize(word(self.types, member + 4)?)?)?;
                    Some(offset + self.member(inner, name, depth + 1)?)
                }
                found if found == name.as_bytes() => Some(offset),
                _ => None,
            }
        })
    }
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn to_usize(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { int b; }; }` and `int f()`, as a compiler would write it.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0f\0int\0";
        let types: Vec<u32> = [
            &[13, 1 << 24, 4, 32][..],
            &[0, STRUCT << 24 | 1, 4, 9, 1, 0],
            &[1, STRUCT << 24 | 2, 8, 7, 1, 0, 0, 2, 32],
            &[11, FUNC << 24, 0],
        ]
        .concat();
        let type_bytes = u32::try_from(types.len() * 4).unwrap();
        let string_bytes = u32::try_from(strings.len()).unwrap();
        let header = [0x0001_eb9f, 24, 0, type_bytes, type_bytes, string_bytes];
        let words = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn fields_are_found_in_anonymous_parts_too() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.field("outer", "a"), Ok(0));
        assert_eq!(btf.field("outer", "b"), Ok(4));
        assert_eq!(btf.field("outer", "c"), Err(NotFound("c")));
        assert_eq!(btf.field("inner", "a"), Err(NotFound("inner")));
        assert_eq!(btf.function("f"), Ok(4));
    }

    #[test]
    fn what_is_cut_short_is_no_type_information() {
        let bytes = sample();
        for length in 0..bytes.len() {
            if let Ok(btf) = Btf::parse(&bytes[..length]) {
                let _ = (btf.field("outer", "b"), btf.function("f"));
            }
        }
    }
}
