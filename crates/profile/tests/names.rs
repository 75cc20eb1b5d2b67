//! Names of code: of files, of the kernel's own, of what a runtime made, each whatever becomes of the
//! others.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use heat::{AccessKind, Accumulator, Heat, Operand, Sample, Source, Start};
use mem::VirtAddr;
use rekindle_profile::{Costs, Options, Profiler};
use target::Process;

const PYTHON: &str = "/usr/bin/python3";

/// Has code of each kind, a memfd that is executable and no ELF file, and tells where. The map of made
/// code has a line that does not parse, and ends in the middle of one.
const PROGRAM: &str = r"
import ctypes, mmap, os, sys
kept = []
def executable(fd):
    m = mmap.mmap(fd, 8192, mmap.MAP_SHARED if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                  mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    m[:64] = b'\x90' * 64
    kept.append(m)
    return ctypes.addressof(ctypes.c_char.from_buffer(m))
fd = os.memfd_create('doublemapper')
os.ftruncate(fd, 8192)
made, doubled = executable(-1), executable(fd)
path = f'/tmp/perf-{os.getpid()}.map'
with open(path, 'w') as file:
    file.write(f'{made:x} 40 LazyCompile:~made script.js:1\nodd\n{doubled:x} 20 Doubled::Run()\n{made + 64:x} 4')
print('made', hex(made + 8))
print('cut', hex(made + 66))
print('doubled', hex(doubled + 4))
print('nameless', hex(doubled + 4096))
print('library', hex(ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value))
vdso = next(l for l in open('/proc/self/maps') if '[vdso]' in l).split()[0].split('-')
print('vdso', '0x' + vdso[0])
print('ready', flush=True)
sys.stdin.read()
os.unlink(path)
";

/// Ends, and with it the map that it wrote, when its standard input does.
struct Running {
    child: Child,
    told: Vec<(String, u64)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn start() -> Running {
    let mut child = Command::new(PYTHON)
        .args(["-I", "-S", "-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let parse = |line: String| {
        let (name, addr) = line.split_once(" 0x").unwrap();
        (name.to_owned(), u64::from_str_radix(addr, 16).unwrap())
    };
    let told = lines.take_while(|line| line != "ready").map(parse).collect();
    Running { child, told }
}

/// Heat of code at these addresses.
fn heat_of(profiler: &Profiler<'_>, code: impl IntoIterator<Item = u64>) -> Heat {
    let start = Start { id: 1, clock_ns: 0, realtime_ns: 1, ordered: false };
    let mut window = Accumulator::new(start, profiler.layout().clone());
    let page = profiler.layout().regions()[0].pages.start;
    for (time_ns, addr) in (1..).zip(code) {
        window.add(&Sample {
            page,
            kind: AccessKind::Read,
            weight: 1,
            instruction: Some(VirtAddr(addr)),
            operand: Operand::UNKNOWN,
            thread: 0,
            time_ns,
            source: Source::Clock,
        });
    }
    window.finish(1_000_000)
}

#[test]
fn code_has_names_whatever_becomes_of_other_code() {
    if !std::path::Path::new(PYTHON).is_file() {
        let listed = include_str!("../../../tests/unavailable.toml").contains("python3");
        assert!(listed || std::env::var_os("CI").is_none(), "no {PYTHON}");
        return;
    }
    let running = start();
    let process = Process::open(i32::try_from(running.child.id()).unwrap()).unwrap();
    let options = Options {
        slowdown_permille_max: 10,
        exact: false,
        gauge: false,
        writes_from: 0,
        window_id: 7,
    };
    let profiler = Profiler::new(&process, options, Costs::ASSUMED).unwrap();
    let vdso = running.told.iter().find(|(name, _)| name == "vdso").unwrap().1;
    let places = running.told.iter().map(|(_, addr)| *addr).filter(|addr| *addr != vdso);
    // Where a function is in there only the kernel knows.
    let in_vdso = (0..128).map(|step| vdso + step * 32);
    let mut heat = heat_of(&profiler, places.chain(in_vdso));
    profiler.name(&mut heat);
    let name = |addr: u64| {
        let place = profiler.layout().place(VirtAddr(addr)).unwrap();
        heat.symbol(&place).map(|symbol| (symbol.name.clone(), symbol.offset_bytes))
    };
    let told = |what: &str| name(running.told.iter().find(|(name, _)| name == what).unwrap().1);
    assert_eq!(told("made"), Some(("LazyCompile:~made script.js:1".to_owned(), 8)));
    assert_eq!(told("cut"), None);
    assert_eq!(told("doubled"), Some(("Doubled::Run()".to_owned(), 4)));
    assert_eq!(told("nameless"), None);
    let (library, offset) = told("library").expect("a function of a library");
    assert!(library.contains("getppid") && offset == 0, "{library}+{offset}");
    let kernels: Vec<String> =
        (0..128).filter_map(|step| name(vdso + step * 32)).map(|(name, _)| name).collect();
    assert!(kernels.iter().any(|name| name.contains("vdso_")), "{kernels:?}");
    // What has names keeps them.
    let again = heat.clone();
    profiler.name(&mut heat);
    assert_eq!(heat, again);
}
