//! What is encoded comes back, and what is not a frame is refused.
#![allow(clippy::unwrap_used, reason = "a test")]

use plan::Treatment;
use proptest::prelude::*;
use rekindle_codec::{
    DecodeError, Decoder, EncodeError, Encoder, FRAME_BYTES_MAX, SmallestEncoder, Want, is_zero,
};

const PAGE: usize = 4096;

fn want() -> impl Strategy<Value = Want> {
    prop_oneof![
        Just(Want::Raw),
        Just(Want::Lz4),
        (-7..0).prop_map(Want::Zstd),
        (1..=19).prop_map(Want::Zstd)
    ]
}

/// Pages as heaps have them: zero, repetitive, noise, and mixtures of these.
fn pages() -> impl Strategy<Value = Vec<u8>> {
    let page = prop_oneof![
        2 => Just(vec![0; PAGE]),
        2 => any::<[u8; 8]>().prop_map(|word| word.into_iter().cycle().take(PAGE).collect()),
        2 => any::<u64>().prop_map(noise),
        1 => (any::<u64>(), 0..PAGE).prop_map(|(seed, zeros)| {
            let mut page = noise(seed);
            page[..zeros].fill(0);
            page
        }),
        1 => (0..PAGE, 1..=u8::MAX).prop_map(|(at, byte)| {
            let mut page = vec![0; PAGE];
            page[at] = byte;
            page
        }),
    ];
    proptest::collection::vec(page, 1..=16).prop_map(|pages| pages.concat())
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(PAGE).collect()
}

/// Encodes, decodes and compares; reports how it was stored and in how many bytes.
fn round_trip(encoder: &mut Encoder, pages: &[u8], want: Want) -> (Treatment, usize) {
    let frame = encoder.encode(pages, want).unwrap();
    let mut decoded = vec![0xa5; pages.len()];
    Decoder::new().decode(frame.treatment, frame.bytes, &mut decoded).unwrap();
    assert!(decoded == pages, "{want:?} does not come back");
    (frame.treatment, frame.bytes.len())
}

/// Pages and what they may have been before: a few bytes, words or whole pages differ, some were
/// added or are gone.
fn changed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let edit = (any::<proptest::sample::Index>(), any::<u64>(), 0..4u8);
    (pages(), proptest::collection::vec(edit, 0..20), 0..17usize).prop_map(
        |(base, edits, count)| {
            let mut pages = base.clone();
            for (at, value, kind) in edits {
                let at = at.index(pages.len() - 8);
                match kind {
                    0 => pages[at] ^= 1,
                    1 => pages[at..at + 8].copy_from_slice(&value.to_le_bytes()),
                    2 => pages[at / PAGE * PAGE..][..PAGE].copy_from_slice(&noise(value)),
                    _ => pages.rotate_left(at % 64),
                }
            }
            pages.resize(count.clamp(1, 16) * PAGE, 7);
            (base, pages)
        },
    )
}

/// A base that zstd would take for a trained dictionary.
fn like_a_dictionary() -> Vec<u8> {
    let mut base = noise(5);
    base[..4].copy_from_slice(&[0x37, 0xa4, 0x30, 0xec]);
    base
}

#[test]
fn deltas_of_a_few_bytes_are_tiny() {
    let base = (0..16).flat_map(noise).collect::<Vec<u8>>();
    let mut pages = base.clone();
    pages[30_000..30_008].fill(9);
    let mut encoder = Encoder::new();
    for want in [Want::Raw, Want::Lz4, Want::Zstd(-3), Want::Zstd(3)] {
        let frame = encoder.encode_against(&pages, &base, want).unwrap();
        assert_eq!(frame.treatment, Treatment::Delta);
        assert!(frame.bytes.len() < 200, "{} bytes", frame.bytes.len());
    }
}

