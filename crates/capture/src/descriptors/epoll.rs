//! What epoll instances wait for.

use std::collections::{BTreeMap, BTreeSet};

use process::{DescriptionId, DescriptionKind, EpollInterest, StateKind, hear_signals};
use sys::kcmp::watches_file;
use sys::proc::{EpollTarget, FdDetail};

use super::slots::Slot;
use super::{DescriptorError, Reader};

const OFF_THE_LIST: &str =
    "the program has to take it off the list (EPOLL_CTL_DEL) or close its other copies";

/// Where a watched file may be found: descriptions by descriptor number and by inode.
struct Places {
    by_fd: BTreeMap<i32, usize>,
    by_inode: BTreeMap<u64, Vec<(usize, i32)>>,
}

impl Places {
    fn new(slots: &[Slot], groups: &[Vec<usize>]) -> Self {
        let mut places = Self { by_fd: BTreeMap::new(), by_inode: BTreeMap::new() };
        for (number, group) in groups.iter().enumerate() {
            for slot in group.iter().map(|index| &slots[*index]) {
                places.by_fd.insert(slot.fd, number);
            }
            // One of its numbers stands for a description.
            let slot = &slots[group[0]];
            places.by_inode.entry(slot.stat.inode).or_default().push((number, slot.fd));
        }
        places
    }

    /// Descriptions that `target` may mean, each with a number it is open under. The one behind
    /// the number that was added comes first and nearly always is the one; else it is one with
    /// the same inode under another number.
    fn of(&self, target: &EpollTarget) -> Vec<(usize, i32)> {
        let same = self.by_fd.get(&target.fd).map(|number| (*number, target.fd));
        let others = self.by_inode.get(&target.inode).into_iter().flatten().copied();
        same.into_iter().chain(others).collect()
    }
}

impl Reader<'_> {
    /// Fills the interest lists, once every description is known.
    pub(super) fn interests(&mut self, groups: &[Vec<usize>]) -> Result<(), DescriptorError> {
        let places = Places::new(self.slots, groups);
        let mut lost = BTreeSet::new();
        for (number, group) in groups.iter().enumerate() {
            let slot = &self.slots[group[0]];
            let FdDetail::Epoll(targets) = &slot.info.detail else { continue };
            let mut occurrences: BTreeMap<i32, u32> = BTreeMap::new();
            let mut interests = Vec::new();
            for target in targets {
                // Several files may have been added under one number, one after the other.
                let occurrence = occurrences.entry(target.fd).or_default();
                let interest = self.interest(slot, target, *occurrence, &places)?;
                if interest.is_none() && self.context.frozen {
                    lost.insert(number);
                }
                interests.extend(interest);
                *occurrence += 1;
            }
            let description = &mut self.found.descriptions[number];
            if matches!(description.kind, DescriptionKind::Epoll { .. }) {
                description.kind = DescriptionKind::Epoll { interests };
            }
        }
        self.refuse_what_cannot_be_made(groups, &lost);
        Ok(())
    }

    /// An epoll that waits for signals is not taken over by an update but made anew. Refuses what
    /// cannot be made: the others are taken as they are.
    fn refuse_what_cannot_be_made(&mut self, groups: &[Vec<usize>], lost: &BTreeSet<usize>) {
        if !self.context.options.takeover {
            return;
        }
        for id in hear_signals(&self.found.descriptions) {
            let number = id.0 as usize;
            let (Some(description), Some(group)) =
                (self.found.descriptions.get(number), groups.get(number))
            else {
                continue;
            };
            let DescriptionKind::Epoll { interests } = &description.kind else { continue };
            let slot = &self.slots[group[0]];
            let fired = interests.iter().find(|interest| interest.has_fired());
            if let Some(interest) = fired {
                let object = format!(
                    "{slot}, which waits for signals and has an entry for descriptor {} that has \
                     fired (EPOLLONESHOT)",
                    interest.fd
                );
                let lift = "wait until the program arms it again";
                self.context.findings.block_for_now(StateKind::Epoll, object, "", lift);
            }
            if lost.contains(&number) {
                let object =
                    format!("{slot}, which waits for signals and for a file that is closed");
                self.context.findings.block(StateKind::Epoll, object, OFF_THE_LIST);
            }
        }
    }

    fn interest(
        &mut self,
        slot: &Slot,
        target: &EpollTarget,
        occurrence: u32,
        places: &Places,
    ) -> Result<Option<EpollInterest>, DescriptorError> {
        let task = self.context.process.pid().main_thread();
        let candidates = places.of(target);
        for (number, fd) in candidates {
            match watches_file(task, fd, slot.fd, target.fd, occurrence) {
                Ok(true) => {
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    return Ok(Some(EpollInterest {
                        fd: target.fd,
                        description: DescriptionId(number),
                        events: target.events,
                        data: target.data,
                    }));
                }
                Ok(false) => {}
                // A running program changes its list all the time.
                Err(_) if !self.context.frozen => return Ok(None),
                Err(cause) => return Err(slot.failed(cause)),
            }
        }
        let object = format!("{slot}, which waits for a file closed as descriptor {}", target.fd);
        if self.context.frozen && !self.context.options.takeover {
            self.context.findings.block(StateKind::Epoll, object, OFF_THE_LIST);
        }
        Ok(None)
    }
}
