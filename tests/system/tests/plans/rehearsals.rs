//! Programs whose clone is rehearsed, and what is seen of them from outside.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rekindle_system_tests::program::{self, Program};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox::Place;
use rekindle_system_tests::wait;
use serde_json::Value;

/// Walks over its pages for ever, in an order that is known: page `n * 7919 % N` at step `n`.
pub(crate) const WALK: &str = r"
import mmap, sys
out = open(sys.argv[1], 'a', buffering=1)
N = 32 * 256
m = mmap.mmap(-1, N * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(N): m[i * 4096:i * 4096 + 8] = (i + 1).to_bytes(8, 'little')
out.write('ready\n')
n = s = 0
while True:
    s += m[n * 7919 % N * 4096]; n += 1
";
/// Pages of [`WALK`].
const WALKED: u64 = 32 * 256;

/// Answers requests, each for one of its pages, and counts them.
pub(crate) const SERVER: &str = r"
import mmap, socket, sys
out = open(sys.argv[1], 'a', buffering=1)
N = 32 * 256
m = mmap.mmap(-1, N * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(N): m[i * 4096:i * 4096 + 8] = (i + 1).to_bytes(8, 'little')
listening = socket.create_server(('127.0.0.1', 0))
out.write('%d\n' % listening.getsockname()[1])
served = 0
while True:
    connection, _ = listening.accept()
    while True:
        request = connection.recv(4)
        if not request: break
        served += 1
        page = int.from_bytes(request, 'little')
        connection.sendall(m[page * 4096:page * 4096 + 8] + served.to_bytes(8, 'little'))
    connection.close()
";

/// Starts [`SERVER`]; gives its port, too.
pub(crate) fn server(place: &Place) -> (Program, u16) {
    let out = place.path("server.log");
    let program = program::python(place, "server", SERVER, &[&out]);
    let port = || std::fs::read_to_string(&out).ok()?.strip_suffix('\n')?.parse().ok();
    wait::until_true("it to listen", Duration::from_secs(60), || port().is_some());
    (program, port().unwrap())
}

/// Asks [`SERVER`] for one page after the other, on connections of `each` requests, until `over`;
/// the answers have to be right. Gives how many requests there were.
pub(crate) fn ask(port: u16, pages: &[u32], each: usize, over: &AtomicBool) -> u64 {
    let mut asked = 0_u64;
    let mut of = pages.iter().cycle();
    while !over.load(Ordering::Relaxed) {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        for page in of.by_ref().take(each) {
            connection.write_all(&page.to_le_bytes()).unwrap();
            let mut answer = [0; 16];
            connection.read_exact(&mut answer).unwrap();
            asked += 1;
            let expected = [(u64::from(*page) + 1).to_le_bytes(), asked.to_le_bytes()].concat();
            assert_eq!(answer.as_slice(), expected);
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    asked
}

/// Which of the pages of [`WALK`] or [`SERVER`] are among `pages`, by their place.
pub(crate) fn places(program: &Program, pages: &[u64]) -> BTreeSet<u64> {
    let first = first_page(program);
    pages.iter().filter_map(|page| page.checked_sub(first)).filter(|p| *p < WALKED).collect()
}

/// Starts [`WALK`].
pub(crate) fn walk(place: &Place) -> Program {
    let out = place.path("walk.log");
    let program = program::python(place, "walk", WALK, &[&out]);
    wait::until_true("the pages to be written", Duration::from_secs(60), || {
        std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with('\n'))
    });
    program
}

/// The pages that the newest checkpoint owes to a rehearsal, in the order of its plan.
pub(crate) fn rehearsed(rekindle: &Rekindle) -> Vec<u64> {
    let shown = rekindle.run(&["inspect", "latest", "pages"]);
    shown.expect_ok();
    let number = |text: &Value| {
        let text = text.as_str().unwrap();
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).unwrap() / 4096
    };
    let is_rehearsed = |row: &&Value| row["reason"].as_str().unwrap().contains("rehearsal");
    let rows = shown.json["pages"].as_array().unwrap().iter().filter(is_rehearsed);
    rows.flat_map(|row| number(&row["start"])..number(&row["end"])).collect()
}

/// The longest run of steps of [`WALK`], one after the other, whose pages are all among `pages`,
/// and how many of `pages` are in the walked memory at all.
pub(crate) fn walked(program: &Program, pages: &[u64]) -> (u64, u64) {
    let inside = places(program, pages);
    let (mut longest, mut run) = (0, 0);
    for step in 0..2 * WALKED {
        run = if inside.contains(&(step * 7919 % WALKED)) { run + 1 } else { 0 };
        longest = longest.max(run.min(WALKED));
    }
    (longest, inside.len() as u64)
}

/// Where the memory of [`WALK`] or [`SERVER`] begins.
fn first_page(program: &Program) -> u64 {
    let bytes = WALKED * 4096;
    let start = program.proc_file("maps").lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        // The kernel may have joined it with neighbours; what Python maps beside it is small.
        (number(end) - number(start) >= bytes).then(|| (number(start) / 4096, number(end) / 4096))
    });
    let (start, end) = start.unwrap();
    // The first page holds a known number: the memory begins where the pages tell.
    (start..end).find(|page| begins_with(program, *page, 1)).unwrap()
}

