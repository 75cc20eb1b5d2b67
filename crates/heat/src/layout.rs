//! Where the keyed memory of a program lies at the moment.

use std::collections::BTreeMap;

use mem::{AddrRange, PAGE_SIZE, PageIndex, PageRange, Protection, Sharing, VirtAddr};

use crate::{FileKey, MappingKey, Place, RunId};

/// A line of `/proc/PID/maps` (proc_pid_maps(5)), with what it does not say.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Where the mapping lies.
    pub range: AddrRange,
    /// What it allows.
    pub protection: Protection,
    /// Private or shared.
    pub sharing: Sharing,
    /// Offset of its first byte in the file, in bytes; not looked at without a file.
    pub offset_bytes: u64,
    /// Device numbers of the file; 0, 0 without one.
    pub device: (u32, u32),
    /// Inode number of the file; 0 without one.
    pub inode: u64,
    /// The last column: a path, a name in brackets, or nothing.
    pub name: &'a [u8],
    /// The GNU build id of the file, empty when it has none or was not read.
    pub build_id: &'a [u8],
}

/// One mapping of a layout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// The virtual pages.
    pub pages: PageRange,
    /// What they belong to.
    pub key: MappingKey,
    /// The number of the first page inside of the key.
    pub first: u64,
    /// What is allowed: bit 0 read, bit 1 write, bit 2 execute, bit 3 shared.
    pub access: u8,
    /// The last column of the maps line, for people.
    pub name: Vec<u8>,
}

impl Region {
    /// The page of a `[stack]` key at which the stack's mapping ends.
    pub const STACK_TOP: u64 = 1 << 40;

    /// Whether stores were allowed.
    pub const fn is_writable(&self) -> bool {
        self.access & 2 != 0
    }
}

/// The mappings of a program at one moment, each with its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    run: RunId,
    regions: Vec<Region>,
}

impl Layout {
    /// The layout that the lines of `/proc/PID/maps` show, in their order (ascending). Lines
    /// that overlap one before them are left out.
    pub fn new<'a>(lines: impl IntoIterator<Item = Seen<'a>>) -> Self {
        let lines: Vec<Seen<'_>> = lines.into_iter().filter(|l| !l.range.is_empty()).collect();
        let run = run_id(&lines);
        let mut namer = Namer { run, ..Namer::default() };
        let mut regions: Vec<Region> = Vec::with_capacity(lines.len());
        for line in &lines {
            let pages = line.range.pages();
            if regions.last().is_some_and(|last| last.pages.end > pages.start) {
                continue;
            }
            let (key, first) = namer.name(line);
            let access = access(line.protection, line.sharing);
            regions.push(Region { pages, key, first, access, name: line.name.to_vec() });
        }
        Self { run, regions }
    }

    /// A layout out of its parts: regions that ascend and do not overlap.
    pub(crate) fn from_parts(run: RunId, regions: Vec<Region>) -> Self {
        debug_assert!(regions.windows(2).all(|w| w[0].pages.end <= w[1].pages.start));
        Self { run, regions }
    }

    /// The run that the layout belongs to.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// The mappings, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region that holds `page`, with its position.
    pub fn find(&self, page: PageIndex) -> Option<(usize, &Region)> {
        let at = self.regions.partition_point(|r| r.pages.end <= page);
        self.regions.get(at).filter(|r| r.pages.contains(page)).map(|r| (at, r))
    }

    /// The keyed name of an address, or `None` where nothing is mapped.
    pub fn place(&self, address: VirtAddr) -> Option<Place> {
        let (_, region) = self.find(address.page())?;
        let page = region.first + (address.page().0 - region.pages.start.0);
        let offset_bytes = page.checked_mul(PAGE_SIZE)?.checked_add(address.0 % PAGE_SIZE)?;
        Some(Place { key: region.key.clone(), offset_bytes })
    }

    /// Where a keyed place lies in this layout, or `None` when it is not mapped. The first of
    /// several.
    pub fn address(&self, place: &Place) -> Option<VirtAddr> {
        let page = place.offset_bytes / PAGE_SIZE;
        let holds = |r: &&Region| {
            r.key == place.key && r.first <= page && page - r.first < r.pages.count().0
        };
        let region = self.regions.iter().find(holds)?;
        let start = region.pages.start.0 + (page - region.first);
        Some(VirtAddr(start * PAGE_SIZE + place.offset_bytes % PAGE_SIZE))
    }
}

