//! A stream of a checkpoint: taken in whole and right, or refused without a trace.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rekindle_store::{ImportError, Store};

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let name = format!("rekindle-fuzz-import-{}", std::process::id());
    Store::create(&Path::new("/dev/shm").join(name)).expect("a store to import to")
});

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    let go_on = |_, _| Ok::<_, ImportError>(());
    let received = STORE.receive(&mut stream, &go_on);
    let checked = received.and_then(|received| received.verify(&|_| Ok::<_, ImportError>(())));
    drop(checked);
    let entries = |name: &str| std::fs::read_dir(STORE.root().join(name)).expect("it is there").count();
    assert_eq!((entries("tmp"), entries("checkpoints"), entries("lines")), (0, 0, 0));
});
