//! The agent's main loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::resume::serve::{Ledger, Pause, begin};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use store::{Checkpoint, Store};
use sys::clone::{Forked, fork_sharing_files};
use sys::task::{Pid, PidFd};
use sys::userfault::Userfault;

use super::brief::{Brief, Session};
use super::{confine, control, faults, link, record, revive, server};
use crate::passing;

/// How long before what the kernel refused us, a process or a file, is tried again.
const REFUSED: Pause = Pause::new(Duration::from_millis(20), Duration::from_secs(1));
/// How long before a server that failed is followed by another.
const FAILED: Pause = Pause::new(Duration::from_millis(200), Duration::from_secs(5));
/// How long a server has to work for its failure to be a first one.
const WORKED: Duration = Duration::from_secs(30);
/// How often is looked whether the holder of an earlier agent is needed on.
const LOOK: Duration = Duration::from_millis(5);

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
    let mut keeper =
        Keeper::begin(ledger, checkpoint, brief, session, (socket, old_holder), start)?;
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
    store.pages_on(id, parent).map_err(io::Error::other)
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
    /// `None`: it cannot be made at the moment; the server likewise.
    holder: Option<(Pid, PidFd)>,
    server: Option<(Pid, PidFd)>,
    server_since: Instant,
    /// It is written down who we are.
    is_noted: bool,
    /// That of an earlier agent, which holds the descriptors until we answer.
    old_holder: Option<PidFd>,
    /// When what is lacking is tried again, and whether that was told.
    again: Option<Instant>,
    refused: Pause,
    failed: Pause,
    is_told: bool,
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
        (socket, old_holder): (Option<OwnedFd>, Option<PidFd>),
        start: &AgentStart,
    ) -> io::Result<Self> {
        let held = confine::with_files(|| record::hold_folder(&brief))?;
        let listener = confine::with_files(|| control::listen(&brief))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags)?;
        confine::confine(start, &checkpoint);
        let served = ledger.descriptors();
        let own = open_numbers().into_iter().filter(|number| !served.contains(number)).collect();
        if !matches!(start, AgentStart::Fresh) {
            ledger.note_server_gone();
        }
        let mut keeper = Self {
            ledger,
            checkpoint,
            brief,
            session,
            socket,
            holder: None,
            server: None,
            server_since: Instant::now(),
            is_noted: false,
            old_holder,
            again: None,
            refused: REFUSED,
            failed: FAILED,
            is_told: false,
            listener: Some(listener),
            bell,
            own,
        };
        let restored = keeper.restore();
        drop(held);
        match (start, restored) {
            // `resume` undoes what it has begun.
            (AgentStart::Fresh, Err((_, error))) => {
                keeper.end_processes();
                return Err(error);
            }
            (_, restored) => keeper.restored(restored),
        }
        keeper.let_old_go();
        Ok(keeper)
    }

    /// Makes what is lacking of our processes, and writes down who we are.
    fn restore(&mut self) -> Result<(), (&'static str, io::Error)> {
        let mut done = Ok(());
        if self.holder.is_none() {
            match hold() {
                Ok(holder) => (self.holder, self.is_noted) = (Some(holder), false),
                Err(error) => done = Err(("make a process that holds on", error)),
            }
        }
        if let Some((holder, _)) = &self.holder
            && !self.is_noted
        {
            done = note(&self.ledger, &self.brief, *holder)
                .map_err(|error| ("write down who serves the program", error));
            self.is_noted = done.is_ok();
        }
        // Who waits to hear that faults are answered has the program run then, and the next verb
        // looks for us.
        if self.socket.is_some() && done.is_err() {
            return done;
        }
        if self.server.is_none() {
            let parts = (&self.ledger, &self.checkpoint, &self.brief, &self.session);
            let ready = self.socket.as_ref().map(AsFd::as_fd);
            let server = spawn_server(parts, (ready, self.bell.as_fd()))
                .map_err(|error| ("make another fault server", error))?;
            self.server = Some(server);
            self.server_since = Instant::now();
        }
        done
    }

    /// Tells what came of [`restore`](Self::restore), and when to try again.
    fn restored(&mut self, restored: Result<(), (&'static str, io::Error)>) {
        match restored {
            Ok(()) => {
                if self.is_told {
                    tracing::warn!("the agent has what it lacked");
                }
                (self.is_told, self.again) = (false, None);
                self.refused.reset();
            }
            Err((what, error)) => {
                if !self.is_told {
                    tracing::error!(%error, "the agent cannot {what}, and tries again");
                }
                self.is_told = true;
                self.again = Some(Instant::now() + self.refused.grow());
            }
        }
    }

    /// Ends the holder of the agent before us as soon as it is not needed any more.
    fn let_old_go(&mut self) {
        let is_up = self.holder.is_some() && self.server.is_some() && self.ledger.status().serving;
        if self.old_holder.is_some() && !is_up {
            return;
        }
        if let Some(old) = self.old_holder.take() {
            revive::end(&old);
            let number = old.as_fd().as_raw_fd();
            drop(old);
            self.own.retain(|own| *own != number);
        }
        confine::give_up_ending();
    }

    fn keep(&mut self) -> io::Result<()> {
        loop {
            let seen = self.look()?;
            if seen.resume_spoke {
                self.hear();
            }
            if seen.server_ended
                && let Some((server, pidfd)) = self.server.take()
            {
                // Not a stray one.
                drop(pidfd);
                let code = sys::clone::reap(server);
                // Also the program's own end is the server's to know: forks may go on.
                let over =
                    |status| is_exit(status, server::COMPLETE) || is_exit(status, server::GONE);
                if code.is_some_and(over) {
                    return self.end();
                }
                self.succeed(code);
            }
            if seen.holder_ended
                && let Some((holder, _)) = self.holder.take()
            {
                sys::clone::reap(holder);
            }
            let is_due = self.again.is_none_or(|again| again <= Instant::now());
            if is_due && (self.holder.is_none() || self.server.is_none() || !self.is_noted) {
                let restored = self.restore();
                self.restored(restored);
            }
            if self.old_holder.is_some() {
                self.let_old_go();
            }
            if seen.asked
                && let Some(listener) = &self.listener
            {
                control::answer(listener, &self.ledger, &self.session, self.bell.as_fd());
            }
        }
    }

    /// Hears what `resume` says: that the program runs, or nothing. Then it gave up, the process it
    /// was building is killed, and the server hears of that.
    fn hear(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        if link::receive(socket.as_fd()).is_ok_and(|(said, _)| said == link::RUNS) {
            self.ledger.note_run();
        }
    }

    /// Clears up behind a server that has ended with `code`; one that failed and not was killed is
    /// followed after a pause.
    fn succeed(&mut self, code: Option<i32>) {
        self.ledger.note_server_gone();
        self.close_strays();
        if self.server_since.elapsed() >= WORKED {
            self.failed.reset();
        }
        tracing::warn!(?code, "the fault server has ended; another takes over");
        if code.is_some_and(|status| is_exit(status, server::FAILED)) {
            self.again = Some(Instant::now() + self.failed.grow());
        }
    }

    /// Waits until something has happened.
    fn look(&self) -> io::Result<Seen> {
        // Callers find an agent that has taken over altogether, or that cannot.
        let may_answer = self.old_holder.is_none() || self.again.is_some();
        let mut slots = Vec::new();
        let sources = [
            self.server.as_ref().map(|(_, pidfd)| pidfd.as_fd()),
            self.holder.as_ref().map(|(_, pidfd)| pidfd.as_fd()),
            self.listener.as_ref().filter(|_| may_answer).map(AsFd::as_fd),
            self.socket.as_ref().map(AsFd::as_fd),
        ];
        // Where each of them is among the slots.
        let places = sources.map(|source| {
            slots.push(PollFd::from_borrowed_fd(source?, PollFlags::IN));
            Some(slots.len() - 1)
        });
        match poll(&mut slots, self.longest().as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Seen::default()),
            Err(error) => return Err(error.into()),
        }
        let is_ready = places.map(|place| {
            place.and_then(|at| slots.get(at)).is_some_and(|slot| !slot.revents().is_empty())
        });
        let [server_ended, holder_ended, asked, resume_spoke] = is_ready;
        Ok(Seen { server_ended, holder_ended, resume_spoke, asked })
    }

    /// How long to wait at most: until what is lacking is tried again.
    fn longest(&self) -> Option<Timespec> {
        let again = self.again.map(|again| again.saturating_duration_since(Instant::now()));
        let look = self.old_holder.is_some().then_some(LOOK);
        let wait = again.into_iter().chain(look).min()?;
        // A moment more, so that it is due then.
        Timespec::try_from(wait + Duration::from_millis(1)).ok()
    }

    /// Closes what a killed server has left open in our common table.
    fn close_strays(&self) {
        let mut known = self.ledger.descriptors();
        known.extend(&self.own);
        let processes = [&self.server, &self.holder].into_iter().flatten();
        known.extend(processes.map(|(_, pidfd)| pidfd.as_fd().as_raw_fd()));
        for number in open_numbers().into_iter().filter(|number| !known.contains(number)) {
            // Closing is all that is wanted; one that is gone meanwhile was a look of ours.
            drop(sys::inherit::take_descriptor(number));
        }
    }

    /// What the program had to wait for is kept for the next plan of its line; what was touched while
    /// one was built that never ran is not.
    fn save_faults(&self) {
        if !self.ledger.has_run() {
            return;
        }
        let store = Store::open(&self.brief.store);
        let instance = self.brief.instance.parse();
        if let (Ok(store), Ok(instance)) = (store, instance) {
            let plan = self.brief.fill.then(|| self.checkpoint.plan());
            faults::save(&store, &instance, &self.ledger, (self.session.memory(), plan));
        }
    }

    fn end_processes(&mut self) {
        for (pid, pidfd) in [self.server.take(), self.holder.take()].into_iter().flatten() {
            revive::end(&pidfd);
            sys::clone::reap(pid);
        }
        self.old_holder.iter().for_each(revive::end);
    }

    /// There is nothing to serve any more.
    fn end(&mut self) -> io::Result<()> {
        self.end_processes();
        self.save_faults();
        let status = self.ledger.status();
        let complete = status.complete_after.filter(|_| self.ledger.has_run());
        let loaded = complete.map(|after| record::Loaded {
            pid: self.session.pid,
            start_time_ticks: self.session.start_time_ticks,
            complete_us: crate::report::micros(after),
            faults: status.faults,
            servers: status.servers,
        });
        record::forget(&self.brief, loaded.as_ref());
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
