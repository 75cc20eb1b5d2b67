//! The heat of a line: replaced whole, or not at all, by one at a time.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{id, new_store};

#[test]
fn heat_is_kept_by_line() {
    let (_dir, store) = new_store();
    assert_eq!(store.heat(&id(1)).unwrap(), None);
    let lock = store.lock_heat(&id(1)).unwrap();
    assert_eq!(lock.read().unwrap(), None);
    lock.replace(b"first, and longer").unwrap();
    lock.replace(b"second").unwrap();
    drop(lock);
    assert_eq!(store.heat(&id(1)).unwrap().unwrap(), b"second");
    assert_eq!(store.heat(&id(2)).unwrap(), None);
    let mode = fs::metadata(store.heat_path(&id(1))).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

/// What a writer that died left behind is neither read nor in the way.
#[test]
fn a_writer_that_died_leaves_the_old_heat() {
    let (_dir, store) = new_store();
    store.lock_heat(&id(1)).unwrap().replace(b"old").unwrap();
    let rest = store.heat_path(&id(1)).with_file_name("heat.new");
    fs::write(&rest, b"half of the new one, but much longer than what comes next").unwrap();
    fs::set_permissions(&rest, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store.heat(&id(1)).unwrap().unwrap(), b"old");
    store.lock_heat(&id(1)).unwrap().replace(b"new").unwrap();
    assert_eq!(store.heat(&id(1)).unwrap().unwrap(), b"new");
    assert!(!rest.exists());
}

/// Read, change and replace lose nothing when many do it at once.
#[test]
fn writers_take_turns() {
    let (_dir, store) = new_store();
    std::thread::scope(|scope| {
        for number in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..8 {
                    let lock = store.lock_heat(&id(1)).unwrap();
                    let mut bytes = lock.read().unwrap().unwrap_or_default();
                    bytes.push(number);
                    lock.replace(&bytes).unwrap();
                }
            });
        }
    });
    let mut bytes = store.heat(&id(1)).unwrap().unwrap();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..4).flat_map(|n| [n; 8]).collect::<Vec<u8>>());
}

#[test]
fn heat_that_others_can_read_is_refused() {
    let (_dir, store) = new_store();
    store.lock_heat(&id(1)).unwrap().replace(b"secret").unwrap();
    let path = store.heat_path(&id(1));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(store.heat(&id(1)).is_err());
}
