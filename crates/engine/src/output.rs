//! Files that are there whole or not at all, as `-o` promises.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Has `write` fill a new file beside `path`, with these rights as far as the umask allows, that then
/// takes its name, synced. A failure leaves `path` as it was; `refused` makes an error of what the
/// system says of it.
///
/// # Errors
/// What `write` or the system says.
pub(crate) fn replace<T, E>(
    path: &Path,
    mode: u32,
    refused: impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let Some(name) = path.file_name() else {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    };
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(new);
    let file = File::options().write(true).create_new(true).mode(mode).open(&new);
    let mut file = file.map_err(&refused)?;
    let done = write(&mut file).and_then(|done| {
        file.sync_all().map_err(&refused)?;
        fs::rename(&new, path).map_err(&refused)?;
        Ok(done)
    });
    if done.is_err() {
        // Whatever is left of it is of no use, and that it cannot be removed changes nothing.
        let _ = fs::remove_file(&new);
    }
    done
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let fill = |text: &'static str, fails: bool| {
            replace(
                &path,
                0o600,
                |cause| cause,
                |file| {
                    file.write_all(text.as_bytes())?;
                    if fails { Err(io::Error::other("asked to")) } else { Ok(()) }
                },
            )
        };
        fill("one", true).unwrap_err();
        assert!(!path.exists());
        fill("two", false).unwrap();
        fill("three", true).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside it");
        let root = replace(Path::new("/"), 0o600, |cause| cause, |_| Ok(()));
        assert_eq!(root.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
