//! The last part of writing a checkpoint: what the lanes hold, the data files in load order, hashes,
//! index and manifest. Nothing of it is visible yet.

use std::io::Write;

use image::{ContentHash, Frame, IndexFile, Manifest, PageHash, ParentEntry, Put, Summary};
use plan::{Plan, Tier};
use process::Instance;

use super::{CheckpointWriter, Published, lock};
use crate::data::{DataFile, Hashed};
use crate::error::{IoFailure, ReadError, WriteError};
use crate::hashes::Content;
use crate::twin_find::TwinFinder;
use crate::{compact, divide, layout, tiers};

/// A checkpoint that is written and synced but not published.
pub(crate) struct Written {
    pub(crate) published: Published,
    pub(crate) content: ContentHash,
}

impl CheckpointWriter {
    /// Writes everything, synced, but does not publish it.
    pub(crate) fn write(
        &self,
        instance: &Instance,
        plan: &Plan,
        summary: &Summary,
    ) -> Result<Written, WriteError> {
        let (puts, hashed) = self.flush()?;
        let twins = match &self.twins {
            Some(finder) => finder.used()?,
            None => self.kept_twins.clone(),
        };
        let (left, lost) = image::latest(puts, plan);
        let mut frames = image::arrange(left, plan)?;
        let (hashes, content) = self.hashes(&frames, &hashed)?;
        drop(hashed);
        let data = self.finish_data(&mut frames, &lost)?;
        let data_bytes: u64 = data.iter().map(|file| file.length_bytes).sum();
        let hashes = image::encode_hashes(self.id, &hashes);
        self.write_file(layout::HASHES, &hashes)?;
        let index = image::encode_index(self.id, &frames)?;
        self.write_file(layout::INDEX, &index)?;
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let file =
            |name: &str, length_bytes| image::DataFile { name: name.to_owned(), length_bytes };
        let parent = self.parent.as_deref();
        let manifest = Manifest {
            id: self.id,
            page_bytes: frames.iter().map(|frame| frame.pages.bytes()).sum(),
            depth: parent.map_or(0, |parent| parent.depth() + 1),
            referenced_bytes: frames.iter().map(Frame::referenced_bytes).sum(),
            instance: instance.clone(),
            plan: plan.clone(),
            summary: summary.clone(),
            files: image::Files {
                index: IndexFile::new(layout::INDEX, &index, self.lock.key()),
                data,
                hashes: file(layout::HASHES, length(&hashes)),
                parent: parent.map(|p| ParentEntry { id: p.id(), content: p.content() }),
                content,
                twins,
            },
        };
        let bytes = manifest.encode(self.lock.key())?;
        self.write_file(layout::MANIFEST, &bytes)?;
        if self.is_synced {
            self.dir.sync()?;
        }
        let published = Published {
            id: self.id,
            page_bytes: manifest.page_bytes,
            parent: self.parent(),
            referenced_bytes: manifest.referenced_bytes,
            stored_bytes: data_bytes + length(&hashes) + length(&index) + length(&bytes),
            tiers: tiers::sums(frames.iter().copied()),
            twins: self.twins.as_ref().map(TwinFinder::found).unwrap_or_default(),
        };
        Ok(Written { published, content })
    }

    /// Leaves out what only `lost` frames needed, brings what is not too long into load order, and
    /// makes the data files survive a crash. Files without a byte are left out: the frames' numbers
    /// are then those in the list that is returned.
    fn finish_data(
        &self,
        frames: &mut [Frame],
        lost: &[Frame],
    ) -> Result<Vec<image::DataFile>, WriteError> {
        let mut listed: Vec<image::DataFile> = Vec::new();
        let mut numbers = Vec::new();
        for ((number, data), name) in (0..).zip(&self.data).zip(divide::FILES) {
            let length_bytes = self.finish_file((number, data, name), frames, lost)?;
            let is_kept = length_bytes > 0 || self.data.len() == 1;
            numbers.push(u16::try_from(listed.len()).unwrap_or(u16::MAX));
            if is_kept {
                listed.push(image::DataFile { name: name.to_owned(), length_bytes });
            } else {
                self.dir.remove(name)?;
            }
        }
        for frame in frames.iter_mut().filter(|frame| frame.stored_bytes > 0) {
            frame.file = numbers.get(usize::from(frame.file)).copied().unwrap_or(u16::MAX);
        }
        Ok(listed)
    }

    /// The same for one file; returns its length.
    fn finish_file(
        &self,
        (number, data, name): (u16, &DataFile, &str),
        frames: &mut [Frame],
        lost: &[Frame],
    ) -> Result<u64, WriteError> {
        let to_order = self.division.is_some() && number != divide::file_of(Tier::Cold);
        let Some(moves) = compact::plan(frames, number, data.length_bytes(), to_order) else {
            let here = lost.iter().filter(|frame| frame.file == number);
            data.erase(&here.copied().collect::<Vec<_>>())?;
            return Ok(data.finish(self.is_synced)?);
        };
        let new = layout::NEW_DATA;
        let compact = DataFile::new(self.dir.create(new)?, self.dir.join(new));
        compact::compact(data, &compact, frames, number, moves)?;
        let length_bytes = compact.finish(self.is_synced)?;
        self.dir.rename(new, &self.dir, name)?;
        Ok(length_bytes)
    }

    /// The page hashes in the order of `frames`, and the content that they make.
    fn hashes(
        &self,
        frames: &[Frame],
        hashed: &[Hashed],
    ) -> Result<(Vec<PageHash>, ContentHash), WriteError> {
        let mut all = Vec::with_capacity(hashed.iter().map(|h| h.hashes.len()).sum());
        let mut content = Content::new(self.lock.key(), self.parent.as_deref());
        for frame in frames {
            let own = match frame.hash_count() {
                0 => &[][..],
                _ => hashed
                    .binary_search_by_key(&(frame.file, frame.offset_bytes), |hashed| hashed.place)
                    .map_or(&[][..], |at| &hashed[at].hashes),
            };
            all.extend_from_slice(own);
            content.add(frame, own).map_err(|cause| {
                let path = self.dir.join(layout::HASHES);
                WriteError::Read(ReadError::Frame { path, cause })
            })?;
        }
        Ok((all, content.finish()))
    }

    /// Writes what the lanes still hold and returns all that was put, and the hashes of the pages
    /// sorted by place in the file.
    fn flush(&self) -> Result<(Vec<Put>, Vec<Hashed>), WriteError> {
        if let Some(failure) = lock(&self.failed).take() {
            return Err(WriteError::EarlierPut(failure));
        }
        let (mut puts, mut hashed) = (Vec::new(), Vec::new());
        for mut lane in lock(&self.lanes).drain(..) {
            lane.flush(&self.data)?;
            puts.append(&mut lane.puts);
            hashed.append(&mut lane.hashed);
        }
        hashed.sort_unstable_by_key(|hashed: &Hashed| hashed.place);
        Ok((puts, hashed))
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), IoFailure> {
        let mut file = self.dir.create(name)?;
        file.write_all(bytes).map_err(IoFailure::on("write", self.dir.join(name)))?;
        if self.is_synced {
            file.sync_all().map_err(IoFailure::on("sync", self.dir.join(name)))?;
        }
        Ok(())
    }
}
