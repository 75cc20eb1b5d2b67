//! Metrics for Prometheus over HTTP: OpenMetrics text for who asks for it, else the older text
//! format (0.0.4), which everything reads.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::status::WatchStatus;
use crate::listening::Listening;
use crate::loan::Told;

/// The longest request that is read.
const REQUEST_BYTES: usize = 8192;
/// How long a client may take for it, and to read the answer.
const CLIENT_WITHIN: Duration = Duration::from_secs(2);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A float gauge.
type Float = Gauge<f64, AtomicU64>;
/// One for each tier.
type ByTier = Family<[(&'static str, &'static str); 1], Float>;

/// The metrics of `status` as OpenMetrics, `now_ns` since the epoch.
pub(super) fn render(status: &WatchStatus, now_ns: u64) -> String {
    let mut registry = Registry::with_prefix("rekindle_watch");
    let info = vec![
        ("instance".to_owned(), status.instance.clone()),
        ("pid".to_owned(), status.pid.to_string()),
        ("state".to_owned(), status.state.clone()),
    ];
    registry.register("target", "What is watched", Info::new(info));
    let (tiers, counts) = (ByTier::default(), ByTier::default());
    let of = [
        ("critical", status.critical_pages),
        ("warm", status.warm_pages),
        ("cold", status.cold_pages),
    ];
    for (tier, pages) in of {
        tiers.get_or_create(&[("tier", tier)]).set((pages * mem::PAGE_SIZE) as f64);
        counts.get_or_create(&[("tier", tier)]).set(pages as f64);
    }
    registry.register_with_unit("tier", "Memory by tier", Unit::Bytes, tiers);
    registry.register("tier_pages", "The same in pages", counts);
    let mut count = |name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstCounter::new(value));
    };
    count("periods", "Periods that have ended", status.periods);
    count("promoted_pages", "Pages that became hotter", status.promoted_pages);
    count("demoted_pages", "Pages that became colder", status.demoted_pages);
    count("checkpoints", "Checkpoints taken", status.checkpoints);
    count("checkpoint_failures", "Checkpoints that failed", status.failures);
    count("loans", "Times that other verbs had the program", status.loans);
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: f64| {
        let gauge = Float::default();
        gauge.set(value);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, gauge),
            None => registry.register(name, help, gauge),
        }
    };
    let seconds = |us: u64| us as f64 / 1e6;
    let written = (status.written_pages_a_second * mem::PAGE_SIZE) as f64;
    gauge("written_bytes_per_second", "Memory seen written, a second", None, written);
    let pause = seconds(status.checkpoint_pause_us);
    gauge("checkpoint_pause", "The longest stop for the last one", Some(Unit::Seconds), pause);
    let stored = status.checkpoint_stored_bytes as f64;
    gauge("checkpoint_stored", "Newly written for the last one", Some(Unit::Bytes), stored);
    let disk = status.disk_bytes as f64;
    gauge("disk", "What the instance's checkpoints take", Some(Unit::Bytes), disk);
    if status.checkpoint.is_some() {
        let age = now_ns.saturating_sub(status.checkpoint_ns) as f64 / 1e9;
        gauge("checkpoint_age", "Since the last one was published", Some(Unit::Seconds), age);
    }
    let expected = seconds(status.expected_pause_us);
    gauge("expected_pause", "Of a checkpoint or an update now", Some(Unit::Seconds), expected);
    let ratio = || Some(Unit::Other("ratio".to_owned()));
    let share = |permille: u64| permille as f64 / 1000.0;
    let slowdown = share(status.slowdown_permille);
    gauge("slowdown", "Cost to the program's CPU time", ratio(), slowdown);
    let own = share(status.own_cpu_permille);
    gauge("own_cpu", "CPU time of the watch, of one processor", ratio(), own);
    let memory = status.own_memory_bytes as f64;
    gauge("own_memory", "Memory of the watch", Some(Unit::Bytes), memory);
    gauge("plan_every_periods", "Periods to a division", None, status.plan_every as f64);
    let trouble = f64::from(u8::from(status.trouble.is_some()));
    gauge("trouble", "1 when something does not work", None, trouble);
    let mut text = String::new();
    // Writing to a string fails for no metric.
    let _ = encode(&mut text, &registry);
    text
}

