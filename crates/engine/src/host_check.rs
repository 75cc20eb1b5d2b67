//! What this host and user can do, row by row.

use std::fs;

use serde::Serialize;

/// One thing that a checkpoint or a resume needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostRow {
    /// Its stable name.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// What was found, and how to get what is missing.
    pub detail: String,
}

/// The capabilities that are needed, with their bits and what for (capabilities(7)).
const CAPABILITIES: [(&str, u32, &str); 4] = [
    ("CAP_SYS_PTRACE", 19, "to stop and read programs"),
    ("CAP_SYS_ADMIN", 21, "for namespaces and seccomp filters"),
    ("CAP_CHECKPOINT_RESTORE", 40, "to give processes their old pids and mapped files"),
    ("CAP_SETUID", 7, "to give programs their own users back"),
];

/// Looks at the host; changes nothing.
pub(crate) fn host_rows() -> Vec<HostRow> {
    let mut rows = vec![architecture(), kernel()];
    let effective = effective_capabilities();
    rows.extend(CAPABILITIES.iter().map(|(name, bit, purpose)| {
        let available = effective.is_some_and(|set| set >> bit & 1 == 1);
        let detail = if available {
            format!("there, {purpose}")
        } else {
            format!("missing, needed {purpose}: run as root or with this capability")
        };
        HostRow { name, available, detail }
    }));
    rows.push(pagemap_scan());
    rows
}

fn architecture() -> HostRow {
    HostRow {
        name: "x86-64",
        available: cfg!(target_arch = "x86_64"),
        detail: std::env::consts::ARCH.to_owned(),
    }
}

fn kernel() -> HostRow {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let available = version(&release).is_some_and(|v| v >= (6, 7));
    let detail = if available {
        release
    } else {
        format!("{release}: Linux 6.7 or newer is needed (PAGEMAP_SCAN)")
    };
    HostRow { name: "kernel", available, detail }
}

/// Major and minor number of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Tries the ioctl on our own memory.
fn pagemap_scan() -> HostRow {
    let probe = || -> Result<(), String> {
        let pid = i32::try_from(std::process::id()).map_err(|e| e.to_string())?;
        let dir = sys::proc::ProcDir::open(pid).map_err(|e| e.to_string())?;
        let pagemap = sys::pagemap::Pagemap::open(&dir).map_err(|e| e.to_string())?;
        let here = std::ptr::from_ref(&pid).addr() as u64;
        let page = mem::VirtAddr(here).page();
        let range = mem::PageRange { start: page, end: page.offset(1) }.addrs();
        let filter = sys::pagemap::ScanFilter::PRIVATE_CONTENT;
        let mut found = 0;
        pagemap.scan(range, &filter, |_| found += 1).map_err(|e| e.to_string())?;
        if found == 1 { Ok(()) } else { Err("a page of our own stack was not listed".to_owned()) }
    };
    let result = probe();
    HostRow {
        name: "PAGEMAP_SCAN",
        available: result.is_ok(),
        detail: result.err().unwrap_or_else(|| "lists pages".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(version("6.18.44-custom"), Some((6, 18)));
        assert_eq!(version("6.7"), Some((6, 7)));
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn a_supported_host_has_no_missing_row() {
        for row in host_rows() {
            assert!(row.available, "{row:?}");
        }
    }
}
