//! Pending signals and signal actions.

use crate::crew::{Crew, Member};
use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::pattern::derive;
use crate::raw::{self, signal};
use crate::{no_variant, same, sys, wrong};
use std::time::Duration;

const QUEUED: i32 = 12;

/// Signals that wait for ever because everybody blocks them. Each check takes them off the
/// queue, compares number, sender, code, value and order, and queues new ones.
struct Pending {
    seed: u64,
    to_thread: bool,
    round: u64,
}

impl Pending {
    fn standard(&self) -> i32 {
        if self.to_thread { libc::SIGUSR1 } else { libc::SIGUSR2 }
    }

    fn realtime(&self) -> i32 {
        raw::rt(if self.to_thread { signal::PENDING_THREAD } else { signal::PENDING_PROCESS })
    }

    fn value(&self, number: i32) -> i32 {
        derive(self.seed, "value", self.round * 100 + number as u64) as i32
    }

    fn queue(&self) -> Outcome {
        let standard = self.standard();
        if self.to_thread {
            sys!(libc::syscall(libc::SYS_tgkill, raw::getpid(), raw::gettid(), standard))?;
        } else {
            sys!(libc::kill(raw::getpid(), standard))?;
        }
        for number in 0..QUEUED {
            self.queue_one(number)?;
        }
        Ok(())
    }

    fn queue_one(&self, number: i32) -> Outcome {
        let value = self.value(number);
        if self.to_thread {
            raw::queue_to_thread(raw::gettid(), self.realtime(), value)?;
        } else {
            raw::queue_to_process(self.realtime(), value)?;
        }
        Ok(())
    }

    fn take_all(&self) -> Outcome {
        let code = if self.to_thread { libc::SI_TKILL } else { libc::SI_USER };
        let standard = self.take(self.standard())?;
        same!("code of the standard signal", code, standard.si_code);
        check_sender(&standard)?;
        for number in 0..QUEUED {
            let info = self.take(self.realtime())?;
            same!("code of a queued signal", libc::SI_QUEUE, info.si_code);
            check_sender(&info)?;
            // SAFETY: a signal of SI_QUEUE carries a value.
            let value = unsafe { info.si_value().sival_ptr } as u64;
            let what = format!("value of queued signal {number}");
            same!(what, u64::from(self.value(number) as u32), value);
        }
        let both = raw::sigset(&[self.standard(), self.realtime()]);
        match raw::take_signal(&both, Some(Duration::ZERO)) {
            Err(failed) if failed.errno == libc::EAGAIN => Ok(()),
            Ok(info) => wrong!("signal {} is queued once too often", info.si_signo),
            Err(failed) => Err(failed.into()),
        }
    }

    fn take(&self, number: i32) -> Outcome<libc::siginfo_t> {
        match raw::take_signal(&raw::sigset(&[number]), Some(Duration::ZERO)) {
            Ok(info) => Ok(info),
            Err(failed) if failed.errno == libc::EAGAIN => {
                wrong!("signal {number} is no longer pending")
            }
            Err(failed) => Err(failed.into()),
        }
    }

    fn spoil(&self, variant: &str) -> Outcome {
        match variant {
            "lost" => drop(self.take(self.standard())?),
            "queue-lost" => drop(self.take(self.realtime())?),
            "order" => {
                self.take(self.realtime())?;
                self.queue_one(0)?;
            }
            "twice" => self.queue_one(0)?,
            _ => no_variant!(variant),
        }
        Ok(())
    }

    fn turn(&mut self) -> Outcome {
        self.take_all()?;
        self.round += 1;
        self.queue()
    }
}

fn check_sender(info: &libc::siginfo_t) -> Outcome {
    // SAFETY: signals sent by a process carry its ids.
    let (pid, uid, own) = unsafe { (info.si_pid(), info.si_uid(), libc::getuid()) };
    same!("sender of a pending signal", (raw::getpid(), own), (pid, uid));
    Ok(())
}

/// Sets up a thread with signals of its own pending.
pub fn pending_thread(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "pending-thread", 0);
    let make = move |number| {
        let seed = derive(seed, "thread", number);
        let pending = Pending { seed, to_thread: true, round: 0 };
        pending.queue()?;
        Ok(pending)
    };
    Crew::start("pending-thread", 2, &[], make)?.boxed()
}

impl Member for Pending {
    fn verify(&mut self, _round: u64) -> Outcome {
        self.turn()
    }

    fn spoil(&mut self, variant: &str) -> Outcome {
        Pending::spoil(self, variant)
    }
}

/// The process's own queue, checked by the main thread.
struct PendingProcess(Pending);

/// Sets up signals pending for the process.
pub fn pending_process(context: &Context) -> Outcome<Box<dyn Kind>> {
    let seed = derive(context.seed, "pending-process", 0);
    let pending = Pending { seed, to_thread: false, round: 0 };
    pending.queue()?;
    Ok(Box::new(PendingProcess(pending)))
}

impl Kind for PendingProcess {
    fn check(&mut self) -> Outcome<Pass> {
        self.0.turn().map(|()| Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        self.0.spoil(variant)
    }
}

/// What `rt_sigaction` says, as the kernel lays it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// The dispositions of all signals.
struct Actions {
    expected: Option<Vec<Action>>,
}

extern "C" fn nothing(_signal: i32) {}

/// Sets up a mix of dispositions. Other kinds install theirs after this one, so the picture to
/// compare with is taken at the first check.
pub fn actions(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let flags = [
        libc::SA_RESTART,
        libc::SA_NODEFER | libc::SA_SIGINFO,
        libc::SA_ONSTACK,
        libc::SA_RESETHAND,
    ];
    for (number, flags) in flags.iter().enumerate() {
        // SAFETY: a zeroed action is valid, and the handler does nothing.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = *flags;
        action.sa_mask = raw::sigset(&[libc::SIGUSR1, raw::rt(10 + number as i32)]);
        let signal = raw::rt(signal::UNUSED + number as i32);
        sys!(libc::sigaction(signal, &action, std::ptr::null_mut()))?;
    }
    for ignored in [libc::SIGHUP, libc::SIGWINCH, raw::rt(signal::UNUSED + 6)] {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(ignored, libc::SIG_IGN) };
    }
    Ok(Box::new(Actions { expected: None }))
}

fn all_actions() -> Outcome<Vec<Action>> {
    (1..=64)
        .map(|signal| {
            let mut action = Action::default();
            let none = std::ptr::null::<Action>();
            let call = libc::SYS_rt_sigaction;
            sys!(libc::syscall(call, signal, none, &raw mut action, 8usize))?;
            Ok(action)
        })
        .collect()
}

impl Kind for Actions {
    fn check(&mut self) -> Outcome<Pass> {
        let found = all_actions()?;
        if let Some(expected) = &self.expected {
            for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
                same!(format!("action of signal {}", index + 1), expected, found);
            }
        }
        self.expected = Some(found);
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        let signal = raw::rt(signal::UNUSED);
        match variant {
            "default" => {
                // SAFETY: the default action runs no code of ours.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            "flags" => raw::on_signal(signal, nothing, libc::SA_NODEFER)?,
            "mask" => raw::on_signal(signal, nothing, libc::SA_RESTART)?,
            _ => no_variant!(variant),
        }
        Ok(())
    }
}
