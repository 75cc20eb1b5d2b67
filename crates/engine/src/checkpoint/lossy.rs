//! Ranges in which somebody allows a loss: what was written on the command line, held against
//! the program's mappings before anything is touched, and once more when it stands still.

use capture::Captured;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mem::{AddrRange, Backing, Mapping, MemoryId, PageRange, PageSet, Sharing};
use plan::{Extent, LossBound, LossyRange, NumericType, Plan, Tier, Treatment};
use store::CheckpointWriter;
use sys::proc::maps_entries;
use target::Process;

use super::error::CheckpointError;
use crate::events::Observer;
use crate::phase::Watch;
use crate::report::BlockerReport;
use crate::settings::workers;
use crate::threads::side_by_side;

/// The memory that ranges are in.
const MEMORY: MemoryId = MemoryId::Private(0);

/// A mapping, as far as it matters here.
#[derive(Clone, Debug)]
struct Mapped {
    range: AddrRange,
    is_private: bool,
    is_writable: bool,
    is_code: bool,
    /// The file behind it, or what the kernel calls it; empty for plain memory and the heap.
    what: String,
}

/// Why a range that was named cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    cause: String,
    lift: &'static str,
}

fn refused<T>(cause: impl Into<String>, lift: &'static str) -> Result<T, Refusal> {
    Err(Refusal { cause: cause.into(), lift })
}

/// What stands where in a specification.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    place: Place,
    numeric: NumericType,
    bound: LossBound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Range(AddrRange),
    Symbol(String),
}

const FORM: &str =
    "write range=START-END or symbol=NAME, type=TYPE, and one of abs=E, rel=E, range-rel=E";
const ADDRESSES: &str = "write START-END, two addresses in hexadecimal as in /proc/PID/maps";
const TYPES: &str = "use u8, u16, u32, u64, i8, i16, i32, i64, f32 or f64";
const BOUNDS: &str = "write a number above 0";
const INSIDE: &str = "name bytes of one private, writable, anonymous mapping (see /proc/PID/maps), \
                      or an object with symbol=NAME";

/// The ranges that `specifications` name in `process`, which is only looked at.
///
/// # Errors
/// With every reason against any of them.
pub(crate) fn find(
    process: &Process,
    specifications: &[String],
) -> Result<Vec<LossyRange>, CheckpointError> {
    if specifications.is_empty() {
        return Ok(Vec::new());
    }
    let mut text = Vec::new();
    process.dir().read("maps", &mut text).map_err(|e| CheckpointError::Look(e.into()))?;
    let maps: Vec<Mapped> = maps_entries(&text).flatten().map(|entry| mapped(&entry)).collect();
    let (mut found, mut reasons): (Vec<LossyRange>, Vec<BlockerReport>) = Default::default();
    for specification in specifications {
        let mut refuse = |refusal: Refusal| {
            reasons.push(BlockerReport {
                kind: "loss",
                object: format!("--lossy {specification}"),
                holder: refusal.cause,
                lift: refusal.lift.to_owned(),
                transient: false,
            });
        };
        let asked = match parse(specification) {
            Ok(asked) => asked,
            Err(all) => {
                all.into_iter().for_each(refuse);
                continue;
            }
        };
        let range = match &asked.place {
            Place::Range(range) => one_mapping(&maps, *range).map(|()| *range),
            Place::Symbol(name) => object(process, &maps, name)?,
        };
        let Asked { numeric, bound, .. } = asked;
        let named = range.map(|range| LossyRange { memory: MEMORY, range, numeric, bound });
        match named.and_then(|named| fits(&named, &found).map(|()| named)) {
            Ok(named) => found.push(named),
            Err(refusal) => refuse(refusal),
        }
    }
    if reasons.is_empty() { Ok(found) } else { Err(CheckpointError::Lossy { reasons }) }
}

