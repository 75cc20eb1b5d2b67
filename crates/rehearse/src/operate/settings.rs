//! Calls that ask for a descriptor's settings, or change them, are answered.

use super::Reply::{Unknown, Value};
use super::{NONBLOCK, Reply, error, low, number};
use crate::RehearseError;
use crate::calls::Caller;
use crate::descriptors::Kind;

impl Caller<'_> {
    pub(super) fn control(
        &mut self,
        fd: u64,
        command: u64,
        argument: u64,
    ) -> Result<Reply, RehearseError> {
        const CHANGEABLE: u32 =
            (libc::O_NONBLOCK | libc::O_APPEND | libc::O_NOATIME).unsigned_abs();
        let Some(slot) = self.descriptors.slot_mut(fd) else { return Ok(error(libc::EBADF)) };
        match command {
            1 => return Ok(number(u32::from(slot.close_on_exec))),
            2 => {
                slot.close_on_exec = argument & 1 != 0;
                return Ok(Value(0));
            }
            _ => {}
        }
        let Some(open) = self.descriptors.at_mut(fd) else { return Ok(Unknown) };
        Ok(match command {
            3 => number(open.flags),
            4 => {
                open.flags = open.flags & !CHANGEABLE | low(argument) & CHANGEABLE;
                Value(0)
            }
            // A lock that it asks for is said to be had.
            6 | 7 | 37 | 38 if matches!(open.kind, Kind::File(_)) => Value(0),
            _ => Unknown,
        })
    }

    pub(super) fn device(
        &mut self,
        fd: u64,
        command: u64,
        argument: u64,
    ) -> Result<Reply, RehearseError> {
        const GET_TERMINAL: u64 = 0x5401;
        const WAITING: u64 = 0x541b;
        const SET_NONBLOCK: u64 = 0x5421;
        const NO_CLOEXEC: u64 = 0x5450;
        const SET_CLOEXEC: u64 = 0x5451;
        if let Some(slot) = self.descriptors.slot_mut(fd)
            && matches!(command, NO_CLOEXEC | SET_CLOEXEC)
        {
            slot.close_on_exec = command == SET_CLOEXEC;
            return Ok(Value(0));
        }
        let Some(open) = self.descriptors.at(fd) else { return Ok(error(libc::EBADF)) };
        match (command, &open.kind) {
            (GET_TERMINAL, Kind::File(_) | Kind::Stream { .. } | Kind::Listening { .. }) => {
                Ok(error(libc::ENOTTY))
            }
            (WAITING, Kind::Stream { .. }) => {
                let waiting = self.descriptors.waiting(fd);
                self.pages.write(argument, &waiting.to_ne_bytes())?;
                Ok(Value(0))
            }
            (SET_NONBLOCK, _) => {
                let mut on = [0; 4];
                self.pages.read(argument, &mut on)?;
                let nonblock = low(NONBLOCK);
                if let Some(open) = self.descriptors.at_mut(fd) {
                    let bit = if on == [0; 4] { 0 } else { nonblock };
                    open.flags = open.flags & !nonblock | bit;
                }
                Ok(Value(0))
            }
            _ => Ok(Unknown),
        }
    }
}
