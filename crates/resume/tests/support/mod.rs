//! Children that are captured, ended and resumed.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::RwLock;
use std::time::{Duration, Instant};

use mem::{
    MemoryId, PAGE_SIZE, PageRange, PageSet, PageSink, PageSinkError, PageSource, PageSourceError,
};
use process::{Instance, LineIdentity};
use rekindle_resume::{Built, Exit, Options, Request, ResumeError, Resumed, Silent, build};
use sys::task::{Pid, PidFd};
use target::{FreezeOptions, Process};

const LIMIT: Duration = Duration::from_secs(20);

/// A python child that waits to be captured. Killed when dropped.
pub(crate) struct Original {
    child: Child,
    folder: tempfile::TempDir,
}

/// A captured program and its pages.
pub(crate) struct Image {
    pub(crate) instance: Instance,
    pub(crate) pages: Pages,
    pub(crate) folder: tempfile::TempDir,
}

/// Pages in memory, piece by piece.
#[derive(Default)]
pub(crate) struct Pages(RwLock<BTreeMap<(MemoryId, u64), Vec<u8>>>);

impl Original {
    /// Starts python with `script` behind `script.py`, as `script` itself does with `go_on`, and
    /// waits until it is ready.
    pub(crate) fn start(script: &str) -> Self {
        const CLOSE: &str = "for fd in /proc/self/fd/*; do n=${fd##*/}; \
                             if [ $n -gt 2 ]; then eval \"exec $n>&-\"; fi; done; exec \"$@\"";
        let folder = tempfile::tempdir().unwrap();
        let script = format!("{}\n{script}\n", include_str!("script.py"));
        let mut command = Command::new("/bin/bash");
        command.args(["-c", CLOSE, "sh", "/usr/bin/python3", "-s", "-S", "-c", &script]);
        command.env("TMPDIR", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let mut original = Self { child, folder };
        let deadline = Instant::now() + LIMIT;
        while !original.path("ready").exists() {
            assert!(original.child.try_wait().unwrap().is_none(), "the child ended");
            assert!(Instant::now() < deadline, "the child is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        original
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Captures it. It runs on.
    pub(crate) fn capture(&self) -> (Instance, Pages) {
        let process = Process::open(self.pid()).unwrap();
        let options =
            capture::Options { tcp: capture::TcpPolicy::Close, ..capture::Options::default() };
        let deadline = Instant::now() + LIMIT;
        let mut survey = capture::look(&process, &options).unwrap();
        // What stands in the way for a moment only, a read from the disk say, is waited for.
        while survey.blockers().iter().any(|b| b.transient) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            survey = capture::look(&process, &options).unwrap();
        }
        assert!(survey.blockers().is_empty(), "{:#?}", survey.blockers());
        let suspend_seccomp = survey.has_seccomp_filters();
        let mut frozen = process.freeze(FreezeOptions { deadline, suspend_seccomp }).unwrap();
        let line = LineIdentity {
            boot_id: sys::proc::boot_id().unwrap(),
            pid_namespace: std::fs::metadata("/proc/self/ns/pid").unwrap().ino(),
            pid: self.pid(),
            start_time_ticks: process.start_time_ticks(),
            ..LineIdentity::default()
        };
        let mut captured = capture::state(&mut frozen, &survey, &line).unwrap();
        captured.find_guards().unwrap();
        let pages = Pages::default();
        let list = capture::pages(&captured.memory).unwrap();
        capture::copy(&captured.memory, &list, &pages, 2, &|_| None).unwrap();
        (captured.instance, pages)
    }

    /// Captures it and ends it.
    pub(crate) fn stop(mut self) -> Image {
        let (instance, pages) = self.capture();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Image { instance, pages, folder }
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Image {
    pub(crate) fn build<'a>(&'a self, options: &'a Options) -> Result<Built<'a>, ResumeError> {
        let request = Request {
            instance: &self.instance,
            source: &self.pages,
            order: None,
            lazy: None,
            takeover: None,
            options,
        };
        build(request, &Silent)
    }

    pub(crate) fn resume(&self, options: &Options) -> Resumed {
        match self.build(options) {
            Ok(built) => built.start().unwrap(),
            Err(ResumeError::Mismatches(all)) => panic!("{all:#?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Resumes it, lets it run `after`, and waits for its end, which has to be a good one.
    pub(crate) fn finish(&self, options: &Options) {
        let resumed = self.resume(options);
        signal(resumed.pid, libc::SIGUSR1);
        self.expect_good_end(resumed);
    }

    pub(crate) fn expect_good_end(&self, resumed: Resumed) {
        let exit = resumed.wait().unwrap();
        let report = std::fs::read_to_string(self.path("report"));
        assert_eq!(exit, Exit::Code(0), "{}", report.unwrap_or_default());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Starts, captures, ends and resumes a child, which checks itself in `after`.
pub(crate) fn round_trip(script: &str) {
    Original::start(script).stop().finish(&Options::default());
}

pub(crate) fn signal(pid: i32, number: i32) {
    PidFd::open(Pid::new(pid).unwrap()).unwrap().send_signal(number).unwrap();
}

pub(crate) fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

impl PageSink for Pages {
    fn put(&self, memory: MemoryId, pages: PageRange, bytes: &[u8]) -> Result<(), PageSinkError> {
        self.0.write().unwrap().insert((memory, pages.start.0), bytes.to_vec());
        Ok(())
    }
}

impl PageSource for Pages {
    fn pages(&self, memory: MemoryId) -> Result<PageSet, PageSourceError> {
        let pieces = self.0.read().unwrap();
        let pieces = pieces.range((memory, 0)..=(memory, u64::MAX));
        let run = |start: u64, bytes: &[u8]| {
            PageRange::new(start, start + bytes.len() as u64 / PAGE_SIZE)
        };
        Ok(pieces.map(|((_, start), bytes)| run(*start, bytes)).collect())
    }

    fn read(
        &self,
        memory: MemoryId,
        pages: PageRange,
        buffer: &mut [u8],
    ) -> Result<(), PageSourceError> {
        let pieces = self.0.read().unwrap();
        for (at, page) in (pages.start.0..pages.end.0).zip(buffer.chunks_mut(4096)) {
            let piece = pieces.range((memory, 0)..=(memory, at)).next_back();
            let piece = piece.and_then(|((_, start), bytes)| {
                let offset = usize::try_from((at - start) * PAGE_SIZE).ok()?;
                bytes.get(offset..offset + 4096)
            });
            page.copy_from_slice(piece.ok_or(PageSourceError::Absent { memory, pages })?);
        }
        Ok(())
    }
}
