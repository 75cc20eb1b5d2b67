//! Task groups and threads: registers, signals, timers, scheduling.

use process::{
    AlternateStack, GeneralRegisters, IntervalTimer, PosixTimer, PosixTimerNotify, QueuedSignal,
    RobustList, Rseq, Scheduling, SignalAction, TaskGroup, Thread, TimerSetting,
};

use super::wire::{Invalid, Wire, bytes, one, wire_struct};
use crate::generated as proto;

wire_struct!(TaskGroup => proto::TaskGroup {
    pid: same,
    pid_outside: same,
    parent_pid: same,
    process_group: same,
    session: same,
    terminal: maybe,
    threads: many,
    space: scalar,
    table: scalar,
    credentials: scalar,
    namespaces: scalar,
    signal_actions: many,
    pending_signals: many,
    interval_timers: fixed,
    posix_timers: many,
    exe: same,
    cwd: same,
    root: same,
    umask: same,
    personality: same,
    rlimits: many,
    dumpable: same,
    oom_score_adj: same,
    child_subreaper: same,
    thp_disable: same,
    parent_death_signal: same,
    exit_signal: same,
    cgroups: same,
    lsm_label: same,
    coredump_filter: same,
    is_stopped: same,
});

wire_struct!(Thread => proto::Thread {
    tid: same,
    tid_outside: same,
    name: same,
    registers: scalar,
    xstate: same,
    blocked_signals: scalar,
    pending_signals: many,
    alternate_stack: one,
    robust_list: one,
    rseq: maybe,
    clear_child_tid: same,
    scheduling: one,
    timer_slack_ns: same,
    seccomp_mode: same,
    no_new_privs: same,
});

impl Wire for GeneralRegisters {
    type Message = Vec<u64>;

    fn to_wire(&self) -> Result<Vec<u64>, Invalid> {
        Ok(self.to_words().to_vec())
    }

    fn from_wire(words: Vec<u64>) -> Result<Self, Invalid> {
        let count = words.len();
        let words = words
            .try_into()
            .map_err(|_| Invalid::new(format!("has {count} registers instead of 27")))?;
        Ok(Self::from_words(words))
    }
}

wire_struct!(AlternateStack => proto::AlternateStack {
    base: same,
    flags: same,
    size_bytes: same,
});

wire_struct!(RobustList => proto::RobustList {
    head: same,
    size_bytes: same,
});

wire_struct!(Rseq => proto::Rseq {
    address: same,
    size_bytes: same,
    signature: same,
    flags: same,
});

wire_struct!(Scheduling => proto::Scheduling {
    policy: same,
    flags: same,
    nice: same,
    priority: same,
    runtime_ns: same,
    deadline_ns: same,
    period_ns: same,
    affinity: same,
    io_priority: same,
});

wire_struct!(SignalAction => proto::SignalAction {
    handler: same,
    flags: same,
    restorer: same,
    mask: scalar,
});

impl Wire for QueuedSignal {
    type Message = Vec<u8>;

    fn to_wire(&self) -> Result<Vec<u8>, Invalid> {
        bytes::to(&self.siginfo)
    }

    fn from_wire(siginfo: Vec<u8>) -> Result<Self, Invalid> {
        Ok(Self { siginfo: bytes::from(siginfo)? })
    }
}

wire_struct!(TimerSetting => proto::TimerSetting {
    value_ns: same,
    interval_ns: same,
});

impl Wire for IntervalTimer {
    type Message = proto::TimerSetting;

    fn to_wire(&self) -> Result<proto::TimerSetting, Invalid> {
        self.setting.to_wire()
    }

    fn from_wire(setting: proto::TimerSetting) -> Result<Self, Invalid> {
        Ok(Self { setting: TimerSetting::from_wire(setting)? })
    }
}

impl Wire for PosixTimer {
    type Message = proto::PosixTimer;

    fn to_wire(&self) -> Result<proto::PosixTimer, Invalid> {
        let (notify, notify_thread) = match self.notify {
            PosixTimerNotify::None => (proto::PosixTimerNotify::None, 0),
            PosixTimerNotify::Process => (proto::PosixTimerNotify::Process, 0),
            PosixTimerNotify::Thread(tid) => (proto::PosixTimerNotify::Thread, tid),
        };
        Ok(proto::PosixTimer {
            id: self.id,
            clock: self.clock,
            notify: notify.into(),
            notify_thread,
            signal: self.signal,
            value: self.value,
            setting: one::to(&self.setting)?,
            overrun: self.overrun,
        })
    }

    fn from_wire(message: proto::PosixTimer) -> Result<Self, Invalid> {
        let notify = match proto::PosixTimerNotify::try_from(message.notify) {
            Ok(proto::PosixTimerNotify::None) => PosixTimerNotify::None,
            Ok(proto::PosixTimerNotify::Process) => PosixTimerNotify::Process,
            Ok(proto::PosixTimerNotify::Thread) => PosixTimerNotify::Thread(message.notify_thread),
            Ok(proto::PosixTimerNotify::Unspecified) | Err(_) => {
                let code = message.notify;
                return Err(Invalid::new(format!("notify: has no value for code {code}")));
            }
        };
        Ok(Self {
            id: message.id,
            clock: message.clock,
            notify,
            signal: message.signal,
            value: message.value,
            setting: one::from(message.setting).map_err(|e| e.inside("setting"))?,
            overrun: message.overrun,
        })
    }
}

/// Soft and hard limit.
impl Wire for (u64, u64) {
    type Message = proto::ResourceLimit;

    fn to_wire(&self) -> Result<proto::ResourceLimit, Invalid> {
        Ok(proto::ResourceLimit { soft: self.0, hard: self.1 })
    }

    fn from_wire(message: proto::ResourceLimit) -> Result<Self, Invalid> {
        Ok((message.soft, message.hard))
    }
}