fn access(protection: Protection, sharing: Sharing) -> u8 {
    u8::from(protection.read)
        | u8::from(protection.write) << 1
        | u8::from(protection.exec) << 2
        | u8::from(sharing == Sharing::Shared) << 3
}

/// FNV-1a over what address randomisation moves and a resume puts back: the first file mapping
/// (the program itself, in all but odd cases) with its address, and where the stack ends.
fn run_id(lines: &[Seen<'_>]) -> RunId {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    if let Some(program) = lines.iter().find(|l| l.inode != 0) {
        take(&program.range.start.0.to_le_bytes());
        take(program.build_id);
        take(&program.inode.to_le_bytes());
    }
    if let Some(stack) = lines.iter().find(|l| l.name == b"[stack]") {
        take(&stack.range.end.0.to_le_bytes());
    }
    RunId(hash)
}

/// Gives keys to lines in ascending order.
#[derive(Default)]
struct Namer {
    run: RunId,
    /// How many regions of a name there were, and the pages of the newest.
    named: BTreeMap<Vec<u8>, (u32, PageRange)>,
    /// How many objects of a name there were, and the number of each.
    objects: BTreeMap<Vec<u8>, u32>,
    object_numbers: BTreeMap<((u32, u32), u64), u32>,
    /// The end and the file of the line before, when that was a private file mapping.
    behind: Option<(VirtAddr, FileKey)>,
}

impl Namer {
    fn name(&mut self, line: &Seen<'_>) -> (MappingKey, u64) {
        let behind = self.behind.take();
        if line.inode != 0 {
            let offset = line.offset_bytes / PAGE_SIZE;
            if let Some(name) = object_name(line.name) {
                return (self.object(line, name), offset);
            }
            let file = file_key(line);
            if line.sharing == Sharing::Private {
                self.behind = Some((line.range.end, file.clone()));
            }
            return (MappingKey::File(file), offset);
        }
        if line.name.starts_with(b"[") {
            return self.region(line);
        }
        match behind {
            Some((end, file)) if end == line.range.start => (MappingKey::Bss(file), 0),
            _ => (MappingKey::Anonymous { run: self.run }, line.range.start.page().0),
        }
    }

    /// A region with a name. A piece that mprotect(2) cut off goes on where the one before it
    /// ends, and all of the heap counts from its first page, holes or not.
    fn region(&mut self, line: &Seen<'_>) -> (MappingKey, u64) {
        let pages = line.range.pages();
        let count = self.named.entry(line.name.to_vec()).or_insert((0, pages));
        let (ordinal, base) = count;
        let goes_on = base.end == pages.start || line.name == b"[heap]";
        if *ordinal > 0 && goes_on {
            base.end = pages.end;
        } else {
            *ordinal = ordinal.saturating_add(1);
            *base = pages;
        }
        let first = pages.start.0 - base.start.0;
        let key = MappingKey::Named { name: line.name.to_vec(), ordinal: *ordinal - 1 };
        if line.name == b"[stack]" {
            return (key, Region::STACK_TOP.saturating_sub(pages.count().0));
        }
        (key, first)
    }

    fn object(&mut self, line: &Seen<'_>, name: &[u8]) -> MappingKey {
        let counts = &mut self.objects;
        let ordinal = *self.object_numbers.entry((line.device, line.inode)).or_insert_with(|| {
            let count = counts.entry(name.to_vec()).or_default();
            *count = count.saturating_add(1);
            *count - 1
        });
        MappingKey::Object { name: name.to_vec(), ordinal }
    }
}

fn file_key(line: &Seen<'_>) -> FileKey {
    if line.build_id.is_empty() {
        FileKey::Inode { device: line.device, inode: line.inode }
    } else {
        FileKey::BuildId(line.build_id.to_vec())
    }
}

/// The name of an object whose inode means nothing in another run, or `None` for a file.
fn object_name(path: &[u8]) -> Option<&[u8]> {
    let plain = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let is_object = plain.starts_with(b"/memfd:")
        || plain.starts_with(b"/SYSV")
        || plain.starts_with(b"/dev/shm/")
        || plain.starts_with(b"[anon_shmem:")
        || plain == b"/dev/zero";
    is_object.then(|| plain.strip_prefix(b"/").unwrap_or(plain))
}
