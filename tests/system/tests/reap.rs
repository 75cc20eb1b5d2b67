//! Who started a program may take its exit status late. A resume waits a moment for that, so that
//! the program keeps its place among the others.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, python};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::wait::{self, PATIENCE};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Starts a program that sleeps, writes down its pid, and takes its exit status when somebody
/// opens its pipe.
const PARENT: &str = r"
import os, signal, sys
pid, pipe = sys.argv[1:]
child = os.fork()
if child == 0:
    os.setsid()
    for fd in range(3):
        os.dup2(os.open('/dev/null', os.O_RDWR), fd)
    os.closerange(3, 100)
    os.execv('/usr/bin/python3', ['python3', '-S', '-c', 'import time\nwhile True: time.sleep(1)'])
with open(pid + '.new', 'w') as file:
    file.write(str(child))
os.rename(pid + '.new', pid)
with open(pipe):
    os.waitpid(child, 0)
signal.pause()
";

/// The parent, its child, and the pipe that has it take the child's exit status.
fn family(place: &Place) -> (Program, Program, std::path::PathBuf) {
    let (pid, pipe) = (place.path("pid"), place.path("pipe"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let parent = python(place, "parent", PARENT, &[&pid, &pipe]);
    let child = wait::until("the child's pid", PATIENCE, || std::fs::read_to_string(&pid));
    let child = Program::of_pid(child.parse().unwrap());
    wait::until_true("the child's program", PATIENCE, || {
        child.proc_file("cmdline").contains("time.sleep")
    });
    (parent, child, pipe)
}

#[test]
fn a_parent_that_is_late_is_waited_for() {
    sandbox::run(LIMIT, |place| {
        let (parent, child, pipe) = family(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let stop = rekindle.start(&["checkpoint", &child.pid().to_string(), "--stop"]);
        wait::until("that it says so", PATIENCE, || match stop.talk() {
            talk if talk.contains("for the pid to be free") => Ok(()),
            talk => Err(talk),
        });
        assert_eq!(child.state(), Some('Z'));
        std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let stopped = stop.finish().expect("stopped");
        assert!(!child.exists(), "{stopped}");
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        assert_eq!(resumed.pid("pid"), child.pid(), "{resumed}");
        assert!(!resumed.json["changed"].to_string().contains("pid-namespace"), "{resumed}");
        child.kill();
        parent.kill();
    });
}

#[test]
fn a_parent_that_never_does_is_not_waited_for_long() {
    sandbox::run(LIMIT, |place| {
        let (parent, child, _pipe) = family(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let stopped = rekindle.stop(child.pid(), &[]);
        assert_eq!(child.state(), Some('Z'));
        assert!(stopped.talk.contains("gets a pid namespace of its own"), "{stopped}");
        // It had its time: the resume is not slower for it.
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        assert_eq!(resumed.talk, "", "{resumed}");
        assert_ne!(resumed.pid("pid"), child.pid(), "{resumed}");
        assert_eq!(resumed.pid("pid_inside"), child.pid(), "{resumed}");
        Program::of_pid(resumed.pid("pid")).kill();
        parent.kill();
    });
}
