//! The summary.

use std::collections::BTreeMap;

use process::{Change, ChangeKind};

use super::wire::{Invalid, Wire, many, wire_enum, wire_struct};
use crate::generated as proto;
use crate::{CheckpointId, Summary};

impl Wire for Summary {
    type Message = proto::Summary;

    fn to_wire(&self) -> Result<proto::Summary, Invalid> {
        let figure =
            |(name, value): (&String, &u64)| proto::Figure { name: name.clone(), value: *value };
        Ok(proto::Summary {
            created_ns: self.created_ns,
            tool_version: self.tool_version.clone(),
            parent: self.parent.map_or_else(String::new, |id| id.to_string()),
            stopped: self.stopped,
            command: self.command.clone(),
            changes: many::to(&self.changes).map_err(|e| e.inside("changes"))?,
            figures: self.figures.iter().map(figure).collect(),
        })
    }

    fn from_wire(message: proto::Summary) -> Result<Self, Invalid> {
        let parent = if message.parent.is_empty() {
            None
        } else {
            Some(CheckpointId::from_wire(message.parent).map_err(|e| e.inside("parent"))?)
        };
        let count = message.figures.len();
        let figures: BTreeMap<_, _> =
            message.figures.into_iter().map(|f| (f.name, f.value)).collect();
        if figures.len() != count {
            return Err(Invalid::new("figures: a name occurs twice"));
        }
        Ok(Self {
            created_ns: message.created_ns,
            tool_version: message.tool_version,
            parent,
            stopped: message.stopped,
            command: message.command,
            changes: many::from(message.changes).map_err(|e| e.inside("changes"))?,
            figures,
        })
    }
}

impl Wire for CheckpointId {
    type Message = String;

    fn to_wire(&self) -> Result<String, Invalid> {
        Ok(self.to_string())
    }

    fn from_wire(digits: String) -> Result<Self, Invalid> {
        digits.parse().map_err(|e| Invalid::new(format!("{digits:?}: {e}")))
    }
}

wire_struct!(Change => proto::Change {
    kind: scalar,
    what: same,
});

wire_enum!(ChangeKind => proto::ChangeKind {
    Session,
    Parent,
    Connection,
    PidNamespace,
    Timer,
    Descriptor,
    Placement,
});
