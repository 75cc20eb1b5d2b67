//! Which checkpoint a new one builds on.

use image::CheckpointId;
use process::InstanceId;
use store::{CHAIN_DEPTH_MAX, Checkpoint, ResolveError, Store};

use crate::CheckpointError;
use crate::events::Observer;

/// `--parent`: build on nothing.
const NONE: &str = "none";
/// `--parent`: build on the instance's newest checkpoint, if it has one that can be used.
const LATEST: &str = "latest";

/// The checkpoint of `instance` that `--parent wanted` means, open and pinned. The newest one is
/// passed over for `stored_in`, which has the pages that the program has not got yet, unless it
/// builds on that.
///
/// # Errors
/// When one that was named cannot be used. The instance's newest is passed over, with a note,
/// when it cannot.
pub(crate) fn parent(
    store: &Store,
    instance: &InstanceId,
    wanted: &str,
    stored_in: Option<CheckpointId>,
    observer: &dyn Observer,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let parent = match wanted {
        NONE => None,
        LATEST => match newest(store, instance, stored_in) {
            Ok(parent) => parent,
            Err(error) => {
                observer.note(&format!(
                    "the newest checkpoint of the program cannot be built on, all is stored anew: \
                     {error}"
                ));
                None
            }
        },
        named => Some(open(store, named)?),
    };
    if let Some(parent) = parent.as_ref().filter(|parent| parent.depth() >= CHAIN_DEPTH_MAX) {
        observer.note(&format!(
            "{CHAIN_DEPTH_MAX} checkpoints stand behind {}, all is stored anew",
            parent.id()
        ));
    }
    Ok(parent)
}

/// The instance's newest checkpoint; none when there is none.
fn newest(
    store: &Store,
    instance: &InstanceId,
    stored_in: Option<CheckpointId>,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let reference = format!("{LATEST}:{instance}");
    match store.resolve(&reference) {
        Ok(found) => {
            let newest = found.open()?;
            let is_apart = |id: &CheckpointId| newest.chain().all(|c| c.id() != *id);
            let Some(stored_in) = stored_in.filter(is_apart) else {
                return Ok(Some(newest));
            };
            // In another store, it can be copied from, not built on.
            match store.resolve(&stored_in.to_string()) {
                Ok(found) => Ok(Some(found.open()?)),
                Err(_) => Ok(Some(newest)),
            }
        }
        Err(ResolveError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A checkpoint that was named, which must be in this store.
fn open(store: &Store, reference: &str) -> Result<Checkpoint, CheckpointError> {
    let found = store.resolve(reference)?;
    let here = |store: &Store| std::fs::canonicalize(store.root()).ok();
    if here(&found.store) != here(store) {
        let store = store.root().to_owned();
        return Err(CheckpointError::ParentElsewhere { reference: reference.to_owned(), store });
    }
    Ok(found.open()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Observer for Notes {
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    fn instance() -> process::Instance {
        let mut instance = process::Instance::default();
        instance.line.instance = InstanceId::from_hash(&[1; 32]);
        instance
    }

    fn publish(store: &Store, time: u64, parent: Option<Checkpoint>) -> CheckpointId {
        let instance = instance();
        let lock = store.lock_line(&instance.line.instance).unwrap();
        let options = store::WriteOptions { want: codec::Want::Raw, reserve_bytes: 0 };
        let writer = store.begin(lock, options, parent).unwrap();
        let summary = image::Summary { created_ns: time, ..image::Summary::default() };
        writer.finish(&instance, &plan::Plan::default(), &summary).unwrap().id
    }

    #[test]
    fn the_newest_that_can_be_used_is_built_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let line = instance().line.instance;
        let notes = Notes::default();
        let ask = |wanted: &str| parent(&store, &line, wanted, None, &notes);
        assert!(ask("latest").unwrap().is_none());
        assert!(ask("none").unwrap().is_none());
        assert!(matches!(ask("abcd"), Err(CheckpointError::Reference(_))));
        let first = publish(&store, 1, None);
        let second = publish(&store, 2, ask("latest").unwrap());
        assert_eq!(ask("latest").unwrap().unwrap().id(), second);
        assert_eq!(ask(&first.to_string()).unwrap().unwrap().id(), first);
        assert!(ask("none").unwrap().is_none());
        let other = Store::create(&dir.path().join("other")).unwrap();
        let foreign = other.root().join("checkpoints").join(publish(&other, 3, None).to_string());
        let refused = ask(foreign.to_str().unwrap());
        assert!(matches!(refused, Err(CheckpointError::ParentElsewhere { .. })));
        assert_eq!(*notes.0.lock().unwrap(), Vec::<String>::new());
        // Its parent is gone: said, and not in the way. Named, it is an error.
        std::fs::remove_dir_all(store.root().join("checkpoints").join(first.to_string())).unwrap();
        assert!(ask("latest").unwrap().is_none());
        assert!(notes.0.lock().unwrap()[0].contains(&first.to_string()));
        assert!(matches!(ask(&second.to_string()), Err(CheckpointError::Parent(_))));
    }

    #[test]
    fn a_chain_that_is_long_enough_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let line = instance().line.instance;
        let notes = Notes::default();
        for time in 0..u64::from(CHAIN_DEPTH_MAX) + 2 {
            let on = parent(&store, &line, "latest", None, &notes).unwrap();
            publish(&store, time, on);
        }
        assert_eq!(notes.0.lock().unwrap().len(), 1);
        assert_eq!(parent(&store, &line, "latest", None, &notes).unwrap().unwrap().depth(), 0);
    }
}
