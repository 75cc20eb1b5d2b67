//! The independent reader, written from docs/FORMAT.md in another language, reads what we write.
//! It needs python3, and for zstd frames the zstd program: a place that runs these tests has to
//! have both, nothing is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use codec::Want;
use common::{instance, new_store, page, publish, publish_in_rounds, sample};
use image::CheckpointId;
use mem::{AddrRange, Backing, Mapping, MemoryId, Protection, Sharing};
use plan::Treatment;
use process::{AddressSpace, Instance, TaskGroup, Thread};
use serde_json::{Value, json};

fn run(arguments: &[&Path]) -> Output {
    let reader =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reader/read_checkpoint.py");
    Command::new("timeout")
        .args(["120", "python3", "-B"])
        .arg(reader)
        .args(arguments)
        .output()
        .expect("python3 is needed for this test: install it")
}

/// What the reader says of a checkpoint, and the bytes of its pages.
fn read(checkpoint: &Path, more: &[&Path]) -> (Value, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    let mut arguments = vec![checkpoint, Path::new("--pages"), &pages];
    arguments.extend(more);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), std::fs::read(&pages).unwrap())
}

/// The golden checkpoint, and its key.
fn golden(id: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/tests/golden/v1");
    (folder.join(id), folder.join("key"))
}

const GOLDEN: &str = "0123456789abcdef";
const GOLDEN_CHILD: &str = "fedcba9876543210";

