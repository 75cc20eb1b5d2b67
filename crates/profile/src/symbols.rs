//! Names: of the code that touches memory, and of the variables that are touched.
//!
//! ELF files are read through `/proc/PID/map_files`, so that the program's mount namespace and
//! deleted files make no difference; just-in-time compiled code by the map that the runtime
//! writes (`/tmp/perf-PID.map` in the program's namespace); the vdso too. What has no name stays
//! an address.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use blazesym::inspect::Inspector;
use blazesym::symbolize::source::{Process as ProcessSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Symbolized, Symbolizer};
use blazesym::{Pid, SymType};
use heat::{Heat, Layout, Place, Reading, Symbol, Variable};
use iced_x86::{Decoder, DecoderOptions, FastFormatter};
use mem::{PageIndex, VirtAddr};
use sys::remote::ProcMem;
use target::Process;

use crate::jit::JitMap;
use crate::maps::{FileNumber, Mapped, Maps};
use crate::objects::symbols_of;

/// The longest x86 instruction.
const INSTRUCTION_BYTES_MAX: usize = 15;
/// Addresses looked up at once.
const BATCH: usize = 512;
/// Variables of one file that are kept: the largest ones.
const VARIABLES_MAX: usize = 1000;

/// What is known of names, kept from one time to the next: to read a file's tables takes long.
#[derive(Debug)]
pub(crate) struct Names {
    symbolizer: Symbolizer,
    inspector: Inspector,
}

impl Default for Names {
    fn default() -> Self {
        let symbolizer = Symbolizer::builder().enable_code_info(true).enable_inlined_fns(false);
        Self { symbolizer: symbolizer.build(), inspector: Inspector::new() }
    }
}

/// The program whose code and variables are named.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) process: &'a Process,
    pub(crate) layout: &'a Layout,
    pub(crate) maps: &'a Maps,
    pub(crate) mem: &'a ProcMem,
}

impl Names {
    /// Gives names to the code and the variables of `heat` that lie in the program as it is now.
    pub(crate) fn name(&self, heat: &mut Heat, program: Named<'_>) {
        self.name_code(heat, program);
        self.name_variables(heat, program);
    }

    fn name_code(&self, heat: &mut Heat, program: Named<'_>) {
        let places: BTreeSet<Place> = heat.codes().iter().filter_map(|c| c.place.clone()).collect();
        let mut pieces: BTreeMap<Option<Piece>, Vec<(Place, u64)>> = BTreeMap::new();
        for place in places.into_iter().filter(|place| heat.symbol(place).is_none()) {
            if let Some(addr) = program.layout.address(&place) {
                let piece = program.maps.find(addr.0).and_then(Piece::of);
                pieces.entry(piece).or_default().push((place, addr.0));
            }
        }
        let mut jit = None;
        for (piece, code) in pieces {
            let addresses: Vec<u64> = code.iter().map(|(_, addr)| *addr).collect();
            let found = match piece {
                Some(piece) => self.look_up(piece, &addresses, program),
                None => Vec::new(),
            };
            let mut found = found.into_iter();
            for (place, addr) in code {
                let symbol = found.next().flatten().or_else(|| {
                    // Such code may lie in a file, too: what is written to and executed is mapped twice.
                    let jit = jit.get_or_insert_with(|| JitMap::of(program.process));
                    let (name, offset_bytes) = jit.find(addr)?;
                    let (name, instruction) = (name.to_owned(), String::new());
                    Some(Symbol { name, offset_bytes, source: None, instruction })
                });
                if let Some(mut symbol) = symbol {
                    symbol.instruction = instruction(program.mem, addr).unwrap_or_default();
                    heat.set_symbol(place, symbol);
                }
            }
        }
    }

