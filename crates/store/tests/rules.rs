//! Who may read, write and remove what, and how references are understood.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use codec::Want;
use common::{begin, files, id, instance, new_store, plan, publish, put_sample, summary};
use image::CheckpointId;
use mem::{PageRange, PageSink};
use rekindle_store::{
    Keep, ReadError, RemoveError, ResolveError, Store, StoreError, WriteError, WriteOptions,
};

#[test]
fn everything_is_private() {
    let (_dir, store) = new_store();
    publish(&store, 1, 7, Want::Lz4);
    let mut folders = vec![store.root().to_owned()];
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700, "{folder:?}");
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(metadata.mode() & 0o7777, 0o600, "{path:?}");
            }
        }
    }
}

#[test]
fn stores_that_others_can_read_are_refused() {
    let (_dir, store) = new_store();
    let root = store.root();
    for inside in ["", "checkpoints", "lines", "tmp"] {
        let path = if inside.is_empty() { root.to_owned() } else { root.join(inside) };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let refused = Store::open(root).unwrap_err();
        assert!(matches!(refused, StoreError::Open { mode: 0o750, .. }), "{refused}");
        assert!(refused.to_string().contains("chmod go= "), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    Store::open(root).unwrap();
    let key = files(&root.join("lines")).into_iter().next();
    assert!(key.is_none(), "a line without a checkpoint");
    publish(&store, 1, 7, Want::Raw);
    let key = root.join("lines").join(id(1).as_str()).join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = store.lock_line(&id(1)).unwrap_err();
    assert!(matches!(refused, WriteError::Store(StoreError::Open { .. })), "{refused}");
}

/// Only root can give a directory away.
#[test]
fn stores_of_others_are_refused() {
    let (_dir, store) = new_store();
    if !rustix::process::geteuid().is_root() {
        panic!("needs root to give a directory away");
    }
    std::os::unix::fs::chown(store.root(), Some(4711), None).unwrap();
    let refused = Store::open(store.root()).unwrap_err();
    assert!(matches!(refused, StoreError::Owner { owner: 4711, .. }), "{refused}");
}

#[test]
fn directories_of_other_things_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Missing(_))));
    fs::write(dir.path().join("thesis.txt"), b"precious").unwrap();
    for refused in [Store::open(dir.path()), Store::create(dir.path())] {
        assert!(matches!(refused, Err(StoreError::NotAStore(_))));
    }
    assert_eq!(files(dir.path()).len(), 1);
    let nested = dir.path().join("a/b/store");
    assert!(matches!(Store::open(&nested), Err(StoreError::Missing(_))));
    Store::create(&nested).unwrap();
    // Again, and when its maker died before the last step.
    Store::create(&nested).unwrap();
    fs::remove_file(nested.join("layout")).unwrap();
    Store::create(&nested).unwrap();
    fs::write(nested.join("layout"), b"rekindle store 2\n").unwrap();
    let refused = Store::open(&nested).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { .. }), "{refused}");
}

#[test]
fn two_writers_of_one_line_are_kept_apart() {
    let (_dir, store) = new_store();
    let writer = begin(&store, 1, Want::Lz4);
    let again = Store::open(store.root()).unwrap();
    let refused = again.lock_line(&id(1)).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains(id(1).as_str()), "{text}");
    // Another instance is not in the way.
    drop(again.lock_line(&id(2)).unwrap());
    drop(writer);
    drop(again.lock_line(&id(1)).unwrap());
    let nameless = again.lock_line(&process::InstanceId::default()).unwrap_err();
    assert!(matches!(nameless, WriteError::NoInstance));
}

#[test]
fn a_line_has_one_key_and_lines_have_different_ones() {
    let (_dir, store) = new_store();
    let key = |number| store.lock_line(&id(number)).unwrap().key().clone();
    let one = key(1);
    assert!(one == key(1));
    assert!(one != key(2));
    let path = store.root().join("lines").join(id(1).as_str()).join("key");
    assert_eq!(fs::read(&path).unwrap(), one.as_bytes());
    let published = publish(&store, 1, 7, Want::Lz4);
    fs::write(&path, [1; 31]).unwrap();
    assert!(matches!(store.lock_line(&id(1)), Err(WriteError::Key { found: 31, .. })));
    assert!(store.checkpoint(published.id).is_err());
    fs::write(&path, [1; 32]).unwrap();
    let other = store.checkpoint(published.id).unwrap_err().to_string();
    assert!(other.contains("another line key"), "{other}");
    fs::remove_file(&path).unwrap();
    let gone = store.checkpoint(published.id).unwrap_err();
    assert!(matches!(gone, ReadError::KeyMissing { .. }), "{gone}");
}

