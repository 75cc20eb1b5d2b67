//! The fault server's process.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::resume::serve::{Ended, Ledger, Pause, PlanOf, Server};
use store::Checkpoint;
use sys::task::{Pid, PidFd};

use super::brief::{Brief, Session};
use super::link;

/// Exit codes of the server's process: everything is present; the program or the need for it is
/// gone; it could not go on. Killed is none of them.
pub(super) const COMPLETE: u8 = 0;
pub(super) const GONE: u8 = 3;
pub(super) const FAILED: u8 = 4;
/// How long a new agent may take to answer faults.
const HAND_OVER: Duration = Duration::from_secs(20);
/// How long before executing one is tried again.
const SPAWN: Pause = Pause::new(Duration::from_millis(20), Duration::from_secs(1));
/// How long to wait between looks at it.
const LOOK: Duration = Duration::from_millis(1);

/// Serves until the end; gives the exit code of the process.
pub(super) fn run(
    ledger: &Ledger,
    checkpoint: &Checkpoint,
    (brief, session): (&Brief, &Session),
    keeper: Pid,
    (ready, bell): (Option<BorrowedFd<'_>>, BorrowedFd<'_>),
) -> u8 {
    match serve(ledger, checkpoint, (brief, session), keeper, (ready, bell)) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the fault server failed");
            ledger.note_failure(&error.to_string());
            FAILED
        }
    }
}

fn serve(
    ledger: &Ledger,
    checkpoint: &Checkpoint,
    (brief, session): (&Brief, &Session),
    keeper: Pid,
    (ready, bell): (Option<BorrowedFd<'_>>, BorrowedFd<'_>),
) -> io::Result<u8> {
    // A keeper that ended before this was opened has a number that is somebody else's at worst;
    // then nobody takes over from us until that one ends, and nothing is lost.
    let keeper = PidFd::open(keeper).ok();
    let ranges = session.ranges();
    let plan = || checkpoint.plan();
    let choice = (Some(&plan as PlanOf<'_>), brief.fill, brief.held_back());
    let server = Server::new(ledger, checkpoint, session.memory(), &ranges, choice, bell);
    let server = server.map_err(io::Error::other)?;
    tracing::debug!("faults are answered");
    if let Some(socket) = ready {
        link::send(socket, link::READY, None)?;
    }
    let servers = ledger.status().servers;
    let ended = std::thread::scope(|scope| {
        let watch = std::thread::Builder::new().name("watch".to_owned());
        watch.spawn_scoped(scope, || {
            while !server.is_done() {
                let soon = Instant::now() + Duration::from_millis(100);
                let gone = keeper.as_ref().is_none_or(|k| k.wait_ended(soon).unwrap_or(true));
                if gone {
                    server.stop();
                }
            }
        })?;
        server.run().map_err(io::Error::other)
    })?;
    match ended {
        Ended::Complete => Ok(COMPLETE),
        Ended::Gone => Ok(GONE),
        Ended::Stopped => {
            drop(server);
            hand_over(ledger, brief, servers)?;
            Ok(GONE)
        }
    }
}

/// Executes `command`, when the kernel gives us a process for it: until then the descriptors are held
/// by us.
fn execute(command: &mut Command) -> Child {
    let (mut pause, mut is_told) = (SPAWN, false);
    loop {
        match command.spawn() {
            Ok(child) => return child,
            Err(error) => {
                if !is_told {
                    tracing::error!(%error, "no agent can be executed; that is tried again");
                }
                is_told = true;
                std::thread::sleep(pause.grow());
            }
        }
    }
}

/// The keeper is gone: has a new agent executed, which finds everything under the same numbers,
/// and waits until its own server answers faults. Until then the descriptors are held by us.
#[expect(clippy::zombie_processes, reason = "we end as soon as it answers")]
fn hand_over(ledger: &Ledger, brief: &Brief, servers: u64) -> io::Result<()> {
    tracing::warn!("the keeper has ended; a new agent takes over");
    let userfaults = ledger.descriptors();
    for number in &userfaults {
        sys::inherit::set_close_on_exec(*number, false)?;
    }
    let number = std::os::fd::AsRawFd::as_raw_fd(&ledger.as_fd());
    sys::inherit::set_close_on_exec(number, false)?;
    let mut command: Command = link::command(brief);
    command.args(["--ledger", &number.to_string()]).stdin(Stdio::null());
    let mut child = execute(&mut command);
    let until = Instant::now() + HAND_OVER;
    while ledger.status().servers == servers || !ledger.status().serving {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("the new agent ended ({status})")));
        }
        if Instant::now() >= until {
            return Err(io::Error::other("the new agent does not answer"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
