//! `/proc/PID/timers` (`CONFIG_CHECKPOINT_RESTORE`), see `proc_pid_timers(5)`.

use super::text::{Cursor, Malformed, lines, value_of};

/// How a POSIX timer tells of its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerNotify {
    /// `SIGEV_NONE`.
    None,
    /// `SIGEV_SIGNAL`: to the process.
    Signal,
    /// `SIGEV_THREAD`: the C library's own thread gets a signal.
    Thread,
}

/// A timer made by timer_create(2), without its times: those only the process itself can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosixTimerInfo {
    /// Its id.
    pub id: i32,
    /// The signal it sends.
    pub signal: i32,
    /// The value it sends along.
    pub value: u64,
    /// How it notifies.
    pub notify: TimerNotify,
    /// The thread that gets the signal (`SIGEV_THREAD_ID`), in the reader's pid namespace.
    pub thread: Option<i32>,
    /// `CLOCK_` number; process and thread clocks are negative.
    pub clock: i32,
}

/// Parses the text of `/proc/PID/timers`.
///
/// # Errors
/// When it does not have the documented form.
pub fn parse_timers(text: &[u8]) -> Result<Vec<PosixTimerInfo>, Malformed> {
    let mut timers: Vec<PosixTimerInfo> = Vec::new();
    for line in lines(text) {
        if let Some(value) = value_of(line, b"ID") {
            timers.push(PosixTimerInfo {
                id: Cursor::new(value).signed_as("a timer's id")?,
                signal: 0,
                value: 0,
                notify: TimerNotify::None,
                thread: None,
                clock: 0,
            });
            continue;
        }
        let timer = timers.last_mut().ok_or_else(|| Malformed::new("ID: first", line))?;
        if let Some(value) = value_of(line, b"signal") {
            let mut cursor = Cursor::new(value);
            timer.signal = cursor.signed_as("a signal")?;
            cursor.literal(b"/", "a slash before the value")?;
            timer.value = cursor.hex("the signal's value")?;
        } else if let Some(value) = value_of(line, b"notify") {
            (timer.notify, timer.thread) = notify(value)?;
        } else if let Some(value) = value_of(line, b"ClockID") {
            timer.clock = Cursor::new(value).signed_as("a clock")?;
        }
    }
    Ok(timers)
}

/// `signal/pid.1`, `signal/tid.2`, `none/pid.3`, `thread/pid.4`.
fn notify(text: &[u8]) -> Result<(TimerNotify, Option<i32>), Malformed> {
    let bad = || Malformed::new("a notification such as signal/pid.1", text);
    let slash = text.iter().position(|b| *b == b'/').ok_or_else(bad)?;
    let kind = match &text[..slash] {
        b"none" => TimerNotify::None,
        b"signal" => TimerNotify::Signal,
        b"thread" => TimerNotify::Thread,
        _ => return Err(bad()),
    };
    let thread = match text[slash + 1..].strip_prefix(b"tid.") {
        Some(tid) => Some(Cursor::new(tid).signed_as("a thread id")?),
        None => None,
    };
    Ok((kind, thread))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"ID: 2\nsignal: 12/0000000000000099\nnotify: signal/tid.13182\n\
        ClockID: 1\nID: 1\nsignal: 0/0000000000000077\nnotify: none/pid.13182\nClockID: -6\n";

    #[test]
    fn two_timers() {
        let timers = parse_timers(TEXT).unwrap();
        assert_eq!(timers.len(), 2);
        assert_eq!((timers[0].id, timers[0].signal, timers[0].value), (2, 12, 0x99));
        assert_eq!((timers[0].notify, timers[0].thread), (TimerNotify::Signal, Some(13182)));
        assert_eq!((timers[1].notify, timers[1].thread), (TimerNotify::None, None));
        assert_eq!(timers[1].clock, -6);
        assert!(parse_timers(b"").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut text = TEXT.to_vec();
            let at = at % text.len();
            text[at] = byte;
            text.truncate(cut);
            let _ = parse_timers(&text);
        }
    }
}
