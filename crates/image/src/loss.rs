//! The loss manifest: where a checkpoint's memory is not exactly what the program had, by how much
//! at most, and by how much really.

use mem::AddrRange;
use plan::{LossBound, LossEntry, LossyRange, NumericType};

use crate::CheckpointId;
use crate::convert::{Invalid, Wire, coded, memory_codes, memory_of};
use crate::generated as proto;
use crate::generated::loss_entry::Bound;
use crate::limits::LOSS_ENTRIES_MAX;

/// A range in which a loss was allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossRecord {
    /// What was allowed and what was done.
    pub entry: LossEntry,
    /// The checkpoint in which that was done, when this one only took pages from it; of such a
    /// record the figures are those of then.
    pub made_in: Option<CheckpointId>,
}

impl Wire for Vec<LossRecord> {
    type Message = proto::Loss;

    fn to_wire(&self) -> Result<proto::Loss, Invalid> {
        check_count(self.len())?;
        let entries = self.iter().map(|record| check(record).map(|()| message_of(record)));
        Ok(proto::Loss { entries: entries.collect::<Result<_, _>>()? })
    }

    fn from_wire(message: proto::Loss) -> Result<Self, Invalid> {
        check_count(message.entries.len())?;
        let record = |(n, entry): (usize, proto::LossEntry)| {
            record_of(entry).map_err(|e| e.inside(&format!("entries[{n}]")))
        };
        message.entries.into_iter().enumerate().map(record).collect()
    }
}

fn check_count(count: usize) -> Result<(), Invalid> {
    if count > LOSS_ENTRIES_MAX {
        return Err(Invalid::new(format!("has {count} entries, at most {LOSS_ENTRIES_MAX}")));
    }
    Ok(())
}

fn message_of(record: &LossRecord) -> proto::LossEntry {
    let LossRecord { entry, made_in } = record;
    let LossyRange { memory, range, numeric, bound } = entry.named;
    let (memory_kind, memory_number) = memory_codes(memory);
    proto::LossEntry {
        memory_kind,
        memory_number,
        start: range.start.0,
        end: range.end.0,
        r#type: numeric.code().into(),
        bound: Some(match bound {
            LossBound::Absolute(bound) => Bound::Absolute(bound),
            LossBound::Relative(bound) => Bound::Relative(bound),
            LossBound::RangeRelative { fraction, span } => {
                Bound::RangeRelative(proto::RangeRelative { fraction, span })
            }
        }),
        largest_error: entry.largest_error,
        elements_lossy: entry.elements_lossy,
        elements_exact: entry.elements_exact,
        elements_not_finite: entry.elements_not_finite,
        page_bytes: entry.page_bytes,
        stored_bytes: entry.stored_bytes,
        made_in: made_in.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn record_of(message: proto::LossEntry) -> Result<LossRecord, Invalid> {
    if message.start >= message.end {
        return Err(Invalid::new("end: is not behind the start"));
    }
    let bound = match message.bound {
        Some(Bound::Absolute(bound)) => LossBound::Absolute(bound),
        Some(Bound::Relative(bound)) => LossBound::Relative(bound),
        Some(Bound::RangeRelative(proto::RangeRelative { fraction, span })) => {
            LossBound::RangeRelative { fraction, span }
        }
        None => return Err(Invalid::new("bound: is missing")),
    };
    let made_in = match message.made_in.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|e| Invalid::new(format!("made_in: {id:?}: {e}")))?),
    };
    let named = LossyRange {
        memory: memory_of(message.memory_kind, message.memory_number)?,
        range: AddrRange::new(message.start, message.end),
        numeric: coded::<NumericType>(message.r#type, "type")?,
        bound,
    };
    let entry = LossEntry {
        named,
        largest_error: message.largest_error,
        elements_lossy: message.elements_lossy,
        elements_exact: message.elements_exact,
        elements_not_finite: message.elements_not_finite,
        page_bytes: message.page_bytes,
        stored_bytes: message.stored_bytes,
    };
    let record = LossRecord { entry, made_in };
    check(&record)?;
    Ok(record)
}

