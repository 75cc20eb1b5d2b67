//! Collecting what stands in the way, instead of stopping at the first of it.

use process::{Blocker, Change, ChangeKind, StateKind};

/// Blockers and changes found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) blockers: Vec<Blocker>,
    pub(crate) changes: Vec<Change>,
}

impl Findings {
    /// A blocker that the instance itself causes and that does not pass.
    pub(crate) fn block(&mut self, kind: StateKind, object: impl Into<String>, lift: &str) {
        self.add(kind, object.into(), String::new(), lift, false);
    }

    /// A blocker that `holder` causes.
    pub(crate) fn block_by(
        &mut self,
        kind: StateKind,
        object: impl Into<String>,
        holder: impl Into<String>,
        lift: &str,
    ) {
        self.add(kind, object.into(), holder.into(), lift, false);
    }

    /// A blocker that usually passes by itself.
    pub(crate) fn block_for_now(
        &mut self,
        kind: StateKind,
        object: impl Into<String>,
        holder: impl Into<String>,
        lift: &str,
    ) {
        self.add(kind, object.into(), holder.into(), lift, true);
    }

    fn add(&mut self, kind: StateKind, object: String, holder: String, lift: &str, passes: bool) {
        let lift = lift.to_owned();
        let blocker = Blocker { kind, object, holder, lift, transient: passes };
        if !self.blockers.contains(&blocker) {
            self.blockers.push(blocker);
        }
    }

    /// A difference the program could notice.
    pub(crate) fn change(&mut self, kind: ChangeKind, what: impl Into<String>) {
        let change = Change { kind, what: what.into() };
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }
}

/// Bytes of the kernel as text for a message.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
