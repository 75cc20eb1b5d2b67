//! `rekindle demo`: the whole thing on a sample service, with a report.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use engine::report::{CheckpointReport, ResumeReport};
use engine::{CheckpointRequest, ResumeOptions, ResumeRequest, Settings};
use sample_kv::{Client, Fill, Reply, fill_key};
use serde::Serialize;

use crate::args::Format;
use crate::context::{Context, to_stdout};
use crate::draw::{bytes, time};
use crate::progress::Bar;

const PATIENCE: Duration = Duration::from_secs(120);
const SEED: u64 = 42;
/// "No child processes", errno(3).
const ECHILD: i32 = 10;

/// What the demo saw.
#[derive(Debug, Serialize)]
struct DemoReport {
    schema: &'static str,
    outcome: &'static str,
    blockers: [(); 0],
    changed: [(); 0],
    keys_checked: u64,
    gap_felt_us: u64,
    live: CheckpointReport,
    stopped: CheckpointReport,
    resumed: ResumeReport,
    first_answer_us: u64,
}

/// Runs the demo on a service that holds `mb` MB.
pub(crate) fn run(context: &Context, mb: u64) -> ExitCode {
    match engine::check(None, false, &context.registry) {
        Ok(report) if report.class() != engine::ExitClass::Done => {
            eprintln!("rekindle: this host or user cannot run the demo:");
            for row in report.host.iter().filter(|row| !row.available) {
                eprintln!("  {}: {}", row.name, row.detail);
            }
            return ExitCode::from(engine::ExitClass::NotPermitted.code());
        }
        Ok(_) => {}
        Err(error) => {
            eprintln!("rekindle: failed to {error}");
            return ExitCode::from(engine::ExitClass::Unexpected.code());
        }
    }
    let place = std::env::temp_dir().join(format!("rekindle-demo-{}", std::process::id()));
    let result = show(context, mb, &place);
    if let Err(error) = fs::remove_dir_all(&place) {
        eprintln!("rekindle: failed to remove {}: {error}", place.display());
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rekindle: demo failed: {error:#}");
            ExitCode::from(engine::ExitClass::Unexpected.code())
        }
    }
}

fn show(context: &Context, mb: u64, place: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(place)
        .with_context(|| format!("make {}", place.display()))?;
    let fill = Fill::of_bytes(mb * 1_000_000, SEED)?;
    say(context, &format!("1. starting a key-value service and loading {mb} MB into it"));
    let mut service = Service::start(place)?;
    let mut client = Client::connect(service.address, PATIENCE)?;
    client.fill(&fill)?;
    client.heartbeat_us_max()?;

    say(context, "2. checkpoint; the service keeps running");
    let live = checkpoint(context, &service, place, false)?;
    let gap_felt_us = client.heartbeat_us_max()?;
    say(context, &format!("   its own heartbeat missed at most {}", time(gap_felt_us)));

    say(context, "3. checkpoint and stop; the service is gone");
    let stopped = checkpoint(context, &service, place, true)?;
    service.reap()?;
    ensure!(
        Client::connect(service.address, Duration::from_millis(200)).is_err(),
        "something still answers at {}",
        service.address
    );

    say(context, "4. resume; the service is back");
    let begun = Instant::now();
    let resumed = resume(context, place)?;
    service.resumed_as = resumed.pid;
    let mut client = Client::connect(service.address, PATIENCE)?;
    let first = client.get(&fill_key(0))?;
    let first_answer_us = u64::try_from(begun.elapsed().as_micros())?;
    ensure!(first.as_deref() == Some(fill.value(0).as_slice()), "the first value is wrong");

    say(context, "5. comparing every value with what it should be");
    let keys_checked = compare(&mut client, &fill)?;
    client.shutdown().ok();
    service.ended();
    let report = DemoReport {
        schema: "rekindle.demo/1",
        outcome: "resumed",
        blockers: [],
        changed: [],
        keys_checked,
        gap_felt_us,
        live,
        stopped,
        resumed,
        first_answer_us,
    };
    print(context, &report)
}

fn print(context: &Context, report: &DemoReport) -> anyhow::Result<()> {
    let told = match context.format {
        Format::Json => serde_json::to_string(report)? + "\n",
        _ => text(report),
    };
    to_stdout(&told).context("write to stdout")
}