/// What has to be true of every entry.
fn check(record: &LossRecord) -> Result<(), Invalid> {
    let LossEntry { named, largest_error, elements_lossy, elements_exact, .. } = record.entry;
    let wrong = |detail: String| Err(Invalid::new(format!("{}: {detail}", named.range)));
    if !named.bound.is_valid() {
        return wrong("has a bound that is none".to_owned());
    }
    if elements_lossy.checked_add(elements_exact) != Some(named.elements()) {
        return wrong(format!("does not have {elements_lossy} and {elements_exact} elements"));
    }
    let is_kept = match named.bound {
        LossBound::Relative(_) => largest_error.is_finite(),
        bound => largest_error <= bound.allowed(0.0),
    };
    if !(is_kept && largest_error >= 0.0) {
        return wrong(format!("has an error of {largest_error}, more than was allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mem::MemoryId;

    use super::*;

    fn record(bound: LossBound) -> LossRecord {
        let named = LossyRange {
            memory: MemoryId::Private(0),
            range: AddrRange::new(0x1008, 0x3004),
            numeric: NumericType::F64,
            bound,
        };
        let entry = LossEntry {
            named,
            largest_error: 0.25,
            elements_lossy: 1000,
            elements_exact: 23,
            elements_not_finite: 2,
            page_bytes: 12288,
            stored_bytes: 77,
        };
        LossRecord { entry, made_in: None }
    }

    #[test]
    fn records_come_back() {
        let range_relative = LossBound::RangeRelative { fraction: 1e-3, span: 1000.0 };
        let older = LossRecord { made_in: Some(CheckpointId(7)), ..record(range_relative) };
        let bounds = [LossBound::Absolute(0.25), LossBound::Relative(1e-6), range_relative];
        let records: Vec<LossRecord> = bounds.map(record).into_iter().chain([older]).collect();
        assert_eq!(Vec::from_wire(records.to_wire().unwrap()), Ok(records));
    }

    #[test]
    fn records_that_cannot_be_are_refused() {
        let good = record(LossBound::Absolute(0.25));
        let refused = |change: &dyn Fn(&mut LossEntry)| {
            let mut bad = good;
            change(&mut bad.entry);
            assert!(vec![bad].to_wire().is_err(), "{bad:?}");
            let message = proto::Loss { entries: vec![message_of(&bad)] };
            assert!(Vec::<LossRecord>::from_wire(message).is_err(), "{bad:?}");
        };
        refused(&|entry| entry.named.bound = LossBound::Absolute(f64::NAN));
        refused(&|entry| entry.named.bound = LossBound::Absolute(-1.0));
        refused(&|entry| entry.largest_error = 0.2500001);
        refused(&|entry| entry.largest_error = f64::NAN);
        refused(&|entry| entry.elements_exact = 24);
        let mut message = good_message(&good);
        message.entries[0].bound = None;
        assert!(Vec::<LossRecord>::from_wire(message).is_err());
        let mut message = good_message(&good);
        message.entries[0].end = message.entries[0].start;
        assert!(Vec::<LossRecord>::from_wire(message).is_err());
    }

    fn good_message(good: &LossRecord) -> proto::Loss {
        vec![*good].to_wire().unwrap()
    }

    proptest::proptest! {
        /// Bytes that pass every checksum and are not what we wrote: refused, or records that can
        /// be written again, but never a panic.
        #[test]
        fn altered_records_never_panic(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            byte in proptest::prelude::any::<u8>(),
            cut in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            use prost::Message;
            let span = LossBound::RangeRelative { fraction: 1e-3, span: 1000.0 };
            let records = vec![record(LossBound::Absolute(0.25)), record(span)];
            let mut bytes = records.to_wire().unwrap().encode_to_vec();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                let Ok(message) = proto::Loss::decode(bytes) else { continue };
                if let Ok(found) = Vec::<LossRecord>::from_wire(message) {
                    let again = found.to_wire().unwrap();
                    proptest::prop_assert_eq!(Vec::from_wire(again), Ok(found));
                }
            }
        }
    }
}
