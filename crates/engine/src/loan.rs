//! A watched instance is lent to another verb: the watch lets go of it, waits until the verb is
//! done, and goes on.
//!
//! The watch listens at `watch.sock` in the instance's folder. Whoever finds the instance locked
//! by it says `lend VERB` and is answered when the watch has let go of the program and of the
//! lock. The loan lasts as long as the connection, so also for no longer than the borrower lives.
//! The other question is `status`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::listening::Listening;
use crate::message;

/// How long a watch may take to let go of a program: it is in the middle of a checkpoint at worst.
const LENT_WITHIN: Duration = Duration::from_secs(60);
/// How long either side waits for a line of the other that is under way.
const LINE_WITHIN: Duration = Duration::from_millis(500);
/// The longest question.
const QUESTION_BYTES: u64 = 256;
/// Verbs that wait to borrow. More are told that they have to wait elsewhere, by an answer that
/// does not come.
const WAITING_MAX: usize = 8;

const LENT: &[u8] = b"lent\n";

fn socket(folder: &Path) -> PathBuf {
    folder.join("watch.sock")
}

/// What a borrower holds while it works.
#[derive(Debug)]
pub(crate) struct Borrowed {
    _connection: UnixStream,
    /// The program's userfaultfd, when the watch tracked its writes and gave that up.
    userfault: Option<OwnedFd>,
}

impl Borrowed {
    /// Takes the program's userfaultfd.
    pub(crate) fn take_userfault(&mut self) -> Option<OwnedFd> {
        self.userfault.take()
    }
}

/// Asks the watch of the instance in `folder` to let go of it for `verb`; `None` when no watch
/// answers.
pub(crate) fn borrow(folder: &Path, verb: &str) -> Option<Borrowed> {
    let asked = || -> io::Result<Option<Borrowed>> {
        let stream = UnixStream::connect(socket(folder))?;
        stream.set_write_timeout(Some(LINE_WITHIN))?;
        stream.set_read_timeout(Some(LENT_WITHIN))?;
        writeln!(&stream, "lend {verb}")?;
        let (answer, userfault) = message::receive(&stream, LENT.len())?;
        Ok((answer == LENT).then_some(Borrowed { _connection: stream, userfault }))
    };
    asked().unwrap_or_else(|error| {
        tracing::debug!(%error, "no watch lends the program");
        None
    })
}

/// What the watch of the instance in `folder` says of itself; `None` when none runs.
pub(crate) fn status(folder: &Path) -> Option<String> {
    let asked = || -> io::Result<String> {
        let stream = UnixStream::connect(socket(folder))?;
        stream.set_write_timeout(Some(LINE_WITHIN))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        writeln!(&stream, "status")?;
        let mut answer = String::new();
        BufReader::new((&stream).take(1 << 16)).read_line(&mut answer)?;
        Ok(answer)
    };
    asked().ok().filter(|answer| !answer.is_empty())
}

/// Somebody who wants the program.
#[derive(Debug)]
pub(crate) struct Borrower {
    pub(crate) verb: String,
    connection: UnixStream,
}

impl Borrower {
    /// Whether it can make use of a tracker that was at work since the last checkpoint.
    pub(crate) fn takes_tracking(&self) -> bool {
        matches!(self.verb.as_str(), "checkpoint" | "update")
    }

    /// Tells it that the program is its own now, and gives it the program's userfaultfd; `false` when
    /// it has gone away meanwhile.
    pub(crate) fn lend(&self, userfault: Option<OwnedFd>) -> bool {
        message::send(&self.connection, LENT, userfault.as_ref().map(AsFd::as_fd)).is_ok()
    }

    /// Waits for at most `time`; whether it is done.
    pub(crate) fn is_done(&self, time: Duration) -> bool {
        let limit = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let slot = &mut [PollFd::from_borrowed_fd(self.connection.as_fd(), PollFlags::IN)];
        // An interrupted wait is a short one.
        if !matches!(poll(slot, Some(&limit)), Ok(1..)) {
            return false;
        }
        // It has nothing to say any more: what can be read is the end.
        !matches!((&self.connection).read(&mut [0; 16]), Ok(1..))
    }
}

