//! What the live view knows: gathered from the events of a watch.

use std::collections::VecDeque;

use engine::{Happened, PeriodRow, WatchEvent};

/// Periods and checkpoints that are remembered: more than any terminal has columns.
const HISTORY_MAX: usize = 512;
/// Lines of the log that are remembered: more than any terminal has rows.
const LOG_MAX: usize = 256;

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    pub(super) instance: String,
    pub(super) pid: Option<i32>,
    /// What the watch does, in a few words.
    pub(super) state: String,
    /// The latest last.
    pub(super) periods: VecDeque<PeriodRow>,
    /// Longest stops for checkpoints, in microseconds, the latest last.
    pub(super) pauses_us: VecDeque<u64>,
    pub(super) checkpoint: Option<LastCheckpoint>,
    /// Checkpoints since the view began.
    pub(super) checkpoints: u64,
    /// What does not work.
    pub(super) trouble: Option<String>,
    /// Time and text, the latest last.
    pub(super) log: VecDeque<(u64, String)>,
}

/// The latest checkpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct LastCheckpoint {
    pub(super) id: String,
    /// When it was told, nanoseconds since the epoch.
    pub(super) time_ns: u64,
    pub(super) pause_us: u64,
    pub(super) stored_bytes: u64,
}

impl Board {
    /// Takes an event in; `text` is what the log says of it.
    pub(super) fn take(&mut self, event: &WatchEvent, text: &str) {
        self.instance.clone_from(&event.instance);
        match &event.what {
            Happened::Attached { pid, .. } => {
                self.pid = Some(*pid);
                "watching".clone_into(&mut self.state);
            }
            Happened::Period(row) => keep(&mut self.periods, row.clone(), HISTORY_MAX),
            Happened::Checkpointed(row) => {
                self.checkpoints += 1;
                self.trouble = None;
                keep(&mut self.pauses_us, row.pause_max_us, HISTORY_MAX);
                self.checkpoint = Some(LastCheckpoint {
                    id: row.id.clone(),
                    time_ns: event.time_ns,
                    pause_us: row.pause_max_us,
                    stored_bytes: row.stored_bytes,
                });
            }
            Happened::Lent { verb } => self.state = format!("made way for {verb}"),
            Happened::Returned { .. } => "looking for the program".clone_into(&mut self.state),
            Happened::Away { .. } => "away".clone_into(&mut self.state),
            Happened::Trouble { text } => self.trouble = Some(text.clone()),
            Happened::Ended { .. } => "over".clone_into(&mut self.state),
            Happened::Moved(_) | Happened::Degraded { .. } => {}
        }
        // A period is what the rest of the screen shows, and trouble has a place of its own.
        if !matches!(event.what, Happened::Period(_)) {
            keep(&mut self.log, (event.time_ns, text.to_owned()), LOG_MAX);
        }
    }
}

fn keep<T>(rows: &mut VecDeque<T>, row: T, max: usize) {
    if rows.len() == max {
        rows.pop_front();
    }
    rows.push_back(row);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_remembered_than_can_be_shown() {
        let mut board = Board::default();
        for period in 0..2000 {
            let event = |what| WatchEvent {
                schema: "rekindle.watch/1",
                time_ns: period,
                instance: "0123456789ab".to_owned(),
                what,
            };
            board.take(&event(Happened::Period(PeriodRow { period, ..PeriodRow::default() })), "");
            board.take(&event(Happened::Lent { verb: "update".to_owned() }), "made way");
        }
        assert_eq!((board.periods.len(), board.log.len()), (HISTORY_MAX, LOG_MAX));
        assert_eq!(board.periods.back().map(|row| row.period), Some(1999));
        assert_eq!(board.state, "made way for update");
    }
}