fn text(report: &DemoReport) -> String {
    let stored = report.stopped.stored_bytes;
    let resident = report.stopped.resident_bytes;
    let share = (stored * 100).checked_div(resident).unwrap_or(0);
    let checked = report.keys_checked;
    let rows = [
        ("values compared", format!("{checked} of {checked}")),
        ("stood still, live", time(report.live.pause_us.unwrap_or_default())),
        ("gap its heartbeat felt", time(report.gap_felt_us)),
        ("resident", bytes(resident)),
        ("stored", format!("{} ({share}%)", bytes(stored))),
        ("first answer after resume", time(report.first_answer_us)),
    ];
    let mut text: String =
        rows.iter().map(|(name, value)| format!("{name:<26}{value}\n")).collect();
    text.push_str(
        "\nNext: start a program of your own, then\n  \
           rekindle check PID        what stands in its way\n  \
           rekindle checkpoint PID   store it while it runs\n  \
           rekindle resume latest    bring it back once it has ended\n",
    );
    text
}

fn say(context: &Context, text: &str) {
    if context.format == Format::Text {
        eprintln!("{text}");
    }
}

/// The service, ended when this is dropped.
struct Service {
    child: Child,
    address: SocketAddr,
    resumed_as: Option<i32>,
}

impl Service {
    fn start(place: &Path) -> anyhow::Result<Self> {
        // What our caller left open must not become a part of the service's state.
        engine::keep_descriptors_from(3).context("keep descriptors from the service")?;
        let log = place.join("service.log");
        let output = File::create(&log)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sample-kv", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .current_dir("/")
            .spawn()
            .context("start the sample service")?;
        let address = match ready(&log, &mut child) {
            Ok(address) => address,
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                return Err(error);
            }
        };
        Ok(Self { child, address, resumed_as: None })
    }

    /// Waits for the end of the original, so that its pid is free. The checkpoint has waited for
    /// it already, as its tracer, and for a child of ours the two are one.
    fn reap(&mut self) -> anyhow::Result<()> {
        match self.child.wait() {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(ECHILD) => Ok(()),
            Err(error) => Err(error).context("wait for the stopped service"),
        }
    }

    /// The resumed service has been told to end.
    fn ended(&mut self) {
        self.resumed_as = None;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if let Some(pid) = self.resumed_as {
            // The resumed service is no child of this process handle any more.
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

/// The address in the service's ready line.
fn ready(log: &PathBuf, child: &mut Child) -> anyhow::Result<SocketAddr> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log)?;
        if let Some(line) = text.lines().find_map(|l| l.strip_prefix("ready ")) {
            let address = line.split(' ').next().unwrap_or_default();
            return address.parse().with_context(|| format!("read the address in `{line}`"));
        }
        if let Some(status) = child.try_wait()? {
            bail!("the sample service ended at once, {status}: {text}");
        }
        ensure!(begun.elapsed() < PATIENCE, "the sample service is not ready: {text}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn settings(context: &Context, place: &Path) -> Settings {
    Settings { store: place.join("store"), started: Instant::now(), ..context.settings.clone() }
}

fn checkpoint(
    context: &Context,
    service: &Service,
    place: &Path,
    stop: bool,
) -> anyhow::Result<CheckpointReport> {
    let request = CheckpointRequest {
        stop,
        parent: "none".to_owned(),
        tcp_close: true,
        ..CheckpointRequest::of(service.child.id().to_string())
    };
    let bar = Bar::new(context.progress, context.verbose);
    engine::checkpoint(&settings(context, place), &request, &context.registry, &bar)
        .map_err(|error| explain(&error))
}

fn resume(context: &Context, place: &Path) -> anyhow::Result<ResumeReport> {
    let request = ResumeRequest {
        reference: "latest".to_owned(),
        options: ResumeOptions { detach: true, ..ResumeOptions::default() },
        probe: None,
        probe_timeout: Duration::from_secs(5),
        load: engine::Load::default(),
    };
    let bar = Bar::new(context.progress, context.verbose);
    let revived = engine::resume(&settings(context, place), &request, &context.registry, &bar)
        .map_err(|error| explain(&error))?
        .context("a dry run resumes nothing")?;
    Ok(revived.report)
}

fn explain(error: &dyn engine::VerbError) -> anyhow::Error {
    let rows = crate::draw::blockers(&error.blockers());
    anyhow::anyhow!("{error}\n{rows}")
}

/// Reads every key and compares its value.
fn compare(client: &mut Client, fill: &Fill) -> anyhow::Result<u64> {
    const WINDOW: u64 = 512;
    let keys = fill.keys();
    let mut next = 0;
    while next < keys {
        let end = (next + WINDOW).min(keys);
        for index in next..end {
            client.queue(&[b"GET", &fill_key(index)]);
        }
        client.flush()?;
        for index in next..end {
            match client.receive()? {
                Reply::Bulk(value) if value == fill.value(index) => {}
                _ => bail!("key {index} has a wrong value"),
            }
        }
        next = end;
    }
    Ok(keys)
}
