//! The mappings of the program as they are now, and the tables of the files among them.

use std::collections::HashMap;

use heat::{Layout, Seen};
use mem::{AddrRange, PageIndex};
use sys::proc::{MapsEntry, ProcError, maps_entries};
use sys::remote::ProcMem;
use target::Process;

use crate::elf::Image;

/// Device and inode.
pub(crate) type FileNumber = ((u32, u32), u64);

/// An ELF file that is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedImage {
    pub(crate) file: FileNumber,
    /// The mapping of its first byte.
    pub(crate) first: AddrRange,
    /// What is added to its own addresses.
    pub(crate) bias: u64,
}

/// A mapping, as far as collectors look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) range: AddrRange,
    pub(crate) exec: bool,
    pub(crate) write: bool,
    pub(crate) shared: bool,
    /// Device and inode of the file or object, if there is one.
    pub(crate) file: Option<FileNumber>,
    pub(crate) offset_bytes: u64,
    pub(crate) name: Vec<u8>,
}

impl Mapped {
    /// What a line of maps says.
    pub(crate) fn new(entry: &MapsEntry<'_>) -> Self {
        Self {
            range: entry.range,
            exec: entry.protection.exec,
            write: entry.protection.write,
            shared: entry.sharing == mem::Sharing::Shared,
            file: entry.has_inode().then_some((entry.device, entry.inode)),
            offset_bytes: entry.offset_bytes,
            name: entry.name(),
        }
    }

    /// Whether the kernel made it: `[vdso]`, `[vvar]` and the like.
    pub(crate) fn is_special(&self) -> bool {
        self.name.starts_with(b"[v") || self.name.starts_with(b"[uprobes")
    }
}

/// The mappings of a program.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    list: Vec<Mapped>,
    /// By device and inode, and where the file's first byte is mapped.
    images: HashMap<((u32, u32), u64, u64), Option<Image>>,
    buffer: Vec<u8>,
    text: Vec<u8>,
}

/// A line of maps as heat knows it. Without a build id memory is matched by name, address and
/// shape.
pub fn seen<'a>(entry: &MapsEntry<'a>, build_id: &'a [u8]) -> Seen<'a> {
    Seen {
        range: entry.range,
        protection: entry.protection,
        sharing: entry.sharing,
        offset_bytes: entry.offset_bytes,
        device: entry.device,
        inode: entry.inode,
        name: entry.name_raw,
        build_id,
    }
}

impl Maps {
    /// Reads the mappings anew; a new layout when they are not the same as before.
    pub(crate) fn refresh(
        &mut self,
        process: &Process,
        mem: &ProcMem,
    ) -> Result<Option<Layout>, ProcError> {
        process.dir().read("maps", &mut self.buffer)?;
        if self.buffer == self.text {
            return Ok(None);
        }
        std::mem::swap(&mut self.buffer, &mut self.text);
        let text = std::mem::take(&mut self.text);
        let layout = self.take_in(&text, mem);
        self.text = text;
        Ok(Some(layout))
    }

    fn take_in(&mut self, text: &[u8], mem: &ProcMem) -> Layout {
        self.list.clear();
        let mut layout_lines = Vec::new();
        // The kernel writes whole lines; what would not parse is left out rather than guessed.
        for entry in maps_entries(text).flatten() {
            self.list.push(Mapped::new(&entry));
            layout_lines.push(entry);
        }
        self.read_images(mem);
        let ids: Vec<&[u8]> = self.list.iter().map(|m| self.build_id(m)).collect();
        let seen = layout_lines.iter().zip(&ids).map(|(entry, build_id)| seen(entry, build_id));
        Layout::new(seen)
    }

    /// The mappings, ascending.
    pub(crate) fn list(&self) -> &[Mapped] {
        &self.list
    }

    /// The mapping that holds the address.
    pub(crate) fn find(&self, addr: u64) -> Option<&Mapped> {
        let at = self.list.partition_point(|m| m.range.end.0 <= addr);
        self.list.get(at).filter(|m| m.range.start.0 <= addr)
    }

    /// The mapping that holds the page.
    pub(crate) fn find_page(&self, page: PageIndex) -> Option<&Mapped> {
        self.find(page.addr().0)
    }

    /// The bounds of the function at `ip`, when the file's own table tells them.
    pub(crate) fn function(&self, ip: u64) -> Option<AddrRange> {
        let mapped = self.find(ip)?;
        let image = self.images.get(&self.image_key(mapped)?)?.as_ref()?;
        let function = image.function(ip)?;
        let end = function.end.min(mapped.range.end);
        (function.start >= mapped.range.start).then(|| AddrRange::new(function.start.0, end.0))
    }

    /// The ELF files with code that are mapped.
    pub(crate) fn images(&self) -> impl Iterator<Item = MappedImage> {
        self.images.iter().filter_map(|((device, inode, start), image)| {
            let first = self.find(*start)?.range;
            let bias = image.as_ref()?.bias;
            Some(MappedImage { file: (*device, *inode), first, bias })
        })
    }

    /// Whether `mapped` is the anonymous memory right behind a mapping of `file` (`.bss`).
    pub(crate) fn is_behind_file(&self, mapped: &Mapped, file: FileNumber) -> bool {
        let before = mapped.range.start.0.checked_sub(1).and_then(|addr| self.find(addr));
        mapped.file.is_none() && before.is_some_and(|m| m.file == Some(file))
    }

    fn read_images(&mut self, mem: &ProcMem) {
        let read =
            |addr: u64, buffer: &mut [u8]| mem.read_exact(mem::VirtAddr(addr), buffer).is_ok();
        let missing: Vec<_> = self
            .list
            .iter()
            .filter(|m| m.exec && !m.is_special())
            .filter_map(|m| self.image_key(m))
            .filter(|key| !self.images.contains_key(key))
            .collect();
        for key in missing {
            self.images.insert(key, Image::read(key.2, &read, true));
        }
    }

    /// Names the image that `mapped` is part of: the mapping of the same file before it (or
    /// itself) that shows the file's first byte.
    fn image_key(&self, mapped: &Mapped) -> Option<((u32, u32), u64, u64)> {
        let file = mapped.file?;
        let at = self.list.partition_point(|m| m.range.start <= mapped.range.start);
        let first = self.list[..at]
            .iter()
            .rev()
            .take(PIECES_MAX)
            .find(|m| m.file == Some(file) && m.offset_bytes == 0)?;
        Some((file.0, file.1, first.range.start.0))
    }

    fn build_id(&self, mapped: &Mapped) -> &[u8] {
        let key = self.image_key(mapped);
        let image = key.and_then(|key| self.images.get(&key)).and_then(Option::as_ref);
        image.map_or(&[], |image| &image.build_id)
    }
}

/// Mappings that one ELF file is mapped as, at most.
const PIECES_MAX: usize = 16;
