//! What belongs to each thread: mask, alternate stack, robust list, rseq, name, TLS, ids.

use crate::area::Area;
use crate::crew::{Crew, Member};
use crate::flaw::{Flaw, Outcome};
use crate::kind::{Context, Kind};
use crate::pattern::{Pattern, derive};
use crate::raw::{self, signal};
use crate::{ensure, no_variant, same, sys};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// A signal mask of its own.
struct Mask {
    bits: u64,
}

/// Sets up threads with different masks.
pub fn mask(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = context.seed;
    let make = move |number| {
        // Signals that nobody sends may be open or blocked as the seed has it.
        let random = derive(seed, "mask", number);
        let open: Vec<i32> = (0..8)
            .filter(|bit| random >> bit & 1 == 1)
            .map(|bit| raw::rt(signal::UNUSED + bit))
            .collect();
        raw::set_mask(&raw::quiet_mask(&open))?;
        Ok(Mask { bits: raw::mask_bits()? })
    };
    Crew::start("mask", 4, &[], make)?.boxed()
}

impl Member for Mask {
    fn verify(&mut self, _round: u64) -> Outcome {
        same!("signal mask", self.bits, raw::mask_bits()?);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        let set = raw::sigset(&[raw::rt(signal::UNUSED + 9)]);
        match variant {
            "opened" => sys!(libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()))?,
            _ => no_variant!(variant),
        };
        Ok(())
    }
}

/// An alternate stack of its own, used in every round.
struct AlternateStack {
    area: Area,
    flags: i32,
    pattern: Pattern,
}

const SS_AUTODISARM: i32 = 1 << 31;

thread_local! {
    /// Where the handler's frame was, and whether it ran.
    static HANDLED_AT: Cell<usize> = const { Cell::new(0) };
}

extern "C" fn note_frame(_signal: i32) {
    let here = 0u8;
    HANDLED_AT.set(&raw const here as usize);
}

/// Sets up threads with alternate stacks.
pub fn alternate_stack(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = context.seed;
    let number = raw::rt(signal::ALTERNATE);
    raw::on_signal(number, note_frame, libc::SA_ONSTACK | libc::SA_RESTART)?;
    let make = move |number: u64| {
        let area = Area::private(64 * 1024)?;
        let flags = if number.is_multiple_of(2) { 0 } else { SS_AUTODISARM };
        let pattern = Pattern::new(derive(seed, "alternate-stack", number));
        pattern.fill(0, &mut area.bytes_mut()[..4096]);
        install(area, flags)?;
        Ok(AlternateStack { area, flags, pattern })
    };
    Crew::start("alternate-stack", 2, &[number], make)?.boxed()
}

fn install(area: Area, flags: i32) -> Outcome {
    let stack = libc::stack_t { ss_sp: area.pointer(), ss_flags: flags, ss_size: area.len };
    sys!(libc::sigaltstack(&stack, std::ptr::null_mut()))?;
    Ok(())
}

