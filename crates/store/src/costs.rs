//! A small file beside checkpoints: what collecting heat costs on this host. The store does not
//! look into it.

use std::io::Read;

use crate::Store;
use crate::error::{IoFailure, StoreError};

const COSTS: &str = "costs.json";
/// A longer file is none of ours.
const COSTS_BYTES_MAX: u64 = 64 << 10;

impl Store {
    /// The costs of this host, as they were written; `None` when nobody measured them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn host_costs(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let root = &self.dirs.root;
        let file = match root.open(COSTS) {
            Ok(file) => file,
            Err(e) if e.is_missing() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut bytes = Vec::new();
        file.take(COSTS_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(IoFailure::on("read", root.join(COSTS)))?;
        Ok(Some(bytes))
    }

    /// Writes the costs of this host: whoever reads meanwhile gets the old ones or these, whole.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn set_host_costs(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let root = &self.dirs.root;
        let fresh = format!("{COSTS}.{}.new", std::process::id());
        Ok(root.replace(COSTS, &fresh, bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::create(&place.path().join("store")).unwrap();
        assert_eq!(store.host_costs().unwrap(), None);
        store.set_host_costs(b"{}").unwrap();
        store.set_host_costs(b"{1}").unwrap();
        assert_eq!(store.host_costs().unwrap(), Some(b"{1}".to_vec()));
        // The store is still a store.
        Store::open(store.root()).unwrap();
    }
}