#[test]
fn what_is_not_finished_is_invisible() {
    let (_dir, store) = new_store();
    let writer = begin(&store, 1, Want::Lz4);
    put_sample(&writer);
    assert_eq!(store.list().unwrap(), []);
    let latest = store.resolve(&writer.id().to_string());
    assert!(matches!(latest, Err(ResolveError::NotFound { .. })));
    drop(writer);
    let writer = begin(&store, 1, Want::Lz4);
    put_sample(&writer);
    writer.abandon().unwrap();
    // The plan asks for pages that were not put.
    let writer = begin(&store, 1, Want::Lz4);
    let refused = writer.finish(&instance(1), &plan(), &summary(1)).unwrap_err();
    assert!(matches!(refused, WriteError::Layout(_)), "{refused}");
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(files(&store.root().join("tmp")), []);
    assert_eq!(files(&store.root().join("checkpoints")), []);
}

#[test]
fn a_failed_put_spoils_the_checkpoint() {
    let (_dir, store) = new_store();
    let writer = begin(&store, 1, Want::Lz4);
    put_sample(&writer);
    let refused = writer.put(common::PRIVATE, PageRange::new(0, 2), &[0; 4096]);
    assert!(refused.is_err());
    let refused = writer.finish(&instance(1), &plan(), &summary(1)).unwrap_err();
    assert!(matches!(refused, WriteError::EarlierPut(_)), "{refused}");
    assert_eq!(files(&store.root().join("tmp")), []);
}

#[test]
fn space_is_checked_and_reserved() {
    let (_dir, store) = new_store();
    store.space_for(1 << 20).unwrap();
    let refused = store.space_for(1 << 60).unwrap_err();
    assert!(matches!(refused, WriteError::Space { .. }), "{refused}");
    let lock = store.lock_line(&id(1)).unwrap();
    let options = WriteOptions { want: Want::Raw, reserve_bytes: 1 << 60 };
    assert!(store.begin(lock, options, None).is_err());
    let lock = store.lock_line(&id(1)).unwrap();
    let options = WriteOptions { want: Want::Raw, reserve_bytes: 64 << 20 };
    let writer = store.begin(lock, options, None).unwrap();
    let path = store.root().join("tmp").join(writer.id().to_string()).join("pages");
    let reserved = fs::metadata(&path).unwrap();
    assert_eq!(reserved.size(), 0);
    put_sample(&writer);
    let published = writer.finish(&instance(1), &plan(), &summary(1)).unwrap();
    let path = store.root().join("checkpoints").join(published.id.to_string()).join("pages");
    let kept = fs::metadata(&path).unwrap();
    assert!(kept.blocks() * 512 < kept.size() + (1 << 20), "the reserve is not given back");
}

#[test]
fn references_find_checkpoints() {
    let (_dir, store) = new_store();
    let made: Vec<CheckpointId> = [(1, 10), (2, 30), (1, 20)]
        .map(|(line, time)| publish(&store, line, time, Want::Lz4).id)
        .to_vec();
    let [old, of_two, new] = made[..] else { unreachable!() };
    let find = |reference: &str| store.resolve(reference).map(|found| found.id);
    assert_eq!(find("latest").unwrap(), of_two);
    assert_eq!(find("latest~1").unwrap(), new);
    assert_eq!(find("latest~2").unwrap(), old);
    assert_eq!(find(&format!("latest:{}", id(1))).unwrap(), new);
    assert_eq!(find(&format!("latest:{}~1", id(1))).unwrap(), old);
    assert_eq!(find(&format!("latest:{}", &id(2).as_str()[..3])).unwrap(), of_two);
    for made in &made {
        assert_eq!(find(&made.to_string()).unwrap(), *made);
        let path = store.root().join("checkpoints").join(made.to_string());
        assert_eq!(find(path.to_str().unwrap()).unwrap(), *made);
    }
    let root = format!("{}/", store.root().display());
    assert_eq!(find(&root).unwrap(), of_two);
    let listed: Vec<CheckpointId> = store.list().unwrap().iter().map(|c| c.id).collect();
    assert_eq!(listed, [of_two, new, old]);
    for missing in ["latest~3", "latest:ffffffffffff", &format!("latest:{}~2", id(1)), "/dev/null"]
    {
        let refused = find(missing).unwrap_err();
        let fits = matches!(refused, ResolveError::NotFound { .. } | ResolveError::Store(_));
        assert!(fits, "{missing}: {refused}");
    }
    assert!(matches!(find("nonsense"), Err(ResolveError::NotAReference(_))));
}