/// Measured values, with noise in most of their bits: zstd finds next to nothing in them.
fn field(seed: u64) -> Vec<u8> {
    let noise = noise(seed);
    let number = |(n, noise): (usize, &[u8])| {
        let low = u64::from_le_bytes(noise.try_into().unwrap()) >> 20;
        let value = 300.0 + 8.0 * (n as f64 / 500.0).sin();
        (value.to_bits() >> 44 << 44 | low).to_le_bytes()
    };
    noise.chunks(8).enumerate().flat_map(number).collect()
}

#[test]
fn numbers_are_stored_as_numbers_where_that_is_shorter() {
    let mut encoder = Encoder::new();
    let pages: Vec<u8> = (0..16).flat_map(|n| field(2 * n)).collect();
    for want in [Want::Lz4, Want::Zstd(-3), Want::Zstd(1)] {
        let (treatment, length) = round_trip(&mut encoder, &pages, want);
        assert_eq!(treatment, Treatment::Typed, "{want:?}");
        assert!(length * 5 < pages.len() * 4, "{want:?}: {length}");
    }
    assert_eq!(round_trip(&mut encoder, &pages, Want::Raw).0, Treatment::Raw);
    // Noise is none, nor is what zstd shrinks well.
    let noise: Vec<u8> = (0..16).flat_map(|n| noise(2 * n)).collect();
    assert_eq!(round_trip(&mut encoder, &noise, Want::Zstd(-3)).0, Treatment::Raw);
    let text = b"0123456789abcdef".repeat(4096);
    assert_eq!(round_trip(&mut encoder, &text, Want::Zstd(-3)).0, Treatment::Zstd);
}

