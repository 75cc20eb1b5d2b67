//! A process of our own, emptied and filled again around our code.
#![allow(unsafe_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::time::{Duration, Instant};

use libc::{
    SYS_arch_prctl, SYS_clone3, SYS_getpid, SYS_gettid, SYS_mmap, SYS_munmap, SYS_rseq,
    SYS_set_tid_address,
};
use mem::{AddrRange, VirtAddr};
use rekindle_inject::{Arg, Batch, Stub, StubRoom};
use sys::ptrace::{Options, Regs, Stop, Traced};
use sys::remote;
use sys::task::Pid;

const CODE: u64 = 4096;
const SCRATCH: u64 = 64 * 1024;
const NEW_VDSO: u64 = 0x7000_0000_0000;
const NEW_PAGE: u64 = 0x1234_5000;

/// A child that waits for ever, and dies with us.
struct Child {
    pid: Pid,
    room: AddrRange,
}

impl Child {
    /// Forks it with a room for code and two scratch areas mapped.
    fn new() -> Self {
        let bytes = CODE + 2 * SCRATCH;
        // SAFETY: a fresh mapping. The child calls nothing but prctl and pause, which are
        // async-signal-safe.
        unsafe {
            let room = libc::mmap(
                std::ptr::null_mut(),
                bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(room, libc::MAP_FAILED);
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
            let start = room.addr() as u64;
            Self { pid: Pid::new(pid).unwrap(), room: AddrRange::new(start, start + bytes) }
        }
    }

    fn scratch(&self, number: u64) -> AddrRange {
        let start = self.room.start.0 + CODE + number * SCRATCH;
        AddrRange::new(start, start + SCRATCH)
    }

    fn seize(&self) -> Stub {
        let options = Options { exit_kill: true, trace_clone: true, ..Options::default() };
        let traced = Traced::seize(self.pid.main_thread(), options).unwrap();
        traced.interrupt().unwrap();
        let thread = traced.into_stopped(Instant::now() + Duration::from_secs(5)).unwrap();
        let code = AddrRange::new(self.room.start.0, self.room.start.0 + CODE);
        Stub::open(self.pid, thread, StubRoom { code, scratch: self.scratch(0) }).unwrap()
    }

    /// Waits for its end; says how it ended.
    fn end(self) -> i32 {
        let mut status = 0;
        // SAFETY: the pid is our child's, not reaped yet.
        let got = unsafe { libc::waitpid(self.pid.raw(), &raw mut status, libc::__WALL) };
        assert_eq!(got, self.pid.raw());
        // SAFETY: nobody else uses the room.
        unsafe {
            let start = std::ptr::without_provenance_mut(self.room.start.0 as usize);
            libc::munmap(start, self.room.len() as usize);
        }
        status
    }
}

/// Ends the rseq registration and unmaps everything but the room.
fn empty(stub: &mut Stub, room: AddrRange) {
    let mut batch = Batch::new();
    if let Some(rseq) = stub.thread().rseq().unwrap() {
        let size = u64::from(rseq.area_bytes).into();
        let signature = u64::from(rseq.signature).into();
        batch.require(SYS_rseq, &[rseq.area.0.into(), size, Arg::Imm(1), signature]);
    }
    let top = 0x7fff_ffff_f000_u64;
    batch.require(SYS_munmap, &[Arg::Imm(0), room.start.0.into()]);
    batch.require(SYS_munmap, &[room.end.0.into(), (top - room.end.0).into()]);
    stub.run(&batch).unwrap();
}

fn mappings(pid: Pid) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    text.lines().filter(|line| !line.contains("vsyscall")).map(str::to_owned).collect()
}

#[test]
fn a_stub_is_emptied_filled_and_let_go() {
    let child = Child::new();
    let mut stub = child.seize();
    empty(&mut stub, child.room);
    assert_eq!(mappings(child.pid).len(), 1, "{:#?}", mappings(child.pid));

    let mut batch = Batch::new();
    batch.require(SYS_arch_prctl, &[Arg::Imm(0x2003), NEW_VDSO.into()]);
    let fixed = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let page = batch.require(
        SYS_mmap,
        &[NEW_PAGE.into(), Arg::Imm(4096), Arg::Imm(7), fixed.into(), (-1).into(), 0.into()],
    );
    assert_eq!(stub.run(&batch).unwrap().get(page).unwrap(), NEW_PAGE);

    // exit_group(rdi)
    let code = [0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05];
    remote::write(child.pid.main_thread(), VirtAddr(NEW_PAGE), &code).unwrap();
    let syscall = find_syscall(child.pid);
    let (start, bytes) = (child.room.start.0, child.room.len());
    assert_eq!(stub.call_at(syscall, SYS_munmap, [start, bytes, 0, 0, 0, 0]).unwrap(), 0);
    let left = mappings(child.pid);
    assert!(left.iter().all(|line| !line.starts_with(&format!("{start:x}-"))), "{left:#?}");

    let regs = stub.thread().regs().unwrap();
    let regs = Regs { rip: NEW_PAGE, rdi: 42, orig_rax: u64::MAX, ..regs };
    let thread = stub.into_thread(&regs).unwrap();
    thread.set_sigmask(0).unwrap();
    thread.detach(0).unwrap();
    assert_eq!(child.end(), 42 << 8);
}

