//! Programs on a terminal: what stands in for it at a resume.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, python};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox;
use rekindle_system_tests::wait::{self, PATIENCE};
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
