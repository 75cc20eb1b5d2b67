//! Numbers come back: bit by bit without a loss, within the bound where one was named. Checked
//! here from outside, by arithmetic of the test's own.
//!
//! `REKINDLE_CASES` sets how many cases each property is tried on; the default keeps a local run
//! short, CI asks for more.
#![allow(clippy::unwrap_used, reason = "a test")]

use plan::{LossBound, NumericType, Treatment};
use proptest::prelude::*;
use rekindle_codec::{
    Aim, Chooser, Decoder, Effort, FiniteSpan, Form, LossyEncoder, LossyHead, LossyPart,
    NumericEncoder, Want,
};

const PAGE: usize = 4096;

fn cases() -> u32 {
    std::env::var("REKINDLE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256)
}

fn numeric() -> impl Strategy<Value = NumericType> {
    proptest::sample::select(NumericType::ALL)
}

/// A generator that is cheaper than one decision of proptest for each element.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// One page of elements of a type, smooth or hostile.
fn page(numeric: NumericType, seed: u64) -> Vec<u8> {
    let mut draw = Draw(seed);
    let style = draw.below(7);
    let scale = 10f64.powi(i32::try_from(draw.below(40)).unwrap() - 20);
    let (mut walk, mut whole) = (draw.next() as f64 / 1e19, draw.next() >> draw.below(60));
    let mut bytes = Vec::with_capacity(PAGE);
    while bytes.len() < PAGE {
        let n = bytes.len() as f64;
        walk += (draw.below(2001) as f64 - 1000.0) / 1000.0;
        whole = whole.wrapping_add(draw.below(5));
        let float = match style {
            0 => scale * (n / 300.0).sin(),
            1 => scale * walk,
            2 => f64::from_bits(draw.next()),
            3 => scale * (1 + draw.below(9)) as f64,
            4 => match draw.below(12) {
                0 => f64::NAN,
                1 => f64::from_bits(0x7ff4_0000_dead_beef),
                2 => f64::INFINITY,
                3 => f64::NEG_INFINITY,
                4 => -0.0,
                5 => 0.0,
                6 => f64::from_bits(draw.below(1 << 50)),
                7 => f64::MAX,
                8 => -f64::MIN_POSITIVE,
                _ => scale * walk,
            },
            5 => f64::from_bits(0x3ff0_0000_0000_0000 + draw.below(64)),
            _ => n,
        };
        match numeric {
            NumericType::F64 => bytes.extend(float.to_le_bytes()),
            NumericType::F32 => {
                #[expect(clippy::cast_possible_truncation, reason = "what a test wants")]
                let mut bits = (float as f32).to_bits();
                if style == 4 && draw.below(8) == 0 {
                    bits = u32::try_from(draw.below(1 << 23)).unwrap() | 0x8000_0000;
                }
                bytes.extend(bits.to_le_bytes());
            }
            other => {
                let value = if style.is_multiple_of(2) { whole } else { draw.next() };
                bytes.extend(&value.to_le_bytes()[..other.width_bytes()]);
            }
        }
    }
    bytes.truncate(PAGE);
    bytes
}

/// The elements' values as the test understands them: for integers exactly, for floats the
/// value, and whether the element has to come back bit by bit.
fn value(numeric: NumericType, bytes: &[u8]) -> (i128, f64, bool) {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    let shift = 64 - 8 * bytes.len();
    match numeric {
        NumericType::F64 => {
            let x = f64::from_bits(bits);
            (0, x, !x.is_finite() || x.is_subnormal() || bits == 1 << 63)
        }
        NumericType::F32 => {
            let bits = u32::try_from(bits).unwrap();
            let x = f32::from_bits(bits);
            (0, f64::from(x), !x.is_finite() || x.is_subnormal() || bits == 1 << 31)
        }
        NumericType::I8 | NumericType::I16 | NumericType::I32 | NumericType::I64 => {
            let signed = (bits << shift).cast_signed() >> shift;
            (i128::from(signed), signed as f64, false)
        }
        _ => (i128::from(bits), bits as f64, false),
    }
}

/// Holds every element of `after` against the one before.
fn check_bound(numeric: NumericType, bound: LossBound, before: &[u8], after: &[u8]) -> f64 {
    let width = numeric.width_bytes();
    let mut largest = 0.0_f64;
    for (x, y) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
        if x == y {
            continue;
        }
        let ((x_whole, x_float, exact), (y_whole, y_float, _)) =
            (value(numeric, x), value(numeric, y));
        assert!(!exact, "{x_float} became {y_float}");
        let allowed = bound.allowed(x_float);
        let is_float = matches!(numeric, NumericType::F32 | NumericType::F64);
        let error =
            if is_float { (y_float - x_float).abs() } else { (y_whole - x_whole).abs() as f64 };
        assert!(error <= allowed, "{numeric:?} {x_float} {y_float}: {error} > {allowed}");
        largest = largest.max(error);
    }
    largest
}

