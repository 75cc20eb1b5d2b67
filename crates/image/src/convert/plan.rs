//! The plan. Its extents repeat few reasons, so each reason is stored once.

use std::collections::HashMap;
use std::sync::Arc;

use mem::{MemoryId, PageRange};
use plan::{Extent, Plan, Tier, Treatment};

use super::wire::{Invalid, Wire};
use crate::generated as proto;
use crate::limits::{EXTENTS_MAX, PAGE_NUMBER_END};

impl Wire for Plan {
    type Message = proto::Plan;

    fn to_wire(&self) -> Result<proto::Plan, Invalid> {
        check(self.extents.len())?;
        let mut reasons = Vec::new();
        let mut positions: HashMap<&str, u32> = HashMap::new();
        // Where each text lies: nearly all extents share theirs, and to hash it takes longer than the
        // rest.
        let mut seen: HashMap<usize, u32> = HashMap::new();
        let mut extents = Vec::with_capacity(self.extents.len());
        for extent in &self.extents {
            let address = extent.reason.as_ptr().addr();
            let reason = match seen.get(&address) {
                Some(&position) => position,
                None => {
                    let next = u32::try_from(reasons.len());
                    let next = next.map_err(|_| Invalid::new("reasons: too many"))?;
                    let position = *positions.entry(&extent.reason).or_insert_with(|| {
                        reasons.push(extent.reason.as_ref().to_owned());
                        next
                    });
                    seen.insert(address, position);
                    position
                }
            };
            extents.push(extent_message(extent, reason));
        }
        Ok(proto::Plan { extents, reasons })
    }

    fn from_wire(message: proto::Plan) -> Result<Self, Invalid> {
        check(message.extents.len())?;
        let reasons: Vec<Arc<str>> = message.reasons.into_iter().map(Arc::from).collect();
        let value = |(i, extent): (usize, proto::Extent)| {
            extent_value(&extent, &reasons).map_err(|e| e.inside(&format!("extents[{i}]")))
        };
        let extents = message.extents.into_iter().enumerate().map(value).collect::<Result<_, _>>();
        Ok(Self { extents: extents? })
    }
}

fn check(extents: usize) -> Result<(), Invalid> {
    if extents > EXTENTS_MAX {
        return Err(Invalid::new(format!("extents: has {extents} items, at most {EXTENTS_MAX}")));
    }
    Ok(())
}

fn extent_message(extent: &Extent, reason: u32) -> proto::Extent {
    let (memory_kind, memory_number) = memory_codes(extent.memory);
    proto::Extent {
        memory_kind,
        memory_number,
        first_page: extent.pages.start.0,
        page_count: extent.pages.count().0,
        tier: extent.tier.code().into(),
        treatment: extent.treatment.code().into(),
        load_order: extent.load_order,
        reason,
    }
}

fn extent_value(message: &proto::Extent, reasons: &[Arc<str>]) -> Result<Extent, Invalid> {
    let memory = memory_of(message.memory_kind, message.memory_number)?;
    let end = message.first_page.checked_add(message.page_count);
    let end = end
        .filter(|&end| end <= PAGE_NUMBER_END)
        .ok_or_else(|| Invalid::new("page_count: reaches past the last page there can be"))?;
    let reason = usize::try_from(message.reason)
        .ok()
        .and_then(|position| reasons.get(position))
        .ok_or_else(|| Invalid::new(format!("reason: {} is not in the list", message.reason)))?;
    Ok(Extent {
        memory,
        pages: PageRange::new(message.first_page, end),
        tier: coded::<Tier>(message.tier, "tier")?,
        treatment: coded::<Treatment>(message.treatment, "treatment")?,
        load_order: message.load_order,
        reason: Arc::clone(reason),
    })
}

/// Kind and number of a memory.
pub(crate) fn memory_codes(memory: MemoryId) -> (i32, u32) {
    match memory {
        MemoryId::Private(number) => (proto::MemoryKind::Private.into(), number),
        MemoryId::Shared(number) => (proto::MemoryKind::Shared.into(), number),
    }
}

/// The memory with this kind and number.
pub(crate) fn memory_of(kind: i32, number: u32) -> Result<MemoryId, Invalid> {
    match proto::MemoryKind::try_from(kind) {
        Ok(proto::MemoryKind::Private) => Ok(MemoryId::Private(number)),
        Ok(proto::MemoryKind::Shared) => Ok(MemoryId::Shared(number)),
        Ok(proto::MemoryKind::Unspecified) | Err(_) => {
            Err(Invalid::new(format!("memory_kind: has no value for code {kind}")))
        }
    }
}

pub(crate) fn coded<T: TryFrom<u8>>(code: u32, field: &str) -> Result<T, Invalid> {
    u8::try_from(code)
        .ok()
        .and_then(|code| T::try_from(code).ok())
        .ok_or_else(|| Invalid::new(format!("{field}: has no value for code {code}")))
}