fn mapped(entry: &sys::proc::MapsEntry<'_>) -> Mapped {
    let name = String::from_utf8_lossy(&entry.name()).into_owned();
    Mapped {
        range: entry.range,
        is_private: entry.sharing == Sharing::Private,
        is_writable: entry.protection.write,
        is_code: entry.protection.exec,
        what: if entry.has_inode() { name } else { what(name) },
    }
}

/// What memory without a file, which the kernel gives this name, is other than plain.
fn what(name: String) -> String {
    if name == "[heap]" || name.starts_with("[anon:") { String::new() } else { name }
}

/// Reads `range=START-END,type=f64,abs=1e-3`.
fn parse(text: &str) -> Result<Asked, Vec<Refusal>> {
    let (mut places, mut types, mut bounds, mut reasons) = (vec![], vec![], vec![], vec![]);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let number = || match value.parse::<f64>() {
            Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
            _ => refused(format!("{value:?} is no bound"), BOUNDS),
        };
        let read = match key {
            "range" => addresses(value).map(|range| places.push(Place::Range(range))),
            "symbol" if !value.is_empty() => {
                places.push(Place::Symbol(value.to_owned()));
                Ok(())
            }
            "type" => match NumericType::from_name(value) {
                Some(numeric) => {
                    types.push(numeric);
                    Ok(())
                }
                None => refused(format!("there is no type {value:?}"), TYPES),
            },
            "abs" => number().map(|bound| bounds.push(LossBound::Absolute(bound))),
            "rel" => number().map(|bound| bounds.push(LossBound::Relative(bound))),
            "range-rel" => number().map(|fraction| {
                bounds.push(LossBound::RangeRelative { fraction, span: 0.0 });
            }),
            _ => refused(format!("{part:?} is not understood"), FORM),
        };
        reasons.extend(read.err());
    }
    if reasons.is_empty() {
        for (count, what) in
            [(places.len(), "place"), (types.len(), "type"), (bounds.len(), "bound")]
        {
            if count != 1 {
                reasons.extend(refused::<()>(format!("it has {count} {what}s"), FORM).err());
            }
        }
    }
    match (places.pop(), types.pop(), bounds.pop()) {
        (Some(place), Some(numeric), Some(bound)) if reasons.is_empty() => {
            Ok(Asked { place, numeric, bound })
        }
        _ => Err(reasons),
    }
}

fn addresses(text: &str) -> Result<AddrRange, Refusal> {
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
    let ends = text.split_once('-').and_then(|(start, end)| hex(start).zip(hex(end)));
    match ends {
        Some((start, end)) if start < end => Ok(AddrRange::new(start, end)),
        _ => refused(format!("{text:?} is no range"), ADDRESSES),
    }
}

/// Whether `range` lies in one mapping of plain memory.
fn one_mapping(maps: &[Mapped], range: AddrRange) -> Result<(), Refusal> {
    let Some(mapping) = maps.iter().find(|mapping| mapping.range.contains(range.start)) else {
        return refused(format!("nothing is mapped at {}", range.start), INSIDE);
    };
    if !mapping.what.is_empty() {
        return refused(format!("it is in {}", mapping.what), INSIDE);
    }
    is_own(mapping)?;
    if range.end > mapping.range.end {
        return refused(format!("it goes on behind the mapping {}", mapping.range), INSIDE);
    }
    Ok(())
}

/// Whether memory is the program's own and no code.
fn is_own(mapping: &Mapped) -> Result<(), Refusal> {
    let Mapped { range, is_private, is_writable, is_code, .. } = mapping;
    let wrong = match (is_private, is_writable, is_code) {
        (false, ..) => "shared",
        (_, false, _) => "not writable",
        (.., true) => "executable",
        _ => return Ok(()),
    };
    refused(format!("the mapping {range} is {wrong}"), INSIDE)
}