impl Member for AlternateStack {
    fn verify(&mut self, _round: u64) -> Outcome {
        let none = std::ptr::null_mut();
        let mut now = libc::stack_t { ss_sp: none, ss_flags: 0, ss_size: 0 };
        sys!(libc::sigaltstack(std::ptr::null(), &mut now))?;
        let expected = (self.area.start, self.area.len, self.flags);
        same!("alternate stack", expected, (now.ss_sp as usize, now.ss_size, now.ss_flags));
        HANDLED_AT.set(0);
        let number = raw::rt(signal::ALTERNATE);
        sys!(libc::syscall(libc::SYS_tgkill, raw::getpid(), raw::gettid(), number))?;
        let at = HANDLED_AT.get();
        let inside = (self.area.start..self.area.start + self.area.len).contains(&at);
        ensure!(inside, "the handler ran at {at:#x}, not on the alternate stack");
        self.pattern.verify("foot of the alternate stack", 0, &self.area.bytes()[..4096])
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "moved" => install(self.area.part(0, 32 * 1024), self.flags)?,
            "disabled" => install(self.area, libc::SS_DISABLE)?,
            "byte" => self.area.bytes_mut()[100] ^= 1,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// The robust futex list that the C library registered.
struct Robust {
    head: usize,
    len: usize,
}

/// Sets up threads that know their robust list.
pub fn robust_list(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let make = |_| {
        let (head, len) = robust()?;
        ensure!(head != 0, "the C library registered no robust list");
        Ok(Robust { head, len })
    };
    Crew::start("robust-list", 2, &[], make)?.boxed()
}

fn robust() -> Outcome<(usize, usize)> {
    let (mut head, mut len) = (0usize, 0usize);
    sys!(libc::syscall(libc::SYS_get_robust_list, 0, &mut head, &mut len))?;
    Ok((head, len))
}

impl Member for Robust {
    fn verify(&mut self, _round: u64) -> Outcome {
        same!("robust list", (self.head, self.len), robust()?);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "head" => sys!(libc::syscall(libc::SYS_set_robust_list, 0usize, self.len))?,
            _ => no_variant!(variant),
        };
        Ok(())
    }
}

/// The restartable-sequence area that the C library registered.
struct Rseq {
    area: *const AtomicU32,
    cpus: Vec<usize>,
}

const RSEQ_SIGNATURE: u32 = 0x5305_3053;

/// Sets up threads that watch their rseq area while they move between CPUs.
pub fn rseq(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let Some(area) = rseq_area()? else {
        return Err(Flaw::Absent("the C library registered no rseq area (glibc 2.35)".into()));
    };
    ensure!(area.cpu() < 1 << 16, "rseq cpu_id is {}", area.cpu());
    Crew::start("rseq", 2, &[], |_| match rseq_area()? {
        Some(area) => Ok(area),
        None => Err(Flaw::Wrong("a thread has no rseq area".into())),
    })?
    .boxed()
}

/// glibc tells the offset from the thread pointer in `__rseq_offset`.
fn rseq_area() -> Outcome<Option<Rseq>> {
    let symbol = |name: &CStr| {
        // SAFETY: looks a name up in the loaded libraries.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        address as usize
    };
    let (offset, size) = (symbol(c"__rseq_offset"), symbol(c"__rseq_size"));
    if offset == 0 || size == 0 {
        return Ok(None);
    }
    // SAFETY: glibc defines the first as ptrdiff_t and the second as unsigned int.
    let (offset, size) = unsafe { (*(offset as *const isize), *(size as *const u32)) };
    if size == 0 {
        return Ok(None);
    }
    let mut base = 0usize;
    sys!(libc::syscall(libc::SYS_arch_prctl, 0x1003, &mut base))?;
    let area = base.wrapping_add_signed(offset) as *const AtomicU32;
    Ok(Some(Rseq { area, cpus: allowed_cpus()? }))
}

fn allowed_cpus() -> Outcome<Vec<usize>> {
    // SAFETY: a zeroed set is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    sys!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set))?;
    // SAFETY: CPU_ISSET reads the set within its bounds.
    let allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(allowed).collect())
}

/// Binds the calling thread.
pub(super) fn bind_to(cpus: &[usize]) -> Outcome {
    // SAFETY: a zeroed set is valid, CPU_SET stays within its bounds.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        set
    };
    sys!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    Ok(())
}

impl Rseq {
    /// `cpu_id`, the second word of the area.
    fn cpu(&self) -> u32 {
        // SAFETY: the area is part of the thread's control block and lives as long as the thread.
        unsafe { (*self.area.add(1)).load(SeqCst) }
    }
}

