//! From what a user types to a checkpoint.

use std::path::Path;

use image::CheckpointId;
use process::InstanceId;

use crate::list::{Damaged, Listed, Listing};
use crate::{Found, ResolveError, Store, layout};

/// How many candidates a message lists.
const CANDIDATES_MAX: usize = 8;

/// What a reference asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Path(&'a Path),
    Prefix(&'a str),
    Latest { instance: Option<&'a str>, back: usize },
}

impl Store {
    /// As [`resolve`](Self::resolve) in the store at `root`, which need not be there where the reference is a
    /// path.
    ///
    /// # Errors
    /// As there, and when a store cannot be opened.
    pub fn find(root: &Path, reference: &str) -> Result<Found, ResolveError> {
        match parse(reference)? {
            Asked::Path(path) => resolve_path(path, reference),
            _ => Self::open(root)?.resolve(reference),
        }
    }

    /// Finds the checkpoint that `reference` names: an id, a unique prefix of one, `latest`,
    /// `latest~N` (the Nth before it), `latest:INSTANCE` (an instance id or a unique prefix of
    /// one, with `~N` too), or a path: the directory of a checkpoint, or a store, which means
    /// its latest. What has a slash is a path.
    ///
    /// # Errors
    /// When none or several fit; when the newest by its directory cannot be read, so that
    /// `latest` would silently be an older one.
    pub fn resolve(&self, reference: &str) -> Result<Found, ResolveError> {
        match parse(reference)? {
            Asked::Path(path) => resolve_path(path, reference),
            Asked::Prefix(prefix) => {
                let whole = self.with_id(prefix);
                let id = whole.map_or_else(|| self.with_prefix(prefix, reference), Ok)?;
                Ok(Found { store: self.clone(), id })
            }
            Asked::Latest { instance, back } => {
                let id = self.latest(instance, back, reference)?;
                Ok(Found { store: self.clone(), id })
            }
        }
    }

    /// A whole id of a checkpoint that is there: nothing else of the store has to be looked at for it.
    fn with_id(&self, digits: &str) -> Option<CheckpointId> {
        let id = digits.parse::<CheckpointId>().ok()?;
        self.dirs.checkpoints.child(digits).is_ok().then_some(id)
    }

    fn with_prefix(&self, prefix: &str, reference: &str) -> Result<CheckpointId, ResolveError> {
        let Listing { checkpoints, damaged } = self.listing()?;
        let ids = checkpoints.iter().map(|c| c.id).chain(damaged.iter().map(|d| d.id));
        let mut fitting: Vec<CheckpointId> =
            ids.filter(|id| id.to_string().starts_with(prefix)).collect();
        match fitting.pop() {
            Some(id) if fitting.is_empty() => Ok(id),
            Some(id) => {
                fitting.push(id);
                fitting.sort();
                Err(ambiguous(reference, fitting.iter().map(ToString::to_string).collect()))
            }
            None => Err(self.not_found(reference, &checkpoints)),
        }
    }

    fn latest(
        &self,
        instance: Option<&str>,
        back: usize,
        reference: &str,
    ) -> Result<CheckpointId, ResolveError> {
        let Listing { checkpoints, damaged } = self.listing()?;
        let of_line: Vec<&Listed> = match instance {
            None => checkpoints.iter().collect(),
            Some(prefix) => {
                let instance = one_instance(&checkpoints, prefix, reference)?;
                checkpoints.iter().filter(|c| Some(&c.instance) == instance.as_ref()).collect()
            }
        };
        // Whose line one that cannot be read is of is not known.
        let newest = of_line.first();
        let may_be_newest =
            |d: &&Damaged| newest.map_or(instance.is_none(), |n| d.modified_ns >= n.modified_ns);
        if let Some(worse) = damaged.iter().find(may_be_newest) {
            return Err(ResolveError::NewestDamaged {
                reference: reference.to_owned(),
                id: worse.id,
                detail: worse.detail.clone(),
                is_newer: worse.is_newer,
            });
        }
        if of_line.is_empty() {
            return Err(self.not_found(reference, &checkpoints));
        }
        match of_line.get(back) {
            Some(found) => Ok(found.id),
            None => Err(ResolveError::NotFound {
                reference: reference.to_owned(),
                store: self.root().to_owned(),
                detail: format!("there are only {}", of_line.len()),
            }),
        }
    }

    fn not_found(&self, reference: &str, checkpoints: &[Listed]) -> ResolveError {
        let detail = match checkpoints {
            [] => "the store holds no checkpoint".to_owned(),
            [newest, ..] => format!("none fits; the newest is {}", newest.id),
        };
        ResolveError::NotFound {
            reference: reference.to_owned(),
            store: self.root().to_owned(),
            detail,
        }
    }
}

fn parse(reference: &str) -> Result<Asked<'_>, ResolveError> {
    let not_one = || ResolveError::NotAReference(reference.to_owned());
    if reference.contains('/') || reference == "." || reference == ".." {
        return Ok(Asked::Path(Path::new(reference)));
    }
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if let Some(rest) = reference.strip_prefix("latest") {
        let (instance, back) = match rest.split_once('~') {
            Some((instance, back)) => (instance, back.parse().map_err(|_| not_one())?),
            None => (rest, 0),
        };
        return match instance.strip_prefix(':') {
            Some(prefix) if !prefix.is_empty() && hex(prefix) => {
                Ok(Asked::Latest { instance: Some(prefix), back })
            }
            None if instance.is_empty() => Ok(Asked::Latest { instance: None, back }),
            _ => Err(not_one()),
        };
    }
    if reference.is_empty() || reference.len() > CheckpointId::DIGITS || !hex(reference) {
        return Err(not_one());
    }
    Ok(Asked::Prefix(reference))
}