fn begins_with(program: &Program, page: u64, number: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let mem = std::fs::File::open(format!("/proc/{}/mem", program.pid())).unwrap();
    let (mut word, mut next) = ([0; 8], [0; 8]);
    mem.read_exact_at(&mut word, page * 4096).is_ok()
        && mem.read_exact_at(&mut next, (page + 1) * 4096).is_ok()
        && u64::from_le_bytes(word) == number
        && u64::from_le_bytes(next) == number + 1
}

/// The pids there are.
pub(crate) fn pids() -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A program that does harm behind a call which only a clone passes.
pub(crate) struct Hostile {
    pub(crate) program: Program,
    form: PathBuf,
    out: PathBuf,
    folder: PathBuf,
    listener: TcpListener,
    sentinel: Child,
}

/// Everything of [`Hostile`]'s surroundings that it could change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    log: Option<String>,
    output: Option<String>,
    made: bool,
    /// When files were read and changed last.
    times: Vec<(i64, i64)>,
    /// Whether its shared memory holds zeros, as it did.
    shared: bool,
    mounts: String,
    descriptors: Vec<String>,
    name: String,
    sentinel: (bool, String),
    segments: usize,
    pub(crate) pids: BTreeSet<i32>,
    connected: bool,
}

impl Hostile {
    pub(crate) fn start(place: &Place) -> Self {
        let (form, out, folder) = (place.path("form"), place.path("log"), place.path("folder"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&form, "rest").unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let sentinel = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
        let script = include_str!("../../programs/hostile.py");
        let number = sentinel.id().to_string();
        let arguments =
            [form.as_path(), out.as_path(), port.as_ref(), number.as_ref(), folder.as_path()];
        let program = program::python(place, "hostile", script, &arguments);
        wait::until_true("it to be ready", Duration::from_secs(60), || {
            std::fs::read_to_string(&out).is_ok_and(|text| text.contains("ready"))
        });
        Self { program, form, out, folder, listener, sentinel }
    }

    /// Everything that could be changed, as it is.
    pub(crate) fn surroundings(&mut self) -> Surroundings {
        let pid = self.program.pid();
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let mut names: Vec<String> =
            fds.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let described = |fd: &String| {
            let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            // Which epoll or lock it has, where it stands, what a timer is set to.
            format!("{fd} {} {}", link.display(), read(format!("/proc/{pid}/fdinfo/{fd}")))
        };
        let memfd = names.iter().find(|fd| {
            let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            link.to_string_lossy().contains("memfd:shared")
        });
        let shared = memfd.map(|fd| std::fs::read(format!("/proc/{pid}/fd/{fd}")).unwrap());
        let status = read(format!("/proc/{}/status", self.sentinel.id()));
        let tracer = status.lines().find(|line| line.starts_with("TracerPid")).unwrap_or("");
        // Those of other namespaces are seen, too, made by nobody.
        let ours = |line: &&str| {
            line.split_whitespace().nth(4).and_then(|cpid| cpid.parse().ok()).unwrap_or(0) != 0
        };
        Surroundings {
            log: std::fs::read_to_string(&self.out).ok(),
            output: std::fs::read_to_string(&self.program.output).ok(),
            made: self.folder.join("made").exists(),
            times: [self.folder.join("kept"), self.folder.join("fifo"), self.out.clone()]
                .iter()
                .map(|path| std::fs::metadata(path).unwrap())
                .map(|file| (file.atime(), file.mtime()))
                .collect(),
            shared: shared.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)),
            mounts: read("/proc/self/mounts".to_owned()),
            descriptors: names.iter().map(described).collect(),
            name: read(format!("/proc/{pid}/comm")),
            sentinel: (matches!(self.sentinel.try_wait(), Ok(None)), tracer.to_owned()),
            segments: read("/proc/sysvipc/shm".to_owned()).lines().filter(ours).count(),
            pids: pids(),
            connected: self.listener.accept().is_ok(),
        }
    }

    /// A clone does what `form` says, while the program itself waits.
    pub(crate) fn rehearse(&self, rekindle: &Rekindle, form: &str) -> Report {
        std::fs::write(&self.form, form).unwrap();
        let made = rekindle.checkpoint(self.program.pid(), &["--rehearse", "1s"]);
        std::fs::write(&self.form, "rest").unwrap();
        made
    }

    /// The program itself gets out of its wait, and waits again.
    pub(crate) fn turn(&self) {
        let turns = || std::fs::read_to_string(self.folder.join("turns")).unwrap_or_default();
        let before = turns();
        let number = std::fs::read_to_string(self.folder.join("pipe")).unwrap();
        let path = format!("/proc/{}/fd/{number}", self.program.pid());
        let mut pipe = std::fs::File::open(path).unwrap();
        pipe.read_exact(&mut [0; 4096 * 4]).unwrap();
        wait::until_true("it to wait again", Duration::from_secs(60), || turns() != before);
    }

    pub(crate) fn end(mut self) {
        self.program.kill();
        let _ = self.sentinel.kill();
        let _ = self.sentinel.wait();
    }
}
