//! `heatmap`, and the heat of a line: found, merged, drawn.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ::report::HeatMap;
use heat::{Heat, HeatError, Reading};
use process::InstanceId;
use store::{ReadError, ResolveError, Store, StoreError, WriteError};

use crate::classes::{read_class, resolve_class, store_class, write_class};
use crate::failure::{ExitClass, VerbError};
use crate::output;
use crate::registry::Registry;
use crate::report::Outcome;
use crate::settings::Settings;
use crate::target_name::{self, TargetError};

/// Why heat could not be found, shown or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeatMapError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reference leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no such process.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The heat of a line cannot be read or written.
    #[error(transparent)]
    Line(#[from] WriteError),
    /// A file cannot be read or written.
    #[error("{action} {}: {cause}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The bytes are not heat.
    #[error("read heat {}: {cause}", path.display())]
    Format {
        /// Where they came from.
        path: PathBuf,
        /// What is wrong with them.
        cause: HeatError,
    },
    /// Nobody has looked yet.
    #[error(
        "show the heat of {what}: nothing was learned about instance {instance} yet; \
         `rekindle profile` does that while it runs"
    )]
    Nothing {
        /// What was asked for.
        what: String,
        /// Whose heat that would be.
        instance: InstanceId,
    },
    /// Merging would count windows twice.
    #[error(
        "merge heat into line {instance}: some of its windows are in the line already and some are \
         not, so they would count twice; merge the single profiles instead"
    )]
    Overlaps {
        /// Whose heat.
        instance: InstanceId,
    },
}