/// The one instance with checkpoints whose id begins with `prefix`; `None` when there is none.
fn one_instance(
    checkpoints: &[Listed],
    prefix: &str,
    reference: &str,
) -> Result<Option<InstanceId>, ResolveError> {
    let mut fitting: Vec<&InstanceId> = checkpoints
        .iter()
        .map(|c| &c.instance)
        .filter(|instance| instance.as_str().starts_with(prefix))
        .collect();
    fitting.sort();
    fitting.dedup();
    match fitting[..] {
        [] => Ok(None),
        [instance] => Ok(Some(instance.clone())),
        _ => {
            let candidates = fitting.iter().map(|i| format!("latest:{i}")).collect();
            Err(ambiguous(reference, candidates))
        }
    }
}

fn ambiguous(reference: &str, mut candidates: Vec<String>) -> ResolveError {
    let more = candidates.len().saturating_sub(CANDIDATES_MAX);
    candidates.truncate(CANDIDATES_MAX);
    if more > 0 {
        candidates.push(format!("and {more} more"));
    }
    ResolveError::Ambiguous { reference: reference.to_owned(), candidates }
}

fn resolve_path(path: &Path, reference: &str) -> Result<Found, ResolveError> {
    let not_found = |detail: &str| ResolveError::NotFound {
        reference: reference.to_owned(),
        store: path.to_owned(),
        detail: detail.to_owned(),
    };
    // Canonical, so that `.` inside a checkpoint has a name and parents.
    let path = std::fs::canonicalize(path).map_err(|e| not_found(&e.to_string()))?;
    if !path.join(layout::MANIFEST).exists() {
        return Store::open(&path)?.resolve("latest");
    }
    let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let root = path.parent().and_then(Path::parent);
    match (id, root) {
        (Some(id), Some(root)) => Ok(Found { store: Store::open(root)?, id }),
        _ => Err(not_found("a checkpoint lies in STORE/checkpoints under its id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        let latest = |instance, back| Some(Asked::Latest { instance, back });
        let cases = [
            ("latest", latest(None, 0)),
            ("latest~3", latest(None, 3)),
            ("latest:ab12", latest(Some("ab12"), 0)),
            ("latest:ab12~1", latest(Some("ab12"), 1)),
            ("latest:", None),
            ("latest:XY", None),
            ("latest~", None),
            ("latest~x", None),
            ("latestab", None),
            ("ab12", Some(Asked::Prefix("ab12"))),
            ("AB12", None),
            ("", None),
            ("0123456789abcdef0", None),
            ("./x", Some(Asked::Path(Path::new("./x")))),
            ("..", Some(Asked::Path(Path::new("..")))),
            ("/a/b", Some(Asked::Path(Path::new("/a/b")))),
        ];
        for (reference, expected) in cases {
            assert_eq!(parse(reference).ok(), expected, "{reference:?}");
        }
    }
}
