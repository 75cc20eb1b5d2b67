//! What several chunks share, decoded. Whoever wants one of them is likely to want another soon, so
//! the last few are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use codec::Solid;
use image::{Frame, Opener};
use mem::PageSourceError;

use crate::Checkpoint;
use crate::read::damaged;

/// How many are kept, 1 MiB each: those that a few threads are reading, and the one before.
const KEPT: usize = 8;

/// The stored bytes that a frame names: file, offset, length, checksum.
type Place = (u16, u64, u32, u32);

/// The last few that were decoded, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Solids(Mutex<VecDeque<(Place, Arc<Solid>)>>);

impl Solids {
    fn find(&self, place: Place) -> Option<Arc<Solid>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| *known == place)?;
        let found = kept.remove(at)?;
        let solid = Arc::clone(&found.1);
        kept.push_back(found);
        Some(solid)
    }

    /// A buffer to decode into: that of the oldest, when nobody reads it any more.
    fn make_room(&self) -> Solid {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if kept.len() >= KEPT { kept.pop_front() } else { None };
        oldest.and_then(|(_, solid)| Arc::into_inner(solid)).unwrap_or_default()
    }

    fn keep(&self, place: Place, solid: Arc<Solid>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been as fast.
        if kept.iter().all(|(known, _)| *known != place) {
            kept.push_back((place, solid));
        }
    }
}

impl Checkpoint {
    /// Fills `pages` with what `frame` holds of the bytes that it shares with others, checked.
    /// These are in `stored`, or are read into it.
    pub(crate) fn read_solid(
        &self,
        opener: &mut Opener,
        frame: &Frame,
        stored: &[u8],
        pages: &mut [u8],
    ) -> Result<(), PageSourceError> {
        let Frame { file, offset_bytes, stored_bytes, stored_crc32c, .. } = *frame;
        let place = (file, offset_bytes, stored_bytes, stored_crc32c);
        let solids = &self.readers.solids;
        let damaged = |error: image::OpenError| damaged(frame, error.to_string());
        let solid = match solids.find(place) {
            Some(solid) => solid,
            None => {
                let mut solid = solids.make_room();
                let mut read = Vec::new();
                let stored = match stored {
                    [] => {
                        self.read_stored(frame, &mut read)?;
                        &read
                    }
                    stored => stored,
                };
                opener.open_solid(frame, stored, &mut solid).map_err(damaged)?;
                let solid = Arc::new(solid);
                solids.keep(place, Arc::clone(&solid));
                solid
            }
        };
        opener.open_part(frame, &solid, pages).map_err(damaged)
    }
}
