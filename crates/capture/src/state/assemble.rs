//! Putting what was read into the graph.

use process::{
    AddressSpace, Credentials, CredentialsId, Host, Instance, MmLayout, NamespacesId, QueuedSignal,
    SpaceId, TableId, TaskGroup, Terminal, TerminalId, Thread,
};
use sys::proc::{PosixTimerInfo, StatMemory, parse_auxv};
use target::{ObjectFile, PrivateRange};

use super::Told;
use super::outside::Seen;
use crate::injected::{LockFuture, ThreadAnswers};
use crate::inspect::Inspection;
use crate::{Survey, credentials, group};

/// The instance, the ranges of its private memory, and the files of its shared objects.
pub(super) fn instance(
    seen: Seen,
    told: Told,
    timers: &[PosixTimerInfo],
    survey: &Survey,
) -> (Instance, Vec<PrivateRange>, Vec<ObjectFile>) {
    let leader = told.threads.first().cloned().unwrap_or_default();
    let threads = threads(seen.threads, told.threads, told.pending.threads);
    let credentials = Credentials {
        securebits: leader.securebits,
        seccomp_filters: seen.filters,
        ..seen.statuses.first().map(credentials::of_status).unwrap_or_default()
    };
    let host = Host {
        clocks: seen.clocks,
        xcr0: threads.first().map_or(0, xcr0),
        xstate_in_use: threads.iter().fold(0, |all, thread| all | in_use(thread)),
        hwcap: [16, 26].map(|kind| value_of(&seen.auxv, kind)),
        ..survey.host.clone()
    };
    let Inspection { stat, ids, space, objects, descriptors, group: drafted, namespaces } =
        seen.found;
    let space_layout = layout(&stat.memory, told.group.brk);
    let (objects, files) = objects.into_parts();
    let mut terminals = descriptors.terminals;
    let terminal = group::terminal(&stat).map(|terminal| place_of(terminal, &mut terminals));
    let times = told.group.timers;
    let task_group = TaskGroup {
        terminal,
        threads,
        space: SpaceId(0),
        table: TableId(0),
        credentials: CredentialsId(0),
        namespaces: NamespacesId(0),
        signal_actions: told.group.signal_actions,
        pending_signals: told.pending.process,
        interval_timers: told.group.interval_timers,
        posix_timers: timers
            .iter()
            .zip(times)
            .map(|(info, times)| group::posix_timer(info, times, &ids))
            .collect(),
        dumpable: told.group.dumpable,
        child_subreaper: told.group.child_subreaper,
        thp_disable: told.group.thp_disable,
        parent_death_signal: leader.parent_death_signal,
        ..drafted
    };
    let address_space = AddressSpace {
        mappings: space.mappings,
        layout: space_layout,
        auxv: seen.auxv,
        lock_future: told.group.lock_future.is_some(),
        lock_future_on_fault: told.group.lock_future == Some(LockFuture::OnFault),
        membarrier: told.group.membarrier,
        vdso_hash: seen.vdso_hash,
    };
    let instance = Instance {
        host,
        groups: vec![task_group],
        spaces: vec![address_space],
        objects,
        tables: vec![descriptors.table],
        descriptions: descriptors.descriptions,
        pipes: descriptors.pipes,
        sockets: descriptors.sockets,
        credentials: vec![credentials],
        namespaces: vec![namespaces],
        terminals,
        ..Instance::default()
    };
    (instance, space.private, files)
}

/// The place of `terminal` in the table, added when it is not there.
fn place_of(terminal: Terminal, terminals: &mut Vec<Terminal>) -> TerminalId {
    let known = terminals.iter().position(|known| known.device == terminal.device);
    let place = known.unwrap_or_else(|| {
        terminals.push(terminal);
        terminals.len() - 1
    });
    TerminalId(u32::try_from(place).unwrap_or(u32::MAX))
}

/// The threads with what they told about themselves, and the signals that wait for them.
fn threads(
    mut threads: Vec<Thread>,
    told: Vec<ThreadAnswers>,
    pending: Vec<Vec<QueuedSignal>>,
) -> Vec<Thread> {
    for ((thread, answers), pending) in threads.iter_mut().zip(told).zip(pending) {
        thread.name = answers.name;
        thread.pending_signals = pending;
        thread.alternate_stack = answers.alternate_stack;
        thread.clear_child_tid = answers.clear_child_tid;
        thread.timer_slack_ns = answers.timer_slack_ns;
    }
    threads
}

fn value_of(auxv: &[u8], wanted: u64) -> u64 {
    let pairs = parse_auxv(auxv).unwrap_or_default();
    pairs.iter().find(|(kind, _)| *kind == wanted).map_or(0, |(_, value)| *value)
}

/// The components the kernel enabled, in the software bytes of the XSAVE area.
fn xcr0(thread: &Thread) -> u64 {
    word(&thread.xstate, 464)
}

/// The components that are not in their initial state, `XSTATE_BV`.
fn in_use(thread: &Thread) -> u64 {
    word(&thread.xstate, 512)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn layout(memory: &StatMemory, brk: u64) -> MmLayout {
    MmLayout {
        start_code: memory.start_code,
        end_code: memory.end_code,
        start_data: memory.start_data,
        end_data: memory.end_data,
        start_brk: memory.start_brk,
        brk,
        start_stack: memory.start_stack,
        arg_start: memory.arg_start,
        arg_end: memory.arg_end,
        env_start: memory.env_start,
        env_end: memory.env_end,
    }
}
