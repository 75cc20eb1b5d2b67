//! What is going on, for the status servers and for the kinds.

use crate::raw;
use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

/// One line per kind.
#[derive(Debug)]
pub struct Row {
    /// The kind.
    pub name: &'static str,
    /// How often everything it holds was found right.
    pub passes: AtomicU64,
    /// Why it is not there, if it is not.
    pub absent: Option<String>,
}

/// The state of the run.
#[derive(Debug)]
pub struct Board {
    /// All chosen kinds.
    pub rows: Vec<Row>,
    /// Passes over all kinds.
    pub generation: AtomicU64,
    /// How often each running kind was whole at least: the least of the rows.
    pub seed: u64,
}

static BOARD: OnceLock<Board> = OnceLock::new();
static RUNNING_MS: AtomicU64 = AtomicU64::new(0);
static SPURIOUS_EDGES: AtomicU64 = AtomicU64::new(0);
static MAIN_TID: AtomicI32 = AtomicI32::new(0);

/// Where listeners tell their addresses, for `status`.
pub static LISTENERS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// Milliseconds this program has run, as far as its own passes can tell: time in which it stood
/// still (a freeze, a checkpoint on disk) does not count. Patience is measured by this clock.
pub fn running_ms() -> u64 {
    RUNNING_MS.load(SeqCst)
}

/// Adds what one pass took.
pub fn ran_for(milliseconds: u64) {
    RUNNING_MS.fetch_add(milliseconds.min(1000), SeqCst);
}

/// Counts an edge that was reported again: legal after a resume, worth seeing.
pub fn spurious_edge() {
    SPURIOUS_EDGES.fetch_add(1, SeqCst);
}

/// Publishes the board; the caller is the checker thread.
pub fn publish(board: Board) {
    MAIN_TID.store(raw::gettid(), SeqCst);
    let _ = BOARD.set(board);
}

/// The board, once set-up is through.
pub fn board() -> Option<&'static Board> {
    BOARD.get()
}

/// One JSON object on one line.
pub fn status() -> String {
    // SAFETY: these calls take no pointers.
    let (parent, session, group) = unsafe { (libc::getppid(), libc::getsid(0), libc::getpgrp()) };
    let mut text = format!(
        "{{\"pid\":{},\"tid\":{},\"parent\":{parent},\"session\":{session},\"group\":{group},\
         \"mono_ns\":{},\"running_ms\":{},\"spurious_edges\":{}",
        raw::getpid(),
        MAIN_TID.load(SeqCst),
        raw::mono(),
        running_ms(),
        SPURIOUS_EDGES.load(SeqCst)
    );
    match board() {
        None => text.push_str(",\"ready\":false"),
        Some(board) => board.describe(&mut text),
    }
    text.push_str("}\n");
    text
}

impl Board {
    fn describe(&self, text: &mut String) {
        let present = || self.rows.iter().filter(|row| row.absent.is_none());
        let whole = present().map(|row| row.passes.load(SeqCst)).min().unwrap_or(0);
        let generation = self.generation.load(SeqCst);
        let _ = write!(
            text,
            ",\"ready\":true,\"seed\":{},\"generation\":{generation},\"whole_passes\":{whole}",
            self.seed
        );
        let passes: Vec<String> =
            present().map(|row| format!("\"{}\":{}", row.name, row.passes.load(SeqCst))).collect();
        let absent: Vec<String> = self
            .rows
            .iter()
            .filter_map(|row| Some((row.name, row.absent.as_ref()?)))
            .map(|(name, reason)| format!("\"{name}\":{reason:?}"))
            .collect();
        let listeners = LISTENERS.lock().map(|all| all.join(",")).unwrap_or_default();
        let _ = write!(
            text,
            ",\"passes\":{{{}}},\"absent\":{{{}}},\"listeners\":[{listeners}]",
            passes.join(","),
            absent.join(",")
        );
    }
}
