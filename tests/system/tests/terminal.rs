//! Programs on a terminal: what stands in for it at a resume.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, python};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::wait::{self, PATIENCE};
use rekindle_system_tests::{binaries, sandbox};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Holds a terminal on which a program runs that opens it once more, as less(1) does.
const HOLDER: &str = r"
import os, sys
master, slave = os.openpty()
child = os.fork()
if child == 0:
    os.setsid()
    name = os.ttyname(slave)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 100)
    assert os.open(name, os.O_RDWR) == 3
    os.set_inheritable(3, True)
    os.execv('/usr/bin/python3', ['python3', '-S', '-c', 'import time\nwhile True: time.sleep(.1)'])
with open(sys.argv[1] + '.new', 'w') as file:
    file.write(str(child))
os.rename(sys.argv[1] + '.new', sys.argv[1])
os.waitpid(child, 0)
while True:
    os.read(master, 1000)
";

#[test]
fn a_terminal_that_is_open_twice_has_one_stand_in() {
    sandbox::run(LIMIT, |place| {
        let pid = place.path("pid");
        let holder = python(place, "holder", HOLDER, &[&pid]);
        let child = wait::until("the child's pid", PATIENCE, || std::fs::read_to_string(&pid));
        let child = Program::of_pid(child.parse().unwrap());
        // Until it sleeps it loads its libraries, which are descriptors too.
        const SLEEPS: [&str; 3] = ["230 ", "270 ", "23 "];
        wait::until_true("the program to sleep", PATIENCE, || {
            let call = child.proc_file("syscall");
            let sleeps = SLEEPS.iter().any(|number| call.starts_with(number));
            child.proc_file("cmdline").contains("time.sleep") && sleeps
        });
        let before: Vec<i32> = child.descriptors().into_iter().map(|(fd, _)| fd).collect();
        assert_eq!(before, [0, 1, 2, 3]);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let stopped = rekindle.stop(child.pid(), &[]);
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        let program = Program::of_pid(resumed.pid("pid"));
        let now = program.descriptors();
        assert_eq!(now.iter().map(|(fd, _)| *fd).collect::<Vec<_>>(), before, "{resumed}");
        assert_eq!(now[0].1, "/dev/null", "the caller's standard input: {now:?}");
        assert_eq!(now[3].1, now[0].1, "{now:?}");
        program.kill();
        holder.kill();
    });
}

/// Runs the words it is given on a terminal of its own until two texts were seen, makes the terminal
/// another size, presses keys, and says how it ended and how the terminal was left.
const LOOKER: &str = r#"
import fcntl, os, pty, select, struct, sys, termios, time
ENTER, LEAVE = b'\x1b[?1049h', b'\x1b[?1049l'
out, first, second, keys, words = sys.argv[1], *sys.argv[2:5], sys.argv[5:]
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('4H', 24, 100, 0, 0))
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.environ['TERM'] = 'xterm'
    os.execv(words[0], words)
seen, pressed = b'', False
while True:
    if select.select([master], [], [], 0.1)[0]:
        seen += os.read(master, 65536)
    if first.encode() in seen and second.encode() in seen and not pressed:
        pressed = True
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('4H', 7, 30, 0, 0))
        os.write(master, keys.encode())
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
while select.select([master], [], [], 0.1)[0]:
    seen += os.read(master, 65536)
same = termios.tcgetattr(slave)[3] == before[3]
after = seen.rsplit(LEAVE, 1)[-1].decode(errors='replace')
text = f'{os.waitstatus_to_exitcode(status)}\n{seen.count(ENTER)}\n{same}\n{after}'
with open(out + '.new', 'w') as file:
    file.write(text)
os.rename(out + '.new', out)
"#;