/// OpenMetrics text in the older format: there are no units and no end, an information is a gauge,
/// and the type of a counter is that of its sample, whose name has an ending.
fn classic(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    // Help comes first and must be under the sample's name as well: it waits for the type.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (kind, ending) = match kind {
                "counter" => ("counter", "_total"),
                "info" => ("gauge", "_info"),
                other => (other, ""),
            };
            if let Some((_, text)) = help.take() {
                lines.push_str(&format!("# HELP {name}{ending} {text}\n"));
            }
            lines.push_str(&format!("# TYPE {name}{ending} {kind}\n"));
        } else if !line.starts_with('#') {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// Answers scrapes at `address` until it is dropped, one client after the other: a scrape takes a
/// millisecond, and who dawdles is hung up on.
///
/// # Errors
/// When the address is taken or not ours.
pub(super) fn open(address: SocketAddr, told: Told) -> io::Result<Listening> {
    Listening::start("metrics", TcpListener::bind(address)?, move |listener: &TcpListener| {
        let (stream, _) = listener.accept()?;
        if let Err(error) = serve(stream, &told) {
            tracing::debug!(%error, "a scrape was not answered");
        }
        Ok(())
    })
}

fn serve(mut stream: TcpStream, told: &Told) -> io::Result<()> {
    let wanted = request(&mut stream)?;
    let (status, kind, body) = match wanted {
        Some(Wanted { path, open }) if path == "/metrics" => {
            let status = WatchStatus::of(told).unwrap_or_default();
            let text = render(&status, crate::heat_map::realtime_ns());
            match open {
                true => ("200 OK", OPEN_METRICS, text),
                false => ("200 OK", CLASSIC, classic(&text)),
            }
        }
        Some(_) => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
        None => ("400 Bad Request", "text/plain", "only GET is answered\n".to_owned()),
    };
    stream.set_write_timeout(Some(CLIENT_WITHIN))?;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// What a GET request asks for.
struct Wanted {
    path: String,
    /// It names OpenMetrics among what it takes.
    open: bool,
}

/// What is asked for; `None` when it is no GET request.
fn request(stream: &mut TcpStream) -> io::Result<Option<Wanted>> {
    let until = Instant::now() + CLIENT_WITHIN;
    let mut bytes = [0; REQUEST_BYTES];
    let mut length = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || length == bytes.len() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[length..])? {
            0 => return Ok(None),
            more => length += more,
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes[..length]) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) if request.method == Some("GET") => {
                let path = request.path.unwrap_or_default();
                let path = path.split('?').next().unwrap_or_default().to_owned();
                let takes = |header: &httparse::Header<'_>| {
                    let value = String::from_utf8_lossy(header.value);
                    header.name.eq_ignore_ascii_case("accept")
                        && value.contains("application/openmetrics-text")
                };
                return Ok(Some(Wanted { path, open: request.headers.iter().any(takes) }));
            }
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> WatchStatus {
        WatchStatus {
            instance: "0123456789ab".to_owned(),
            pid: 4711,
            state: "watching".to_owned(),
            periods: 7,
            critical_pages: 256,
            checkpoint: Some("abc".to_owned()),
            checkpoint_ns: 1_000_000_000,
            checkpoint_pause_us: 2500,
            ..WatchStatus::default()
        }
    }

    #[test]
    fn metrics_have_units_and_an_end() {
        let text = render(&status(), 3_000_000_000);
        for line in [
            "# TYPE rekindle_watch_tier_bytes gauge",
            "rekindle_watch_tier_bytes{tier=\"critical\"} 1048576.0",
            "rekindle_watch_periods_total 7",
            "rekindle_watch_checkpoint_pause_seconds 0.0025",
            "rekindle_watch_checkpoint_age_seconds 2.0",
            "rekindle_watch_target_info{instance=\"0123456789ab\",pid=\"4711\",state=\"watching\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn scrapes_are_answered_and_nonsense_is_refused() {
        let told = Told::default();
        status().tell(&told);
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let _server = open(address, told).unwrap();
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let open = "accept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
        let scrape = ask(&format!("GET /metrics HTTP/1.1\r\nhost: here\r\n{open}\r\n\r\n"));
        assert!(
            scrape.starts_with("HTTP/1.1 200 OK\r\n") && scrape.ends_with("# EOF\n"),
            "{scrape}"
        );
        let scrape = ask("GET /metrics?x HTTP/1.1\r\nhost: here\r\n\r\n");
        assert!(
            scrape.contains("version=0.0.4")
                && scrape.contains("# TYPE rekindle_watch_periods_total counter\n")
                && scrape.contains("# TYPE rekindle_watch_target_info gauge\n")
                && !scrape.contains("# EOF"),
            "{scrape}"
        );
        assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    }

    /// The dashboard asks for nothing that is not served.
    #[test]
    fn the_dashboard_knows_the_metrics() {
        let dashboard = include_str!("../../../../share/grafana/rekindle-watch.json");
        let json: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        let panels = json["panels"].as_array().unwrap();
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        assert!(queries.len() >= 10, "{queries:?}");
        let served = classic(&render(&status(), 3_000_000_000));
        let names: Vec<&str> = served
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        for query in queries {
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let asked: Vec<&str> = words.filter(|word| word.starts_with("rekindle_")).collect();
            assert!(!asked.is_empty(), "{query}");
            assert!(asked.iter().all(|name| names.contains(name)), "{query}: {names:?}");
        }
    }
}
