//! The allowed dependency edges between rooms. `docs/ARCHITECTURE.md` shows the same table for
//! people; a test holds the two together. A new edge is a decision with a commit of its own.

/// Each room with the rooms it may depend on.
pub(crate) const ALLOWED: &[(&str, &[&str])] = &[
    ("mem", &[]),
    ("process", &["mem"]),
    ("heat", &["mem"]),
    ("plan", &["mem"]),
    ("partition", &["mem", "heat", "plan"]),
    ("codec", &["plan"]),
    ("image", &["mem", "process", "plan", "codec"]),
    ("store", &["mem", "process", "plan", "codec", "image"]),
    ("report", &["mem", "heat", "plan"]),
    ("sys", &["mem"]),
    ("inject", &["mem", "sys"]),
    ("target", &["mem", "sys", "inject"]),
    ("profile", &["mem", "heat", "sys", "target"]),
    ("capture", &["mem", "process", "plan", "codec", "sys", "inject", "target"]),
    ("resume", &["mem", "process", "plan", "codec", "sys", "inject", "target"]),
    ("rehearse", &["mem", "process", "sys", "inject", "target"]),
    (
        "engine",
        &[
            "mem",
            "process",
            "heat",
            "plan",
            "partition",
            "codec",
            "image",
            "report",
            "store",
            "sys",
            "target",
            "profile",
            "capture",
            "resume",
            "rehearse",
        ],
    ),
    ("cli", &["engine", "report", "sample-kv"]),
];

/// Rooms that do no IO: they may not name the kernel, the file system, the clock or threads.
pub(crate) const PURE: &[&str] =
    &["mem", "process", "heat", "plan", "partition", "codec", "image", "report"];

/// Rooms in which `unsafe` may stand.
pub(crate) const UNSAFE: &[&str] = &["sys", "inject"];
