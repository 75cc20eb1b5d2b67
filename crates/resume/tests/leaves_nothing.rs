//! What is given up leaves nothing, and what does not fit is told before anything is started.

mod support;

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mem::PageCount;
use rekindle_resume::{
    Exit, ExternalPolicy, MismatchKind, Observer, Options, PidPolicy, Request, ResumeError, build,
    check,
};
use support::{Original, is_alive, signal};

const SCRIPT: &str = r#"
unix = socket.socket(socket.AF_UNIX)
unix.bind(folder + "/sock")
unix.listen(3)
kept = open("kept", "w+")
go_on(lambda: None)
"#;

/// A built process that is dropped is gone, and so is its socket.
#[test]
fn a_dropped_build() {
    let image = Original::start(SCRIPT).stop();
    fs::remove_file(image.path("sock")).unwrap();
    for pid in [PidPolicy::Auto, PidPolicy::OwnNamespace] {
        let options = Options { pid, ..Options::default() };
        let built = image.build(&options).unwrap();
        let pid = built.pid();
        assert!(is_alive(pid) && image.path("sock").exists());
        drop(built);
        assert!(!is_alive(pid) && !image.path("sock").exists());
    }
    image.finish(&Options::default());
}

/// An observer that gives up while memory is loaded.
struct Impatient;

impl Observer for Impatient {
    fn cancelled(&self) -> Option<String> {
        fs::read_to_string("/proc/thread-self/comm")
            .ok()
            .filter(|n| n.trim() == "load")
            .map(drop)?;
        Some("enough".to_owned())
    }
}

/// A resume that is cancelled in the middle leaves nothing, and can be tried again.
#[test]
fn a_cancelled_build() {
    let image = Original::start(SCRIPT).stop();
    let options = Options { workers: 2, ..Options::default() };
    let request = Request {
        instance: &image.instance,
        source: &image.pages,
        order: None,
        lazy: None,
        takeover: None,
        options: &options,
    };
    let error = build(request, &Impatient).unwrap_err();
    assert!(matches!(error, ResumeError::Cancelled(_)), "{error}");
    assert!(!is_alive(image.instance.groups[0].pid));
    image.finish(&options);
}

/// A page that cannot be had ends the resume, and nothing runs.
#[test]
fn a_missing_page() {
    let image = Original::start(SCRIPT).stop();
    let mut instance = image.instance.clone();
    instance.spaces[0].mappings.retain(|m| m.name != b"[heap]");
    let options = Options::default();
    let request = Request {
        instance: &instance,
        source: &image.pages,
        order: None,
        lazy: None,
        takeover: None,
        options: &options,
    };
    assert!(build(request, &rekindle_resume::Silent).is_err());
    assert!(!is_alive(instance.groups[0].pid));
}

/// Every mismatch is told at once.
#[test]
fn mismatches_are_told_at_once() {
    let original = Original::start(
        r#"
tcp = socket.create_server(("127.0.0.1", 0))
tell("port", str(tcp.getsockname()[1]))
kept = open("kept", "w+")
go_on(lambda: None)
"#,
    );
    let port: u16 = fs::read_to_string(original.path("port")).unwrap().parse().unwrap();
    let (instance, _) = original.capture();
    let options = Options { pid: PidPolicy::Same, ..Options::default() };
    let kinds = |instance: &process::Instance, options: &Options, pages: u64| {
        let mut kinds: Vec<_> =
            check(instance, PageCount(pages), options).iter().map(|m| m.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    use MismatchKind::{Address, AlreadyRunning, File, Memory, Pid};
    assert_eq!(kinds(&instance, &options, 1 << 40), [AlreadyRunning, Pid, Address, Memory]);
    let copy = Options { as_copy: true, ..Options::default() };
    assert_eq!(kinds(&instance, &copy, 1), [AlreadyRunning, Address]);
    let image = original.stop();
    assert_eq!(kinds(&image.instance, &options, 1), []);
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    fs::write(image.path("kept"), "changed").unwrap();
    assert_eq!(kinds(&image.instance, &options, 1), [File, Address]);
    drop(taken);
    let ignore = Options { files: rekindle_resume::FilesPolicy::Ignore, ..Options::default() };
    // A process that another test of this program is building has a copy of our listener until
    // it closes what is not its own.
    let until = Instant::now() + Duration::from_secs(20);
    while kinds(&image.instance, &ignore, 1) == [Address] && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    image.finish(&ignore);
}

/// Stand-ins for descriptors whose other end is outside.
#[test]
fn externals_are_replaced_as_asked() {
    let image = Original::start(
        r#"
os.mkfifo("fifo")
holder = os.fork()
if holder == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    os.open("fifo", os.O_RDWR)
    tell("held", "")
    time.sleep(10)
    os._exit(0)
os.waitpid(holder, 0)
while not os.path.exists("held"): time.sleep(0.001)
def after():
    for number, path in ((0, "/dev/null"), (2, folder + "/new")):
        equal(os.readlink(f"/proc/self/fd/{number}"), path)
    try:
        os.fstat(1)
        raise AssertionError("descriptor 1 is open")
    except OSError as error:
        equal(error.errno, errno.EBADF)
go_on(after)
"#,
    )
    .stop();
    fs::write(image.path("new"), "").unwrap();
    let external = vec![(1, ExternalPolicy::Close), (2, ExternalPolicy::Reopen(image.path("new")))];
    image.finish(&Options { external, ..Options::default() });
}

/// The end of the program is told as it was, in either place.
#[test]
fn the_exit_status_is_the_programs() {
    for pid in [PidPolicy::Auto, PidPolicy::OwnNamespace] {
        let image = Original::start(
            "signal.signal(signal.SIGTERM, signal.SIG_DFL)\ngo_on(lambda: os._exit(37))",
        )
        .stop();
        let options = Options { pid, ..Options::default() };
        let resumed = image.resume(&options);
        signal(resumed.pid, libc::SIGUSR1);
        assert_eq!(resumed.wait().unwrap(), Exit::Code(37));
        let resumed = image.resume(&options);
        signal(resumed.init_pid.unwrap_or(resumed.pid), libc::SIGTERM);
        assert_eq!(resumed.wait().unwrap(), Exit::Signal(libc::SIGTERM));
    }
}
