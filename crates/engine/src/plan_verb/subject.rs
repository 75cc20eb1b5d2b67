//! What a plan is made for: a heat file, a running program, a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heat::{Heat, Layout, Seen};
use image::Frame;
use mem::{Backing, Mapping, MemoryId, PageSet, Sharing};
use partition::{
    HeatPages, HeatRuns, HeatView, Inventory, Kind, NoHeat, Provenance, Region, Stretch,
};
use plan::Treatment;
use process::InstanceId;
use store::{Checkpoint, Store, StoreError};
use sys::pagemap::{Pagemap, ScanFilter};
use sys::proc::{MapsEntry, maps_entries};
use target::{Pace, Process};

use super::PlanVerbError;
use crate::heat_map::read_heat_file;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::target_name;

/// What there is to plan for.
pub(crate) struct Subject {
    pub(crate) inventory: Inventory,
    pub(crate) heat: Box<dyn HeatView>,
    pub(crate) notes: Vec<String>,
}

/// Where what is known of accesses comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeatChoice {
    /// What the instance's line has learned.
    #[default]
    Line,
    /// Nothing: kinds of memory alone decide.
    None,
    /// A `.heat` file, also of another run of the same program.
    File(PathBuf),
}

/// Finds what `subject` names.
pub(super) fn find(
    settings: &Settings,
    registry: &Registry,
    subject: &str,
) -> Result<Subject, PlanVerbError> {
    let path = Path::new(subject);
    let is_heat_file = path.extension().is_some_and(|e| e == "heat");
    if is_heat_file || (subject.contains('/') && path.is_file()) {
        return of_heat_file(path);
    }
    // As everywhere: 12 hex digits are an instance, fewer decimal ones a pid.
    let is_pid = subject.len() < 12 && subject.parse::<u32>().is_ok();
    if is_pid || subject.parse::<InstanceId>().is_ok() {
        return of_process(settings, subject, registry);
    }
    let found = Store::find(&settings.store, subject)?;
    of_checkpoint(&found.open()?, &found.store)
}

/// What a line has learned. Heat is advice: where there is none, or none that can be read, kinds
/// of memory decide, and a note says so.
fn heat_of_line(
    store: &Store,
    instance: &InstanceId,
    layout: &Layout,
    notes: &mut Vec<String>,
) -> Box<dyn HeatView> {
    let path = store.heat_path(instance);
    match store.heat(instance) {
        Ok(Some(bytes)) => match Heat::decode(&bytes) {
            Ok(heat) => return Box::new(HeatRuns::of_private(&heat, layout)),
            Err(error) => {
                notes.push(format!("the heat in {} is left out: {error}", path.display()))
            }
        },
        Ok(None) => {}
        Err(error) => notes.push(format!("the heat of the line is left out: {error}")),
    }
    notes.push(NOTHING_KNOWN.to_owned());
    Box::new(NoHeat)
}

fn of_heat_file(path: &Path) -> Result<Subject, PlanVerbError> {
    let heat = read_heat_file(path)?;
    let pages = HeatPages::new(&heat).ok_or_else(|| PlanVerbError::Empty(path.to_owned()))?;
    let mut notes =
        vec!["planned from heat alone: pages of which nothing is known are left out".to_owned()];
    if pages.unknown_pages > 0 {
        notes.push(format!("nothing is known of {} mapped pages", pages.unknown_pages));
    }
    Ok(Subject { inventory: pages.inventory, heat: Box::new(pages.heat), notes })
}

const NOTHING_KNOWN: &str =
    "nothing is known of accesses: kinds of memory alone decide; `rekindle profile` learns more";

fn of_process(
    settings: &Settings,
    subject: &str,
    registry: &Registry,
) -> Result<Subject, PlanVerbError> {
    let found = target_name::find(subject, registry)?;
    match Store::open(&settings.store) {
        Ok(store) => look(&found.process, &found.line.instance, Some(&store), &HeatChoice::Line),
        // No store yet: nothing can have been learned.
        Err(StoreError::Missing(_)) => {
            look(&found.process, &found.line.instance, None, &HeatChoice::Line)
        }
        Err(error) => Err(error.into()),
    }
}

/// Bytes looked through in one step at most; the lock of the program's memory map is held meanwhile.
const LOOKED_BYTES: u64 = 32 << 20;

/// The private memory of a running program, and how it is mapped. It is only looked at; it runs on
/// meanwhile.
pub(crate) fn inventory(process: &Process) -> Result<(Layout, Inventory), PlanVerbError> {
    let dir = process.dir();
    let pagemap = Pagemap::open(dir)?;
    let mut text = Vec::new();
    let (layout, regions) = dir.parse("maps", &mut text, |text| {
        let entries = maps_entries(text).collect::<Result<Vec<_>, _>>()?;
        let regions: Vec<_> = entries.iter().filter_map(private_region).collect();
        // Build ids are not read here: what is left to match by is enough for advice.
        Ok((Layout::new(entries.iter().map(|entry| profile::seen(entry, b""))), regions))
    })?;
    let mut set = PageSet::new();
    let pace = Pace::new(LOOKED_BYTES);
    for region in &regions {
        pace.each(region.pages.addrs(), true, |range| {
            let found = |run: sys::pagemap::Region| set.insert(run.range.pages());
            pagemap.scan(range, &ScanFilter::PRIVATE_CONTENT, found).map(|()| true)
        })?;
    }
    let seeds = loaded_anyway(&set, &regions);
    let inventory = Inventory::new(vec![(MemoryId::Private(0), set)], regions)?.with_seeds(seeds);
    Ok((layout, inventory))
}

