//! A plan file comes back as it was, and nothing that is not one is taken for one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use mem::{MemoryId, PageRange};
use proptest::prelude::*;
use rekindle_plan::{
    Expensive, Extent, Grant, Plan, PlanFileError, Planned, Predictions, Thresholds, Tier,
    Treatment,
};

fn memory() -> impl Strategy<Value = MemoryId> {
    prop_oneof![any::<u32>().prop_map(MemoryId::Private), any::<u32>().prop_map(MemoryId::Shared)]
}

/// Extents that do not overlap: gaps and lengths, one memory after the other.
fn plan() -> impl Strategy<Value = Plan> {
    let piece =
        (0u64..1000, 1u64..1000, 1u8..=3, 1u8..=15, any::<u32>(), "[a-z \"\\\\\u{e9}]{0,12}");
    let memory = (memory(), proptest::collection::vec(piece, 0..30));
    proptest::collection::vec(memory, 0..4).prop_map(|memories| {
        let mut extents = Vec::new();
        let mut next = 1u64 << 35;
        for (memory, pieces) in memories {
            for (gap, count, tier, treatment, load_order, reason) in pieces {
                let pages = PageRange::new(next + gap, next + gap + count);
                next = pages.end.0;
                extents.push(Extent {
                    memory,
                    pages,
                    tier: Tier::try_from(tier).unwrap(),
                    treatment: Treatment::try_from(treatment).unwrap(),
                    load_order,
                    reason: reason.into(),
                });
            }
        }
        Plan { extents }
    })
}

fn planned() -> impl Strategy<Value = Planned> {
    let numbers = any::<[u64; 4]>();
    (plan(), any::<[u32; 3]>(), numbers, "[ -~]{0,20}").prop_map(|(plan, t, n, text)| {
        let expensive = plan.extents.iter().take(3).map(|e| Expensive {
            memory: e.memory,
            pages: e.pages,
            tier: e.tier,
            treatment: e.treatment,
            load_us: n[1],
            stall_us: n[2],
            stored_bytes: n[3],
            reason: Arc::clone(&e.reason),
        });
        let predictions = Predictions {
            pause_us: n[0],
            first_answer_us: n[1],
            warm_stored_bytes: n[2],
            not_stored_bytes: n[3],
            expensive: expensive.collect(),
            ..Predictions::default()
        };
        Planned {
            plan,
            policy: text.clone(),
            thresholds: Thresholds { warm: t[0], critical: t[1] },
            window_intervals: t[2],
            notes: vec![text.clone()],
            predictions,
            lossy: (t[2] % 2 == 0).then(|| Grant { instance: text.clone(), ranges: vec![text] }),
        }
    })
}

proptest! {
    #[test]
    fn a_plan_comes_back(planned in planned()) {
        let bytes = planned.to_file().unwrap();
        prop_assert_eq!(Planned::from_file(&bytes).unwrap(), planned);
    }

    #[test]
    fn a_damaged_plan_never_panics(
        planned in planned(),
        at in any::<proptest::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut bytes = planned.to_file().unwrap();
        let cut = at.index(bytes.len());
        prop_assert!(Planned::from_file(&bytes[..cut]).is_err());
        bytes[cut] ^= flip;
        if let Ok(read) = Planned::from_file(&bytes) {
            // It may be another plan, but it is one.
            prop_assert_eq!(Planned::from_file(&read.to_file().unwrap()).unwrap(), read);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Planned::from_file(&bytes).is_err());
    }
}

fn with_extents(extents: &str) -> Result<Planned, PlanFileError> {
    let empty = String::from_utf8(Planned::default().to_file().unwrap()).unwrap();
    let text = empty
        .replace("\"memories\":[]", "\"memories\":[\"private/0\"]")
        .replace("\"reasons\":[]", "\"reasons\":[\"r\"]")
        .replace("\"extents\":[]", &format!("\"extents\":{extents}"));
    Planned::from_file(text.as_bytes())
}

#[test]
fn hostile_values_are_refused_by_name() {
    assert!(with_extents("[[0,16,2,1,1,0,0]]").is_ok());
    let end = (1u64 << 52) - 1;
    for (extents, word) in [
        ("[[1,16,2,1,1,0,0]]".to_owned(), "memory 1"),
        ("[[0,16,2,1,1,0,9]]".to_owned(), "reason 9"),
        ("[[0,16,2,4,1,0,0]]".to_owned(), "tier"),
        ("[[0,16,2,1,77,0,0]]".to_owned(), "treatment"),
        ("[[0,16,0,1,1,0,0]]".to_owned(), "no range"),
        (format!("[[0,{},{},1,1,0,0]]", u64::MAX, 2), "no range"),
        (format!("[[0,{end},1,1,1,0,0]]"), "no range"),
        ("[[0,16,2,1,1,0,0],[0,17,2,1,1,0,0]]".to_owned(), "two extents"),
        ("[[0,16,-2,1,1,0,0]]".to_owned(), "invalid value"),
    ] {
        let refused = with_extents(&extents).unwrap_err().to_string();
        assert!(refused.contains(word), "{extents}: {refused}");
    }
}

#[test]
fn another_schema_is_called_by_its_name() {
    let refused = Planned::from_file(br#"{"schema":"rekindle.plan.v2","tiers":4}"#).unwrap_err();
    assert!(matches!(&refused, PlanFileError::Schema(s) if s == "rekindle.plan.v2"), "{refused}");
}

#[test]
fn unknown_keys_are_refused() {
    let text = String::from_utf8(Planned::default().to_file().unwrap()).unwrap();
    let more = text.replacen('{', "{\"colour\":1,", 1);
    assert!(Planned::from_file(more.as_bytes()).is_err());
}

#[test]
fn deep_nesting_is_refused() {
    let text = "[".repeat(1 << 20);
    assert!(Planned::from_file(text.as_bytes()).is_err());
}
