//! Children to capture, and a sink that keeps what it is given.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mem::{MemoryId, PageRange, PageSink, PageSinkError};
use process::{LineIdentity, StateKind};
use rekindle_capture::{self as capture, Captured, Options, Survey};
use target::{FreezeOptions, Frozen, Process};

/// A child that is killed when the test ends, however it ends.
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn process(&self) -> Process {
        Process::open(self.pid()).unwrap()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs `program` without the descriptors that whoever runs the tests left open.
pub(crate) fn without_strays(program: &str) -> Command {
    const CLOSE: &str = "for fd in /proc/self/fd/*; do n=${fd##*/}; \
                         if [ $n -gt 2 ]; then eval \"exec $n>&-\"; fi; done; exec \"$@\"";
    let mut command = Command::new("/bin/bash");
    command.args(["-c", CLOSE, "sh", program]);
    command
}

/// Starts python with `script`, and waits until it has printed `ready`.
pub(crate) fn python(script: &str) -> Guarded {
    python_with(script, |command| command)
}

pub(crate) fn python_with(
    script: &str,
    more: impl FnOnce(&mut Command) -> &mut Command,
) -> Guarded {
    // Dies with this thread, and reads its script from the command line alone.
    let script = format!(
        "import ctypes, os, sys\nctypes.CDLL(None).prctl(1, 9)\n{script}\n\
         print('ready', flush=True)\nimport signal\nwhile True: signal.pause()\n"
    );
    let mut command = without_strays("/usr/bin/python3");
    command.args(["-I", "-S", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Guarded(more(&mut command).spawn().unwrap());
    let mut line = String::new();
    let out = child.0.stdout.take().unwrap();
    let mut out = BufReader::new(out);
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the child did not start");
    // Its standard output stays connected to us: an external pipe.
    child.0.stdout = Some(out.into_inner());
    child
}

pub(crate) fn freeze(process: &Process) -> Frozen<'_> {
    let deadline = Instant::now() + Duration::from_secs(10);
    process.freeze(FreezeOptions { deadline, suspend_seccomp: false }).unwrap()
}

pub(crate) fn look(process: &Process) -> Survey {
    capture::look(process, &Options::default()).unwrap()
}

/// Looks, freezes, captures and thaws.
pub(crate) fn captured(child: &Guarded) -> Captured {
    let process = child.process();
    let survey = look(&process);
    assert!(survey.blockers().is_empty(), "{:#?}", survey.blockers());
    let mut frozen = freeze(&process);
    capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap()
}

/// The kinds of the blockers a look finds, sorted, each once.
pub(crate) fn blocked(process: &Process, options: &Options) -> Vec<StateKind> {
    let survey = capture::look(process, options).unwrap();
    let mut kinds: Vec<_> = survey.blockers().iter().map(|b| b.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Keeps every page.
#[derive(Default)]
pub(crate) struct Pages(pub(crate) Mutex<BTreeMap<(MemoryId, u64), Vec<u8>>>);

impl PageSink for Pages {
    fn put(&self, id: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        let mut map = self.0.lock().unwrap();
        for (number, page) in (pages.start.0..).zip(bytes.chunks_exact(4096)) {
            assert!(map.insert((id, number), page.to_vec()).is_none());
        }
        Ok(())
    }
}
