//! The agent's main loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::resume::serve::{Ledger, begin};
use rustix::event::{EventfdFlags, PollFd, PollFlags, poll};
use store::{Checkpoint, Store};
use sys::clone::{Forked, fork_sharing_files};
use sys::task::{Pid, PidFd};
use sys::userfault::Userfault;

use super::brief::{Brief, Session};
use super::{confine, control, faults, link, record, revive, server};
use crate::passing;

/// How long before a server that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How an agent begins.
#[derive(Clone, Debug)]
pub enum AgentStart {
    /// `resume` is at the other end of standard input.
    Fresh,
    /// It goes on from the ledger that is open under this number, with everything it names.
    Ledger(i32),
    /// It goes on from what process number `0` holds open: the others are dead.
    Holder(i32),
}

/// Why an agent ended badly.
#[derive(Debug, thiserror::Error)]
#[error("keep the memory of instance {instance}: {cause}")]
pub struct AgentError {
    instance: String,
    cause: io::Error,
}

/// Runs an agent to its end: everything is present, or the program has ended.
///
/// # Errors
/// When it cannot go on.
pub fn run(start: &AgentStart) -> Result<(), AgentError> {
    let mut instance = String::from("unknown");
    agent(start, &mut instance).map_err(|cause| AgentError { instance, cause })
}

fn agent(start: &AgentStart, instance: &mut String) -> io::Result<()> {
    // A signal from the terminal is for the program, not for us.
    let _ = rustix::process::setsid();
    rustix::thread::set_name(c"rekindle-agent")?;
    // Nothing it or its successors execute gives them more than they have.
    rustix::thread::set_no_new_privs(true)?;
    let (mut parent, mut held) = (None, None);
    let (ledger, brief, socket) = match start {
        AgentStart::Fresh => {
            confine::put_files_aside()?;
            let socket = sys::inherit::take_descriptor(0)?;
            let socket = rustix::io::fcntl_dupfd_cloexec(socket, 3)?;
            // The first free number, which is that of standard input again.
            let _ = std::fs::File::open("/dev/null")?.into_raw_fd();
            let (text, _) = link::receive(socket.as_fd())?;
            let mut brief = Brief::from_text(&text)?;
            instance.clone_from(&brief.instance);
            held = brief.passing.as_deref().map(passing::hold).transpose()?;
            if brief.checkpoint.is_none() {
                // When it cannot be opened, nor can what builds on it; that will be said then.
                let opened = |id| confine::with_files(|| open(&brief, id, None)).ok();
                parent = brief.parent.as_deref().and_then(opened);
                let (text, _) = link::receive(socket.as_fd())?;
                if text.is_empty() {
                    // `update` gave up before there was a checkpoint.
                    remove_passing(&brief);
                    return Ok(());
                }
                brief = Brief::from_text(&text)?;
            }
            (None, brief, Some(socket))
        }
        AgentStart::Ledger(number) => {
            confine::put_files_aside()?;
            let ledger = revive::open_inherited(*number)?;
            let brief = Brief::from_text(&ledger.note())?;
            (Some(ledger), brief, None)
        }
        AgentStart::Holder(pid) => {
            let ledger = revive::pull_from(*pid)?;
            confine::put_files_aside()?;
            let brief = Brief::from_text(&ledger.note())?;
            (Some(ledger), brief, None)
        }
    };
    instance.clone_from(&brief.instance);
    let _held = match held {
        None => brief.passing.as_deref().map(passing::hold).transpose()?,
        held => held,
    };
    tracing::debug!("the agent begins");
    let (named, parent) = (named(&brief)?, parent.map(Arc::new));
    let checkpoint = confine::with_files(|| open(&brief, named, parent.as_ref()))?;
    tracing::debug!("the agent has the checkpoint");
    let old_holder = ledger.as_ref().map(|ledger| ledger.status().pids[2]);
    let old_holder = old_holder.and_then(revive::old_holder);
    let (ledger, brief) = match (ledger, &socket) {
        (Some(ledger), _) => (ledger, brief),
        (None, Some(socket)) => match await_session(socket.as_fd())? {
            Some(both) => both,
            // `resume` gave up before there was anything to serve.
            None => {
                remove_passing(&brief);
                return Ok(());
            }
        },
        (None, None) => return Ok(()),
    };
    let Some(session) = brief.session.clone() else {
        return Err(io::Error::other("the brief names no session"));
    };
    // A successor hears it from the userfaultfd. It may have no right to look.
    if !matches!(start, AgentStart::Ledger(_))
        && sys::proc::running_since(session.pid) != Some(session.start_time_ticks)
    {
        return Err(io::Error::other("the program has ended"));
    }
    let mut keeper = Keeper::begin(ledger, checkpoint, brief, session, socket, start)?;
    if let Some(old) = old_holder {
        keeper.await_serving();
        revive::end(&old);
        let number = old.as_fd().as_raw_fd();
        drop(old);
        keeper.own.retain(|own| *own != number);
    }
    confine::give_up_ending();
    keeper.keep()
}

