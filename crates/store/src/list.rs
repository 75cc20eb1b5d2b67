//! What is in a store, read from the headers: no key, no codec.

use std::io::Read;

use image::{CheckpointId, FormatError, HEADER_BYTES, Header};
use process::InstanceId;

use crate::dir::Dir;
use crate::error::StoreError;
use crate::{Store, layout};

/// The published checkpoints of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Those whose header can be read, newest first.
    pub checkpoints: Vec<Listed>,
    /// Those whose header cannot be read.
    pub damaged: Vec<Damaged>,
}

/// One line of `rekindle list`: what the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The checkpoint.
    pub id: CheckpointId,
    /// The instance it shows.
    pub instance: InstanceId,
    /// `CLOCK_REALTIME` at the freeze, nanoseconds since the epoch.
    pub created_ns: u64,
    /// Bytes of pages in it.
    pub page_bytes: u64,
    /// Bytes it takes in the store, index and metadata included.
    pub stored_bytes: u64,
    /// The checkpoint that holds pages of it.
    pub parent: Option<CheckpointId>,
    /// How many checkpoints stood behind it when it was made; fewer when one of them was
    /// consolidated since.
    pub depth: u16,
    /// Bytes of pages that they hold.
    pub referenced_bytes: u64,
    /// When its directory was last changed, nanoseconds since the epoch.
    pub modified_ns: i128,
}

/// A checkpoint whose header cannot be read, or is of a newer format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The checkpoint.
    pub id: CheckpointId,
    /// What is wrong.
    pub detail: String,
    /// It is whole, as far as that can be told, but of a format this program does not know yet.
    pub is_newer: bool,
    /// When its directory was last changed, nanoseconds since the epoch.
    pub modified_ns: i128,
}

impl Store {
    /// The published checkpoints whose header can be read, newest first. The others are named in
    /// the log; [`Store::listing`] has them too.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let Listing { checkpoints, damaged } = self.listing()?;
        for Damaged { id, detail, .. } in damaged {
            tracing::warn!("checkpoint {id} cannot be read: {detail}");
        }
        Ok(checkpoints)
    }

    /// The published checkpoints, the damaged ones apart.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn listing(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        for name in self.dirs.checkpoints.names()? {
            // Only ids are names of ours; anything else somebody put there.
            let Ok(id) = name.parse::<CheckpointId>() else { continue };
            let dir = match self.dirs.checkpoints.child(&name) {
                Ok(dir) => dir,
                // Removed since the names were read.
                Err(e) if e.is_missing() => continue,
                Err(e) => return Err(e.into()),
            };
            let (_, modified_ns) = dir.inode_and_mtime_ns()?;
            match read_header(&dir, id) {
                Ok(header) => listing.checkpoints.push(Listed {
                    id,
                    instance: header.instance,
                    created_ns: header.created_ns,
                    page_bytes: header.page_bytes,
                    stored_bytes: header.stored_bytes,
                    parent: header.parent,
                    depth: header.depth,
                    referenced_bytes: header.referenced_bytes,
                    modified_ns,
                }),
                Err((detail, is_newer)) => {
                    listing.damaged.push(Damaged { id, detail, is_newer, modified_ns });
                }
            }
        }
        let newest_first = |c: &Listed| std::cmp::Reverse((c.created_ns, c.modified_ns, c.id));
        listing.checkpoints.sort_by_key(newest_first);
        Ok(listing)
    }
}

/// The header, or what is wrong and whether that is only that it is of a newer format.
pub(crate) fn read_header(dir: &Dir, id: CheckpointId) -> Result<Header, (String, bool)> {
    let damaged = |detail: String| (detail, false);
    let file = dir.open(layout::MANIFEST).map_err(|e| damaged(e.to_string()))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|e| damaged(format!("read its manifest: {e}")))?;
    let header = Header::read(&bytes).map_err(|e| {
        let is_newer =
            matches!(e, FormatError::NewerVersion { .. } | FormatError::UnknownFlags { .. });
        (e.to_string(), is_newer)
    })?;
    if header.id != id {
        return Err(damaged(format!("its manifest is that of {}", header.id)));
    }
    Ok(header)
}