#[test]
fn ambiguous_prefixes_list_the_candidates() {
    let (_dir, store) = new_store();
    // 17 ids: two of them begin with the same digit.
    let ids: Vec<String> =
        (0..17).map(|time| publish(&store, 1, time, Want::Raw).id.to_string()).collect();
    let first = ids.iter().find(|id| ids.iter().filter(|o| o[..1] == id[..1]).count() > 1).unwrap();
    let refused = store.resolve(&first[..1]).unwrap_err();
    assert!(matches!(refused, ResolveError::Ambiguous { .. }), "{refused}");
    let fitting = ids.iter().filter(|id| id[..1] == first[..1]).count();
    let listed = ids.iter().filter(|id| refused.to_string().contains(*id)).count();
    assert_eq!(listed, fitting.min(8), "{refused}");
}

fn alter_manifest(store: &Store, id: CheckpointId, alter: impl FnOnce(&mut Vec<u8>)) {
    let manifest = store.root().join("checkpoints").join(id.to_string()).join("manifest");
    let mut bytes = fs::read(&manifest).unwrap();
    alter(&mut bytes);
    fs::write(&manifest, bytes).unwrap();
}

#[test]
fn latest_is_never_silently_an_older_one() {
    let (_dir, store) = new_store();
    publish(&store, 1, 10, Want::Lz4);
    let newest = publish(&store, 1, 20, Want::Lz4).id;
    alter_manifest(&store, newest, |bytes| bytes[50] ^= 1);
    let refused = store.resolve("latest").unwrap_err();
    assert!(matches!(refused, ResolveError::NewestDamaged { id, .. } if id == newest), "{refused}");
    let listing = store.listing().unwrap();
    assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (1, 1));
    store.remove(newest).unwrap();
    store.resolve("latest").unwrap();
}

/// A newest one that a later version wrote is told apart from one that is damaged.
#[test]
fn latest_may_be_of_a_later_format() {
    let (_dir, store) = new_store();
    publish(&store, 1, 10, Want::Lz4);
    let newest = publish(&store, 1, 20, Want::Lz4).id;
    let later = (image::FORMAT_VERSION + 1).to_le_bytes();
    alter_manifest(&store, newest, |bytes| bytes[8..12].copy_from_slice(&later));
    let refused = store.resolve("latest").unwrap_err();
    let newer = |e: &ResolveError| match e {
        ResolveError::NewestDamaged { id, is_newer, .. } => Some((*id, *is_newer)),
        _ => None,
    };
    assert_eq!(newer(&refused), Some((newest, true)), "{refused}");
}

#[test]
fn checkpoints_in_use_stay() {
    let (_dir, store) = new_store();
    let old = publish(&store, 1, 10, Want::Lz4).id;
    let new = publish(&store, 1, 20, Want::Lz4).id;
    let used = Store::open(store.root()).unwrap().checkpoint(old).unwrap();
    let refused = store.remove(old).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    let pruned = store.prune(common::newest(0)).unwrap();
    assert_eq!((pruned.removed, pruned.in_use), (vec![new], vec![old]));
    used.verify().unwrap();
    drop(used);
    assert!(store.remove(old).unwrap() > 0);
    assert!(matches!(store.remove(old), Err(RemoveError::Missing { .. })));
    assert!(matches!(store.checkpoint(old), Err(ReadError::Missing { .. })));
    assert_eq!(files(&store.root().join("tmp")), []);
}

