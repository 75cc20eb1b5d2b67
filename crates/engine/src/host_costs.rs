//! What collecting costs on this host: measured by `check --calibrate`, kept in a small file
//! beside the checkpoints.

use profile::{CalibrateError, Costs};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};

use crate::classes::store_class;
use crate::failure::{ExitClass, VerbError};
use crate::report::Outcome;
use crate::settings::Settings;

const SCHEMA: &str = "rekindle.costs/1";

/// The costs of this host, in nanoseconds of a program's own time. Also the form of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCosts {
    /// `rekindle.costs/1`.
    pub schema: String,
    /// The kernel that they were measured on; others may have other costs.
    pub kernel: String,
    /// A write to a page that is tracked.
    pub write_fault_ns: u64,
    /// Recording a page fault.
    pub fault_event_ns: u64,
    /// A clock sample.
    pub clock_sample_ns: u64,
    /// A fault of the exact mode.
    pub hint_fault_ns: u64,
    /// Arming or reading back a page, with the memory's lock held.
    pub scan_page_ns: u64,
    /// Clearing the Referenced bit of a page, with the memory's lock held.
    pub clear_page_ns: u64,
}

/// Why costs could not be measured or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateVerbError {
    /// Something needed is not permitted or not there.
    #[error(transparent)]
    Measure(#[from] CalibrateError),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VerbError for CalibrateVerbError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Measure(_) => ExitClass::NotPermitted,
            Self::Store(error) => store_class(error),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// Measures what collecting costs here, on ourselves, and keeps it.
///
/// # Errors
/// When something needed is not permitted, or the store cannot be written.
pub fn calibrate(settings: &Settings) -> Result<HostCosts, CalibrateVerbError> {
    let costs = profile::calibrate()?;
    let file = HostCosts {
        schema: SCHEMA.to_owned(),
        kernel: kernel(),
        write_fault_ns: costs.write_fault_ns,
        fault_event_ns: costs.fault_event_ns,
        clock_sample_ns: costs.clock_sample_ns,
        hint_fault_ns: costs.hint_fault_ns,
        scan_page_ns: costs.scan_page_ns,
        clear_page_ns: costs.clear_page_ns,
    };
    let store = Store::create(&settings.store)?;
    // Numbers and strings always have a JSON form.
    store.set_host_costs(&serde_json::to_vec_pretty(&file).unwrap_or_default())?;
    Ok(file)
}

/// The costs measured on this host and kernel, else those that are assumed.
pub(crate) fn read(store: &Store) -> Costs {
    let file = store.host_costs().ok().flatten();
    let file = file.and_then(|bytes| serde_json::from_slice::<HostCosts>(&bytes).ok());
    match file {
        Some(file) if file.schema == SCHEMA && file.kernel == kernel() => Costs {
            write_fault_ns: file.write_fault_ns,
            fault_event_ns: file.fault_event_ns,
            clock_sample_ns: file.clock_sample_ns,
            hint_fault_ns: file.hint_fault_ns,
            scan_page_ns: file.scan_page_ns,
            clear_page_ns: file.clear_page_ns,
            measured: true,
        },
        _ => Costs::ASSUMED,
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
