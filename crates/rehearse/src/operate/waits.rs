//! Calls that wait for descriptors are answered.

use std::collections::BTreeSet;

use super::Reply::{Value, Waits};
use super::{Reply, error, number};
use crate::RehearseError;
use crate::calls::Caller;
use crate::table::Timeout;

impl Caller<'_> {
    pub(super) fn epoll_wait(
        &mut self,
        epoll: u64,
        events: u64,
        count: u64,
        timeout: Timeout,
    ) -> Result<Reply, RehearseError> {
        let Some(slot) = self.descriptors.slot(epoll) else { return Ok(error(libc::EBADF)) };
        let most = usize::try_from(count).unwrap_or(0).min(1024);
        let fired = self.descriptors.fired(slot.id, most);
        if fired.is_empty() {
            return Ok(Waits { timeout, told: 0 });
        }
        let mut bytes = Vec::new();
        for (events, data) in &fired {
            bytes.extend(events.to_ne_bytes());
            bytes.extend(data.to_ne_bytes());
        }
        self.pages.write(events, &bytes)?;
        Ok(number(fired.len()))
    }

    pub(super) fn poll(
        &mut self,
        list: u64,
        count: u64,
        timeout: Timeout,
    ) -> Result<Reply, RehearseError> {
        let mut bytes = vec![0; usize::try_from(count.min(4096) * 8).unwrap_or(0)];
        self.pages.read(list, &mut bytes)?;
        let mut ready = 0;
        for entry in bytes.as_chunks_mut::<8>().0 {
            let [a, b, c, d, e, f, ..] = *entry;
            let fd = i32::from_ne_bytes([a, b, c, d]);
            let told = self.descriptors.polled(fd, u16::from_ne_bytes([e, f]));
            entry[6..].copy_from_slice(&told.to_ne_bytes());
            ready += i64::from(told != 0);
        }
        self.pages.write(list, &bytes)?;
        Ok(if ready == 0 { Waits { timeout, told: 0 } } else { Value(ready) })
    }

    pub(super) fn select(
        &mut self,
        count: u64,
        at: [u64; 3],
        timeout: Timeout,
        is_late: bool,
    ) -> Result<Reply, RehearseError> {
        let length = usize::try_from(count.min(1 << 20).div_ceil(64) * 8).unwrap_or(0);
        let mut wanted: [BTreeSet<u64>; 3] = Default::default();
        for (set, wanted) in at.iter().zip(&mut wanted).filter(|(set, _)| **set != 0) {
            let mut bytes = vec![0; length];
            self.pages.read(*set, &mut bytes)?;
            let is_set = |fd: &u64| {
                let byte = bytes.get(usize::try_from(fd / 8).unwrap_or(usize::MAX));
                byte.is_some_and(|byte| byte >> (fd % 8) & 1 != 0)
            };
            wanted.extend((0..count.min(1 << 20)).filter(is_set));
        }
        let Some((found, ready)) = self.descriptors.selected(&wanted) else {
            return Ok(error(libc::EBADF));
        };
        if ready == 0 && !is_late {
            return Ok(Waits { timeout, told: 0 });
        }
        for (set, found) in at.iter().zip(&found).filter(|(set, _)| **set != 0) {
            let mut bytes = vec![0_u8; length];
            for fd in found {
                if let Some(byte) = bytes.get_mut(usize::try_from(fd / 8).unwrap_or(usize::MAX)) {
                    *byte |= 1 << (fd % 8);
                }
            }
            self.pages.write(*set, &bytes)?;
        }
        Ok(number(ready))
    }
}