#[test]
fn prune_keeps_the_newest_of_each_line() {
    let (_dir, store) = new_store();
    let made: Vec<CheckpointId> = [(1, 10), (1, 20), (1, 30), (2, 5), (2, 6)]
        .map(|(line, time)| publish(&store, line, time, Want::Lz4).id)
        .to_vec();
    let writer = begin(&store, 3, Want::Lz4);
    put_sample(&writer);
    let pruned = store.prune(common::newest(1)).unwrap();
    let mut expected = vec![made[1], made[0], made[3]];
    let mut removed = pruned.removed.clone();
    expected.sort();
    removed.sort();
    assert_eq!(removed, expected);
    assert!(pruned.freed_bytes > 0);
    // A living writer is left alone, a bare prune removes no checkpoint.
    assert_eq!(pruned.leftovers, Vec::<std::path::PathBuf>::new());
    assert_eq!(store.prune(Keep::default()).unwrap().removed, []);
    writer.finish(&instance(3), &plan(), &summary(1)).unwrap();
    assert_eq!(store.list().unwrap().len(), 3);
}

/// What cannot be done with one checkpoint is told, and the others are done.
#[test]
fn one_that_cannot_be_consolidated_holds_nobody_up() {
    let (_dir, store) = new_store();
    let mut now = common::History::new(9);
    let mut made: Vec<CheckpointId> = Vec::new();
    for _ in 0..3 {
        let parent = made.last().map(|id| store.checkpoint(*id).unwrap());
        made.push(now.publish(&store, Want::Zstd(1), parent).id);
        now.churn(20);
    }
    let others = [1, 2].map(|time| publish(&store, 2, time, Want::Lz4).id);
    let root = store.root().join("checkpoints").join(made[0].to_string());
    fs::rename(root, store.root().join("away")).unwrap();
    let keep = Keep { newest: Some(1), consolidate: true, always: None };
    let pruned = store.prune(keep).unwrap();
    let failed: Vec<CheckpointId> = pruned.failed.iter().map(|(id, _)| *id).collect();
    assert_eq!(failed, [made[2]], "{pruned:?}");
    let named = pruned.failed[0].1.to_string();
    assert!(named.contains(&made[0].to_string()), "{named}");
    assert_eq!((&pruned.needed[..], &pruned.removed[..]), (&made[1..2], &others[..1]));
    assert!(matches!(store.checkpoint(made[2]), Err(ReadError::Parent { .. })));
    assert_eq!(store.checkpoint(others[1]).unwrap().verify().unwrap().checkpoints, 1);
}

/// A clock that was put back makes the one that was just taken the oldest.
#[test]
fn the_one_that_was_just_taken_stays() {
    let (_dir, store) = new_store();
    let made = [20, 30, 10].map(|time| publish(&store, 1, time, Want::Lz4).id);
    let keep = Keep { always: Some(made[2]), ..common::newest(2) };
    let pruned = store.prune_instance(&instance(1).line.instance, keep).unwrap();
    assert_eq!(pruned.removed, [made[0]]);
}

#[test]
fn every_altered_byte_is_found_by_verify() {
    let (_dir, store) = new_store();
    let writer = begin(&store, 1, Want::Lz4);
    let runs = [PageRange::new(0, 2), PageRange::new(16, 18)];
    for run in runs {
        writer.put(common::PRIVATE, run, &common::pages(common::PRIVATE, run)).unwrap();
    }
    let set = runs.into_iter().collect();
    let plan = plan::Plan::everything(&[(common::PRIVATE, set)], plan::Treatment::Lz4);
    let made = writer.finish(&instance(1), &plan, &summary(1)).unwrap().id;
    let verify = || store.checkpoint(made).and_then(|checkpoint| checkpoint.verify());
    verify().unwrap();
    for (path, bytes) in files(&store.root().join("checkpoints")) {
        // Every byte but of the pages, where every seventh does: they have no structure.
        let step = if path.ends_with("pages") { 7 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            fs::write(&path, &altered).unwrap();
            let refused = verify().expect_err(&format!("{path:?} byte {at}")).to_string();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(refused.contains(name), "{path:?} byte {at}: {refused}");
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(verify().is_err());
        fs::write(&path, [&bytes[..], b"\0"].concat()).unwrap();
        assert!(verify().is_err());
        fs::remove_file(&path).unwrap();
        assert!(verify().is_err());
        fs::write(&path, &bytes).unwrap();
        verify().unwrap();
    }
}
