//! The last part of writing a checkpoint: what the lanes hold, the data files in load order, hashes,
//! index and manifest. Nothing of it is visible yet.

use std::fs::File;
use std::os::unix::fs::FileExt;

use image::{
    ContentHash, Frame, HASHES_HEADER_BYTES, Index, IndexFile, Manifest, PageHash, ParentEntry,
    PlanBytes, Summary,
};
use plan::{Plan, Tier};
use process::Instance;

use super::settle::Settled;
use super::{CheckpointWriter, Published};
use crate::content::Content;
use crate::data::{DataFile, Hashed};
use crate::error::{IoFailure, ReadError, WriteError};
use crate::twin_find::TwinFinder;
use crate::{compact, divide, layout, tiers};

/// A checkpoint that is written and synced but not published.
pub(crate) struct Written {
    pub(crate) published: Published,
    pub(crate) content: ContentHash,
    pub(crate) manifest: Manifest,
    pub(crate) index: Index,
}

/// The data files, the index, the length of the file of page hashes, and the plan as it is written.
struct Rest {
    data: Vec<image::DataFile>,
    plan: PlanBytes,
    index: Index,
    hashes_bytes: u64,
}

impl CheckpointWriter {
    /// Writes everything, synced, but does not publish it.
    pub(crate) fn write(
        &self,
        instance: &Instance,
        plan: Plan,
        summary: &Summary,
    ) -> Result<Written, WriteError> {
        // Nearly always there is nothing left to be done here.
        if let Some(approximation) = self.approximation(&plan, &|| Ok::<_, WriteError>(()))? {
            approximation.work(&|_| Ok::<_, WriteError>(()))?;
        }
        let Settled { puts, hashed, room } = self.flush()?;
        let twins = match &self.twins {
            Some(finder) => finder.used()?,
            None => self.kept_twins.clone(),
        };
        let places = plan.by_place();
        let (left, lost) = image::latest(puts, &places);
        let mut frames = image::arrange(left, &places)?;
        let sums = |frames: &[Frame]| tiers::sums(frames.iter().copied(), &places);
        let (content, rest) = self.side_by_side(&mut frames, &lost, (&hashed, room, &plan));
        let (content, Rest { data, index, hashes_bytes, plan: plan_bytes }) = (content?, rest?);
        let tiers = sums(&frames);
        drop(places);
        let data_bytes: u64 = data.iter().map(|file| file.length_bytes).sum();
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let file =
            |name: &str, length_bytes| image::DataFile { name: name.to_owned(), length_bytes };
        let parent = self.parent.as_deref();
        let (entries, loss) = self.losses(&frames);
        let manifest = Manifest {
            id: self.id,
            page_bytes: frames.iter().map(|frame| frame.pages.bytes()).sum(),
            depth: parent.map_or(0, |parent| parent.depth() + 1),
            referenced_bytes: frames.iter().map(Frame::referenced_bytes).sum(),
            instance: instance.clone(),
            plan,
            summary: summary.clone(),
            files: image::Files {
                index: IndexFile::new(layout::INDEX, index.bytes(), &self.key),
                data,
                hashes: file(layout::HASHES, hashes_bytes),
                parent: parent.map(|p| ParentEntry { id: p.id(), content: p.content() }),
                content,
                twins,
            },
            loss,
        };
        let bytes = manifest.encode_with(&plan_bytes, &self.key)?;
        self.write_file(layout::MANIFEST, &bytes)?;
        if self.is_synced {
            self.dir.sync()?;
        }
        let published = Published {
            id: self.id,
            page_bytes: manifest.page_bytes,
            parent: self.parent(),
            referenced_bytes: manifest.referenced_bytes,
            stored_bytes: data_bytes + hashes_bytes + length(index.bytes()) + length(&bytes),
            tiers,
            loss: entries,
            twins: self.twins.as_ref().map(TwinFinder::found).unwrap_or_default(),
        };
        Ok(Written { published, content, manifest, index })
    }

