use std::io::Read;
use std::os::unix::fs::FileExt;

use super::*;

fn free_pid() -> i32 {
    (3000..).step_by(7).find(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()).unwrap()
}

fn killed(status: Option<i32>) -> bool {
    status.is_some_and(|s| libc::WIFSIGNALED(s) && libc::WTERMSIG(s) == libc::SIGKILL)
}

/// A parked child has the pid that was asked for, and the pid is refused while it is in use.
#[test]
fn a_parked_child_gets_its_pid() {
    let pid = free_pid();
    let child = park(Some(pid), libc::SIGCHLD).unwrap();
    assert_eq!(child.pid.raw(), pid);
    assert_eq!(pid_of(&child.pidfd).unwrap(), child.pid);
    let taken = park(Some(pid), libc::SIGCHLD).unwrap_err();
    assert_eq!(taken.raw_os_error(), Some(libc::EEXIST));
    child.pidfd.send_signal(libc::SIGKILL).unwrap();
    assert!(killed(reap(child.pid)));
}

/// A bystander is who it was asked to be, holds no memory of ours, and ends with its value.
#[test]
fn a_bystander_has_no_power_and_no_secret() {
    let secret = vec![0x5a_u8; 1 << 20];
    let bystander = Bystander::spawn(65534, 65533, None).unwrap();
    let pid = bystander.pid_inside();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!(field("Gid:"), "65533\t65533\t65533\t65533");
    assert_eq!(field("CapPrm:"), "0000000000000000");
    assert_eq!(field("Groups:"), "", "none of ours");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), std::path::Path::new("/"));
    let mut byte = [1];
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    memory.read_at(&mut byte, secret.as_ptr().addr() as u64).unwrap();
    assert_eq!((byte[0], secret[0]), (0, 0x5a));
    // The control pipe, and its standard streams are closed.
    assert!(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() <= 2);
    drop(bystander);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

/// Dropping an init ends its main child too.
#[test]
fn a_dropped_init_leaves_nothing() {
    let init = Init::spawn(InitSettings { main_pid: 7, ..InitSettings::default() }).unwrap();
    let (pid, main) = (init.pid(), init.main_pid());
    let status = fs::read_to_string(format!("/proc/{main}/status")).unwrap();
    assert!(status.lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t7")), "{status}");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim(), "rekindle-init");
    drop(init);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    assert!(!fs::exists(format!("/proc/{main}")).unwrap());
}

/// An init that was let go tells how its main child ended, and ends with the same code. It
/// holds no descriptor but its pipe, and little memory.
#[test]
fn an_init_tells_the_end_of_its_main_child() {
    let clocks = Some(ClockOffsets { monotonic_ns: 5_000_000_000, boottime_ns: 1 });
    let settings = InitSettings { main_pid: 4711, new_session: true, clocks };
    let init = Init::spawn(settings).unwrap();
    let main = init.main_pid();
    let offsets = fs::read_to_string(format!("/proc/{main}/timens_offsets")).unwrap();
    assert!(offsets.contains("monotonic           5"), "{offsets}");
    let (pid, mut status) = init.let_go().unwrap();
    let guard = Guard(pid);
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(held, 1);
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let anonymous = smaps.lines().find_map(|l| l.strip_prefix("Anonymous:")).unwrap();
    let kb: u64 = anonymous.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(kb < 1024, "the init holds {kb} kB");
    // Through the init: SIGUSR1 ends the sleeping main child unless it is blocked, which it is;
    // it must arrive nevertheless.
    kill(pid, libc::SIGUSR1);
    let pending = || {
        let text = fs::read_to_string(format!("/proc/{main}/status")).unwrap();
        text.lines().any(|l| l.starts_with("ShdPnd:") && l.ends_with("0000000000000200"))
    };
    while !pending() {
        std::thread::yield_now();
    }
    kill(main, libc::SIGKILL);
    let mut word = [0; 4];
    status.read_exact(&mut word).unwrap();
    assert!(killed(Some(i32::from_ne_bytes(word))));
    let end = reap(pid).unwrap();
    std::mem::forget(guard);
    assert_eq!(libc::WEXITSTATUS(end), 128 + libc::SIGKILL);
}

/// Ends what a failed test leaves.
struct Guard(Pid);

impl Drop for Guard {
    fn drop(&mut self) {
        kill(self.0, libc::SIGKILL);
        reap(self.0);
    }
}

fn kill(pid: Pid, signal: i32) {
    PidFd::open(pid).unwrap().send_signal(signal).unwrap();
}
