//! What `/proc` tells about the host.

use std::path::Path;

use super::dir::ProcError;
use super::text::{Malformed, lines};

/// Reads a file below `/proc` that is not a process's, such as `sys/kernel/random/boot_id`.
///
/// # Errors
/// When it cannot be read.
pub fn read_global(name: &str) -> Result<Vec<u8>, ProcError> {
    std::fs::read(Path::new("/proc").join(name))
        .map_err(|cause| ProcError::from_io(name.to_owned(), cause))
}

/// The id the kernel drew at boot: two runs of a host differ in it.
///
/// # Errors
/// When it cannot be read.
pub fn boot_id() -> Result<String, ProcError> {
    let text = read_global("sys/kernel/random/boot_id")?;
    Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned())
}

/// uname(2): the kernel's release and the host's name.
pub fn system_names() -> (String, String) {
    let system = rustix::system::uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    (text(system.release()), text(system.nodename()))
}

/// The first processor of `/proc/cpuinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuInfo {
    /// `vendor_id`.
    pub vendor: String,
    /// `model name`.
    pub model: String,
    /// The words of `flags`, in the kernel's order.
    pub flags: Vec<String>,
}

/// Parses the text of `/proc/cpuinfo`.
///
/// # Errors
/// When it has no flags.
pub fn parse_cpuinfo(text: &[u8]) -> Result<CpuInfo, Malformed> {
    let mut info = CpuInfo::default();
    for line in lines(text).take_while(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let value = String::from_utf8_lossy(line[colon + 1..].trim_ascii()).into_owned();
        match line[..colon].trim_ascii() {
            b"vendor_id" => info.vendor = value,
            b"model name" => info.model = value,
            b"flags" => info.flags = value.split_whitespace().map(str::to_owned).collect(),
            _ => {}
        }
    }
    if info.flags.is_empty() { Err(Malformed::new("CPU flags", b"")) } else { Ok(info) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host() {
        assert_eq!(boot_id().unwrap().len(), 36);
        let cpu = parse_cpuinfo(&read_global("cpuinfo").unwrap()).unwrap();
        assert!(cpu.flags.iter().any(|f| f == "sse2"), "{cpu:?}");
    }
}