    /// The symbols at `addresses`, which all lie in one piece. What cannot be read has none, and keeps
    /// no other piece from having them.
    fn look_up(&self, piece: Piece, addresses: &[u64], program: Named<'_>) -> Vec<Option<Symbol>> {
        let pid = program.process.pid().raw().unsigned_abs();
        let mut source = ProcessSource::new(Pid::from(pid));
        // One line that does not parse, or a file that is cut while it is read, and all is an error.
        source.perf_map = false;
        let source = Source::Process(source);
        let mut symbols = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            match self.symbolizer.symbolize(&source, Input::AbsAddr(batch)) {
                Ok(found) => symbols.extend(found.into_iter().map(symbol)),
                Err(cause) => {
                    tracing::debug!(%cause, ?piece, "code could not be named");
                    break;
                }
            }
        }
        symbols
    }

    /// The named pieces of the files' own writable memory that were touched.
    fn name_variables(&self, heat: &mut Heat, program: Named<'_>) {
        let Named { process, layout, maps, .. } = program;
        for image in maps.images() {
            let touched = touched_pages(heat, layout, maps, image.file);
            if touched.is_empty() {
                continue;
            }
            let mut variables = Vec::new();
            let source = symbols_of(process.pid().raw(), &image);
            let result = self.inspector.for_each(&source, |sym| {
                let size = sym.size.unwrap_or(0) as u64;
                let addr = image.bias.wrapping_add(sym.addr);
                let pages =
                    addr / mem::PAGE_SIZE..=addr.saturating_add(size.max(1) - 1) / mem::PAGE_SIZE;
                if sym.sym_type == SymType::Variable
                    && size > 0
                    && touched
                        .range(PageIndex(*pages.start())..=PageIndex(*pages.end()))
                        .next()
                        .is_some()
                    && let Some(place) = layout.place(VirtAddr(addr))
                {
                    let name = sym.name.to_string();
                    let type_name = String::new();
                    variables.push(Variable { place, size_bytes: size, name, type_name });
                }
                ControlFlow::Continue(())
            });
            if let Err(cause) = result {
                tracing::debug!(%cause, "a file's variables could not be read");
            }
            variables.sort_by_key(|v| std::cmp::Reverse(v.size_bytes));
            variables.truncate(VARIABLES_MAX);
            variables.into_iter().for_each(|variable| heat.add_variable(variable));
        }
    }
}

/// What code is read from for its names: a file, or a mapping of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    File(FileNumber),
    Kernels(u64),
}

impl Piece {
    /// `None`: memory without a file.
    fn of(mapped: &Mapped) -> Option<Self> {
        match mapped.file {
            Some(file) => Some(Self::File(file)),
            None => mapped.is_special().then_some(Self::Kernels(mapped.range.start.0)),
        }
    }
}

/// What is known of a piece of code, but for the instruction.
fn symbol(found: Symbolized<'_>) -> Option<Symbol> {
    let Symbolized::Sym(known) = found else { return None };
    let symbol = Symbol {
        offset_bytes: known.offset as u64,
        source: known.code_info.as_deref().and_then(line),
        name: known.name.into_owned(),
        instruction: String::new(),
    };
    (!symbol.name.is_empty()).then_some(symbol)
}

fn line(info: &CodeInfo<'_>) -> Option<(String, u32)> {
    Some((info.to_path().display().to_string(), info.line?))
}

/// The instruction at an address in assembler.
fn instruction(mem: &ProcMem, addr: u64) -> Option<String> {
    let mut bytes = [0; INSTRUCTION_BYTES_MAX];
    let length = mem.read(VirtAddr(addr), &mut bytes).ok()?;
    let mut decoder = Decoder::with_ip(64, &bytes[..length], addr, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return None;
    }
    let mut text = String::new();
    FastFormatter::new().format(&instruction, &mut text);
    Some(text)
}

/// The pages of one file's mappings, and of the memory right behind them, that were touched.
fn touched_pages(
    heat: &Heat,
    layout: &Layout,
    maps: &Maps,
    file: FileNumber,
) -> BTreeSet<PageIndex> {
    let reading = Reading::at(heat.newest_ns());
    let mut touched = BTreeSet::new();
    heat.for_each_mapped(layout, &reading, |region, pages, known| {
        let start = region.pages.start.addr().0;
        let is_of_file = maps
            .find(start)
            .is_some_and(|m| m.write && (m.file == Some(file) || maps.is_behind_file(m, file)));
        if is_of_file && known.is_some_and(|k| k.was_seen()) {
            touched.extend((pages.start.0..pages.end.0).map(PageIndex));
        }
    });
    touched
}