    /// Computes what all pages make in a thread of its own, and does the rest in this one.
    fn side_by_side(
        &self,
        frames: &mut [Frame],
        lost: &[Frame],
        (hashed, room, plan): (&[Hashed], Vec<u8>, &Plan),
    ) -> (Result<ContentHash, WriteError>, Result<Rest, WriteError>) {
        // As they are before anything in the files is moved.
        let before = frames.to_vec();
        let content = || self.content(&before, hashed);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("content".to_owned());
            let thread = thread.spawn_scoped(scope, content);
            let rest = self.finish_rest(frames, lost, (&before, hashed, room), plan);
            let content = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why)),
                // Without it, it takes longer.
                Err(_) => content(),
            };
            (content, rest)
        })
    }

    /// Brings the data files into their last form, writes the index and the page hashes, and encodes
    /// the plan.
    fn finish_rest(
        &self,
        frames: &mut [Frame],
        lost: &[Frame],
        (before, hashed, room): (&[Frame], &[Hashed], Vec<u8>),
        plan: &Plan,
    ) -> Result<Rest, WriteError> {
        let data = self.finish_data(frames, lost)?;
        let index = Index::encode(self.id, frames)?;
        self.write_file(layout::INDEX, index.bytes())?;
        let hashes_bytes = self.write_hashes(before, hashed, room)?;
        Ok(Rest { data, index, hashes_bytes, plan: PlanBytes::encode(plan)? })
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
        let length_bytes = data.length_bytes();
        let to_order = self.division.is_some() && number != divide::file_of(Tier::Cold);
        // Who is not to wait for a sync is not to wait for hundreds of megabytes either.
        let may_take_long = self.is_synced || length_bytes <= compact::WHOLE_BYTES_MAX;
        let moves = may_take_long.then(|| compact::plan(frames, number, length_bytes, to_order));
        let Some(moves) = moves.flatten() else {
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

    /// What the pages of `frames` make.
    fn content(&self, frames: &[Frame], hashed: &[Hashed]) -> Result<ContentHash, WriteError> {
        let mut content = Content::new(&self.key);
        frames.iter().for_each(|frame| content.add(frame, own_hashes(frame, hashed)));
        let made = match self.parent.as_deref() {
            Some(parent) => content.on(parent),
            None => content.whole(None),
        };
        made.map_err(|cause| {
            let path = self.dir.join(layout::HASHES);
            WriteError::Read(ReadError::Frame { path, cause })
        })
    }

    /// Writes the page hashes in the order of `frames`, put together in `room`; gives the file's length.
    fn write_hashes(
        &self,
        frames: &[Frame],
        hashed: &[Hashed],
        room: Vec<u8>,
    ) -> Result<u64, IoFailure> {
        let header_bytes = usize::try_from(HASHES_HEADER_BYTES).unwrap_or(usize::MAX);
        let mut bytes = room;
        bytes.clear();
        bytes.resize(header_bytes, 0);
        for hash in frames.iter().flat_map(|frame| own_hashes(frame, hashed)) {
            bytes.extend_from_slice(&hash.0);
        }
        let count = u64::try_from((bytes.len() - header_bytes) / PageHash::BYTES);
        let count = count.unwrap_or(u64::MAX);
        bytes[..header_bytes].copy_from_slice(&image::hashes_header(self.id, count));
        self.write_file(layout::HASHES, &bytes)?;
        Ok(HASHES_HEADER_BYTES + count * 16)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), IoFailure> {
        let file = self.write_over(name, bytes)?;
        self.synced(&file, name)
    }

    /// The file `name` with these bytes and no others, whatever it had before.
    pub(super) fn write_over(&self, name: &str, bytes: &[u8]) -> Result<File, IoFailure> {
        let file = self.dir.open_or_create(name)?;
        let fail = || IoFailure::on("write", self.dir.join(name));
        file.write_all_at(bytes, 0).map_err(fail())?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        file.set_len(length).map_err(fail())?;
        Ok(file)
    }

    fn synced(&self, file: &File, name: &str) -> Result<(), IoFailure> {
        if self.is_synced {
            file.sync_all().map_err(IoFailure::on("sync", self.dir.join(name)))?;
        }
        Ok(())
    }
}

/// The hashes of the pages that a frame holds, of all that were put, by place in the files.
fn own_hashes<'a>(frame: &Frame, hashed: &'a [Hashed]) -> &'a [PageHash] {
    if frame.hash_count() == 0 {
        return &[];
    }
    let place = (frame.file, frame.offset_bytes, frame.slot);
    let at = hashed.binary_search_by_key(&place, |hashed| hashed.place);
    at.map_or(&[], |at| &hashed[at].hashes)
}
