//! What epoll instances wait for.

use std::collections::BTreeMap;

use process::{DescriptionId, DescriptionKind, EpollInterest, StateKind};
use sys::kcmp::watches_file;
use sys::proc::{EpollTarget, FdDetail};

use super::slots::Slot;
use super::{DescriptorError, Reader};

impl Reader<'_> {
    /// Fills the interest lists, once every description is known.
    pub(super) fn interests(&mut self, groups: &[Vec<usize>]) -> Result<(), DescriptorError> {
        for (number, group) in groups.iter().enumerate() {
            let slot = &self.slots[group[0]];
            let FdDetail::Epoll(targets) = &slot.info.detail else { continue };
            let mut occurrences: BTreeMap<i32, u32> = BTreeMap::new();
            let mut interests = Vec::new();
            for target in targets {
                // Several files may have been added under one number, one after the other.
                let occurrence = occurrences.entry(target.fd).or_default();
                interests.extend(self.interest(slot, target, *occurrence, groups)?);
                *occurrence += 1;
            }
            let description = &mut self.found.descriptions[number];
            if matches!(description.kind, DescriptionKind::Epoll { .. }) {
                description.kind = DescriptionKind::Epoll { interests };
            }
        }
        Ok(())
    }

    fn interest(
        &mut self,
        slot: &Slot,
        target: &EpollTarget,
        occurrence: u32,
        groups: &[Vec<usize>],
    ) -> Result<Option<EpollInterest>, DescriptorError> {
        let task = self.context.process.pid().main_thread();
        // The description behind the number is nearly always the one that was added; else it is
        // one with the same inode under another number.
        let mut candidates: Vec<(usize, i32)> = groups
            .iter()
            .enumerate()
            .flat_map(|(number, group)| group.iter().map(move |slot| (number, *slot)))
            .map(|(number, index)| (number, &self.slots[index]))
            .filter(|(_, other)| other.fd == target.fd || other.stat.inode == target.inode)
            .map(|(number, other)| (number, other.fd))
            .collect();
        candidates.sort_by_key(|(_, fd)| *fd != target.fd);
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
        let lift = "the program has to take it off the list (EPOLL_CTL_DEL) or close its other \
                    copies";
        if self.context.frozen {
            self.context.findings.block(StateKind::Epoll, object, lift);
        }
        Ok(None)
    }
}