/// The one data object with this name.
fn object(
    process: &Process,
    maps: &[Mapped],
    name: &str,
) -> Result<Result<AddrRange, Refusal>, CheckpointError> {
    const SYMBOLS: &str = "name a global data object of the program, or of a library that it has \
                           mapped, whose file has its symbol; else use range=START-END";
    let objects = profile::data_objects(process, name).map_err(CheckpointError::Symbols)?;
    Ok(match objects[..] {
        [] => refused("there is no such object", SYMBOLS),
        [range] => covered(maps, range).map(|()| range),
        _ => {
            let places: Vec<String> = objects.iter().map(ToString::to_string).collect();
            refused(format!("there are several: {}", places.join(", ")), SYMBOLS)
        }
    })
}

/// Whether `range` lies in mappings without a gap, each of them the program's own.
fn covered(maps: &[Mapped], range: AddrRange) -> Result<(), Refusal> {
    let mut at = range.start;
    while at < range.end {
        let Some(mapping) = maps.iter().find(|mapping| mapping.range.contains(at)) else {
            return refused(format!("nothing is mapped at {at}"), INSIDE);
        };
        is_own(mapping)?;
        at = mapping.range.end;
    }
    Ok(())
}

/// Whether a range holds elements, and none of another range.
fn fits(named: &LossyRange, others: &[LossyRange]) -> Result<(), Refusal> {
    let width = u64::try_from(named.numeric.width_bytes()).unwrap_or(u64::MAX);
    let LossyRange { range, numeric, bound, .. } = *named;
    if range.len() < width {
        return refused("it is shorter than an element", "name more bytes");
    }
    if !range.start.0.is_multiple_of(width) {
        let cause = format!("{} is not at a multiple of {width}", range.start);
        return refused(cause, "name whole elements, as the program has them");
    }
    let is_float = matches!(numeric, NumericType::F32 | NumericType::F64);
    if !is_float && matches!(bound, LossBound::Relative(_)) {
        return refused("rel is for f32 and f64", "use abs or range-rel");
    }
    match others.iter().find(|other| other.range.overlaps(range)) {
        Some(other) => refused(format!("it overlaps {}", other.range), "name each byte once"),
        None => Ok(()),
    }
}

/// `plan`, with pages warm that it has critical although every byte of them is named: critical
/// pages are saved in full, and somebody wants these smaller rather than sooner.
pub(crate) fn warmed(plan: Plan, named: &[LossyRange]) -> Plan {
    let reason: Arc<str> = "every number in it is named by --lossy".into();
    let critical = plan.tier_pages(MEMORY, Tier::Critical);
    let mut extents = Vec::new();
    for range in named.iter().map(|named| named.range) {
        let pages = range.pages();
        let start = if range.start.is_page_aligned() { pages.start } else { pages.start.offset(1) };
        let end = range.end.page();
        if start >= end {
            continue;
        }
        extents.extend(critical.within(PageRange { start, end }).map(|pages| Extent {
            memory: MEMORY,
            pages,
            tier: Tier::Warm,
            treatment: Treatment::Lossy,
            load_order: 0,
            reason: Arc::clone(&reason),
        }));
    }
    if extents.is_empty() { plan } else { Plan { extents }.beside(&plan) }
}

/// The program stands still: what was named, each by one of `specifications`, has to be in the
/// kind of memory that it was in when it was looked at.
pub(super) fn refuse_moved(
    captured: &Captured,
    named: &[LossyRange],
    specifications: &[String],
) -> Result<(), CheckpointError> {
    let spaces = captured.instance.spaces.iter().take(1);
    let maps: Vec<Mapped> = spaces.flat_map(|space| space.mappings.iter().map(stood)).collect();
    for (range, specification) in named.iter().map(|named| named.range).zip(specifications) {
        let by_address = parse(specification).is_ok_and(|a| matches!(a.place, Place::Range(_)));
        if !is_there(&maps, range, by_address) {
            return Err(CheckpointError::LossyMoved { range });
        }
    }
    Ok(())
}

/// Whether `range` is memory of the program's own; what is named by its address, plain memory.
fn is_there(maps: &[Mapped], range: AddrRange, by_address: bool) -> bool {
    let mut here = maps.iter().filter(|mapping| mapping.range.overlaps(range));
    covered(maps, range).is_ok() && !(by_address && here.any(|mapping| !mapping.what.is_empty()))
}

