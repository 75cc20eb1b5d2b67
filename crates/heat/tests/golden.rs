//! Heat files of every format version must load for ever.
//!
//! A new version gets a file of its own, written once with
//! `REKINDLE_WRITE_GOLDEN=v2 cargo test -p rekindle-heat --test golden`; files of old versions
//! are never written again. Until the first release version 1 may still be replaced.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};

use common::{DAY, Event, Plan, THEN, heat};
use rekindle_heat::{
    AccessKind, FileKey, Heat, MappingKey, OperandClass, Reading, Source, Symbol, Variable,
};

fn file(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{version}.heat"))
}

/// Two windows a day apart, of two runs, with something in every section.
fn golden() -> Heat {
    let seen = |region: usize, page, kind, at_ms, class: OperandClass, source| Event::Seen {
        region,
        page,
        kind,
        at_ms,
        code: Some(0x123),
        class: class.code(),
        source,
    };
    let events = vec![
        Event::Watched {
            region: 3,
            from: 0,
            pages: 32,
            reads: false,
            writes: true,
            from_ms: 0,
            until_ms: 600,
        },
        Event::Watched {
            region: 4,
            from: 8,
            pages: 8,
            reads: true,
            writes: true,
            from_ms: 0,
            until_ms: 1000,
        },
        Event::Sampled { from_ms: 0, until_ms: 1000 },
        seen(3, 5, AccessKind::Write, 120, OperandClass::F64, Source::Fault),
        seen(3, 6, AccessKind::ReadWrite, 220, OperandClass::U64, Source::Fault),
        seen(4, 9, AccessKind::Read, 330, OperandClass::VectorF32, Source::Hint),
        seen(4, 40, AccessKind::Read, 340, OperandClass::U8, Source::Clock),
        seen(5, 1, AccessKind::Write, 350, OperandClass::String, Source::Fault),
        seen(7, 7, AccessKind::Read, 360, OperandClass::U32, Source::Clock),
    ];
    let plan = Plan { id: 42, start_ns: THEN, length_ms: 1000, slide: 0, ordered: true, events };
    let later = Plan { id: 43, start_ns: THEN + DAY, slide: 0x40, ordered: false, ..plan.clone() };
    let mut golden = heat(&plan).merged(&heat(&later));
    let place = golden.codes().iter().find_map(|c| c.place.clone()).unwrap();
    golden.add_variable(Variable {
        place: place.clone(),
        size_bytes: 4096,
        name: "table".into(),
        type_name: "float[1024]".into(),
    });
    let symbol = Symbol {
        name: "multiply".into(),
        offset_bytes: 0x23,
        source: Some(("sample.c".into(), 17)),
        instruction: "vmovaps [rdi],ymm0".into(),
    };
    golden.set_symbol(place, symbol);
    golden
}

#[test]
fn a_new_version_is_written_on_request() {
    let Some(version) = std::env::var_os("REKINDLE_WRITE_GOLDEN") else { return };
    let path = file(version.to_str().unwrap());
    assert!(!path.exists(), "the file of a version is written once");
    std::fs::write(path, golden().encode()).unwrap();
}

#[test]
fn version_1_loads() {
    let heat = Heat::decode(&std::fs::read(file("v1")).unwrap()).unwrap();
    assert_eq!(heat.windows().map(|w| w.id).collect::<Vec<_>>(), [42, 43]);
    assert_eq!(heat.newest_ns(), THEN + DAY + 1_000_000_000);
    assert_eq!(heat.layouts().len(), 2);
    assert_eq!(heat.path(&FileKey::BuildId(b"build".to_vec())), b"/usr/bin/sample");
    let heap = MappingKey::Named { name: b"[heap]".to_vec(), ordinal: 0 };
    let mut pages = Vec::new();
    heat.for_each_run(&heap, 4..7, &Reading::at(heat.newest_ns()), |range, page| {
        pages.push((range, page.access_count(), page.all.writes.seen, page.all.writes.chances));
    });
    // Twice: each window saw it once.
    assert_eq!(pages, [(4..5, None, 0, 12), (5..6, Some(3), 2, 12), (6..7, Some(3), 2, 12)]);
    let operands = heat.operands(&heap, 0..32);
    assert_eq!(
        operands.iter().map(|(o, w)| (o.class.name(), *w)).collect::<Vec<_>>(),
        [("u64", 4), ("f64", 2)]
    );
    let symbol = heat.symbol(&heat.codes()[0].place.clone().unwrap()).unwrap();
    assert_eq!((symbol.name.as_str(), symbol.offset_bytes), ("multiply", 0x23));
    assert_eq!(heat.variables().next().unwrap().type_name, "float[1024]");
    assert_eq!(heat.timeline(&heap).1, 10);
    assert!(heat.first_touches(&heap).eq([(5..7, 0)]));
}

/// Fails when a change to the code changes the bytes: then the format version has to go up, and
/// with it comes a golden file of its own.
#[test]
fn heat_is_still_written_as_in_version_1() {
    assert!(golden().encode() == std::fs::read(file("v1")).unwrap(), "the bytes differ");
}
