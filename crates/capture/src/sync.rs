//! Making what a program wrote to files as safe as the checkpoint that expects it.

use std::collections::BTreeSet;
use std::io;

use sys::proc::{maps_entries, parse_fdinfo};
use target::Frozen;

/// Syncs every file system on which the frozen program holds a file open for writing or maps one
/// so that stores reach it (`syncfs(2)`).
///
/// # Errors
/// What the kernel says, the name of the file in front.
pub fn sync_writable_files(frozen: &Frozen<'_>) -> io::Result<()> {
    let dir = frozen.process().dir();
    let mut buffer = Vec::new();
    let mut names = Vec::new();
    for fd in dir.descriptors().map_err(io::Error::other)? {
        let info = dir.parse(&format!("fdinfo/{fd}"), &mut buffer, parse_fdinfo);
        let info = info.map_err(io::Error::other)?;
        const ACCESS_MODE: u32 = 3;
        if info.flags & ACCESS_MODE != 0 && info.flags & O_PATH == 0 {
            names.push(format!("fd/{fd}"));
        }
    }
    dir.read("maps", &mut buffer).map_err(io::Error::other)?;
    for entry in maps_entries(&buffer).flatten() {
        if entry.sharing == mem::Sharing::Shared && entry.protection.write && entry.has_inode() {
            let range = entry.range;
            names.push(format!("map_files/{:x}-{:x}", range.start.0, range.end.0));
        }
    }
    let mut done = BTreeSet::new();
    for name in names {
        let stat = dir.stat(&name).map_err(io::Error::other)?;
        if stat.file_type() != libc::S_IFREG || !done.insert(stat.device) {
            continue;
        }
        let file = dir.open_file(&name, sys::proc::open_flags::READ_WITHOUT_WAITING);
        sys::file::sync_file_system(file.map_err(io::Error::other)?)
            .map_err(|cause| io::Error::new(cause.kind(), format!("{name}: {cause}")))?;
    }
    Ok(())
}

const O_PATH: u32 = 0o10_000_000;
