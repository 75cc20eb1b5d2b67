//! What epolls watch.
//!
//! A one-shot entry that has fired (`EPOLLONESHOT`) waits for nothing, not even for errors and
//! hang-ups, until the program arms it again. epoll_ctl(2) cannot make such an entry: it adds
//! errors and hang-ups to whatever is asked for. So it is made as it was in the program: armed,
//! fired and reported, while nothing else is on the list.

use inject::Arg;
use process::{
    DescriptionId, DescriptionKind as Kind, EpollInterest, PipeEnd, SocketState, TimerSetting,
};

use super::descriptions::{Files, put};
use super::group::as_timespecs;
use super::script::Script;
use super::slots::StandIn;
use crate::ResumeError;

/// Every event there may be.
const EVERY: u32 = 0x07ff_ffff;
/// How long a timer of a nanosecond may take.
const EXPIRY_MAX_MS: i32 = 1000;

/// Every entry of an epoll that is made, with its epoll. What is closed by the resume is on no list, as
/// after close(2).
pub(super) fn interests<'a>(
    files: Files<'a>,
) -> impl Iterator<Item = (DescriptionId, &'a EpollInterest)> {
    let made = files.made_epolls();
    let all = (0..).map(DescriptionId).zip(&files.instance.descriptions);
    let all = all.filter(move |(id, _)| made.contains(id));
    all.flat_map(move |(id, description)| {
        let interests = match &description.kind {
            Kind::Epoll { interests } => interests.as_slice(),
            _ => &[],
        };
        let kept = interests
            .iter()
            .filter(move |interest| files.stand_in(interest.description) != Some(StandIn::Nothing));
        kept.map(move |interest| (id, interest))
    })
}

/// Adds an entry that waits.
pub(super) fn watch(script: &mut Script<'_>, epoll: u64, interest: &EpollInterest) {
    control(script, epoll, libc::EPOLL_CTL_ADD, interest.events, interest);
}

/// Adds the entries for `description` that have fired and had to be made before it can no longer
/// be ready: a socket hangs up until it listens.
pub(super) fn fire_early(
    script: &mut Script<'_>,
    files: Files<'_>,
    description: DescriptionId,
) -> Result<(), ResumeError> {
    for (id, interest) in interests(files).filter(|(_, i)| i.description == description) {
        if interest.has_fired() {
            fire(script, files, id, interest, 0)?;
        }
    }
    Ok(())
}

/// Adds every other entry that has fired. Nothing else is on any list yet.
pub(super) fn fire_all(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    for (id, interest) in interests(files).filter(|(_, interest)| interest.has_fired()) {
        let watched = files.instance.descriptions.get(interest.description.0 as usize);
        let slot = files.slots.description(interest.description);
        match watched.map(|description| &description.kind) {
            Some(Kind::Socket(socket)) if listens(files, *socket) => {}
            Some(Kind::TimerFd(_)) => {
                let soon = TimerSetting { value_ns: 1, interval_ns: 0 };
                set_timer(script, slot, soon);
                fire(script, files, id, interest, EXPIRY_MAX_MS)?;
                set_timer(script, slot, TimerSetting { value_ns: 0, interval_ns: 0 });
            }
            Some(Kind::Pipe { pipe, end: PipeEnd::Read }) => {
                // An empty pipe gets a byte for a moment. One that nobody can write to hangs up.
                let writer = files.all().find_map(|(id, what)| match what.kind {
                    Kind::Pipe { pipe: same, end: PipeEnd::Write } if same == *pipe => Some(id),
                    _ => None,
                });
                let pipe = files.instance.pipes.get(pipe.0 as usize);
                let ours = pipe.is_some_and(|p| p.content.is_empty() && p.fifo_path.is_empty());
                let writer = writer.filter(|_| ours).map(|id| files.slots.description(id));
                if let Some(writer) = writer {
                    byte(script, "write a passing byte", libc::SYS_write, writer);
                }
                fire(script, files, id, interest, 0)?;
                if writer.is_some() {
                    byte(script, "read the passing byte", libc::SYS_read, slot);
                }
            }
            _ => fire(script, files, id, interest, 0)?,
        }
    }
    script.run().map(drop)
}

fn listens(files: Files<'_>, socket: u32) -> bool {
    let socket = files.instance.sockets.get(socket as usize);
    socket.is_some_and(|socket| socket.state == SocketState::Listening)
}

/// Adds an entry for whatever its file is ready for, and has it reported.
fn fire(
    script: &mut Script<'_>,
    files: Files<'_>,
    epoll: DescriptionId,
    interest: &EpollInterest,
    wait_ms: i32,
) -> Result<(), ResumeError> {
    let epoll = files.slots.description(epoll);
    put(script, files.slots.description(interest.description), interest.fd, false);
    control(script, epoll, libc::EPOLL_CTL_ADD, interest.events | EVERY, interest);
    // struct epoll_event: 12 bytes.
    let at = script.words(&[0, 0]);
    let args: [Arg; 4] = [epoll.into(), at.into(), 1_u64.into(), wait_ms.into()];
    let reported = script.call("have an entry of an epoll fire", libc::SYS_epoll_wait, &args);
    let answers = script.run()?;
    if answers.raw(reported) != Some(1) {
        // Ready for nothing: what comes next is the nearest there is.
        tracing::warn!(
            "descriptor {} is on the list of an epoll and waits for errors and hang-ups again, \
             which it did not",
            interest.fd
        );
        control(script, epoll, libc::EPOLL_CTL_MOD, interest.events, interest);
    }
    script.call("free a number", libc::SYS_close, &[interest.fd.into()]);
    script.run().map(drop)
}

fn control(
    script: &mut Script<'_>,
    epoll: u64,
    operation: i32,
    events: u32,
    interest: &EpollInterest,
) {
    let mut event = events.to_le_bytes().to_vec();
    event.extend_from_slice(&interest.data.to_le_bytes());
    let at = script.bytes(&event);
    let args: [Arg; 4] = [epoll.into(), operation.into(), interest.fd.into(), at.into()];
    let step = format!("let an epoll watch descriptor {}", interest.fd);
    script.call(step, libc::SYS_epoll_ctl, &args);
}

fn set_timer(script: &mut Script<'_>, slot: u64, setting: TimerSetting) {
    let at = script.words(&as_timespecs(setting));
    let args: [Arg; 4] = [slot.into(), 0_u64.into(), at.into(), 0_u64.into()];
    script.call("set a timerfd for a moment", libc::SYS_timerfd_settime, &args);
}

fn byte(script: &mut Script<'_>, step: &'static str, call: i64, slot: u64) {
    let at = script.words(&[0]);
    script.call(step, call, &[slot.into(), at.into(), 1_u64.into()]);
}