impl Member for Rseq {
    fn verify(&mut self, _round: u64) -> Outcome {
        let cpus = self.cpus.clone();
        for &cpu in &cpus {
            bind_to(&[cpu])?;
            same!("rseq cpu_id of a thread bound to one CPU", cpu as u32, self.cpu());
        }
        bind_to(&cpus)
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "unregistered" => {
                // Longer areas are registered where the kernel offers them: 32 bytes are glibc's.
                let unregister = |len: u32| {
                    sys!(libc::syscall(libc::SYS_rseq, self.area, len, 1, RSEQ_SIGNATURE))
                };
                if unregister(32).is_err() {
                    unregister(64)?;
                }
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// A thread name of its own, and its timer slack.
struct Name {
    name: String,
    slack: i64,
}

/// Sets up threads with names and timer slacks.
pub fn name(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let make = |number: u64| {
        let name = format!("wit\u{e9} ({number}) x");
        let slack = 51_000 + number as i64 * 1000;
        let text = std::ffi::CString::new(name.clone()).unwrap_or_default();
        sys!(libc::prctl(libc::PR_SET_NAME, text.as_ptr()))?;
        sys!(libc::prctl(libc::PR_SET_TIMERSLACK, slack))?;
        Ok(Name { name, slack })
    };
    Crew::start("name", 3, &[], make)?.boxed()
}

impl Member for Name {
    fn verify(&mut self, _round: u64) -> Outcome {
        let mut name = [0u8; 16];
        sys!(libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()))?;
        let found = CStr::from_bytes_until_nul(&name).map(CStr::to_string_lossy);
        same!("thread name", self.name, found.unwrap_or_default());
        same!("timer slack", self.slack, sys!(libc::prctl(libc::PR_GET_TIMERSLACK))?);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "name" => sys!(libc::prctl(libc::PR_SET_NAME, c"other".as_ptr()))?,
            "slack" => sys!(libc::prctl(libc::PR_SET_TIMERSLACK, 40_000))?,
            _ => no_variant!(variant),
        };
        Ok(())
    }
}

thread_local! {
    static LOCAL: RefCell<[u8; 1000]> = const { RefCell::new([0; 1000]) };
}

/// Thread-local values, compiled in and by key.
struct Local {
    pattern: Pattern,
    key: libc::pthread_key_t,
    value: usize,
    stack: [u8; 20_000],
}

/// Sets up threads with thread-local values.
pub fn local(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = context.seed;
    let make = move |number| {
        let pattern = Pattern::new(derive(seed, "local", number));
        let value = derive(seed, "key", number) as usize;
        let mut key = 0;
        // SAFETY: the key is created before it is used; its value is no pointer.
        let failed = unsafe {
            libc::pthread_key_create(&mut key, None) != 0
                || libc::pthread_setspecific(key, value as *const libc::c_void) != 0
        };
        ensure!(!failed, "no thread-specific key");
        LOCAL.with_borrow_mut(|local| pattern.fill(0, local));
        let mut stack = [0; 20_000];
        pattern.fill(0, &mut stack);
        Ok(Local { pattern, key, value, stack })
    };
    Crew::start("local", 3, &[], make)?.boxed()
}

impl Member for Local {
    fn verify(&mut self, round: u64) -> Outcome {
        LOCAL.with_borrow(|local| self.pattern.verify("thread-local bytes", 0, local))?;
        self.pattern.verify("bytes on the thread's stack", 0, &self.stack)?;
        // SAFETY: the key was created in set-up.
        let value = unsafe { libc::pthread_getspecific(self.key) } as usize;
        same!("thread-specific value", self.value, value);
        self.pattern = Pattern::new(crate::pattern::mix(round));
        LOCAL.with_borrow_mut(|local| self.pattern.fill(0, local));
        self.pattern.fill(0, &mut self.stack);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "local" => LOCAL.with_borrow_mut(|local| local[999] ^= 1),
            "stack" => self.stack[19_999] ^= 1,
            "key" => {
                // SAFETY: as in set-up.
                unsafe { libc::pthread_setspecific(self.key, std::ptr::null()) };
            }
            _ => no_variant!(variant),
        }
        Ok(())
    }
}

/// Process and thread ids, as the kernel and the C library say them.
struct Ids {
    pid: i32,
    tid: i32,
    clear_tid: usize,
}

/// PR_GET_TID_ADDRESS, which libc does not name.
const PR_GET_TID_ADDRESS: i32 = 40;

/// Sets up threads that know their ids.
pub fn ids(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let make = |_| Ok(Ids { pid: raw::getpid(), tid: raw::gettid(), clear_tid: clear_tid()? });
    Crew::start("ids", 3, &[], make)?.boxed()
}

/// Where the kernel stores zero when the thread ends: the C library's join waits there.
fn clear_tid() -> Outcome<usize> {
    let mut address = 0usize;
    match sys!(libc::prctl(PR_GET_TID_ADDRESS, &mut address)) {
        Ok(_) => Ok(address),
        // A kernel without CONFIG_CHECKPOINT_RESTORE cannot say; `churn` notices a loss too.
        Err(failed) if failed.errno == libc::EINVAL => Ok(0),
        Err(failed) => Err(failed.into()),
    }
}

impl Member for Ids {
    fn verify(&mut self, _round: u64) -> Outcome {
        same!("getpid", self.pid, raw::getpid());
        same!("gettid", self.tid, raw::gettid());
        same!("thread id address", self.clear_tid, clear_tid()?);
        let expected = format!("{}/task/{}", self.pid, self.tid);
        same!("/proc/thread-self", expected, raw::link("/proc/thread-self")?);
        Ok(())
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        match variant {
            "tid" => self.tid += 1,
            "pid" => self.pid += 1,
            "clear-tid" => drop(sys!(libc::syscall(libc::SYS_set_tid_address, 0usize))?),
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