#[test]
fn it_reads_what_we_write() {
    let (_dir, store) = new_store();
    for want in [Want::Raw, Want::Lz4, Want::Zstd(1)] {
        let rounds = publish_in_rounds(&store, 1, want);
        let folder = |id: CheckpointId| store.root().join("checkpoints").join(id.to_string());
        let (_, in_rounds) = read(&folder(rounds.id), &[]);
        let published = publish(&store, 1, 1_700_000_000_000_000_000, want);
        let path = store.root().join("checkpoints").join(published.id.to_string());
        let (read, bytes) = read(&path, &[]);
        assert!(bytes == in_rounds, "{want:?}");
        assert_eq!(read["id"], published.id.to_string());
        assert_eq!(read["instance_id"], instance(1).line.instance.as_str());
        assert_eq!(read["created_ns"], 1_700_000_000_000_000_000_u64);
        assert_eq!(read["page_bytes"], published.page_bytes);
        assert_eq!(read["stored_bytes"], published.stored_bytes);
        assert_eq!(read["summary"]["tool_version"], "0.1.0");
        assert_eq!(read["plan"]["extents"].as_array().unwrap().len(), 3);

        let checkpoint = store.checkpoint(published.id).unwrap();
        let frames = read["frames"].as_array().unwrap();
        assert_eq!(frames.len(), checkpoint.frames_in_load_order().len());
        let mut bytes = bytes.chunks_exact(4096);
        let mut treatments = std::collections::BTreeSet::new();
        let mut listed = Vec::new();
        for frame in frames {
            treatments.insert(frame["treatment"].as_str().unwrap());
            let memory = match frame["memory"].as_str().unwrap() {
                "private:0" => MemoryId::Private(0),
                "shared:0" => MemoryId::Shared(0),
                other => panic!("{other}"),
            };
            let first = frame["first_page"].as_u64().unwrap();
            for number in first..first + frame["pages"].as_u64().unwrap() {
                assert!(bytes.next().unwrap() == page(memory, number), "{memory} {number}");
                listed.push((memory, number));
            }
        }
        assert!(bytes.next().is_none());
        let expected: Vec<(MemoryId, u64)> = sample()
            .iter()
            .flat_map(|(memory, set)| {
                let numbers = set.runs().iter().flat_map(|run| run.start.0..run.end.0);
                numbers.map(|number| (*memory, number)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(listed, expected);
        let encoded = match want {
            Want::Raw => Treatment::Raw,
            Want::Lz4 => Treatment::Lz4,
            Want::Zstd(_) => Treatment::Zstd,
        };
        let mut names = vec![Treatment::Raw.name(), Treatment::Zero.name(), encoded.name()];
        names.sort_unstable();
        names.dedup();
        assert_eq!(treatments.into_iter().collect::<Vec<_>>(), names);
    }
}

#[test]
fn what_is_no_longer_cold_is_stored_again() {
    use mem::{PageRange, PageSet, PageSink};
    let (_dir, store) = new_store();
    let pages = PageRange::new(0, 64);
    let set: PageSet = [pages].into_iter().collect();
    let sets = [(common::PRIVATE, set)];
    let plan = |hot: std::ops::Range<u64>| {
        let mut plan = plan::Plan::everything(&sets, Treatment::Spill);
        plan.extents[0].tier = plan::Tier::Cold;
        let hot_pages = PageRange::new(hot.start, hot.end);
        let hot = plan::Extent {
            pages: hot_pages,
            tier: plan::Tier::Critical,
            ..plan.extents[0].clone()
        };
        plan::Plan { extents: vec![hot] }.beside(&plan)
    };
    let publish = |hot, parent| {
        let plan = plan(hot);
        let mut writer = common::begin_on(&store, 1, Want::Lz4, parent);
        writer.divide(&plan).unwrap();
        writer.put(common::PRIVATE, pages, &common::pages(common::PRIVATE, pages)).unwrap();
        writer.finish(&instance(1), &plan.fitted(&sets, ""), &common::summary(1)).unwrap()
    };
    let first = publish(0..4, None);
    let second = publish(18..21, Some(store.checkpoint(first.id).unwrap()));
    // The three pages are stored, the rest is referred to, and what is hot still is not moved.
    assert_eq!(second.tiers[0].referenced_bytes, 0);
    assert_eq!(second.referenced_bytes, 61 * 4096);
    let third = publish(18..21, Some(store.checkpoint(second.id).unwrap()));
    assert_eq!(third.referenced_bytes, 64 * 4096);
    let path = store.root().join("checkpoints").join(second.id.to_string());
    assert!(read(&path, &[]).1 == common::pages(common::PRIVATE, pages));
}

#[test]
fn it_reads_numbers() {
    use mem::{PageRange, PageSet, PageSink};
    let (_dir, store) = new_store();
    let mut state = 7_u64;
    let number = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let value = (300.0 + (f64::from(u32::try_from(n).unwrap()) / 900.0).sin()).to_bits();
        (value >> 40 << 40 | state >> 24).to_le_bytes()
    };
    let field: Vec<u8> = (0..33 * 512).flat_map(number).collect();
    let range = PageRange::new(6, 39);
    for want in [Want::Zstd(-3), Want::Lz4] {
        let writer = common::begin(&store, 1, want);
        writer.put(common::PRIVATE, range, &field).unwrap();
        let set: PageSet = [range].into_iter().collect();
        let plan = plan::Plan::everything(&[(common::PRIVATE, set)], Treatment::Zstd);
        let made = writer.finish(&instance(1), &plan, &common::summary(1)).unwrap();
        let path = store.root().join("checkpoints").join(made.id.to_string());
        let (read, bytes) = read(&path, &[]);
        assert!(bytes == field, "{want:?}");
        let frames = read["frames"].as_array().unwrap();
        assert!(frames.iter().all(|frame| frame["treatment"] == "typed"), "{want:?}");
    }
}

#[test]
fn it_reads_what_is_divided() {
    let (_dir, store) = new_store();
    let mut history = common::History::new(77);
    let mut files = std::collections::BTreeSet::new();
    for round in 0..8 {
        let want = [Want::Zstd(-3), Want::Lz4, Want::Raw][round % 3];
        let newest = store.resolve("latest").ok().map(|found| found.open().unwrap());
        let published = history.publish(&store, want, newest);
        let path = store.root().join("checkpoints").join(published.id.to_string());
        let (read, bytes) = read(&path, &[]);
        assert!(bytes == history.all_bytes(), "round {round}");
        assert_eq!(read["stored_bytes"], published.stored_bytes);
        let names = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
        files.extend(names.map(|name| name.to_str().unwrap().to_owned()));
        let tiers = store.checkpoint(published.id).unwrap().tiers();
        assert_eq!(tiers, published.tiers);
        history.churn(10);
    }
    let expected = ["cold", "critical", "hashes", "index", "manifest", "pages"];
    assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn it_reads_the_golden_checkpoint() {
    let (path, key) = golden(GOLDEN);
    let (read, bytes) = read(&path, &[Path::new("--key"), &key]);
    assert_eq!(bytes.len(), 11 * 4096);
    assert_eq!(read["id"], GOLDEN);
    assert_eq!(read["summary"]["figures"][0], json!({"name": "pause_us", "value": 12_345}));
    let instance = &read["instance"];
    assert_eq!(instance["descriptions"][10]["outside"], "706970653a5b313233345d");
    assert_eq!(instance["descriptions"][6]["epoll"]["interests"][0]["data"], u64::MAX);
    assert_eq!(instance["groups"][0]["threads"][0]["scheduling"]["nice"], -20);
    assert_eq!(instance["namespaces"][0]["entries"][7]["kind"], "NAMESPACE_KIND_TIME_FOR_CHILDREN");
    assert_eq!(instance["sockets"][3]["remote"], "");
    assert_eq!(instance["sockets"][4]["remote"], Value::Null);
}

#[test]
fn it_reads_the_golden_child() {
    let (path, key) = golden(GOLDEN_CHILD);
    let (child, bytes) = read(&path, &[Path::new("--key"), &key]);
    let (_, parent) = read(&golden(GOLDEN).0, &[Path::new("--key"), &key]);
    assert_eq!((&child["parent"], &child["depth"]), (&json!(GOLDEN), &json!(1)));
    let treatments: Vec<&str> = child["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|frame| frame["treatment"].as_str().unwrap())
        .collect();
    assert_eq!(treatments, ["delta", "parent", "zero", "raw"]);
    // Eight bytes of the second page and the last page but one are others.
    let changed: Vec<usize> =
        (0..11).filter(|n| bytes[n * 4096..][..4096] != parent[n * 4096..][..4096]).collect();
    assert_eq!(changed, [1, 9]);
    assert_eq!(bytes[4096 + 100..4096 + 108], [9; 8]);
}

#[test]
fn it_reads_chains() {
    let (_dir, store) = new_store();
    let mut history = common::History::new(7);
    let mut parent = None;
    for round in 0..4 {
        let want = [Want::Raw, Want::Lz4, Want::Zstd(1), Want::Zstd(-3)][round];
        let id = history.publish(&store, want, parent).id;
        let path = store.root().join("checkpoints").join(id.to_string());
        let (shown, bytes) = read(&path, &[]);
        assert_eq!(shown["depth"], round);
        assert!(bytes == history.all_bytes(), "round {round}");
        parent = Some(store.checkpoint(id).unwrap());
        history.churn(6);
    }
}

#[test]
fn it_reads_the_metadata() {
    let mut shown = instance(2);
    let word = |i: usize| u64::MAX - u64::try_from(i).unwrap();
    shown.spaces.push(AddressSpace {
        mappings: vec![Mapping {
            range: AddrRange::new(0x40_0000, 0x7fff_ffff_f000),
            protection: Protection { read: true, write: false, exec: true },
            sharing: Sharing::Private,
            backing: Backing::Anonymous,
            name: b"[heap]".to_vec(),
            vm_flags: vec![*b"rd", *b"ex"],
            guards: vec![AddrRange::new(0x40_0000, 0x40_1000)],
        }],
        ..AddressSpace::default()
    });
    shown.tables.push(process::DescriptorTable::default());
    shown.credentials.push(process::Credentials {
        uids: [1, 2, 3, u32::MAX],
        ..process::Credentials::default()
    });
    shown.namespaces.push(process::Namespaces::default());
    shown.host.clocks.monotonic_ns = -1;
    shown.groups.push(TaskGroup {
        pid: 12,
        session: -7,
        cwd: b"/\xff".to_vec(),
        threads: vec![Thread {
            tid: 12,
            registers: process::GeneralRegisters::from_words(std::array::from_fn(word)),
            ..Thread::default()
        }],
        ..TaskGroup::default()
    });
    let (_dir, store) = new_store();
    let writer = common::begin(&store, 2, Want::Lz4);
    let published = writer.finish(&shown, &plan::Plan::default(), &common::summary(3)).unwrap();
    let path = store.root().join("checkpoints").join(published.id.to_string());
    let (read, bytes) = read(&path, &[]);
    assert!(bytes.is_empty());
    let group = &read["instance"]["groups"][0];
    assert_eq!(group["pid"], 12);
    assert_eq!(group["session"], -7);
    assert_eq!(group["terminal"], Value::Null);
    assert_eq!(group["cwd"], "2fff");
    assert_eq!(group["threads"][0]["tid"], 12);
    assert_eq!(group["threads"][0]["registers"], json!((0..27).map(word).collect::<Vec<_>>()));
    let mapping = &read["instance"]["spaces"][0]["mappings"][0];
    assert_eq!(mapping["range"], json!({"start": 0x40_0000, "end": 0x7fff_ffff_f000_u64}));
    assert_eq!(mapping["anonymous"], true);
    assert_eq!(mapping["exec"], true);
    assert_eq!(mapping["write"], false);
    assert_eq!(mapping["vm_flags"], "72646578");
    assert_eq!(mapping["guards"][0]["end"], 0x40_1000);
    assert_eq!(read["instance"]["credentials"][0]["uids"], json!([1, 2, 3, u32::MAX]));
    let monotonic = &read["instance"]["host"]["clocks"]["monotonic_ns"];
    assert_eq!(*monotonic, json!({"seconds": -1, "nanoseconds": 999_999_999}));
    assert_eq!(store.checkpoint(published.id).unwrap().instance(), &shown);
    assert_ne!(shown, Instance::default());
}

#[test]
fn it_refuses_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (golden, key) = golden(GOLDEN);
    let cases =
        [("manifest", 45), ("manifest", 3000), ("index", 100), ("hashes", 70), ("pages", 8000)];
    for (name, at) in cases {
        for file in ["manifest", "index", "hashes", "pages"] {
            let mut bytes = std::fs::read(golden.join(file)).unwrap();
            if file == name {
                bytes[at] ^= 4;
            }
            std::fs::write(dir.path().join(file), bytes).unwrap();
        }
        let output = run(&[dir.path(), Path::new("--key"), &key]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name} byte {at}: {text}");
        assert!(text.starts_with("read_checkpoint: "), "{name} byte {at}: {text}");
    }
}

#[test]
fn it_reads_twins() {
    use mem::{PageRange, PageSet, PageSink};
    let (dir, store) = new_store();
    let range = PageRange::new(16, 48);
    let noise = common::pages(common::PRIVATE, range);
    let path = dir.path().join("twin");
    std::fs::write(&path, [&b"odd"[..], &noise].concat()).unwrap();
    let mut writer = common::begin(&store, 1, Want::Lz4);
    let mut twins = rekindle_store::Twins::new(1 << 20).unwrap();
    twins.add(std::fs::File::open(&path).unwrap(), &path, &|| false).unwrap();
    writer.find_twins(twins);
    writer.put(common::PRIVATE, range, &noise).unwrap();
    let set: PageSet = [range].into_iter().collect();
    let plan = plan::Plan::everything(&[(common::PRIVATE, set)], Treatment::Zstd);
    let made = writer.finish(&instance(1), &plan, &common::summary(1)).unwrap();
    let path = store.root().join("checkpoints").join(made.id.to_string());
    let (read, bytes) = read(&path, &[]);
    assert!(bytes == noise);
    let frames = read["frames"].as_array().unwrap();
    assert!(frames.iter().any(|frame| frame["treatment"] == "twin"), "{frames:?}");
}

#[test]
fn it_reads_what_was_lost() {
    let (_dir, store) = new_store();
    let mut field = common::Field::new(99);
    let (first, _) = field.publish(&store, None);
    let parent = store.checkpoint(first.id).unwrap();
    let (second, _) = field.publish(&store, Some(parent));
    let path = store.root().join("checkpoints").join(second.id.to_string());
    // Not the pages: what they are is in pco files, which it may not be able to read.
    let output = run(&[&path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entries = read["loss"]["entries"].as_array().unwrap();
    assert!(entries.len() >= second.loss.len());
    for (entry, told) in second.loss.iter().zip(entries) {
        assert_eq!(told["start"], entry.named.range.start.0);
        assert_eq!(told["type"], entry.named.numeric.code());
        assert_eq!(told["elements_lossy"], entry.elements_lossy);
        let error = told["largest_error"].as_f64().unwrap();
        assert!((error - entry.largest_error).abs() <= error * 1e-15);
    }
    let frames = read["frames"].as_array().unwrap();
    assert!(frames.iter().any(|frame| frame["treatment"] == "lossy"));
}
