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

/// The costs of this host. Also the form of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCosts {
    /// `rekindle.costs/1`.
    pub schema: String,
    /// The kernel that they were measured on; others may have other costs.
    pub kernel: String,
    /// What each thing costs, in fields of the same object.
    #[serde(flatten)]
    pub costs: Costs,
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
    let file = HostCosts { schema: SCHEMA.to_owned(), kernel: kernel(), costs };
    let store = Store::create(&settings.store)?;
    // Numbers and strings always have a JSON form.
    store.set_host_costs(&serde_json::to_vec_pretty(&file).unwrap_or_default())?;
    Ok(file)
}

/// The costs measured on this host and kernel, if they were.
pub(crate) fn read(store: &Store) -> Option<Costs> {
    let bytes = store.host_costs().ok().flatten()?;
    let file: HostCosts = serde_json::from_slice(&bytes).ok()?;
    (file.schema == SCHEMA && file.kernel == kernel()).then_some(file.costs)
}

/// The same, measured now where nobody has: that takes about half a second, once for each store and
/// kernel. `None` where they cannot be measured.
pub(crate) fn read_or_measure(settings: &Settings, store: &Store) -> Option<Costs> {
    let measured = || match calibrate(settings) {
        Ok(file) => Some(file.costs),
        Err(error) => {
            tracing::info!(%error, "what collecting costs here is assumed, not measured");
            None
        }
    };
    read(store).or_else(measured)
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
