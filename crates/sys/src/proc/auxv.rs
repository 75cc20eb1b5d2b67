//! `/proc/PID/auxv`, see `getauxval(3)`.

use super::text::Malformed;

/// Parses the auxiliary vector: pairs of a type (`AT_...`) and a value, without the closing
/// `AT_NULL` and what lies behind it.
///
/// # Errors
/// When its size is not a whole number of pairs.
pub fn parse_auxv(bytes: &[u8]) -> Result<Vec<(u64, u64)>, Malformed> {
    let (pairs, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(Malformed::new("pairs of 16 bytes", rest));
    }
    let halves = pairs.iter().map(|pair| {
        let pair = u128::from_ne_bytes(*pair);
        (low(pair), low(pair >> 64))
    });
    Ok(halves.take_while(|(kind, _)| *kind != 0).collect())
}

fn low(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_null() {
        let mut bytes = Vec::new();
        for word in [33u64, 0x7fff_0000, 6, 4096, 0, 0, 9, 9] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(parse_auxv(&bytes).unwrap(), [(33, 0x7fff_0000), (6, 4096)]);
        assert!(parse_auxv(&bytes[1..]).is_err());
        assert!(parse_auxv(b"").unwrap().is_empty());
    }
}
