//! A program that can be odd in one way: what `rekindle` has to refuse by name. It prints one line
//! `target PID` when it is set up, and then waits until it is killed.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::ptr::null_mut;

const HELP: &str = "\
rekindle-odd MODE
  plain            nothing odd
  children         a child process
  zombie           the target is a child that ended and is not reaped
  traced           the target is a child that this process traces
  uninterruptible  a thread that no signal can stop (it waits for a vfork)
  io-uring         an io_uring
  async-io         a kernel AIO context
  device           a mapping of a device
  perf             a performance counter
  inotify          an inotify descriptor with a watch
  posix-lock FILE  a POSIX lock on FILE
  deleted FILE     FILE open and deleted
  32-bit FILE      a 32-bit program, which is written to FILE
  pipe-outside     a pipe whose other end a child holds";

type Outcome = Result<(), String>;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let file = arguments.next().unwrap_or_default();
    if let Err(message) = run(&mode, &file) {
        // Code 77: the host does not have what is wanted.
        eprintln!("rekindle-odd: {mode}: {message}");
        std::process::exit(77);
    }
    wait_for_ever();
}

fn run(mode: &str, file: &str) -> Outcome {
    match mode {
        "plain" => {}
        "children" | "pipe-outside" => drop(child(|| wait_for_ever())?),
        "zombie" => return zombie(),
        "traced" => return traced(),
        "uninterruptible" => return uninterruptible(),
        "io-uring" => {
            let mut parameters = [0u8; 120];
            // SAFETY: the kernel fills the 120 bytes of io_uring_params.
            let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, &mut parameters) };
            check("io_uring_setup", fd)?;
        }
        "async-io" => {
            let mut context = 0usize;
            // SAFETY: the kernel writes one word.
            let said = unsafe { libc::syscall(libc::SYS_io_setup, 16, &mut context) };
            check("io_setup", said)?;
        }
        "device" => device()?,
        "perf" => perf()?,
        "inotify" => {
            // SAFETY: the path is a constant with a final zero.
            let said = unsafe {
                let fd = libc::inotify_init1(0);
                libc::inotify_add_watch(fd, c"/".as_ptr(), libc::IN_CREATE)
            };
            check("inotify_add_watch", said.into())?;
        }
        "posix-lock" => posix_lock(file)?,
        "deleted" => {
            let held = std::fs::File::create(file).map_err(|error| error.to_string())?;
            std::fs::remove_file(file).map_err(|error| error.to_string())?;
            std::mem::forget(held);
        }
        "32-bit" => return thirty_two(file),
        _ => {
            eprintln!("{HELP}");
            std::process::exit(2);
        }
    }
    tell(std::process::id().cast_signed());
    Ok(())
}

fn check(call: &str, said: i64) -> Outcome {
    if said >= 0 {
        return Ok(());
    }
    Err(format!("{call} said {}", std::io::Error::last_os_error()))
}

fn tell(pid: i32) {
    println!("target {pid}");
    let _ = std::io::stdout().flush();
}

fn wait_for_ever() -> ! {
    loop {
        // SAFETY: takes no arguments.
        unsafe { libc::pause() };
    }
}

/// Forks; this process has one thread, so the child may go on as it likes. It dies with us.
fn child(body: impl FnOnce()) -> Result<i32, String> {
    let mut ends = [0; 2];
    // SAFETY: one thread; the pipe's array lives through the call.
    let pid = unsafe {
        libc::pipe(ends.as_mut_ptr());
        libc::fork()
    };
    check("fork", pid.into())?;
    if pid == 0 {
        // SAFETY: takes no pointers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        body();
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(0) };
    }
    Ok(pid)
}

fn zombie() -> Outcome {
    let pid = child(|| {})?;
    // SAFETY: a zeroed value is valid and lives through the call.
    let said = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        // Waits for the end but leaves the zombie.
        libc::waitid(libc::P_PID, pid.cast_unsigned(), &mut info, libc::WEXITED | libc::WNOWAIT)
    };
    check("waitid", said.into())?;
    tell(pid);
    Ok(())
}

fn traced() -> Outcome {
    let pid = child(|| wait_for_ever())?;
    // SAFETY: PTRACE_SEIZE takes no pointers.
    check("ptrace", unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) })?;
    tell(pid);
    Ok(())
}

/// The parent of a vfork waits where only SIGKILL reaches it.
fn uninterruptible() -> Outcome {
    extern "C" fn sleeper(_: *mut libc::c_void) -> i32 {
        // SAFETY: the child shares our memory but runs on a stack of its own.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    tell(std::process::id().cast_signed());
    let mut stack = vec![0u8; 64 * 1024];
    // SAFETY: the stack outlives the child, for the call returns only when the child is gone.
    let said = unsafe {
        let top = stack.as_mut_ptr().add(stack.len() & !15);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(sleeper, top.cast(), flags, null_mut())
    };
    check("clone", said.into())
}

/// A page of the first block device that can be read, else of physical memory.
fn device() -> Outcome {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let disks = disks.map(|entry| std::path::Path::new("/dev").join(entry.file_name()));
    let mut candidates = disks.chain(["/dev/mem".into()]);
    let Some(file) = candidates.find_map(|path| std::fs::File::open(path).ok()) else {
        return Err("no block device and no /dev/mem can be opened".into());
    };
    // SAFETY: a new mapping at a place of the kernel's choice.
    let said = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
    };
    check("mmap of a device", said as i64)
}

fn perf() -> Outcome {
    let mut attributes = [0u32; 32];
    // A software counter (type 1) of page faults (2); the size of its second version.
    (attributes[0], attributes[1], attributes[2]) = (1, 128, 2);
    let (call, own, any) = (libc::SYS_perf_event_open, 0, -1);
    // SAFETY: the attributes are 128 bytes as they say.
    let said = unsafe { libc::syscall(call, attributes.as_ptr(), own, any, any, 0) };
    check("perf_event_open", said)
}

fn posix_lock(path: &str) -> Outcome {
    let file = std::fs::File::create(path).map_err(|error| error.to_string())?;
    // SAFETY: a zeroed lock is the whole file.
    let said = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as i16;
        libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETLK, &lock)
    };
    std::mem::forget(file);
    check("fcntl", said.into())
}

/// The smallest 32-bit program: `pause` for ever.
fn thirty_two(path: &str) -> Outcome {
    const BASE: u32 = 0x0804_8000;
    const CODE: [u8; 9] = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let entry = BASE + 84;
    let mut image = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2u16, 3] {
        image.extend(half.to_le_bytes());
    }
    for word in [1, entry, 52, 0, 0] {
        image.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 40, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    let len = 84 + CODE.len() as u32;
    for word in [1, 0, BASE, BASE, len, len, 5, 4096] {
        image.extend(word.to_le_bytes());
    }
    image.extend(CODE);
    std::fs::write(path, image).map_err(|error| error.to_string())?;
    let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, runs).map_err(|error| error.to_string())?;
    tell(std::process::id().cast_signed());
    Err(std::process::Command::new(path).exec().to_string())
}
