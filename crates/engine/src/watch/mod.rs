//! The verb `watch`: the division of a running program's memory is kept up to date, period after
//! period, with a checkpoint now and then, at a bounded cost.
//!
//! In each period the program is profiled; what that shows wants a division of its memory, and
//! `partition::Drift` decides which pages move. Another verb that wants the program asks for it
//! and gets it (`crate::loan`), with the division. Nothing of a watch has to be undone in the
//! program when it is killed. Read next: [`run`].

mod bounds;
mod error;
mod events;
mod metrics;
mod moves;
mod notify;
mod period;
mod periods;
mod run;
mod saving;
mod status;

use std::net::SocketAddr;
use std::time::Duration;

use store::Store;

use crate::ExternalPolicy;
use crate::checkpoint::{Rehearse, TwinChoice, lossy};
use crate::loan::{Lender, Told};
use crate::registry::Registry;
use crate::settings::Settings;
use crate::target_name::find;
pub use error::WatchError;
pub use events::{CheckpointRow, Happened, MoveRow, PeriodRow, WatchEvent, WatchLog};
pub use status::WatchStatus;
pub(crate) use status::watches;

/// What `SIGTERM` and `SIGHUP` mean to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// A last checkpoint is taken.
    Checkpoint,
    /// It ends.
    Leave,
}

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// A pid or an instance id.
    pub target: String,
    /// Length of a period.
    pub every: Duration,
    /// Time between checkpoints; `None`: none is taken.
    pub checkpoint_every: Option<Duration>,
    /// How many checkpoints of the instance are kept.
    pub keep: usize,
    /// The most that they may take in the store: fewer are kept, then, but never none.
    pub disk_bytes_max: Option<u64>,
    /// When the program has ended the watch waits for a resume of it and goes on.
    pub follow: bool,
    /// What a request to end means.
    pub on_term: OnTerm,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The watch ends after this time; `None`: with the program.
    pub time: Option<Duration>,
    /// The most that the program may be slowed down, in thousandths.
    pub slowdown_permille_max: u32,
    /// Track reads exactly, too.
    pub exact: bool,
    /// Longest the program may stand still for a checkpoint.
    pub max_pause: Option<Duration>,
    /// Whether a clone shows at a checkpoint what the program touches first.
    pub rehearse: Rehearse,
    /// For how long before each checkpoint what the program receives is recorded, for its clone.
    pub record_input: Option<Duration>,
    /// Ranges in which a loss is allowed, as in a checkpoint's request; found anew for each.
    pub lossy: Vec<String>,
    /// Files that are looked for in its memory.
    pub twins: TwinChoice,
    /// Established TCP connections come back as closed by the peer.
    pub tcp_close: bool,
    /// Descriptors whose other end is outside, with what will stand in for them.
    pub external: Vec<(i32, ExternalPolicy)>,
}

/// Watches an instance until it ends, or somebody ends the watch.
///
/// # Errors
/// When the watch cannot begin, or the last checkpoint, which was asked for, fails. The instance
/// runs on in any case.
pub fn watch(
    settings: &Settings,
    request: &WatchRequest,
    registry: &Registry,
    log: &dyn WatchLog,
) -> Result<(), WatchError> {
    let found = find(&request.target, registry)?;
    let instance = found.line.instance.clone();
    let _only = registry.lock_watch(&instance)?;
    // Found anew for each checkpoint: this is so that a mistake is told at once.
    lossy::find(&found.process, &request.lossy).map_err(|error| WatchError::Lossy(error.into()))?;
    let store = Store::create(&settings.store)?;
    if settings.dry_run {
        return Ok(());
    }
    let told = Told::default();
    let folder = registry.folder(instance.as_str());
    let lender = Lender::open(&folder, Told::clone(&told))
        .map_err(|cause| WatchError::Listen { path: folder, cause })?;
    let serve = |address| {
        metrics::open(address, Told::clone(&told))
            .map_err(|cause| WatchError::Metrics { address, cause })
    };
    let _metrics = request.metrics.map(serve).transpose()?;
    drop(found);
    run::Watcher::new(settings, request, registry, log, (instance, store), (told, lender)).run()
}