/// The checkpoint that pages come from.
pub(super) fn named(brief: &Brief) -> io::Result<&str> {
    let named = brief.checkpoint.as_deref();
    named.ok_or_else(|| io::Error::other("the brief names no checkpoint"))
}

/// Opens, and pins, a checkpoint, when what it builds on is open already.
pub(super) fn open(
    brief: &Brief,
    id: &str,
    parent: Option<&Arc<Checkpoint>>,
) -> io::Result<Checkpoint> {
    let store = Store::open(&brief.store).map_err(io::Error::other)?;
    let id = id.parse().map_err(io::Error::other)?;
    store.checkpoint_on(id, parent).map_err(io::Error::other)
}

/// Waits for the session and writes it down.
fn await_session(socket: BorrowedFd<'_>) -> io::Result<Option<(Ledger, Brief)>> {
    let ledger = Ledger::create()?;
    let (text, userfault) = link::receive(socket)?;
    let Some(userfault) = userfault else { return Ok(None) };
    let brief = Brief::from_text(&text)?;
    let Some(session) = &brief.session else { return Ok(None) };
    ledger.set_note(&text)?;
    tracing::debug!("the agent has the session");
    // Out of the way of numbers that a later agent may have in use when it takes over.
    let userfault = rustix::io::fcntl_dupfd_cloexec(userfault, revive::KEPT_FROM)?;
    begin(&ledger, Userfault::from_fd(userfault), &session.ranges(), session.loaded_pages)?;
    Ok(Some((ledger, brief)))
}

/// The keeper, with what it keeps.
struct Keeper {
    ledger: Ledger,
    checkpoint: Checkpoint,
    brief: Brief,
    session: Session,
    /// `resume`, until it says that the program runs.
    socket: Option<OwnedFd>,
    holder: (Pid, PidFd),
    server: (Pid, PidFd),
    listener: Option<UnixListener>,
    /// Rung when the server is to write its state down.
    bell: OwnedFd,
    /// Descriptors that are ours, beside the userfaultfds.
    own: Vec<i32>,
}

/// What a look at the descriptors showed.
#[derive(Debug, Default)]
struct Seen {
    server_ended: bool,
    holder_ended: bool,
    resume_spoke: bool,
    asked: bool,
}

