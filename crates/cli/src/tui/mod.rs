//! Views that are drawn anew on a terminal while a verb is at work: `watch --tui`, the tiers over
//! time, and `heatmap --live`.

mod board;
mod heat;
mod screen;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{WatchEvent, WatchLog};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::heatmap::style;
pub(crate) use board::Board;
pub(crate) use heat::HeatView;
use screen::Paper;

/// How often ages and clocks are drawn anew when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What can be drawn.
pub(crate) trait View: Clone + Default + Send {
    /// As many lines as the paper has rows, none longer than it is wide.
    fn lines(&self, paper: &Paper, now_ns: u64) -> Vec<String>;
}

/// What is to be drawn, and whether it is over.
#[derive(Default)]
struct Shared<V> {
    view: V,
    is_over: bool,
}

/// A view on a terminal.
#[derive(Default)]
pub(crate) struct Live<V> {
    shared: Mutex<Shared<V>>,
    changed: Condvar,
}

impl<V: View> Live<V> {
    /// Runs `work` with the view on the terminal, which is as before when it is done.
    ///
    /// # Errors
    /// When stdin and stdout are no terminal, which `option` needs, or it cannot be set.
    pub(crate) fn during<T>(&self, option: &str, work: impl FnOnce() -> T) -> io::Result<T> {
        let terminal = Terminal::take(option)?;
        let result = std::thread::scope(|scope| {
            // Also when the work panics: the scope waits for whoever draws.
            let _over = Over(self);
            scope.spawn(|| self.draw());
            work()
        });
        drop(terminal);
        Ok(result)
    }

    /// Changes what is drawn.
    pub(crate) fn change(&self, change: impl FnOnce(&mut V)) {
        change(&mut self.lock().view);
        self.changed.notify_all();
    }

    fn draw(&self) {
        let mut shared = self.lock();
        while !shared.is_over {
            let view = shared.view.clone();
            drop(shared);
            // A terminal that has gone ends us by its signal.
            let _ = show(&view);
            shared = self.lock();
            if !shared.is_over {
                let waited = self.changed.wait_timeout(shared, TICK);
                shared = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<V>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the drawing.
struct Over<'a, V: View>(&'a Live<V>);

impl<V: View> Drop for Over<'_, V> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

impl Live<Board> {
    /// The latest lines of the log, for when the view is gone.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.lock().view.log.back().map(|(_, text)| text.clone())
    }
}

impl WatchLog for Live<Board> {
    fn event(&self, event: &WatchEvent) {
        let text = crate::watch::words(event);
        self.change(|board| board.take(event, &text));
    }
}

/// Draws all of it at once, so that nothing flickers.
fn show(view: &impl View) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let size = rustix::termios::tcgetwinsize(&stdout)?;
    let (columns, rows) = (usize::from(size.ws_col).max(1), usize::from(size.ws_row).max(1));
    let paper = Paper { columns, rows, style: style(true) };
    let mut text = String::from("\x1b[H");
    let lines = view.lines(&paper, engine::realtime_ns());
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
    fn take(option: &str) -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        if !stdin.is_terminal() || !stdout.is_terminal() {
            return Err(io::Error::other(format!("this is no terminal; leave {option} out")));
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
                    // As Ctrl-C does: the verb ends in its own time.
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
