//! The host as far as an instance can tell hosts apart.

use process::{Clocks, Host};
use sys::proc::{ProcDir, ProcError, boot_id, parse_cpuinfo, read_global, system_names};

/// What of the host does not change while it runs, read before the freeze.
pub(crate) fn fixed() -> Result<Host, ProcError> {
    let name = "cpuinfo";
    let cpu = parse_cpuinfo(&read_global(name)?)
        .map_err(|cause| ProcError::Malformed { path: name.to_owned(), cause })?;
    let mut cpu_flags = cpu.flags;
    cpu_flags.sort_unstable();
    cpu_flags.dedup();
    let (kernel_release, host_name) = system_names();
    Ok(Host {
        boot_id: boot_id()?,
        kernel_release,
        host_name,
        cpu_name: format!("{} {}", cpu.vendor, cpu.model),
        cpu_flags,
        ..Host::default()
    })
}

/// The clocks now, as the process behind `dir` reads them in its time namespace.
pub(crate) fn clocks(dir: &ProcDir) -> Result<Clocks, ProcError> {
    let now = sys::clock::read();
    let mut clocks = Clocks {
        realtime_ns: now.realtime_ns,
        monotonic_ns: now.monotonic_ns,
        boottime_ns: now.boottime_ns,
    };
    let own = ProcDir::open(sys::task::Pid::current().raw())?;
    // The offsets count from the host's clocks, for the process as for us. A kernel without
    // time namespaces has no such file, and no offsets.
    if dir.link("ns/time").ok() != own.link("ns/time").ok() {
        let (theirs, ours) = (offsets(dir)?, offsets(&own)?);
        clocks.monotonic_ns += theirs.0 - ours.0;
        clocks.boottime_ns += theirs.1 - ours.1;
    }
    Ok(clocks)
}

/// The offsets of the monotonic and the boot-time clock, in nanoseconds.
fn offsets(dir: &ProcDir) -> Result<(i128, i128), ProcError> {
    let mut text = Vec::new();
    dir.read("timens_offsets", &mut text)?;
    let offset = |name: &str| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        let mut words = line.iter().flat_map(|line| line.split_whitespace().skip(1));
        let mut number = || words.next().and_then(|w| w.parse::<i128>().ok()).unwrap_or(0);
        number() * 1_000_000_000 + number()
    };
    Ok((offset("monotonic"), offset("boottime")))
}
