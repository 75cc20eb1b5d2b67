//! `watch --tui`: the tiers over time, on a terminal.

mod board;
mod screen;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{WatchEvent, WatchLog};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::heatmap::style;
use board::Board;
use screen::{Paper, lines};

/// How often ages and clocks are drawn anew when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What is to be drawn, and whether it is over.
#[derive(Default)]
struct Shared {
    board: Board,
    is_over: bool,
}

/// The live view: takes events and draws them.
#[derive(Default)]
pub(crate) struct Live {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Live {
    /// Runs `work` with the view on the terminal, which is as before when it is done.
    ///
    /// # Errors
    /// When stdin and stdout are no terminal, or it cannot be set.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let terminal = Terminal::take()?;
        let result = std::thread::scope(|scope| {
            // Also when the work panics: the scope waits for whoever draws.
            let _over = Over(self);
            scope.spawn(|| self.draw());
            work()
        });
        drop(terminal);
        Ok(result)
    }

    /// The latest lines of the log, for when the view is gone.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.lock().board.log.back().map(|(_, text)| text.clone())
    }

    fn draw(&self) {
        let mut shared = self.lock();
        while !shared.is_over {
            let board = shared.board.clone();
            drop(shared);
            // A terminal that has gone ends us by its signal.
            let _ = show(&board);
            shared = self.lock();
            if !shared.is_over {
                let waited = self.changed.wait_timeout(shared, TICK);
                shared = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the drawing.
struct Over<'a>(&'a Live);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

impl WatchLog for Live {
    fn event(&self, event: &WatchEvent) {
        let text = crate::watch::words(event);
        self.lock().board.take(event, &text);
        self.changed.notify_all();
    }
}

/// Draws all of it at once, so that nothing flickers.
fn show(board: &Board) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let size = rustix::termios::tcgetwinsize(&stdout)?;
    let (columns, rows) = (usize::from(size.ws_col).max(1), usize::from(size.ws_row).max(1));
    let paper = Paper { columns, rows, style: style(true) };
    let mut text = String::from("\x1b[H");
    let lines = lines(board, &paper, engine::realtime_ns());
    for (number, line) in lines.iter().enumerate() {
        let end = if number + 1 < lines.len() { "\r\n" } else { "" };
        text.push_str(&format!("{line}\x1b[K{end}"));
    }
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The terminal, given back when this ends.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn take() -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        if !stdin.is_terminal() || !stdout.is_terminal() {
            return Err(io::Error::other("this is no terminal; leave --tui out"));
        }
        let before = tcgetattr(&stdin)?;
        let mut without_echo = before.clone();
        without_echo.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        tcsetattr(&stdin, OptionalActions::Flush, &without_echo)?;
        let terminal = Self { before };
        write!(stdout.lock(), "{ENTER}")?;
        // Not waited for: it sleeps until a key is pressed, or all of us ends.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for key in stdin.lock().bytes() {
                if matches!(key, Ok(b'q' | b'Q')) {
                    // As Ctrl-C does: the watch ends in its own time.
                    let _ = kill_process(getpid(), Signal::INT);
                }
            }
        })?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing is left to do where this fails: the terminal has gone.
        let _ = write!(io::stdout().lock(), "{LEAVE}");
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
