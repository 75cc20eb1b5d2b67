//! Names: of the code that touches memory, and of the variables that are touched.
//!
//! ELF files are read through `/proc/PID/map_files`, so that the program's mount namespace and
//! deleted files make no difference; just-in-time compiled code by the map that the runtime
//! writes (`/tmp/perf-PID.map` in the program's namespace); the vdso too. What has no name stays
//! an address.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use blazesym::inspect::Inspector;
use blazesym::symbolize::source::{Process as ProcessSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Symbolized, Symbolizer};
use blazesym::{Pid, SymType};
use heat::{Heat, Layout, Place, Reading, Symbol, Variable};
use iced_x86::{Decoder, DecoderOptions, FastFormatter};
use mem::{PageIndex, VirtAddr};
use sys::remote::ProcMem;

use crate::maps::Maps;
use crate::objects::symbols_of;

/// The longest x86 instruction.
const INSTRUCTION_BYTES_MAX: usize = 15;
/// Addresses looked up at once.
const BATCH: usize = 512;
/// Variables of one file that are kept: the largest ones.
const VARIABLES_MAX: usize = 1000;

/// Gives names to the code and the variables of `heat` that lie in the program as it is now.
pub(crate) fn name(heat: &mut Heat, layout: &Layout, maps: &Maps, mem: &ProcMem, pid: u32) {
    name_code(heat, layout, mem, pid);
    name_variables(heat, layout, maps, pid);
}

fn name_code(heat: &mut Heat, layout: &Layout, mem: &ProcMem, pid: u32) {
    let places: BTreeSet<Place> = heat.codes().iter().filter_map(|c| c.place.clone()).collect();
    let here: Vec<(Place, u64)> = places
        .into_iter()
        .filter(|place| heat.symbol(place).is_none())
        .filter_map(|place| layout.address(&place).map(|addr| (place, addr.0)))
        .collect();
    let symbolizer = Symbolizer::builder().enable_code_info(true).enable_inlined_fns(false).build();
    let source = Source::Process(ProcessSource::new(Pid::from(pid)));
    for batch in here.chunks(BATCH) {
        let addresses: Vec<u64> = batch.iter().map(|(_, addr)| *addr).collect();
        let found = match symbolizer.symbolize(&source, Input::AbsAddr(&addresses)) {
            Ok(found) => found,
            Err(cause) => {
                tracing::debug!(%cause, "code could not be named");
                return;
            }
        };
        for ((place, addr), found) in batch.iter().zip(found) {
            let mut symbol = Symbol {
                name: String::new(),
                offset_bytes: 0,
                source: None,
                instruction: instruction(mem, *addr).unwrap_or_default(),
            };
            if let Symbolized::Sym(known) = found {
                symbol.name = known.name.into_owned();
                symbol.offset_bytes = known.offset as u64;
                symbol.source = known.code_info.as_deref().and_then(line);
            }
            if !symbol.name.is_empty() {
                heat.set_symbol(place.clone(), symbol);
            }
        }
    }
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

/// The named pieces of the files' own writable memory that were touched.
fn name_variables(heat: &mut Heat, layout: &Layout, maps: &Maps, pid: u32) {
    for image in maps.images() {
        let touched = touched_pages(heat, layout, maps, image.file);
        if touched.is_empty() {
            continue;
        }
        let mut variables = Vec::new();
        let result = Inspector::new().for_each(&symbols_of(pid, &image), |sym| {
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
                variables.push(Variable {
                    place,
                    size_bytes: size,
                    name,
                    type_name: String::new(),
                });
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

/// The pages of one file's mappings, and of the memory right behind them, that were touched.
fn touched_pages(
    heat: &Heat,
    layout: &Layout,
    maps: &Maps,
    file: crate::maps::FileNumber,
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