#[test]
fn bases_that_are_none_are_not_used() {
    let pages = noise(5);
    let mut encoder = Encoder::new();
    for base in [&[][..], &like_a_dictionary()] {
        let frame = encoder.encode_against(&pages, base, Want::Zstd(1)).unwrap();
        assert_eq!(frame.treatment, Treatment::Raw);
        let mut decoded = vec![0; PAGE];
        let refused = Decoder::new().decode_delta(base, frame.bytes, &mut decoded).unwrap_err();
        assert!(refused.to_string().contains("no base"), "{refused}");
    }
    let long = vec![1; FRAME_BYTES_MAX + 1];
    let refused = encoder.encode_against(&pages, &long, Want::Zstd(1)).unwrap_err();
    assert!(matches!(refused, EncodeError::Base(_)), "{refused}");
    assert!(Decoder::new().decode_delta(&long, &[], &mut [0; PAGE]).is_err());
    let level = encoder.encode_against(&pages, &noise(6), Want::Zstd(99)).unwrap_err();
    assert!(matches!(level, EncodeError::Level(99)), "{level}");
    // Without its base a delta is nothing.
    let frame = encoder.encode_against(&pages, &noise(5), Want::Zstd(1)).unwrap();
    assert_eq!(frame.treatment, Treatment::Delta);
    let refused = Decoder::new().decode(frame.treatment, frame.bytes, &mut [0; PAGE]);
    assert!(matches!(refused, Err(DecodeError::Unsupported(Treatment::Delta))), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn frames_come_back(all in proptest::collection::vec((pages(), want()), 1..4)) {
        // One encoder for all of them: nothing of a frame may leak into the next.
        let mut encoder = Encoder::new();
        for (pages, want) in all {
            let (treatment, length) = round_trip(&mut encoder, &pages, want);
            prop_assert_eq!(treatment == Treatment::Zero, pages.iter().all(|b| *b == 0));
            prop_assert_eq!(is_zero(&pages), treatment == Treatment::Zero);
            match treatment {
                Treatment::Zero => prop_assert_eq!(length, 0),
                Treatment::Raw => prop_assert_eq!(length, pages.len()),
                _ => prop_assert!(length * 20 <= pages.len() * 19),
            }
        }
    }

    /// With its base a delta comes back, and it is never longer than what is stored without one.
    #[test]
    fn deltas_come_back(all in proptest::collection::vec((changed(), want()), 1..4)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for ((base, pages), want) in all {
            let plain = encoder.encode(&pages, want).unwrap().bytes.len();
            let frame = encoder.encode_against(&pages, &base, want).unwrap();
            let mut decoded = vec![0xa5; pages.len()];
            match frame.treatment {
                Treatment::Delta => {
                    prop_assert!(frame.bytes.len() < plain.max(pages.len() / 32 + 1));
                    decoder.decode_delta(&base, frame.bytes, &mut decoded).unwrap();
                }
                other => decoder.decode(other, frame.bytes, &mut decoded).unwrap(),
            }
            prop_assert!(decoded == pages);
        }
    }

    /// Neither altered deltas nor wrong bases make the decoder panic; what has a wrong length is
    /// refused. (That wrong bytes of the right length are found is the hash's business.)
    #[test]
    fn damaged_deltas_never_panic(
        (base, pages) in changed(),
        at in any::<proptest::sample::Index>(),
        flip in 1..=u8::MAX,
        cut in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        let mut encoder = Encoder::new();
        let frame = encoder.encode_against(&pages, &base, Want::Zstd(1)).unwrap();
        let mut decoded = vec![0; pages.len()];
        let mut decoder = Decoder::new();
        let _ = decoder.decode_delta(&base, &noise, &mut decoded);
        if frame.treatment == Treatment::Delta {
            let mut bytes = frame.bytes.to_vec();
            bytes[at.index(frame.bytes.len())] ^= flip;
            let _ = decoder.decode_delta(&base, &bytes, &mut decoded);
            let _ = decoder.decode_delta(&noise, frame.bytes, &mut decoded);
            let short = &frame.bytes[..cut.index(frame.bytes.len())];
            prop_assert!(decoder.decode_delta(&base, short, &mut decoded).is_err());
            let mut longer = vec![0; pages.len() + PAGE];
            let longer = decoder.decode_delta(&base, frame.bytes, &mut longer);
            prop_assert!(longer.is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_decode_fully(
        code in 0..=u8::MAX,
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        count in 0usize..20,
    ) {
        if let Ok(treatment) = Treatment::try_from(code) {
            let mut pages = vec![0; count * PAGE];
            // Neither outcome may panic; Ok on noise means that it is a frame by chance.
            let _ = Decoder::new().decode(treatment, &bytes, &mut pages);
        }
    }

    #[test]
    fn damaged_frames_never_panic(
        pages in pages(),
        want in want(),
        at in any::<proptest::sample::Index>(),
        flip in 1..=u8::MAX,
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut encoder = Encoder::new();
        let frame = encoder.encode(&pages, want).unwrap();
        if !frame.bytes.is_empty() {
            let mut bytes = frame.bytes.to_vec();
            bytes[at.index(frame.bytes.len())] ^= flip;
            let mut decoded = vec![0; pages.len()];
            let _ = Decoder::new().decode(frame.treatment, &bytes, &mut decoded);
            let short = &frame.bytes[..cut.index(frame.bytes.len())];
            let refused = Decoder::new().decode(frame.treatment, short, &mut decoded);
            prop_assert!(refused.is_err(), "a frame cut to {} bytes decoded", short.len());
        }
    }
}

#[test]
fn lengths_that_are_not_frames_are_refused() {
    for length in [0, 1, PAGE - 1, PAGE + 1, FRAME_BYTES_MAX + PAGE] {
        let bytes = vec![0; length];
        let encoded = Encoder::new().encode(&bytes, Want::Lz4).map(|_| ());
        assert!(matches!(encoded, Err(EncodeError::Length(l)) if l == length));
        let decoded = Decoder::new().decode(Treatment::Zero, &[], &mut vec![0; length]);
        assert!(matches!(decoded, Err(DecodeError::Length(l)) if l == length));
    }
}

#[test]
fn frames_of_another_length_are_refused() {
    let mut encoder = Encoder::new();
    for want in [Want::Raw, Want::Lz4, Want::Zstd(3)] {
        let frame = encoder.encode(&[7; 2 * PAGE], want).unwrap();
        for pages in [1, 3, 16] {
            let mut decoded = vec![0; pages * PAGE];
            let refused = Decoder::new().decode(frame.treatment, frame.bytes, &mut decoded);
            assert!(matches!(refused, Err(DecodeError::Malformed { .. })), "{want:?} {pages}");
        }
    }
    let refused = Decoder::new().decode(Treatment::Zero, &[0], &mut [0; PAGE]);
    assert!(matches!(refused, Err(DecodeError::Malformed { .. })));
}

#[test]
fn treatments_without_a_decoder_are_named() {
    let known = [
        Treatment::Raw,
        Treatment::Zero,
        Treatment::Lz4,
        Treatment::Zstd,
        Treatment::Typed,
        Treatment::Lossy,
    ];
    for treatment in Treatment::ALL.iter().filter(|t| !known.contains(t)) {
        let refused = Decoder::new().decode(*treatment, &[], &mut [0; PAGE]).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(treatment.name()), "{text}");
        assert!(text.contains(&format!("code {}", treatment.code())), "{text}");
    }
}

#[test]
fn levels_are_checked() {
    for level in [-8, 0, 20] {
        let refused = Encoder::new().encode(&[1; PAGE], Want::Zstd(level)).map(|_| ());
        assert!(matches!(refused, Err(EncodeError::Level(l)) if l == level));
    }
}

#[test]
fn frames_that_hardly_shrink_stay_raw() {
    let mut encoder = Encoder::new();
    for want in [Want::Lz4, Want::Zstd(1)] {
        // 15 pages of noise and the start of a 16th: saves 2%, then far more.
        let mut pages: Vec<u8> = (1..=16).flat_map(|n| noise(2 * n)).collect();
        pages[FRAME_BYTES_MAX - 1400..].fill(0);
        assert_eq!(round_trip(&mut encoder, &pages, want).0, Treatment::Raw);
        pages[FRAME_BYTES_MAX - 8 * PAGE..].fill(0);
        assert_ne!(round_trip(&mut encoder, &pages, want).0, Treatment::Raw);
    }
}

/// Encodes as small as it goes, decodes and compares; reports how it was stored and in how many bytes.
fn smallest(pages: &[u8], base: Option<&[u8]>, level: i32) -> (Treatment, usize) {
    let mut encoder = SmallestEncoder::new();
    let frame = encoder.encode(pages, base, level).unwrap();
    let mut decoded = vec![0xa5; pages.len()];
    let mut decoder = Decoder::new();
    match (frame.treatment, base) {
        (Treatment::Delta, Some(base)) => {
            decoder.decode_delta(base, frame.bytes, &mut decoded).unwrap();
        }
        (treatment, _) => decoder.decode(treatment, frame.bytes, &mut decoded).unwrap(),
    }
    assert!(decoded == pages, "level {level} does not come back");
    (frame.treatment, frame.bytes.len())
}

proptest! {
    #[test]
    fn the_smallest_comes_back_and_is_no_larger(
        (base, pages) in changed(),
        has_base in any::<bool>(),
        level in 1..13,
    ) {
        let base = has_base.then_some(&base[..]);
        let (_, length) = smallest(&pages, base, level);
        let mut encoder = Encoder::new();
        let general = match base {
            Some(base) => encoder.encode_against(&pages, base, Want::Zstd(level)),
            None => encoder.encode(&pages, Want::Zstd(level)),
        };
        prop_assert!(length <= general.unwrap().bytes.len());
    }
}

/// Numbers of every kind that programs have are found without being told of them.
#[test]
fn the_smallest_of_numbers_is_numbers() {
    let times = (0..8192u64).map(|n| (1_700_000_000_000 + n * 977 + n * n % 31).to_le_bytes());
    let places = (0..16_384u32).map(|n| (n * 40 + n * n % 37).to_le_bytes());
    let fields = (1..=16).flat_map(field);
    let all: [Vec<u8>; 3] =
        [times.flatten().collect(), places.flatten().collect(), fields.collect()];
    for pages in &all {
        let (treatment, length) = smallest(pages, None, 9);
        let general = Encoder::new().encode(pages, Want::Zstd(19)).unwrap().bytes.len();
        assert_eq!(treatment, Treatment::Typed);
        assert!(length < general, "{length} {general}");
    }
}