impl VerbError for HeatMapError {
    fn class(&self) -> ExitClass {
        match self {
            Self::Store(error) => store_class(error),
            Self::Resolve(error) => resolve_class(error),
            Self::Read(error) => read_class(error),
            Self::Target(_) | Self::Nothing { .. } | Self::Overlaps { .. } => ExitClass::Usage,
            Self::Line(error) => write_class(error),
            Self::File { cause, .. } => match cause.kind() {
                io::ErrorKind::NotFound => ExitClass::Usage,
                io::ErrorKind::PermissionDenied => ExitClass::NotPermitted,
                _ => ExitClass::Unexpected,
            },
            Self::Format { cause, .. } => match cause {
                HeatError::Magic => ExitClass::Usage,
                HeatError::NewerVersion { .. } | HeatError::Unknown { .. } => {
                    ExitClass::Incompatible
                }
                _ => ExitClass::Damaged,
            },
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// The heat that `subject` names, with a title for it: a `.heat` file, a running program (a pid or
/// an instance id: the heat of its line), or a checkpoint (the heat of the line it belongs to).
///
/// # Errors
/// When it names nothing, or nothing is known of it.
pub fn find_heat(
    settings: &Settings,
    registry: &Registry,
    subject: &str,
) -> Result<(String, Heat), HeatMapError> {
    let path = Path::new(subject);
    let is_heat_file = path.extension().is_some_and(|e| e == "heat");
    if is_heat_file || (subject.contains('/') && path.is_file()) {
        return Ok((subject.to_owned(), read_heat_file(path)?));
    }
    if subject.parse::<u32>().is_ok_and(|_| subject.len() < 12) {
        let instance = target_name::find(subject, registry)?.line.instance;
        return of_line(Store::open(&settings.store), format!("process {subject}"), instance);
    }
    if let Ok(instance) = subject.parse::<InstanceId>() {
        // An instance need not run for its heat to be looked at.
        return of_line(Store::open(&settings.store), format!("instance {instance}"), instance);
    }
    let found = Store::find(&settings.store, subject)?;
    let instance = found.open()?.instance().line.instance.clone();
    of_line(Ok(found.store), format!("checkpoint {}", found.id), instance)
}

/// The heat of a line. Where there is no store yet, nothing was learned either.
fn of_line(
    store: Result<Store, StoreError>,
    what: String,
    instance: InstanceId,
) -> Result<(String, Heat), HeatMapError> {
    let store = match store {
        Err(StoreError::Missing(_)) => return Err(HeatMapError::Nothing { what, instance }),
        other => other?,
    };
    match store.heat(&instance)? {
        Some(bytes) => Ok((what, decode(&bytes, &store.heat_path(&instance))?)),
        None => Err(HeatMapError::Nothing { what, instance }),
    }
}

/// The heat in a file.
///
/// # Errors
/// When it cannot be read or is something else.
pub fn read_heat_file(path: &Path) -> Result<Heat, HeatMapError> {
    let bytes = fs::read(path).map_err(file_error("read", path))?;
    decode(&bytes, path)
}

fn decode(bytes: &[u8], path: &Path) -> Result<Heat, HeatMapError> {
    Heat::decode(bytes).map_err(|cause| HeatMapError::Format { path: path.to_owned(), cause })
}

/// `heatmap`: the map of what `subject` names (see [`find_heat`]), for now.
///
/// # Errors
/// As [`find_heat`].
pub fn heatmap(
    settings: &Settings,
    registry: &Registry,
    subject: &str,
) -> Result<HeatMap, HeatMapError> {
    let (title, heat) = find_heat(settings, registry, subject)?;
    // Heat is shown as it was at the end of the newest window: faded by the time since, an old
    // profile would be an empty map. How old it is stands at its head.
    let reading = Reading::at(heat.newest_ns());
    Ok(HeatMap::new(&title, &heat, &reading, None))
}

/// What became of heat that was given to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was merged, and the line's heat is on disk.
    Merged,
    /// The line had all of its windows already.
    Known,
    /// The line's heat was damaged and was put aside beside the new one, under this name.
    Replaced(PathBuf),
}

/// Merges `heat` into the heat of `instance`'s line, which survives a crash at any instant as it
/// was before or as it is afterwards.
///
/// # Errors
/// When the store cannot be written, the line's heat is of a newer version, or merging would
/// count windows twice.
pub fn learn(store: &Store, instance: &InstanceId, heat: &Heat) -> Result<Learned, HeatMapError> {
    let line = store.lock_heat(instance)?;
    let path = store.heat_path(instance);
    let Some(bytes) = line.read()? else {
        line.replace(&heat.encode())?;
        return Ok(Learned::Merged);
    };
    let known = match decode(&bytes, &path) {
        Ok(known) => known,
        Err(error) if error.class() == ExitClass::Incompatible => return Err(error),
        // Heat is advice and what is damaged is lost; it must not keep a line from learning.
        Err(_) => {
            let aside = path.with_extension("damaged");
            fs::rename(&path, &aside).map_err(file_error("rename", &path))?;
            line.replace(&heat.encode())?;
            return Ok(Learned::Replaced(aside));
        }
    };
    if known.contains(heat) {
        return Ok(Learned::Known);
    }
    let merged = if heat.contains(&known) {
        heat.clone()
    } else if heat.overlaps(&known) {
        return Err(HeatMapError::Overlaps { instance: instance.clone() });
    } else {
        known.merged(heat)
    };
    line.replace(&merged.encode())?;
    Ok(Learned::Merged)
}

/// Fails where [`learn`] would not add to what a line knows, for it is of a newer version: before anybody
/// waits for what is to be learned.
///
/// # Errors
/// When the store cannot be read, or the line's heat is of a newer version.
pub(crate) fn can_learn(store: &Store, instance: &InstanceId) -> Result<(), HeatMapError> {
    let Some(bytes) = store.lock_heat(instance)?.read()? else { return Ok(()) };
    match decode(&bytes, &store.heat_path(instance)) {
        Err(error) if error.class() == ExitClass::Incompatible => Err(error),
        _ => Ok(()),
    }
}

/// Writes `bytes` to `path` so that it is there whole or not at all, as `-o` does. A name that is
/// no regular file (`/dev/stdout`, a pipe) is written to as it is.
///
/// # Errors
/// When the kernel refuses.
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<(), HeatMapError> {
    if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return fs::write(path, bytes).map_err(file_error("write", path));
    }
    let refused = |cause| file_error("write", path)(cause);
    output::replace(path, 0o666, refused, |file| {
        file.write_all(bytes).map_err(file_error("write", path))
    })
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HeatMapError {
    let path = path.to_owned();
    move |cause| HeatMapError::File { action, path, cause }
}

/// `CLOCK_REALTIME` in nanoseconds, for readings.
pub fn realtime_ns() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use heat::{Accumulator, Layout, Start};

    use super::*;

    fn window(id: u64) -> Heat {
        let start = Start { id, clock_ns: 0, realtime_ns: id * 1000, ordered: false };
        Accumulator::new(start, Layout::default()).finish(500_000_000)
    }

    #[test]
    fn a_line_learns_each_window_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let instance = InstanceId::from_hash(&[1; 32]);
        let [one, two, three] = [window(1), window(2), window(3)];
        assert_eq!(learn(&store, &instance, &one).unwrap(), Learned::Merged);
        assert_eq!(learn(&store, &instance, &one).unwrap(), Learned::Known);
        assert_eq!(learn(&store, &instance, &two).unwrap(), Learned::Merged);
        let all = Heat::decode(&store.heat(&instance).unwrap().unwrap()).unwrap();
        assert_eq!(all.windows().map(|w| w.id).collect::<Vec<_>>(), [1, 2]);
        // Partly known: refused, and the line is as it was.
        let refused = learn(&store, &instance, &two.merged(&three)).unwrap_err();
        assert_eq!(refused.class(), ExitClass::Usage);
        assert_eq!(Heat::decode(&store.heat(&instance).unwrap().unwrap()).unwrap(), all);
        // More of the same history: taken over.
        learn(&store, &instance, &all.merged(&three)).unwrap();
        let all = Heat::decode(&store.heat(&instance).unwrap().unwrap()).unwrap();
        assert_eq!(all.windows().count(), 3);
    }

    #[test]
    fn damaged_heat_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let instance = InstanceId::from_hash(&[1; 32]);
        learn(&store, &instance, &window(1)).unwrap();
        let mut bytes = store.heat(&instance).unwrap().unwrap();
        bytes[70] ^= 1;
        store.lock_heat(&instance).unwrap().replace(&bytes).unwrap();
        let learned = learn(&store, &instance, &window(2)).unwrap();
        let aside = store.heat_path(&instance).with_extension("damaged");
        assert_eq!(learned, Learned::Replaced(aside.clone()));
        assert_eq!(fs::read(aside).unwrap(), bytes);
        let all = Heat::decode(&store.heat(&instance).unwrap().unwrap()).unwrap();
        assert_eq!(all.windows().map(|w| w.id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn an_output_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map.html");
        write_output(&path, b"first").unwrap();
        write_output(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_output(&dir.path().join("no/such"), b"x").unwrap_err();
        assert!(error.to_string().starts_with("write "), "{error}");
    }
}