#[test]
fn a_watch_that_is_looked_at_gives_the_terminal_back() {
    sandbox::run(LIMIT, |place| {
        let script = "while True:\n    pass";
        let program = python(place, "program", script, &[]);
        let (out, rekindle) = (place.path("out"), binaries::rekindle());
        let (store, pid) = (place.store(), program.pid().to_string());
        let words = ["watch", &pid, "--every", "1s", "--tui", "--store"].map(Path::new);
        let mut arguments = vec![out.as_path()];
        arguments.extend(["period 1 ", "critical", "xq"].map(Path::new));
        arguments.push(&rekindle);
        arguments.extend(words);
        arguments.push(&store);
        let looker = python(place, "looker", LOOKER, &arguments);
        let text = wait::until("the watch to end", PATIENCE, || std::fs::read_to_string(&out));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("0"), "{text}");
        assert_eq!(lines.next(), Some("1"), "another screen: {text}");
        assert_eq!(lines.next(), Some("True"), "echo is on again: {text}");
        assert!(text.contains("rekindle: the watch is over: it was asked to end"), "{text}");
        assert!(program.exists());
        // Without a terminal it says so, and watches nothing.
        let mut refused = Command::new(&rekindle);
        refused.args(words).arg(&store).stdin(Stdio::null());
        let refused = refused.output().unwrap();
        let talk = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{talk}");
        assert!(talk.contains("leave --tui out"), "{talk}");
        looker.kill();
        program.kill();
    });
}

#[test]
fn a_live_heat_map_gives_the_terminal_back_and_lets_go_of_the_program() {
    sandbox::run(LIMIT, |place| {
        let script =
            "import sys\nwhole = bytearray(64 << 20)\nwhile True:\n    whole[5 << 20] ^= 1";
        let program = python(place, "program", script, &[]);
        let (binary, pid) = (binaries::rekindle(), program.pid().to_string());
        let store = place.store();
        let words = ["heatmap", &pid, "--live", "--store"].map(Path::new);
        // `q`, and Ctrl-C, which a terminal makes a signal of.
        for (name, keys) in [("q", "xq"), ("interrupt", "\u{3}")] {
            let out = place.path(name);
            let mut arguments = vec![out.as_path()];
            arguments.extend(["heat map of process", "hottest ranges", keys].map(Path::new));
            arguments.push(&binary);
            arguments.extend(words);
            arguments.push(&store);
            let looker = python(place, name, LOOKER, &arguments);
            let text = wait::until("the map to end", PATIENCE, || std::fs::read_to_string(&out));
            let lines: Vec<&str> = text.lines().take(3).collect();
            assert_eq!(lines, ["0", "1", "True"], "exit code, screens, echo: {text}");
            assert!(text.contains("what was seen was added to its heat"), "{text}");
            looker.kill();
            assert!(program.exists());
            assert!(program.proc_file("status").contains("TracerPid:\t0"));
            let tracked = program.proc_file("smaps");
            let tracked = tracked.lines().filter(|line| line.starts_with("VmFlags"));
            assert_eq!(tracked.filter(|line| line.contains(" uw")).count(), 0, "{name}");
            let descriptors = program.descriptors();
            assert!(!descriptors.iter().any(|(_, what)| what.contains("userfaultfd")), "{name}");
        }
        let rekindle = Rekindle::new(&store, place.dir());
        let known = rekindle.run(&["inspect", &pid, "heat"]);
        assert!(known.json["heat"]["line"]["windows"].as_u64() >= Some(2), "{known}");
        // Refused where it could not be seen, or makes no sense.
        for words in [
            vec!["heatmap", &pid, "--live"],
            vec!["heatmap", &pid, "--live", "--dry-run"],
            vec!["heatmap", &pid, "--for", "1s"],
        ] {
            let refused = rekindle.run(&words);
            assert!(refused.code == Some(2) && !refused.talk.is_empty(), "{refused}");
        }
        let refused = Command::new(&binary).args(words).arg(&store).stdin(Stdio::null()).output();
        let refused = refused.unwrap();
        let talk = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{talk}");
        assert!(talk.contains("this is no terminal; leave --live out"), "{talk}");
        program.kill();
    });
}
