//! The verbs as library calls: phase lists with limits, undo and metrics, and the reports that
//! the command line prints. The only room that composes others.
//!
//! It prints nothing and exits nothing: it talks to an [`events::Observer`] and returns values.
//! Read next: [`phase`], then one verb.
#![forbid(unsafe_code)]

mod agent;
mod archive;
mod check;
mod checkpoint;

mod classes;
pub mod events;
mod external;
mod failure;
mod heat_map;
mod host;
mod host_check;
mod host_costs;
mod inspect;
mod listening;
mod loan;
mod message;
mod output;
mod parent;
mod passing;
pub mod phase;
mod plan_verb;
mod profile;
mod profile_error;
mod profile_report;
mod prune;
mod reap;
pub mod registry;
pub mod report;
mod resume;
mod run;
mod settings;
mod shelf;
mod staging;
mod target_name;
mod threads;
mod update;
mod watch;

pub use ::plan::{Thresholds, Tier};
pub use ::resume::{Exit, ExternalPolicy, FilesPolicy, Options as ResumeOptions, PidPolicy};
pub use agent::{AgentError, AgentStart, StatusError, StatusReport, StatusRow, run_agent, status};
pub use archive::{
    ArchiveError, ExportReport, ExportTo, ImportFrom, ImportReport, TwinRow, export, import,
};
pub use check::{CheckReport, KindRow, TargetRow, check};
pub use checkpoint::{
    CheckpointError, CheckpointRequest, PlanChoice, Rehearse, ShadowChoice, TwinChoice, checkpoint,
};
pub use external::{ExternalError, parse_external};
pub use failure::{ExitClass, VerbError};
pub use heat_map::{
    HeatMapError, Learned, find_heat, heatmap, learn, read_heat_file, realtime_ns, write_output,
};
pub use host_check::HostRow;
pub use host_costs::{CalibrateVerbError, HostCosts, calibrate};
pub use inspect::{
    ExtentRow, FaultLogRow, FdRow, HeatReport, HeatTierRow, InspectError, InspectReport, Inspected,
    LineHeatRow, MapRow, Part, RunningReport, RunningThreadRow, StoredTierRow, ThreadRow, inspect,
};
pub use plan_verb::{
    ExpensiveRow, HeatChoice, PlanReport, PlanRequest, PlanVerbError, TierRow, plan,
};
pub use profile::{ProfileRequest, heatmap_live, profile};
pub use profile_error::ProfileVerbError;
pub use profile_report::{BlockRow, CollectorRow, ProfileReport, ReferencedRow, TierPages};
pub use prune::{FailedRow, PruneReport, PruneRequest, prune};
pub use resume::{Load, ResumeRequest, ResumeVerbError, Revived, resume};
pub use run::{RunError, run};
pub use settings::{Settings, default_store};
pub use shelf::{DamagedRow, ListReport, ListRow, ShelfError, VerifyReport, list, verify};
pub use sys::inherit::keep_descriptors_from;
pub use sys::interrupt::catch_interrupts;
pub use sys::limits::LIMIT_NAMES;
pub use sys::sched::parse_cpu_list;
pub use target_name::TargetError;
pub use update::{
    LimitChoice, OnProbeFail, Rewound, Surroundings, UpdateError, UpdateRequest, update,
};
pub use watch::{
    CheckpointRow, Happened, MoveRow, OnTerm, PeriodRow, WatchError, WatchEvent, WatchLog,
    WatchRequest, WatchStatus, watch,
};
