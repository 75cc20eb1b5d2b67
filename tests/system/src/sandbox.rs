//! A pid, a mount and a network namespace for each test: a port that a stopped program had is free
//! when it comes back.
//!
//! A test calls [`run`] with its body. The test's process starts `unshare`, which starts this same
//! test executable twice, one inside the other: the outer one is the namespace's init and does
//! nothing but reap, as a host's init does (a pid is free again only when it was reaped), the
//! inner one runs the body. When the init ends, or the time limit passes, or the test process
//! dies, the kernel kills everything that is left in the namespace.

use crate::{binaries, skips};
use rustix::process::{WaitOptions, wait};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Says which part of the test this process plays.
const ROLE: &str = "REKINDLE_TEST_ROLE";
/// Where the test's own files go.
const PLACE: &str = "REKINDLE_TEST_PLACE";

/// Closes what whoever runs the tests left open, a pipe of a job runner for example: a program
/// under test would inherit it, and it would stand in the way of a checkpoint for good reason.
const CLOSE_THE_REST: &str = r#"
    for link in /proc/self/fd/*; do
        fd=${link##*/}
        if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
    done
    exec "$@"
"#;

/// Brings the loopback interface up, as netdevice(7) says: SIOCSIFFLAGS with IFF_UP. Debian has no
/// ip(8) unless asked, and Python is needed anyway.
const LOOPBACK_UP: &str = "
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 1))
";

/// What a test's body is given.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// A folder of this test alone; it is removed after the test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in [`Place::dir`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The store of this test.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }
}

/// Runs `body` in namespaces of its own; the calling function must be a `#[test]` at the top of
/// an integration test, for its name is how the test executable is started again. Says whether
/// the caller is outside of the namespaces, after they are gone: few tests have more to do there.
///
/// # Panics
/// When the body does, when the limit passes, and in CI where namespaces cannot be made.
pub fn run<F: FnOnce(&Place)>(limit: Duration, body: F) -> bool {
    let name = test_name::<F>();
    let role = std::env::var(ROLE);
    match role.as_deref() {
        Ok("init") => init(name),
        Ok("body") => {
            let dir = std::env::var_os(PLACE).map(PathBuf::from);
            body(&Place { dir: dir.unwrap_or_else(|| panic!("{PLACE} is not set")) });
        }
        _ => outside(name, limit),
    }
    role.is_err()
}

/// `a_test` from `crate::a_test::{{closure}}`.
fn test_name<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap_or(name);
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

fn again(name: &str, role: &str) -> Vec<String> {
    let test = std::env::current_exe().unwrap_or_default();
    let role = format!("{ROLE}={role}");
    let options = ["--exact", name, "--nocapture", "--test-threads=1", "--quiet"];
    let mut words = vec!["env".to_owned(), role, test.display().to_string()];
    words.extend(options.map(str::to_owned));
    words
}

fn outside(name: &str, limit: Duration) {
    if !rustix::process::geteuid().is_root() || binaries::on_path("unshare").is_none() {
        skips::skip("whole-system tests", "root and unshare(1)");
        return;
    }
    let dir = tempfile::Builder::new().prefix("rekindle-test-").tempdir();
    let dir = dir.unwrap_or_else(|error| panic!("no folder for the test: {error}"));
    // Programs of other users work in here too.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap_or_else(|error| panic!("{error}"));
    // What the body says belongs to this test, not between the lines of others.
    let mut said = tempfile::tempfile().unwrap_or_else(|error| panic!("no file: {error}"));
    let writer = || said.try_clone().unwrap_or_else(|error| panic!("no descriptor: {error}"));
    // setpriv, unshare and bash are on every Debian.
    let mut child = Command::new("bash")
        .args(["-c", CLOSE_THE_REST, "bash", "setpriv", "--pdeathsig", "KILL"])
        .args(["unshare", "--pid", "--net", "--fork", "--kill-child=KILL"])
        .args(["--mount", "--propagation", "private", "--mount-proc"])
        .args(again(name, "init"))
        .env(PLACE, dir.path())
        .stdout(writer())
        .stderr(writer())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("starting setpriv and unshare: {error}"));
    let begin = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                tell(&mut said, false);
                panic!("{name} did not end within {limit:?}; its namespace was killed");
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("waiting for {name}: {error}"),
        }
    };
    tell(&mut said, status.success());
    assert!(status.success(), "{name} failed inside its namespaces: {status}");
}

/// Passes on what a body said: all of it where the test runner shows it for a failed test, what
/// was skipped always.
#[expect(clippy::print_stdout, reason = "it is the test's output")]
fn tell(said: &mut std::fs::File, passed: bool) {
    let mut bytes = Vec::new();
    let read = said.rewind().and_then(|()| said.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines() {
        if line.starts_with(skips::MARK) {
            // Not by a macro: those write to where only failures are shown from.
            let _ = writeln!(std::io::stdout(), "{line}");
        } else if !passed {
            println!("{line}");
        }
    }
    if let Err(error) = read {
        println!("what the body said cannot be read: {error}");
    }
}

/// The namespace's init: prepares the mounts, starts the body and reaps whatever ends.
#[expect(clippy::zombie_processes, reason = "the loop below reaps every process there is")]
fn init(name: &str) {
    assert_eq!(std::process::id(), 1, "unshare made no pid namespace");
    // Runtime files and shared memory of this test alone, gone with the namespace. The last one
    // is where Java machines keep a file named after their pid, which other tests have as well.
    let java = "/tmp/hsperfdata_root";
    std::fs::create_dir_all(java).unwrap_or_else(|error| panic!("{java}: {error}"));
    for target in ["/run", "/dev/shm", java] {
        let mode = if target == "/dev/shm" { "mode=1777" } else { "mode=755" };
        let mount = ["-t", "tmpfs", "-o", mode, "tmpfs", target];
        let status = Command::new("mount").args(mount).status();
        assert!(status.as_ref().is_ok_and(ExitStatus::success), "mount on {target}: {status:?}");
    }
    let status = Command::new("/usr/bin/python3").args(["-S", "-c", LOOPBACK_UP]).status();
    assert!(status.as_ref().is_ok_and(ExitStatus::success), "bring lo up: {status:?}");
    let words = again(name, "body");
    let body = Command::new(&words[0]).args(&words[1..]).spawn();
    let body = body.unwrap_or_else(|error| panic!("starting the body of {name}: {error}"));
    let body = body.id().cast_signed();
    loop {
        let ended = wait(WaitOptions::empty());
        match ended {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == body => {
                assert_eq!(status.exit_status(), Some(0), "the body of {name} failed");
                return;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("init lost the body of {name}: {error}"),
        }
    }
}