fn stood(mapping: &Mapping) -> Mapped {
    let name = String::from_utf8_lossy(&mapping.name).into_owned();
    Mapped {
        range: mapping.range,
        is_private: mapping.holds_private_pages(),
        is_writable: mapping.protection.write,
        is_code: mapping.protection.exec,
        what: match mapping.backing {
            Backing::Anonymous => what(name),
            _ => "a file".to_owned(),
        },
    }
}

/// Encodes what is kept aside, by the plan that the checkpoint will have.
pub(super) fn approximate(
    writer: &CheckpointWriter,
    (named, plan): (&[LossyRange], &Plan),
    nice: i32,
    watch: &Watch,
    observer: &dyn Observer,
) -> Result<(), CheckpointError> {
    let critical = plan.tier_pages(MEMORY, Tier::Critical);
    for named in named {
        let pages: PageSet = critical.within(named.pages()).collect();
        // Its first and its last page may have something else in them.
        if pages.count().0 > 2 {
            let bytes = pages.count().bytes();
            let range = named.range;
            observer.warn(&format!("{bytes} bytes of {range} are critical, and saved in full"));
        }
    }
    let go_on = || watch.check().map_err(CheckpointError::from);
    let Some(approximation) = writer.approximation(plan, &go_on)? else { return Ok(()) };
    let total = approximation.bytes();
    let done = AtomicU64::new(0);
    let work = || {
        approximation.work(&|bytes| {
            let so_far = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            observer.progress(so_far, total);
            go_on()
        })
    };
    side_by_side(workers(), nice, work, || {
        CheckpointError::Drain("a worker thread panicked; this is a bug".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(start: u64, end: u64) -> Mapped {
        Mapped {
            range: AddrRange::new(start, end),
            is_private: true,
            is_writable: true,
            is_code: false,
            what: String::new(),
        }
    }

    #[test]
    fn specifications_are_read() {
        let asked = parse("range=7f00-0x8000,type=f32,range-rel=1e-3").unwrap();
        assert_eq!(asked.place, Place::Range(AddrRange::new(0x7f00, 0x8000)));
        assert_eq!(asked.bound, LossBound::RangeRelative { fraction: 1e-3, span: 0.0 });
        let asked = parse("abs=0.5,symbol=field,type=i16").unwrap();
        assert_eq!(asked.place, Place::Symbol("field".to_owned()));
        assert_eq!((asked.numeric, asked.bound), (NumericType::I16, LossBound::Absolute(0.5)));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let causes = |text: &str| -> Vec<String> {
            parse(text).unwrap_err().into_iter().map(|refusal| refusal.cause).collect()
        };
        assert_eq!(
            causes("range=8-4,type=f31,abs=-1"),
            ["\"8-4\" is no range", "there is no type \"f31\"", "\"-1\" is no bound"]
        );
        for bound in ["abs=0", "rel=NaN", "range-rel=inf", "abs=", "abs"] {
            assert_eq!(causes(&format!("range=0-8,type=f64,{bound}")).len(), 1, "{bound}");
        }
        assert_eq!(causes("range=0-8,type=f64"), ["it has 0 bounds"]);
        assert_eq!(causes("range=0-8,symbol=x,abs=1,rel=1").len(), 3);
        assert_eq!(causes("nonsense=1").len(), 1);
    }

    #[test]
    fn ranges_lie_in_one_mapping_of_the_programs_own() {
        let code = Mapped { is_code: true, ..plain(0x3000, 0x4000) };
        let shared = Mapped { is_private: false, ..plain(0x5000, 0x6000) };
        let file = Mapped { what: "/lib/x".to_owned(), ..plain(0x7000, 0x8000) };
        let maps = [plain(0x1000, 0x2000), plain(0x2000, 0x3000), code, shared, file];
        let cause = |start, end| one_mapping(&maps, AddrRange::new(start, end)).err();
        assert_eq!(cause(0x1008, 0x2000), None);
        for (start, end) in [(0x1008, 0x2008), (0x3000, 0x3008), (0x4000, 0x4008)] {
            assert!(cause(start, end).is_some());
        }
        assert!(cause(0x5000, 0x5008).unwrap().cause.contains("shared"));
        assert!(cause(0x7000, 0x7008).unwrap().cause.contains("/lib/x"));
        assert_eq!(covered(&maps, AddrRange::new(0x1008, 0x2008)), Ok(()));
        assert!(covered(&maps, AddrRange::new(0x2008, 0x3008)).is_err());
        assert_eq!(covered(&maps, AddrRange::new(0x7000, 0x8000)), Ok(()));
    }

    #[test]
    fn what_became_a_file_meanwhile_is_there_no_more() {
        let mapping = |start, end, backing, name: &[u8]| {
            stood(&Mapping {
                range: AddrRange::new(start, end),
                protection: mem::Protection { read: true, write: true, exec: false },
                sharing: Sharing::Private,
                backing,
                name: name.to_vec(),
                vm_flags: Vec::new(),
                guards: Vec::new(),
            })
        };
        let file = Backing::SharedObject { object: 0, offset_bytes: 0 };
        let maps = [
            mapping(0x1000, 0x2000, Backing::Anonymous, b""),
            mapping(0x2000, 0x3000, Backing::Anonymous, b"[heap]"),
            mapping(0x3000, 0x4000, file, b""),
            mapping(0x4000, 0x5000, Backing::Anonymous, b"[stack]"),
        ];
        let there =
            |start, end, by_address| is_there(&maps, AddrRange::new(start, end), by_address);
        assert!(there(0x1008, 0x3000, true) && there(0x1008, 0x3008, false));
        assert!(!there(0x1008, 0x3008, true) && !there(0x3000, 0x3008, true));
        assert!(!there(0x4000, 0x4008, true) && !there(0x4ff8, 0x5008, false));
    }

    #[test]
    fn whole_pages_that_are_named_are_not_critical() {
        let extent = |start, end, tier| Extent {
            memory: MEMORY,
            pages: PageRange::new(start, end),
            tier,
            treatment: Treatment::Zstd,
            load_order: 7,
            reason: "".into(),
        };
        let plan = Plan { extents: vec![extent(1, 9, Tier::Critical), extent(9, 20, Tier::Cold)] };
        let named = LossyRange {
            memory: MEMORY,
            range: AddrRange::new(0x3008, 0xa000),
            numeric: NumericType::F64,
            bound: LossBound::Absolute(1.0),
        };
        let warmed = warmed(plan.clone(), &[named]);
        let tier = |page| warmed.by_place().at(MEMORY, mem::PageIndex(page)).map(|e| e.tier);
        assert_eq!([1, 3].map(tier), [Some(Tier::Critical); 2]);
        assert_eq!([4, 8].map(tier), [Some(Tier::Warm); 2]);
        assert_eq!(tier(9), Some(Tier::Cold));
        let small = LossyRange { range: AddrRange::new(0x3008, 0x3ff8), ..named };
        assert_eq!(super::warmed(plan.clone(), &[small]), plan);
    }

    #[test]
    fn elements_are_whole_and_in_one_range() {
        let named = |start, end, numeric| LossyRange {
            memory: MEMORY,
            range: AddrRange::new(start, end),
            numeric,
            bound: LossBound::Absolute(1.0),
        };
        let other = [named(0x1000, 0x1100, NumericType::F32)];
        assert_eq!(fits(&named(0x1100, 0x1109, NumericType::F64), &other), Ok(()));
        assert!(fits(&named(0x10f8, 0x1200, NumericType::F64), &other).is_err());
        assert!(fits(&named(0x2004, 0x2100, NumericType::F64), &other).is_err());
        assert!(fits(&named(0x2000, 0x2004, NumericType::F64), &other).is_err());
        let mut integers = named(0x2000, 0x3000, NumericType::I32);
        integers.bound = LossBound::Relative(0.1);
        assert!(fits(&integers, &other).is_err());
    }
}