fn bound() -> impl Strategy<Value = LossBound> {
    let size = (-12i32..4).prop_map(|e| 10f64.powi(e));
    (0..3u8, size, 0.0..1e6f64).prop_map(|(kind, size, span)| match kind {
        0 => LossBound::Absolute(size * 1000.0),
        1 => LossBound::Relative(size),
        _ => LossBound::RangeRelative { fraction: size, span },
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn typed_frames_come_back(
        numeric in numeric(),
        declared in numeric(),
        honest in any::<bool>(),
        seed in any::<u64>(),
        small in prop::bool::weighted(0.3),
    ) {
        let pages = page(numeric, seed);
        // A type that was declared wrongly costs bytes, never right ones.
        let declared = if honest { numeric } else { declared };
        let effort = if small { Effort::Small } else { Effort::Fast };
        let mut encoder = NumericEncoder::new();
        let frame = encoder.encode(&pages, declared, effort).unwrap();
        let mut decoded = vec![0x5a; pages.len()];
        Decoder::new().decode(frame.treatment, frame.bytes, &mut decoded).unwrap();
        prop_assert!(decoded == pages);
        prop_assert!(frame.bytes.len() <= pages.len());
    }

    #[test]
    fn lossy_frames_keep_their_bound(
        numeric in numeric(),
        seed in any::<u64>(),
        bound in bound(),
        start in 0usize..64,
        cut in 0usize..64,
    ) {
        let pages = page(numeric, seed);
        let width = numeric.width_bytes();
        let part = LossyPart { bytes: start * width..PAGE - cut * width, numeric, bound };
        let mut encoder = LossyEncoder::new();
        let Some(lossy) = encoder.encode(&pages, &part).unwrap() else { return Ok(()) };
        prop_assert_eq!(lossy.frame.treatment, Treatment::Lossy);
        prop_assert!(lossy.frame.bytes.len() <= pages.len() - pages.len() / 20);
        let mut decoded = vec![0x5a; pages.len()];
        Decoder::new().decode(Treatment::Lossy, lossy.frame.bytes, &mut decoded).unwrap();
        prop_assert!(decoded[..part.bytes.start] == pages[..part.bytes.start]);
        prop_assert!(decoded[part.bytes.end..] == pages[part.bytes.end..]);
        let (before, after) = (&pages[part.bytes.clone()], &decoded[part.bytes.clone()]);
        let largest = check_bound(numeric, bound, before, after);
        prop_assert_eq!(largest, lossy.largest_error);
        prop_assert!(decoded == lossy.pages);
        let head = LossyHead::read(lossy.frame.bytes, pages.len()).unwrap();
        prop_assert_eq!((head.bytes, head.numeric), (part.bytes, numeric));
        let allowed = (!matches!(bound, LossBound::Relative(_))).then(|| bound.allowed(0.0));
        prop_assert_eq!(head.bound, allowed);
    }

    #[test]
    fn hostile_frames_are_refused_or_fill_their_pages(
        numeric in numeric(),
        seed in any::<u64>(),
        lossy in any::<bool>(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let pages = page(numeric, seed);
        let (mut typed, mut loses) = (NumericEncoder::new(), LossyEncoder::new());
        let part = LossyPart { bytes: 0..PAGE, numeric, bound: LossBound::Absolute(100.0) };
        let frame = if lossy {
            loses.encode(&pages, &part).unwrap().map(|l| l.frame)
        } else {
            Some(typed.encode(&pages, numeric, Effort::Small).unwrap())
        };
        let Some(frame) = frame else { return Ok(()) };
        if !matches!(frame.treatment, Treatment::Typed | Treatment::Lossy) {
            return Ok(());
        }
        let mut bytes = frame.bytes.to_vec();
        let mut decoded = vec![0; PAGE];
        let position = at.index(bytes.len());
        bytes[position] ^= flip;
        let _ = Decoder::new().decode(frame.treatment, &bytes, &mut decoded);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Decoder::new().decode(frame.treatment, &bytes, &mut decoded);
        let short = &frame.bytes[..cut.index(frame.bytes.len())];
        prop_assert!(Decoder::new().decode(frame.treatment, short, &mut decoded).is_err());
        // Headers that are right, with noise behind.
        for form in 0..4u8 {
            let mut bytes = vec![form, numeric.code()];
            bytes.extend(&noise);
            let _ = Decoder::new().decode(Treatment::Typed, &bytes, &mut decoded);
            let mut bytes = vec![form, numeric.code(), 0, 0, 0, 0, 0, 16, 0, 0];
            bytes.extend(&noise);
            let _ = Decoder::new().decode(Treatment::Lossy, &bytes, &mut decoded);
            let _ = LossyHead::read(&bytes, PAGE);
        }
        let mut wrong = vec![0; 2 * PAGE];
        prop_assert!(Decoder::new().decode(frame.treatment, frame.bytes, &mut wrong).is_err());
    }
}

/// A frame of a smooth field.
fn smooth(numeric: NumericType) -> Vec<u8> {
    let value = |n: u32| (f64::from(n) / 900.0).sin() * 40.0 + (f64::from(n) / 77.0).cos();
    let count = u32::try_from(16 * PAGE / numeric.width_bytes()).unwrap();
    match numeric {
        #[expect(clippy::cast_possible_truncation, reason = "what a test wants")]
        NumericType::F32 => (0..count).flat_map(|n| (value(n) as f32).to_le_bytes()).collect(),
        _ => (0..count).flat_map(|n| value(n).to_le_bytes()).collect(),
    }
}

#[test]
fn a_named_loss_pays_on_smooth_fields() {
    for numeric in [NumericType::F32, NumericType::F64] {
        let pages = smooth(numeric);
        let mut typed = NumericEncoder::new();
        let exact = typed.encode(&pages, numeric, Effort::Small).unwrap().bytes.len();
        let mut span = FiniteSpan::new();
        span.add(&pages, numeric);
        for (fraction, times) in [(1e-3, 3), (1e-6, 1)] {
            let bound = LossBound::RangeRelative { fraction, span: span.span() };
            let part = LossyPart { bytes: 0..pages.len(), numeric, bound };
            let mut encoder = LossyEncoder::new();
            let lossy = encoder.encode(&pages, &part).unwrap().unwrap();
            assert!(lossy.largest_error <= bound.allowed(0.0));
            assert!(lossy.elements_changed > 0);
            let length = lossy.frame.bytes.len();
            assert!(length * times <= exact, "{numeric:?} {fraction}: {length} against {exact}");
        }
    }
}

#[test]
fn rounding_suits_pointwise_bounds() {
    let pages = smooth(NumericType::F64);
    let bound = LossBound::Relative(1e-3);
    let part = LossyPart { bytes: 0..pages.len(), numeric: NumericType::F64, bound };
    let mut encoder = LossyEncoder::new();
    let lossy = encoder.encode(&pages, &part).unwrap().unwrap();
    assert!(lossy.frame.bytes.len() * 4 < pages.len(), "{}", lossy.frame.bytes.len());
}

#[test]
fn a_bound_of_nothing_is_no_loss() {
    let pages = smooth(NumericType::F64);
    let mut encoder = LossyEncoder::new();
    for bound in [
        LossBound::Absolute(0.0),
        LossBound::Absolute(f64::NAN),
        LossBound::Absolute(f64::INFINITY),
        LossBound::Relative(-1.0),
        LossBound::RangeRelative { fraction: 1e-3, span: 0.0 },
        LossBound::RangeRelative { fraction: 1e-3, span: f64::INFINITY },
    ] {
        let part = LossyPart { bytes: 0..pages.len(), numeric: NumericType::F64, bound };
        assert_eq!(encoder.encode(&pages, &part).unwrap(), None, "{bound:?}");
    }
}

#[test]
fn parts_that_are_none_are_refused() {
    let pages = smooth(NumericType::F64);
    let mut encoder = LossyEncoder::new();
    let bound = LossBound::Absolute(1.0);
    let backwards = std::ops::Range { start: 64, end: 8 };
    for bytes in [0..4, 0..0, 8..pages.len() + 8, backwards] {
        let part = LossyPart { bytes, numeric: NumericType::F64, bound };
        assert!(encoder.encode(&pages, &part).is_err());
    }
}

#[test]
fn the_chooser_takes_what_saves_most_and_remembers() {
    let mut chooser = Chooser::new();
    let numbers = smooth(NumericType::F64);
    let text: Vec<u8> = b"the same words again ".iter().copied().cycle().take(16 * PAGE).collect();
    let mut draw = Draw(7);
    let noise: Vec<u8> =
        std::iter::repeat_with(|| draw.next().to_le_bytes()).flatten().take(16 * PAGE).collect();
    for _ in 0..5 {
        for aim in [Aim::Fast, Aim::Small] {
            let f64s = Some(NumericType::F64);
            assert_eq!(chooser.encode(1, &numbers, f64s, aim).unwrap().treatment, Treatment::Typed);
            assert_ne!(chooser.encode(2, &text, None, aim).unwrap().treatment, Treatment::Typed);
            assert_eq!(chooser.encode(3, &noise, f64s, aim).unwrap().treatment, Treatment::Raw);
        }
    }
    assert_eq!(chooser.form(2, Aim::Fast), Some(Form::General(Want::Lz4)));
    assert_eq!(chooser.form(3, Aim::Small), Some(Form::General(Want::Raw)));
    assert_eq!(chooser.form(4, Aim::Small), None);
}
