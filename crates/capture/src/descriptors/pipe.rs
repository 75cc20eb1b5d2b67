//! Pipes and FIFOs.

use process::{DescriptionKind, Pipe, PipeEnd, PipeId, StateKind};

use super::slots::Slot;
use super::{DescriptorError, Reader};
use crate::outside::Link;
use crate::space::below_root;

/// `O_DIRECT`: packet mode.
const O_DIRECT: u32 = 0o40_000;

impl Reader<'_> {
    /// An end of a pipe. When a process outside holds an end of it too, the other end is outside.
    pub(super) fn pipe(
        &mut self,
        slot: &Slot,
        fds: &[i32],
    ) -> Result<DescriptionKind, DescriptorError> {
        let inode = slot.stat.inode;
        let holders = self.context.outside.holders(Link::Pipe(inode)).to_vec();
        let (reads, writes) = self.ends_inside(inode);
        // Somebody we may not look into may hold the end that is not inside.
        let unseen = self.context.outside.has_hidden() && !(reads && writes);
        if !holders.is_empty() || unseen && self.has_other_end(slot)? {
            return Ok(self.external(slot, fds, StateKind::Pipe, &holders));
        }
        let end = match slot.info.flags & 3 {
            0 => PipeEnd::Read,
            1 => PipeEnd::Write,
            _ => PipeEnd::Both,
        };
        let pipe = self.pipe_number(slot)?;
        if self.context.frozen && end != PipeEnd::Write {
            self.take_content(slot, pipe)?;
        }
        Ok(DescriptionKind::Pipe { pipe, end })
    }

    /// Whether anybody holds the other end. A FIFO that nobody has opened at the other end yet
    /// looks as if somebody had, and can be opened anew.
    fn has_other_end(&self, slot: &Slot) -> Result<bool, DescriptorError> {
        if slot.name.starts_with(b"/") {
            return Ok(false);
        }
        let broken = self
            .copy_of(slot)
            .and_then(|copy| sys::pipe::is_broken(copy).map_err(|cause| slot.failed(cause)));
        match broken {
            Ok(broken) => Ok(!broken),
            // A running program may have closed it.
            Err(DescriptorError::Look { .. }) if !self.context.frozen => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    /// Whether the instance itself holds the reading and the writing end.
    fn ends_inside(&self, inode: u64) -> (bool, bool) {
        let ends = self
            .slots
            .iter()
            .filter(|slot| slot.stat.file_type() == libc::S_IFIFO && slot.stat.inode == inode);
        ends.fold((false, false), |(reads, writes), slot| match slot.info.flags & 3 {
            0 => (true, writes),
            1 => (reads, true),
            _ => (true, true),
        })
    }

    /// The node of the slot's pipe, made when it is not there yet.
    fn pipe_number(&mut self, slot: &Slot) -> Result<PipeId, DescriptorError> {
        let known = self.found.pipes.iter().position(|pipe| pipe.inode == slot.stat.inode);
        let number = match known {
            Some(number) => number,
            None => {
                let capacity_bytes = match self.context.frozen {
                    true => sys::pipe::capacity(self.copy_of(slot)?)
                        .map_err(|cause| slot.failed(cause))?,
                    false => 0,
                };
                let fifo_path = match slot.name.starts_with(b"/") {
                    true => below_root(&self.root, &slot.name),
                    false => Vec::new(),
                };
                let inode = slot.stat.inode;
                let content = Vec::new();
                self.found.pipes.push(Pipe { inode, capacity_bytes, content, fifo_path });
                self.found.pipes.len() - 1
            }
        };
        Ok(PipeId(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// Copies what is in the pipe, without taking it out.
    fn take_content(&mut self, slot: &Slot, pipe: PipeId) -> Result<(), DescriptorError> {
        let Some(node) = usize::try_from(pipe.0).ok().and_then(|n| self.found.pipes.get(n)) else {
            return Ok(());
        };
        if !node.content.is_empty() {
            return Ok(());
        }
        // Packets are marked one by one, by the mode of the end that wrote them.
        let packets = self.slots.iter().any(|other| {
            other.stat.file_type() == libc::S_IFIFO
                && other.stat.inode == slot.stat.inode
                && other.info.flags & O_DIRECT != 0
        });
        let content =
            sys::pipe::peek(self.copy_of(slot)?, packets).map_err(|cause| slot.failed(cause))?;
        if let Some(node) = usize::try_from(pipe.0).ok().and_then(|n| self.found.pipes.get_mut(n)) {
            node.content = content;
        }
        Ok(())
    }
}
