//! Global data objects of a program by their names.

use std::ops::ControlFlow;
use std::path::PathBuf;

use blazesym::SymType;
use blazesym::inspect::Inspector;
use blazesym::inspect::source::{Elf, Source};
use mem::AddrRange;
use sys::remote::ProcMem;
use target::Process;

use crate::ProfileError;
use crate::maps::{MappedImage, Maps};

/// Where the global data objects of this name are, in the program itself or in a library that it
/// has mapped: by the symbols of their ELF files, with their sizes. Ascending, each once.
///
/// # Errors
/// When the program's mappings or memory cannot be read. A file without symbols has none.
pub fn data_objects(process: &Process, name: &str) -> Result<Vec<AddrRange>, ProfileError> {
    let pid = process.pid().raw();
    let mem = ProcMem::open(process.pid()).map_err(|cause| ProfileError::Memory { pid, cause })?;
    let mut maps = Maps::default();
    maps.refresh(process, &mem)?;
    let mut found = Vec::new();
    for image in maps.images() {
        let result = Inspector::new().for_each(&symbols_of(pid, &image), |sym| {
            let size = u64::try_from(sym.size.unwrap_or(0)).unwrap_or(0);
            let start = image.bias.wrapping_add(sym.addr);
            if sym.sym_type == SymType::Variable && size > 0 && sym.name == name {
                found.extend(start.checked_add(size).map(|end| AddrRange::new(start, end)));
            }
            ControlFlow::Continue(())
        });
        if let Err(cause) = result {
            tracing::debug!(%cause, "a file's variables could not be read");
        }
    }
    found.sort_unstable_by_key(|range| (range.start, range.end));
    found.dedup();
    Ok(found)
}

/// The file of `image`, read through the program's own mapping of it.
pub(crate) fn symbols_of(pid: impl std::fmt::Display, image: &MappedImage) -> Source {
    let range = image.first;
    let path = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start.0, range.end.0);
    let mut source = Elf::new(PathBuf::from(path));
    source.debug_syms = false;
    Source::Elf(source)
}