impl Keeper {
    fn begin(
        ledger: Ledger,
        checkpoint: Checkpoint,
        brief: Brief,
        session: Session,
        socket: Option<OwnedFd>,
        start: &AgentStart,
    ) -> io::Result<Self> {
        let held = confine::with_files(|| record::hold_folder(&brief))?;
        let listener = confine::with_files(|| control::listen(&brief))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags)?;
        confine::confine(start, &checkpoint);
        let holder = hold()?;
        let served = ledger.descriptors();
        let own = open_numbers().into_iter().filter(|number| !served.contains(number)).collect();
        // Before the server tells `resume` that it answers: the next verb looks for it.
        note(&ledger, &brief, holder.0)?;
        drop(held);
        let parts = (&ledger, &checkpoint, &brief, &session);
        let server = spawn_server(parts, (socket.as_ref().map(AsFd::as_fd), bell.as_fd()))?;
        Ok(Self {
            ledger,
            checkpoint,
            brief,
            session,
            socket,
            holder,
            server,
            listener: Some(listener),
            bell,
            own,
        })
    }

    /// Waits until the server answers.
    fn await_serving(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.ledger.status().serving && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn keep(&mut self) -> io::Result<()> {
        loop {
            let seen = self.look()?;
            // What it says means nothing to us, nor its end: if it gave up, the process it was
            // building is killed, and the server hears of that.
            if seen.resume_spoke {
                self.socket = None;
            }
            if seen.server_ended {
                let code = sys::clone::reap(self.server.0);
                // Also the program's own end is the server's to know: forks may go on.
                let over =
                    |status| is_exit(status, server::COMPLETE) || is_exit(status, server::GONE);
                if code.is_some_and(over) {
                    return self.end();
                }
                if code.is_some_and(|status| is_exit(status, server::FAILED)) {
                    std::thread::sleep(RETRY);
                }
                self.ledger.note_server_gone();
                tracing::warn!(?code, "the fault server has ended; another takes over");
                self.close_strays();
                let parts = (&self.ledger, &self.checkpoint, &self.brief, &self.session);
                // Should `resume` wait to hear that faults are answered, it does still.
                let ready = self.socket.as_ref().map(AsFd::as_fd);
                self.server = spawn_server(parts, (ready, self.bell.as_fd()))?;
            }
            if seen.holder_ended {
                sys::clone::reap(self.holder.0);
                self.holder = hold()?;
                note(&self.ledger, &self.brief, self.holder.0)?;
            }
            if seen.asked
                && let Some(listener) = &self.listener
            {
                control::answer(listener, &self.ledger, &self.session, self.bell.as_fd());
            }
        }
    }

    /// Waits until something has happened.
    fn look(&self) -> io::Result<Seen> {
        let mut slots = vec![
            PollFd::from_borrowed_fd(self.server.1.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.holder.1.as_fd(), PollFlags::IN),
        ];
        let listener = self.listener.as_ref().map(AsFd::as_fd);
        let socket = self.socket.as_ref().map(AsFd::as_fd);
        for fd in [listener, socket].into_iter().flatten() {
            slots.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        match poll(&mut slots, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Seen::default()),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = slots.iter().map(|slot| !slot.revents().is_empty()).collect();
        let at = |index: usize| ready.get(index).copied().unwrap_or(false);
        let has_listener = usize::from(self.listener.is_some());
        Ok(Seen {
            server_ended: at(0),
            holder_ended: at(1),
            asked: has_listener == 1 && at(2),
            resume_spoke: self.socket.is_some() && at(2 + has_listener),
        })
    }

    /// Closes what a killed server has left open in our common table.
    fn close_strays(&self) {
        let mut known = self.ledger.descriptors();
        known.extend(&self.own);
        known.extend([self.server.1.as_fd().as_raw_fd(), self.holder.1.as_fd().as_raw_fd()]);
        for number in open_numbers().into_iter().filter(|number| !known.contains(number)) {
            // Closing is all that is wanted; one that is gone meanwhile was a look of ours.
            drop(sys::inherit::take_descriptor(number));
        }
    }

    /// What the program had to wait for is kept for the next plan of its line.
    fn save_faults(&self) {
        let store = Store::open(&self.brief.store);
        let instance = self.brief.instance.parse();
        if let (Ok(store), Ok(instance)) = (store, instance) {
            let plan = self.brief.fill.then(|| self.checkpoint.plan());
            faults::save(&store, &instance, &self.ledger, (self.session.memory(), plan));
        }
    }

    /// There is nothing to serve any more.
    fn end(&mut self) -> io::Result<()> {
        revive::end(&self.server.1);
        sys::clone::reap(self.server.0);
        revive::end(&self.holder.1);
        sys::clone::reap(self.holder.0);
        self.save_faults();
        record::forget(&self.brief);
        remove_passing(&self.brief);
        Ok(())
    }
}

/// The store has done what it was made for.
fn remove_passing(brief: &Brief) {
    brief.passing.as_deref().into_iter().for_each(passing::remove);
}

/// Writes down who we are.
fn note(ledger: &Ledger, brief: &Brief, holder: Pid) -> io::Result<()> {
    ledger.note_processes(std::process::id(), holder.raw().unsigned_abs());
    record::write(brief, holder)
}

fn is_exit(status: i32, code: u8) -> bool {
    libc_exit_code(status) == Some(code)
}

/// The exit code in a wait status; `None` for a signal.
fn libc_exit_code(status: i32) -> Option<u8> {
    (status & 0x7f == 0).then(|| u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX))
}

/// A process that does nothing but hold our descriptor table.
fn hold() -> io::Result<(Pid, PidFd)> {
    match fork_sharing_files()? {
        Forked::Parent(pid, pidfd) => Ok((pid, pidfd)),
        Forked::Child => {
            let _ = rustix::thread::set_name(c"rekindle-hold");
            confine::confine_holder();
            loop {
                rustix::event::pause();
            }
        }
    }
}

fn spawn_server(
    (ledger, checkpoint, brief, session): (&Ledger, &Checkpoint, &Brief, &Session),
    (ready, bell): (Option<BorrowedFd<'_>>, BorrowedFd<'_>),
) -> io::Result<(Pid, PidFd)> {
    let keeper = Pid::current();
    match fork_sharing_files()? {
        Forked::Parent(pid, pidfd) => Ok((pid, pidfd)),
        Forked::Child => {
            let _ = rustix::thread::set_name(c"rekindle-faults");
            confine::give_up_ending();
            // Nothing may unwind into what the keeper was doing: its descriptors are open here.
            let work = || server::run(ledger, checkpoint, (brief, session), keeper, (ready, bell));
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            sys::inherit::exit_now(code.unwrap_or(server::FAILED))
        }
    }
}

/// The numbers open in our table.
fn open_numbers() -> Vec<i32> {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
