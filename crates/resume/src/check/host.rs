//! Kernel, vdso and memory.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

use mem::{AddrRange, Backing, PageCount, SpecialMapping};
use sys::proc::maps_entries;

use super::Check;
use crate::MismatchKind;

/// The oldest kernel that has everything.
const KERNEL_MIN: (u32, u32) = (6, 7);

impl Check<'_> {
    pub(super) fn host(&mut self, memory: PageCount) {
        self.kernel();
        self.vdso();
        self.memory(memory);
    }

    fn kernel(&mut self) {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        if version(&release).is_none_or(|version| version < KERNEL_MIN) {
            let (major, minor) = KERNEL_MIN;
            let cause = format!("Linux {major}.{minor} or newer is needed");
            self.add(MismatchKind::Kernel, format!("Linux {release}"), cause, "update the kernel");
        }
    }

    fn vdso(&mut self) {
        let Some(vdso) = self.space.vdso() else { return };
        let lift = "resume under the kernel it was captured under";
        let theirs = format!("the vdso of Linux {}", self.instance.host.kernel_release);
        match own_vdso() {
            Ok(own) => {
                let vvar = Backing::Special(SpecialMapping::Vvar);
                let first = self.space.mappings.iter().find(|m| m.backing == vvar);
                let data = first.map(|m| vdso.start.0 - m.range.start.0);
                let hash = vdso_hash();
                let same_bytes = hash.is_ok_and(|hash| hash == self.space.vdso_hash);
                if !same_bytes || own.data != data || own.range.len() != vdso.len() {
                    let cause = "this kernel's vdso has other code, or its data elsewhere";
                    self.add(MismatchKind::Vdso, theirs, cause, lift);
                }
            }
            Err(cause) => self.add(MismatchKind::Vdso, theirs, cause.to_string(), lift),
        }
    }

    fn memory(&mut self, memory: PageCount) {
        let needed = memory.bytes();
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = available_bytes(&text);
        if available.is_some_and(|available| needed > available) {
            let mib = |bytes: u64| bytes >> 20;
            let has = mib(available.unwrap_or_default());
            let cause = format!("{} MiB are needed, {has} MiB are available", mib(needed));
            self.add(MismatchKind::Memory, "memory", cause, "end other programs, or add swap");
        }
    }
}

/// `MemAvailable` and `SwapFree` of `/proc/meminfo`, in bytes.
fn available_bytes(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(field("MemAvailable:")? + field("SwapFree:").unwrap_or_default())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// This process's own vdso.
struct Vdso {
    range: AddrRange,
    /// How far before it its data begins.
    data: Option<u64>,
}

fn own_vdso() -> io::Result<Vdso> {
    let text = fs::read("/proc/self/maps")?;
    let (mut range, mut data) = (None, None);
    for entry in maps_entries(&text) {
        let entry = entry.map_err(io::Error::other)?;
        match entry.name().as_slice() {
            b"[vdso]" => range = Some(entry.range),
            b"[vvar]" => data = Some(entry.range.start.0),
            _ => {}
        }
    }
    let range = range.ok_or_else(|| io::Error::other("this process has no vdso"))?;
    Ok(Vdso { range, data: data.map(|data| range.start.0.saturating_sub(data)) })
}

/// blake3 of this host's vdso image (`inject::vdso_image`), to be compared with
/// `process::AddressSpace::vdso_hash`.
///
/// # Errors
/// When `/proc/self` cannot be read, or this process has no vdso.
pub fn vdso_hash() -> io::Result<[u8; 32]> {
    let vdso = own_vdso()?;
    let mut bytes = vec![0; usize::try_from(vdso.range.len()).map_err(io::Error::other)?];
    fs::File::open("/proc/self/mem")?.read_exact_at(&mut bytes, vdso.range.start.0)?;
    Ok(*blake3::hash(inject::vdso_image(&bytes)).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert!(version("6.6.1").unwrap() < KERNEL_MIN);
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn swap_counts_as_memory() {
        let text = "MemTotal: 100 kB\nMemAvailable:   10 kB\nSwapFree:  2 kB\n";
        assert_eq!(available_bytes(text), Some(12 * 1024));
    }

    #[test]
    fn the_vdso_is_the_same_each_time() {
        assert_eq!(vdso_hash().unwrap(), vdso_hash().unwrap());
    }
}