/// Listens for those who want to know, or to borrow.
#[derive(Debug)]
pub(crate) struct Lender {
    path: PathBuf,
    borrowers: Receiver<Borrower>,
    _thread: Listening,
}

/// What a watch says of itself, one line of JSON.
pub(crate) type Told = Arc<Mutex<String>>;

impl Lender {
    /// Listens in `folder`, which only its owner may enter. The caller is the only watch there.
    ///
    /// # Errors
    /// When no socket can be made there.
    pub(crate) fn open(folder: &Path, told: Told) -> io::Result<Self> {
        let path = socket(folder);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let (sender, borrowers) = bounded(WAITING_MAX);
        let answer = move |listener: &UnixListener| answer(listener, &sender, &told);
        let thread = Listening::start("lend", listener, answer)?;
        Ok(Self { path, borrowers, _thread: thread })
    }

    /// Whether somebody waits for the program.
    pub(crate) fn is_asked(&self) -> bool {
        !self.borrowers.is_empty()
    }

    /// The next one who waits.
    pub(crate) fn next(&self) -> Option<Borrower> {
        self.borrowers.try_recv().ok()
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        // Not there when somebody removed the folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn answer(listener: &UnixListener, sender: &Sender<Borrower>, told: &Told) -> io::Result<()> {
    let (connection, _) = listener.accept()?;
    connection.set_read_timeout(Some(LINE_WITHIN))?;
    connection.set_write_timeout(Some(LINE_WITHIN))?;
    let mut question = String::new();
    // One that does not speak is not waited for.
    if BufReader::new((&connection).take(QUESTION_BYTES)).read_line(&mut question).is_err() {
        return Ok(());
    }
    if let Some(verb) = question.trim().strip_prefix("lend ") {
        let borrower = Borrower { verb: verb.to_owned(), connection };
        // Too many wait: this one hears the end of its connection.
        let _ = sender.try_send(borrower);
        return Ok(());
    }
    let text = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Gone meanwhile, or not reading: its own loss.
    let _ = writeln!(&connection, "{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[test]
    fn a_loan_lasts_as_long_as_its_borrower() {
        let dir = tempfile::tempdir().unwrap();
        assert!(borrow(dir.path(), "checkpoint").is_none() && status(dir.path()).is_none());
        let told = Told::default();
        *told.lock().unwrap() = "{}".to_owned();
        let lender = Lender::open(dir.path(), told).unwrap();
        assert_eq!(status(dir.path()).unwrap().trim(), "{}");
        assert!(!lender.is_asked());
        let path = dir.path().to_owned();
        let asking = std::thread::spawn(move || borrow(&path, "checkpoint").unwrap());
        while !lender.is_asked() {
            std::thread::yield_now();
        }
        let borrower = lender.next().unwrap();
        assert_eq!(borrower.verb, "checkpoint");
        assert!(borrower.lend(Some(std::fs::File::open("/dev/null").unwrap().into())));
        let mut borrowed = asking.join().unwrap();
        let given = std::fs::File::from(borrowed.take_userfault().unwrap());
        assert!(given.metadata().unwrap().file_type().is_char_device());
        assert!(!borrower.is_done(Duration::from_millis(1)));
        // It answers others meanwhile.
        assert_eq!(status(dir.path()).unwrap().trim(), "{}");
        drop(borrowed);
        assert!(borrower.is_done(Duration::from_secs(10)));
        drop(lender);
        assert!(status(dir.path()).is_none());
    }

    #[test]
    fn who_says_nothing_or_too_much_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let told = Told::default();
        *told.lock().unwrap() = "{}".to_owned();
        let lender = Lender::open(dir.path(), told).unwrap();
        let silent = UnixStream::connect(socket(dir.path())).unwrap();
        let mut loud = UnixStream::connect(socket(dir.path())).unwrap();
        // It may have been hung up on before all of it was written.
        let _ = loud.write_all(&[b'x'; 4096]);
        assert_eq!(status(dir.path()).unwrap().trim(), "{}");
        drop((silent, loud, lender));
    }
}
