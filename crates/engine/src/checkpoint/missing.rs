//! Pages that the program itself has not got yet: they are referred to where they are stored.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ::resume::serve::Missing;
use capture::{Captured, PageList};
use mem::{MemoryId, PageIndex, PageRange, PageSet, PageSource};
use process::{Blocker, StateKind};
use store::{Checkpoint, CheckpointWriter};

use super::error::CheckpointError;
use crate::agent::Served;
use crate::phase::Watch;
use crate::settings::workers;

/// The memory that pages are missing in.
const MEMORY: MemoryId = MemoryId::Private(0);
/// Pages put by one call.
const PUT_PAGES: u64 = 256;

/// Pages of the new checkpoint, each run with the source's page for its first.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    runs: Vec<(PageRange, PageIndex)>,
}

/// Memory that somebody else serves stands in the way. What grew out of ours is ours, but no
/// message told of it: mappings that touch are taken together. One that is left alone cannot be
/// told from a foreign one; everything is loaded then, after which ours is served no more.
pub(super) fn refuse_foreign(
    captured: &Captured,
    missing: Option<&Missing>,
    served: Option<&Served>,
) -> Result<(), CheckpointError> {
    let together: PageSet = captured.served.iter().map(|range| range.pages()).collect();
    let is_ours = |pages: &PageRange| {
        missing.is_some_and(|missing| missing.mapped.within(*pages).next().is_some())
    };
    let blockers: Vec<Blocker> = together
        .runs()
        .iter()
        .filter(|pages| !is_ours(pages))
        .map(|pages| Blocker {
            kind: StateKind::UserfaultMapping,
            object: format!("mapping {}", pages.addrs()),
            holder: String::new(),
            lift: "wait until `rekindle status` says that the program is complete; if it is, the \
                   program has to give it up"
                .to_owned(),
            transient: false,
        })
        .collect();
    if blockers.is_empty() {
        return Ok(());
    }
    if let Some(served) = served {
        served.fill();
    }
    Err(capture::StateError::Blocked(blockers).into())
}

impl Elsewhere {
    /// What is missing in the program, which stands still. To be called before its pages are
    /// listed: what comes in between is in both lists then, and in none else.
    pub(super) fn find(
        served: &Served,
        missing: &Missing,
        captured: &Captured,
    ) -> Result<Self, CheckpointError> {
        let failed = |what: &str| CheckpointError::Missing(io::Error::other(what.to_owned()));
        if !missing.is_settled {
            return Err(failed("memory is being moved"));
        }
        let mut occupied = PageSet::new();
        for run in missing.mapped.runs() {
            let found = captured.memory.occupied(run.addrs());
            let found = found.map_err(|e| CheckpointError::Missing(io::Error::other(e)))?;
            found.runs().iter().for_each(|run| occupied.insert(*run));
        }
        let stored = served.source.pages(served.memory)?;
        let mut runs = Vec::new();
        for (pages, source) in &missing.runs {
            let end = source.offset(pages.count().0);
            for part in stored.within(PageRange { start: *source, end }) {
                let start = pages.start.offset(part.start.0 - source.0);
                let there = PageRange { start, end: start.offset(part.count().0) };
                let open: PageSet = [there].into_iter().collect();
                let open = open.difference(&occupied);
                runs.extend(
                    open.runs()
                        .iter()
                        .map(|run| (*run, part.start.offset(run.start.0 - there.start.0))),
                );
            }
        }
        let private: PageSet =
            captured.memory.private_ranges().iter().map(|p| p.range.pages()).collect();
        let is_mapped = |pages: PageRange| {
            private.within(pages).map(|run| run.count().0).sum::<u64>() == pages.count().0
        };
        match runs.iter().all(|(pages, _)| is_mapped(*pages)) {
            true => Ok(Self { runs }),
            false => Err(failed("what is missing is not mapped")),
        }
    }

    /// Leaves out what was copied after all, and adds the rest to `pages`.
    pub(super) fn beside(self, pages: &mut PageList) -> Self {
        let copied = pages.of(MEMORY);
        let mut runs = Vec::with_capacity(self.runs.len());
        for (run, source) in &self.runs {
            let open: PageSet = [*run].into_iter().collect();
            for left in open.difference(&copied).runs() {
                runs.push((*left, source.offset(left.start.0 - run.start.0)));
            }
        }
        pages.add(MEMORY, &runs.iter().map(|(run, _)| *run).collect());
        Self { runs }
    }

    /// Gives them to the writer, which refers to them where it can.
    pub(super) fn put(
        &self,
        served: &Served,
        writer: &CheckpointWriter,
        watch: &Watch,
    ) -> Result<(), CheckpointError> {
        let pieces: Vec<(PageRange, PageIndex)> = self
            .runs
            .iter()
            .flat_map(|(run, source)| {
                let each = run.aligned_chunks(PUT_PAGES);
                each.map(|part| (part, source.offset(part.start.0 - run.start.0)))
            })
            .collect();
        put_all(&pieces, (MEMORY, served.memory), &served.source, writer, watch)
    }
}

/// Gives pages to the writer that are as those of `source`: each run with the page it
/// begins with there. The memories: the writer's and the source's.
pub(super) fn put_all(
    pieces: &[(PageRange, PageIndex)],
    (memory, source_memory): (MemoryId, MemoryId),
    source: &Checkpoint,
    writer: &CheckpointWriter,
    watch: &Watch,
) -> Result<(), CheckpointError> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        while let Some((pages, from)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let put = watch.check().map_err(CheckpointError::from).and_then(|()| {
                let put = writer.put_same(memory, *pages, source, (source_memory, *from));
                put.map_err(|e| CheckpointError::Copy(e.into()))
            });
            if let Err(error) = put {
                next.store(pieces.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers() {
            let thread = std::thread::Builder::new().name("refer".to_owned());
            // With fewer threads it is slower, not wrong.
            if thread.spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Tells the writer of private pages that are as in `source`, at the same place.
pub(super) fn put_inherited(
    pages: &PageSet,
    source: &Checkpoint,
    writer: &CheckpointWriter,
    watch: &Watch,
) -> Result<(), CheckpointError> {
    let runs = pages.runs().iter().flat_map(|run| run.aligned_chunks(PUT_PAGES));
    let pieces: Vec<(PageRange, PageIndex)> = runs.map(|run| (run, run.start)).collect();
    put_all(&pieces, (MEMORY, MEMORY), source, writer, watch)
}
