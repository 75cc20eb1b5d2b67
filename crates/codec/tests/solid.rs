//! Chunks that are encoded together come back, each from its own place, and what is no such frame is
//! refused.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use rekindle_codec::{
    EncodeError, SOLID_BYTES_MAX, SOLID_PAGES_MAX, SOLID_PARTS_MAX, Solid, SolidDecoder,
    SolidEncoder, Want,
};

const PAGE: usize = 4096;

/// Pages that repeat others far away, zeros, and noise.
fn pages(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    };
    let mut all: Vec<u8> = Vec::with_capacity(count * PAGE);
    for _ in 0..count {
        match draw() % 4 {
            0 => all.resize(all.len() + PAGE, 0),
            1 => (0..PAGE / 8).for_each(|_| all.extend_from_slice(&draw().to_le_bytes())),
            _ if all.is_empty() => all.resize(PAGE, 7),
            _ => {
                let place = draw() % u64::try_from(all.len()).unwrap();
                let start = usize::try_from(place).unwrap() / PAGE * PAGE;
                let mut page = all[start..start + PAGE].to_vec();
                page[usize::try_from(draw() % 4096).unwrap()] ^= 1;
                all.extend_from_slice(&page);
            }
        }
    }
    all
}

/// Any parts that are allowed.
fn parts() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop_oneof![
        proptest::collection::vec(1..=16u8, 1..=16),
        proptest::collection::vec(1..=2u8, 1..=128),
        Just(vec![1; SOLID_PARTS_MAX]),
        Just(vec![16; SOLID_PAGES_MAX / 16]),
    ];
    parts.prop_filter("not too many", |parts| {
        parts.iter().map(|part| usize::from(*part)).sum::<usize>() <= SOLID_PAGES_MAX
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_part_comes_back(parts in parts(), seed in any::<u64>(), level in 1..9i32) {
        let sum = parts.iter().map(|part| usize::from(*part)).sum();
        let pages = pages(seed, sum);
        let mut encoder = SolidEncoder::new();
        let Some(stored) = encoder.encode(&parts, &pages, level).unwrap() else { return Ok(()) };
        prop_assert!(stored.len() <= pages.len() - pages.len() / 20);
        let mut solid = Solid::new();
        let mut decoder = SolidDecoder::new();
        // What was decoded before does not matter.
        for _ in 0..2 {
            decoder.decode(stored, &mut solid).unwrap();
            let mut rest = &pages[..];
            for (number, part) in parts.iter().enumerate() {
                let (these, others) = rest.split_at(usize::from(*part) * PAGE);
                rest = others;
                prop_assert!(solid.part(number) == Some(these));
            }
            prop_assert_eq!(solid.len(), parts.len());
            prop_assert_eq!(solid.part(parts.len()), None);
        }
        // Cut short, or with other parts, it is none, and nothing is left of what was there before.
        for end in [0, 1, parts.len(), parts.len() + 1, stored.len() - 1] {
            prop_assert!(decoder.decode(&stored[..end], &mut solid).is_err());
            prop_assert!(solid.is_empty() && solid.part(0).is_none());
        }
        let mut other = stored.to_vec();
        other[1] = if other[1] == 0 { 1 } else { 0 };
        prop_assert!(decoder.decode(&other, &mut solid).is_err());
    }

    #[test]
    fn nothing_makes_the_decoder_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        shift in 0..6u32,
    ) {
        // Often few parts of few pages.
        bytes.iter_mut().take(20).for_each(|byte| *byte >>= shift);
        let mut solid = Solid::new();
        if SolidDecoder::new().decode(&bytes, &mut solid).is_err() {
            prop_assert!(solid.is_empty());
        }
    }
}

#[test]
fn what_makes_no_frame_is_refused() {
    let mut encoder = SolidEncoder::new();
    let page = [1; PAGE];
    let many = vec![1; (SOLID_PAGES_MAX + 1) * PAGE];
    let long = vec![16; SOLID_PAGES_MAX / 16 + 1];
    let wrong: [(&[u8], &[u8]); 7] = [
        (&[], &[]),
        (&[0], &[]),
        (&[1], &[]),
        (&[2], &page),
        (&[17], &many[..17 * PAGE]),
        (&[1; SOLID_PARTS_MAX + 1], &many),
        (&long, &many),
    ];
    for (parts, pages) in wrong {
        let refused = encoder.encode(parts, pages, 3).map(|_| ());
        assert!(matches!(refused, Err(EncodeError::Parts { .. })), "{parts:?}");
    }
    assert!(matches!(encoder.encode(&[1], &page, 0), Err(EncodeError::Level(0))));
    let mut solid = Solid::new();
    let mut decoder = SolidDecoder::new();
    for stored in [vec![0; SOLID_BYTES_MAX + 1], vec![0, 16, 0], [&[255][..], &[15; 300]].concat()]
    {
        let refused = decoder.decode(&stored, &mut solid).unwrap_err().to_string();
        assert!(refused.contains("solid"), "{refused}");
    }
}

/// What it is for: pages that repeat what is several chunks away.
#[test]
fn repeats_far_apart_are_found() {
    let noise: Vec<u8> = (0..20 * 16).flat_map(|n| pages(2 * n + 3, 64)[..PAGE].to_vec()).collect();
    let noise = &noise[..8 * 16 * PAGE];
    let twice = [noise, noise].concat();
    let mut alone = rekindle_codec::Encoder::new();
    let apart: usize = twice
        .chunks(16 * PAGE)
        .map(|chunk| alone.encode(chunk, Want::Zstd(3)).unwrap().bytes.len())
        .sum();
    let mut encoder = SolidEncoder::new();
    let together = encoder.encode(&[16; 16], &twice, 3).unwrap().unwrap().len();
    assert!(together * 10 < apart * 6, "{together} {apart}");
}
