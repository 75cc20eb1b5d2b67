//! A builder that is killed leaves nothing.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rekindle_resume::{Options, PidPolicy};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use support::Original;

const BUILDER: &str = "REKINDLE_TEST_BUILDER";
const KILLS: u64 = 30;

/// Not a test: with the variable set it builds and drops for ever.
#[test]
fn builder() {
    let Ok(ready) = std::env::var(BUILDER) else { return };
    let image = Original::start(
        "threads = [threading.Thread(target=time.sleep, args=(99,)) for _ in range(3)]\n\
         for t in threads: t.start()\ngo_on(lambda: None)",
    )
    .stop();
    std::fs::write(ready, "").unwrap();
    for pid in [PidPolicy::Auto, PidPolicy::OwnNamespace].into_iter().cycle() {
        drop(image.build(&Options { pid, ..Options::default() }).unwrap());
    }
}

/// Killed at any instant, in either place, it takes everything that it made with it.
#[test]
fn a_killed_builder_leaves_nothing() {
    // Whatever outlives a builder becomes ours.
    set_child_subreaper(Some(getpid())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for n in 0..KILLS {
        let ready = folder.path().join(n.to_string());
        let mut builder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "builder"])
            .env(BUILDER, &ready)
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            assert!(Instant::now() < deadline, "the builder is not ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(n * 1700));
        builder.kill().unwrap();
        builder.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    assert!(Instant::now() < deadline, "kill {n}: something lives on");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => break,
            }
        }
    }
}