/// The same with what is known of accesses to it.
pub(crate) fn look(
    process: &Process,
    instance: &InstanceId,
    store: Option<&Store>,
    heat: &HeatChoice,
) -> Result<Subject, PlanVerbError> {
    let (layout, inventory) = inventory(process)?;
    with_heat(&layout, inventory, instance, store, heat)
}

/// What is known of accesses beside an inventory that was made.
pub(crate) fn with_heat(
    layout: &Layout,
    inventory: Inventory,
    instance: &InstanceId,
    store: Option<&Store>,
    heat: &HeatChoice,
) -> Result<Subject, PlanVerbError> {
    let mut notes =
        vec!["private memory only: shared objects are seen when a checkpoint is taken".to_owned()];
    let heat: Box<dyn HeatView> = match (heat, store) {
        (HeatChoice::File(path), _) => {
            Box::new(HeatRuns::of_private(&read_heat_file(path)?, layout))
        }
        (HeatChoice::Line, Some(store)) => heat_of_line(store, instance, layout, &mut notes),
        _ => {
            notes.push(NOTHING_KNOWN.to_owned());
            Box::new(NoHeat)
        }
    };
    Ok(Subject { inventory, heat, notes })
}

/// The pages of `set` that every resume loads before the start, lazy or not.
fn loaded_anyway(set: &PageSet, regions: &[Stretch<Region>]) -> Vec<Stretch<Arc<str>>> {
    let reason: Arc<str> = "loaded before the start by every resume".into();
    let is_loaded = |region: &&Stretch<Region>| {
        let pages: u64 = set.within(region.pages).map(|run| run.count().0).sum();
        matches!(region.value.kind, Kind::Stack | Kind::FileData)
            || (1..::resume::LAZY_PAGES_MIN).contains(&pages)
    };
    let seed = |region: &Stretch<Region>| Stretch {
        memory: region.memory,
        pages: region.pages,
        value: Arc::clone(&reason),
    };
    regions.iter().filter(is_loaded).map(seed).collect()
}

/// A captured mapping as heat knows it.
pub(crate) fn seen_then(mapping: &Mapping) -> Seen<'_> {
    let mut seen = Seen {
        range: mapping.range,
        protection: mapping.protection,
        sharing: mapping.sharing,
        offset_bytes: 0,
        device: (0, 0),
        inode: 0,
        name: &mapping.name,
        build_id: b"",
    };
    if let Backing::File { file, offset_bytes } = &mapping.backing {
        seen.offset_bytes = *offset_bytes;
        seen.device = (rustix::fs::major(file.device), rustix::fs::minor(file.device));
        seen.inode = file.inode;
        seen.name = &file.path;
        seen.build_id = &file.build_id;
    }
    seen
}

/// The region of a line of maps, unless it holds no private pages.
fn private_region(entry: &MapsEntry<'_>) -> Option<Stretch<Region>> {
    let name = entry.name();
    let kind = match name.as_slice() {
        b"[heap]" => Kind::Heap,
        b"[stack]" => Kind::Stack,
        b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" | b"[vsyscall]" | b"[uprobes]" => return None,
        _ if entry.sharing == Sharing::Shared => return None,
        _ if entry.has_inode() => Kind::FileData,
        _ => Kind::of_anonymous(entry.range.pages().count().0),
    };
    let value = Region {
        kind,
        writable: entry.protection.write,
        passing: false,
        name: String::from_utf8_lossy(&name).into(),
    };
    Some(Stretch { memory: MemoryId::Private(0), pages: entry.range.pages(), value })
}

/// The pages of a checkpoint.
fn of_checkpoint(checkpoint: &Checkpoint, store: &Store) -> Result<Subject, PlanVerbError> {
    let instance = checkpoint.instance();
    let mut regions = Vec::new();
    for (space, number) in instance.spaces.iter().zip(0u32..) {
        let private = |mapping: &Mapping| Stretch::of_mapping(number, mapping);
        regions.extend(space.mappings.iter().filter_map(private));
    }
    for (object, number) in instance.objects.iter().zip(0u32..) {
        regions.push(Stretch::of_object(number, object.size_bytes));
    }
    let mut sets = BTreeMap::<MemoryId, PageSet>::new();
    let mut provenance = Vec::new();
    let mut frames = checkpoint.frames_in_load_order();
    frames.sort_unstable_by_key(|frame| (frame.memory, frame.pages.start));
    for frame in frames {
        sets.entry(frame.memory).or_default().insert(frame.pages);
        if frame.treatment == Treatment::Zero {
            let Frame { memory, pages, .. } = frame;
            provenance.push(Stretch { memory, pages, value: Provenance::Zero });
        }
    }
    let inventory =
        Inventory::new(sets.into_iter().collect(), regions)?.with_provenance(provenance);
    let mappings = instance.spaces.first().map_or(&[][..], |space| &space.mappings);
    let layout = Layout::new(mappings.iter().map(seen_then));
    let mut notes = Vec::new();
    let heat = heat_of_line(store, &instance.line.instance, &layout, &mut notes);
    Ok(Subject { inventory, heat, notes })
}
