//! Metrics for Prometheus: OpenMetrics text over HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
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
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A float gauge.
type Float = Gauge<f64, AtomicU64>;

/// The metrics of `status`, `now_ns` since the epoch.
pub(super) fn render(status: &WatchStatus, now_ns: u64) -> String {
    let mut registry = Registry::with_prefix("rekindle_watch");
    let info = vec![
        ("instance".to_owned(), status.instance.clone()),
        ("pid".to_owned(), status.pid.to_string()),
        ("state".to_owned(), status.state.clone()),
    ];
    registry.register("target", "What is watched", Info::new(info));
    let tiers = prometheus_client::metrics::family::Family::<[(&str, &str); 1], Float>::default();
    let of = [
        ("critical", status.critical_pages),
        ("warm", status.warm_pages),
        ("cold", status.cold_pages),
    ];
    for (tier, pages) in of {
        tiers.get_or_create(&[("tier", tier)]).set((pages * mem::PAGE_SIZE) as f64);
    }
    registry.register_with_unit("tier", "Memory by tier", Unit::Bytes, tiers);
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
    if status.checkpoint.is_some() {
        let age = now_ns.saturating_sub(status.checkpoint_ns) as f64 / 1e9;
        gauge("checkpoint_age", "Since the last one was published", Some(Unit::Seconds), age);
    }
    let expected = seconds(status.expected_pause_us);
    gauge("expected_pause", "Of a checkpoint or an update now", Some(Unit::Seconds), expected);
    let share = |permille: u64| permille as f64 / 1000.0;
    let slowdown = share(status.slowdown_permille);
    gauge("slowdown", "Cost to the program's CPU time", Some(Unit::Ratios), slowdown);
    let own = share(status.own_cpu_permille);
    gauge("own_cpu", "CPU time of the watch, of one processor", Some(Unit::Ratios), own);
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
    let path = request(&mut stream)?;
    let (status, kind, body) = match path.as_deref() {
        Some("/metrics") => {
            let status = WatchStatus::of(told).unwrap_or_default();
            ("200 OK", CONTENT_TYPE, render(&status, crate::heat_map::realtime_ns()))
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

/// The path of a GET request; `None` when it is no such request.
fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
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
                return Ok(Some(path.split('?').next().unwrap_or_default().to_owned()));
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
        let scrape = ask("GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n");
        assert!(
            scrape.starts_with("HTTP/1.1 200 OK\r\n") && scrape.ends_with("# EOF\n"),
            "{scrape}"
        );
        assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    }
}
