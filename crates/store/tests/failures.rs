//! Full and read-only disks, and writers that are killed: what was published stays whole, and
//! nothing else is visible.
//!
//! Tests with a small file system of their own run again inside a mount namespace, so that
//! nothing is left mounted however they end.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use codec::Want;
use common::{begin, files, id, instance, plan, publish, put_sample, summary};
use mem::{PageRange, PageSink};
use rekindle_store::{Keep, Store, WriteError};

const INSIDE: &str = "REKINDLE_TEST_INSIDE";

/// One test at a time: a child has a copy of every descriptor until it executes its program, also of
/// those that another test's lock on a checkpoint is held by.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the test `name` of this file again, inside a mount namespace, with a tmpfs of `size`.
/// `None` outside, the mounted directory inside.
fn inside_a_small_disk(name: &str, size: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(INSIDE) {
        return Some(dir.into());
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o "mode=0700,size=$1" tmpfs "$2" && shift 2 && exec "$@""#;
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let status = unshare
        .args(["sh", "-c", script, "sh", size])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed inside: {status}");
    None
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let Some(dir) = inside_a_small_disk("a_full_disk_is_one_clear_error", "8m") else { return };
    let store = Store::create(&dir.join("store")).unwrap();
    let kept = publish(&store, 1, 10, Want::Lz4);
    let noise: Vec<u8> =
        (0..1u64 << 17).flat_map(|n| (n.wrapping_mul(n) ^ n << 40).to_le_bytes()).collect();
    let pages_of = |start: u64| PageRange::new(start, start + 256);

    // While pages are written.
    let writer = begin(&store, 1, Want::Raw);
    let refused =
        (0..20).find_map(|n| writer.put(common::PRIVATE, pages_of(n * 256), &noise).err());
    let refused = refused.unwrap();
    assert_eq!(refused.cause.kind(), std::io::ErrorKind::StorageFull);
    assert!(refused.to_string().contains("--store"), "{refused}");
    let text = writer.finish(&instance(1), &plan(), &summary(11)).unwrap_err().to_string();
    assert!(text.contains("No space left"), "{text}");
    assert_eq!(files(&store.root().join("tmp")), []);

    // While the index or the manifest is written: a command line that does not fit any more.
    let writer = begin(&store, 1, Want::Lz4);
    put_sample(&writer);
    let mut long = summary(12);
    long.command = vec![vec![b'x'; 8 << 20]];
    let refused = writer.finish(&instance(1), &plan(), &long).unwrap_err();
    let full =
        matches!(&refused, WriteError::Io(f) if f.cause.kind() == std::io::ErrorKind::StorageFull);
    assert!(full, "{refused}");
    assert_eq!(files(&store.root().join("tmp")), []);

    // What was there is whole, and there is room again.
    let listed: Vec<_> = store.list().unwrap().iter().map(|c| c.id).collect();
    assert_eq!(listed, [kept.id]);
    store.checkpoint(kept.id).unwrap().verify().unwrap();
    publish(&store, 1, 13, Want::Lz4);
    let refused = store.space_for(9 << 20).unwrap_err();
    assert!(matches!(refused, WriteError::Space { .. }), "{refused}");
}

#[test]
fn a_read_only_disk_can_be_read() {
    let Some(dir) = inside_a_small_disk("a_read_only_disk_can_be_read", "8m") else { return };
    let store = Store::create(&dir.join("store")).unwrap();
    let kept = publish(&store, 1, 10, Want::Lz4);
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&dir).status().unwrap();
    assert!(status.success());
    let store = Store::open(store.root()).unwrap();
    store.resolve("latest").unwrap().open().unwrap().verify().unwrap();
    for refused in [
        store.lock_line(&id(1)).map(|_| ()).unwrap_err().to_string(),
        store.lock_line(&id(2)).map(|_| ()).unwrap_err().to_string(),
        store.remove(kept.id).unwrap_err().to_string(),
        Store::create(&dir.join("other")).map(|_| ()).unwrap_err().to_string(),
    ] {
        assert!(refused.contains("Read-only") && refused.contains("--store"), "{refused}");
    }
}

/// A process that writes checkpoints until it is killed.
fn write_for_ever(store: &Path) -> ! {
    // Also when the test itself is killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let store = Store::open(store).unwrap();
    for time in 1.. {
        publish(&store, 1, time, Want::Lz4);
    }
    unreachable!()
}

#[test]
fn killed_writers_leave_nothing_visible() {
    if let Some(store) = std::env::var_os(INSIDE) {
        write_for_ever(Path::new(&store));
    }
    let _alone = alone();
    let (_dir, store) = common::new_store();
    let mut published = 0;
    let mut left = 0;
    let end = Instant::now() + Duration::from_secs(60);
    for round in 0..60u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_writers_leave_nothing_visible", "--nocapture"])
            .env(INSIDE, store.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // An instant that differs from round to round, counted from the first page in every
        // other round and from the first published checkpoint in the rest.
        let awaited = store.root().join(if round % 2 == 0 { "tmp" } else { "checkpoints" });
        while entries(&awaited) == 0 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the writer does not write");
            std::thread::yield_now();
        }
        let rest = round * 997 % 20_000;
        std::thread::sleep(Duration::from_micros(rest));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "the writer ended by itself");
        let listing = store.listing().unwrap();
        assert_eq!(listing.damaged, []);
        for listed in &listing.checkpoints {
            store.checkpoint(listed.id).unwrap().verify().unwrap();
        }
        published += listing.checkpoints.len();
        let pruned = store.prune(common::newest(0)).unwrap();
        assert_eq!(pruned.in_use, []);
        left += pruned.leftovers.len();
        assert_eq!(files(&store.root().join("tmp")), []);
        assert_eq!(files(&store.root().join("checkpoints")), []);
    }
    assert!(published > 0 && left > 0, "{published} published, {left} left: not random enough");
}

/// A process that makes chains, prunes and consolidates until it is killed.
fn chain_for_ever(store: &Path) -> ! {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let store = Store::open(store).unwrap();
    let mut history = common::History::new(11);
    for round in 1u64.. {
        let newest = store.resolve("latest").ok().map(|found| found.open().unwrap());
        history.publish(&store, Want::Zstd(1), newest);
        history.churn(10);
        if round % 3 == 0 {
            store
                .prune(Keep { newest: Some(3), consolidate: round % 2 == 0, always: None })
                .unwrap();
        }
    }
    unreachable!()
}

/// Whenever the one who makes, prunes and consolidates chains dies: what is listed is whole, with
/// all its parents.
#[test]
fn killed_chains_stay_whole() {
    if let Some(store) = std::env::var_os(INSIDE) {
        chain_for_ever(Path::new(&store));
    }
    let _alone = alone();
    let (_dir, store) = common::new_store();
    let (mut whole, mut left, mut deep) = (0, 0, 0);
    for round in 0..50u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_chains_stay_whole", "--nocapture"])
            .env(INSIDE, store.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(20_000 + round * 7919 % 120_000));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "the writer ended by itself");
        let listing = store.listing().unwrap();
        assert_eq!(listing.damaged, []);
        for listed in &listing.checkpoints {
            let verified = store.checkpoint(listed.id).unwrap().verify().unwrap();
            whole += 1;
            deep += u32::from(verified.checkpoints > 1);
        }
        left += store.prune(Keep::default()).unwrap().leftovers.len();
        assert_eq!(files(&store.root().join("tmp")), []);
    }
    assert!(whole > 50 && left > 0 && deep > 10, "{whole}, {left}, {deep}: not random enough");
}

/// How many entries there are, whatever happens to them meanwhile.
fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}
