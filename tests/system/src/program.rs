//! Programs under test, started as a user starts them.

use crate::sandbox::Place;
use crate::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that is nobody's child: its shell ended, init reaps it.
#[derive(Debug)]
pub struct Program {
    pid: i32,
    /// Where its standard output goes.
    pub output: PathBuf,
}

/// How a program is started.
#[derive(Debug)]
pub struct Start<'a> {
    words: Vec<String>,
    dir: &'a Path,
    label: &'a str,
    user: Option<u32>,
    session: bool,
}

impl<'a> Start<'a> {
    /// A program by its words; files named after `label` are made in `dir`.
    pub fn new<S: AsRef<str>>(dir: &'a Path, label: &'a str, words: &[S]) -> Self {
        let words = words.iter().map(|word| word.as_ref().to_owned()).collect();
        Self { words, dir, label, user: None, session: true }
    }

    /// As this user, with the group of the same number.
    #[must_use]
    pub fn as_user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// In the session of the plain shell that starts it.
    #[must_use]
    pub fn in_the_shells_session(mut self) -> Self {
        self.session = false;
        self
    }

    /// Starts it by a plain shell with its standard streams on files, and lets the shell end.
    ///
    /// # Panics
    /// When the shell says no.
    pub fn start(self) -> Program {
        let file = |suffix: &str| self.dir.join(format!("{}.{suffix}", self.label));
        let (output, errors, pid) = (file("out"), file("err"), file("pid"));
        // The shell's own `$!` is the program: setsid and setpriv replace themselves by it.
        let script = r#"
            output=$1 errors=$2 pid=$3; shift 3
            "$@" </dev/null >"$output" 2>"$errors" &
            echo $! >"$pid.partial" && mv "$pid.partial" "$pid"
        "#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args([&output, &errors, &pid]);
        if self.session {
            // Not a group leader (the shell's child without job control is none): no fork.
            command.arg("setsid");
        }
        if let Some(user) = self.user {
            let user = user.to_string();
            command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.args(&self.words).current_dir(self.dir).stdin(Stdio::null());
        let status = command.status();
        assert!(status.as_ref().is_ok_and(|s| s.success()), "{:?}: {status:?}", self.words);
        let text = std::fs::read_to_string(&pid).unwrap_or_default();
        let pid = text.trim().parse().unwrap_or_else(|_| panic!("no pid in {text:?}"));
        Program { pid, output }
    }
}

impl Program {
    /// A program that runs already.
    pub fn of_pid(pid: i32) -> Self {
        Self { pid, output: PathBuf::new() }
    }

    /// Its pid, in this test's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether a process of that pid is there, be it a zombie.
    pub fn exists(&self) -> bool {
        Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid).is_ok())
    }

    /// The state letter of proc(5), or none when it is gone.
    pub fn state(&self) -> Option<char> {
        state_of(self.pid)
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, signal: Signal) {
        let sent = Pid::from_raw(self.pid).map(|pid| kill_process(pid, signal));
        assert!(matches!(sent, Some(Ok(()))), "signal {signal:?} to {}: {sent:?}", self.pid);
    }

    /// Ends it at once and waits until it is reaped.
    pub fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.wait_gone();
    }

    /// Waits until no process of that pid is there: ended and reaped.
    pub fn wait_gone(&self) {
        wait::until_true(&format!("end of process {}", self.pid), PATIENCE, || !self.exists());
    }

    /// A file of its folder in /proc.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The mappings by bounds, rights, offset and name, without device and inode numbers: those
    /// of shared memory are new after a resume.
    pub fn mappings(&self) -> Vec<String> {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let head: Vec<&str> = words.by_ref().take(3).collect();
            let name: Vec<&str> = words.skip(2).collect();
            format!("{} {}", head.join(" "), name.join(" "))
        };
        self.proc_file("maps").lines().map(line).collect()
    }

    /// Numbers and links of its descriptors, without the numbers of pipes and sockets.
    pub fn descriptors(&self) -> Vec<(i32, String)> {
        let mut all = Vec::new();
        let dir = format!("/proc/{}/fd", self.pid);
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            let link = link.display().to_string();
            let sort = ["pipe:", "socket:"].iter().find(|sort| link.starts_with(**sort));
            let number = entry.file_name().to_string_lossy().parse().unwrap_or(-1);
            all.push((number, sort.map_or(link.clone(), ToString::to_string)));
        }
        all.sort();
        all
    }

    /// Lines of its standard output, whole ones.
    pub fn lines(&self) -> Vec<String> {
        whole_lines(&self.output)
    }

    /// Waits for a line of its standard output that `wanted` accepts.
    pub fn wait_for_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait::until(what, PATIENCE, || {
            assert!(self.exists(), "{what}: process {} is gone", self.pid);
            self.lines().into_iter().find(|line| wanted(line)).ok_or("no such line yet")
        })
    }
}

/// Starts a Python script with these paths as its arguments; files named after `label` are made
/// in the test's folder.
///
/// # Panics
/// When the script cannot be written or the shell says no.
pub fn python(place: &Place, label: &str, script: &str, arguments: &[&Path]) -> Program {
    let file = place.path(&format!("{label}.py"));
    std::fs::write(&file, script).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let paths = [file.as_path()].into_iter().chain(arguments.iter().copied());
    let mut words = vec!["/usr/bin/python3".to_owned(), "-S".to_owned()];
    words.extend(paths.map(|path| path.display().to_string()));
    Start::new(place.dir(), label, &words).start()
}

/// The state letter of a process, or none when there is no such process.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The lines of a file that end in a newline; none when there is no file.
pub fn whole_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// A TCP port that nobody has now.
///
/// # Panics
/// When the loopback interface has none.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.unwrap_or_else(|error| panic!("no free port: {error}")).port()
}

/// Waits until something accepts connections at `address`.
pub fn wait_for_port(address: SocketAddr) {
    wait::until(&format!("listener at {address}"), PATIENCE, || {
        TcpStream::connect_timeout(&address, PATIENCE).map(drop)
    });
}
