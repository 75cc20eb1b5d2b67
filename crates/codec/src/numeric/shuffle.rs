//! Bits of equal weight put together: what is alike in neighbouring numbers becomes long runs.

/// Bytes put through one transposition.
const LANES: usize = 8;

/// Gathers bit `b` of every element into plane `b`: `bytes` is elements of `width` bytes, as
/// many as are a multiple of 8; what is left over at the end stays as it is.
pub(crate) fn shuffle(bytes: &[u8], width: usize, out: &mut [u8]) {
    let count = bytes.len() / width / LANES * LANES;
    let (body, tail) = bytes.split_at(count * width);
    let (planes, rest) = out.split_at_mut(count * width);
    rest[..tail.len()].copy_from_slice(tail);
    let plane_bytes = count / LANES;
    if plane_bytes == 0 {
        return;
    }
    for (byte, group) in planes.chunks_exact_mut(plane_bytes * 8).enumerate() {
        for (at, lane) in body.chunks_exact(width * LANES).enumerate() {
            let gathered: [u8; LANES] = std::array::from_fn(|n| lane[n * width + byte]);
            let bits = transpose(u64::from_le_bytes(gathered)).to_le_bytes();
            for (bit, value) in bits.into_iter().enumerate() {
                group[bit * plane_bytes + at] = value;
            }
        }
    }
}

/// The other way round.
pub(crate) fn unshuffle(bytes: &[u8], width: usize, out: &mut [u8]) {
    let count = bytes.len() / width / LANES * LANES;
    let (planes, tail) = bytes.split_at(count * width);
    let (body, rest) = out.split_at_mut(count * width);
    rest[..tail.len()].copy_from_slice(tail);
    let plane_bytes = count / LANES;
    if plane_bytes == 0 {
        return;
    }
    for (byte, group) in planes.chunks_exact(plane_bytes * 8).enumerate() {
        for (at, lane) in body.chunks_exact_mut(width * LANES).enumerate() {
            let gathered: [u8; LANES] = std::array::from_fn(|bit| group[bit * plane_bytes + at]);
            let values = transpose(u64::from_le_bytes(gathered)).to_le_bytes();
            for (n, value) in values.into_iter().enumerate() {
                lane[n * width + byte] = value;
            }
        }
    }
}

/// Bit `8 i + j` goes to `8 j + i` (Hacker's Delight, 7-3).
const fn transpose(x: u64) -> u64 {
    let t = (x ^ (x >> 7)) & 0x00aa_00aa_00aa_00aa;
    let x = x ^ t ^ (t << 7);
    let t = (x ^ (x >> 14)) & 0x0000_cccc_0000_cccc;
    let x = x ^ t ^ (t << 14);
    let t = (x ^ (x >> 28)) & 0x0000_0000_f0f0_f0f0;
    x ^ t ^ (t << 28)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shuffled_comes_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..700),
            width in proptest::sample::select(vec![1usize, 2, 4, 8]),
        ) {
            let mut shuffled = vec![0xee; bytes.len()];
            shuffle(&bytes, width, &mut shuffled);
            let mut back = vec![0xdd; bytes.len()];
            unshuffle(&shuffled, width, &mut back);
            prop_assert_eq!(back, bytes);
        }
    }

    #[test]
    fn planes_hold_bits_of_equal_weight() {
        // 16 numbers with nothing but bit 3 of the second byte.
        let bytes: Vec<u8> = [0, 8].repeat(16);
        let mut planes = vec![0; 32];
        shuffle(&bytes, 2, &mut planes);
        let expected: Vec<u8> = (0..32).map(|at| if at / 2 == 8 + 3 { 0xff } else { 0 }).collect();
        assert_eq!(planes, expected);
    }
}