/// A `syscall` instruction in the new vdso.
fn find_syscall(pid: Pid) -> VirtAddr {
    let line = mappings(pid).into_iter().find(|line| line.ends_with("[vdso]")).unwrap();
    let (start, rest) = line.split_once('-').unwrap();
    let parse = |text| u64::from_str_radix(text, 16).unwrap();
    let (start, end) = (parse(start), parse(rest.split_once(' ').unwrap().0));
    let mut bytes = vec![0; (end - start) as usize];
    remote::read_exact(pid.main_thread(), VirtAddr(start), &mut bytes).unwrap();
    let at = bytes.windows(2).position(|pair| pair == [0x0f, 0x05]).unwrap();
    VirtAddr(start + at as u64)
}

#[test]
fn a_stub_makes_threads_that_run_batches_too() {
    let child = Child::new();
    let mut stub = child.seize();
    empty(&mut stub, child.room);
    let mut words = [0_u64; 11];
    words[0] = sys::clone::THREAD_FLAGS;
    let args: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let args = stub.place(&args).unwrap();
    let mut batch = Batch::new();
    let first = batch.require(SYS_clone3, &[args.into(), Arg::Imm(88)]);
    let second = batch.require(SYS_clone3, &[args.into(), Arg::Imm(88)]);
    let mine = batch.require(SYS_gettid, &[]);
    let answers = stub.run(&batch).unwrap();
    assert_eq!(answers.get(mine).unwrap(), child.pid.raw() as u64);
    let threads = stub.new_threads();
    assert_eq!(threads.len(), 2);
    assert!(stub.new_threads().is_empty());
    for (thread, call) in threads.into_iter().zip([first, second]) {
        let tid = thread.tid();
        assert_eq!(answers.get(call).unwrap(), tid.raw() as u64);
        assert_eq!(thread.stop(), Stop::Interrupt);
        let mut sibling = stub.open_sibling(thread, child.scratch(1)).unwrap();
        let mut batch = Batch::new();
        let set = batch.require(SYS_set_tid_address, &[Arg::Imm(0)]);
        let pid = batch.require(SYS_getpid, &[]);
        let answers = sibling.run(&batch).unwrap();
        assert_eq!(answers.get(set).unwrap(), tid.raw() as u64);
        assert_eq!(answers.get(pid).unwrap(), child.pid.raw() as u64);
        // The sibling is let go into an endless loop, and ends with the process.
        let code = [0xeb, 0xfe];
        remote::write(tid, child.scratch(1).start, &code).unwrap();
        let regs = Regs { rip: child.scratch(1).start.0, ..sibling.thread().regs().unwrap() };
        sibling.into_thread(&regs).unwrap().detach(0).unwrap();
    }
    let mut batch = Batch::new();
    let call = batch.require(SYS_getpid, &[]);
    assert_eq!(stub.run(&batch).unwrap().get(call).unwrap(), child.pid.raw() as u64);
    // SAFETY: the child is not reaped yet.
    unsafe { libc::kill(child.pid.raw(), libc::SIGKILL) };
    drop(stub);
}

#[test]
fn hundreds_of_calls_are_one_round_trip() {
    let child = Child::new();
    let mut stub = child.seize();
    let mut batch = Batch::new();
    for _ in 0..400 {
        batch.require(SYS_getpid, &[]);
    }
    let started = Instant::now();
    let answers = stub.run(&batch).unwrap();
    println!("400 calls in {:?}", started.elapsed());
    assert!(answers.values().iter().all(|value| *value == i64::from(child.pid.raw())));
    // SAFETY: the child is not reaped yet.
    unsafe { libc::kill(child.pid.raw(), libc::SIGKILL) };
    drop(stub);
}
