//! A redis-server that nobody prepared is captured completely and goes on.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use process::{DescriptionKind, LineIdentity, SocketState};
use rekindle_capture::{self as capture, Options, TcpPolicy};
use support::{Guarded, Pages};

fn start() -> (Guarded, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = support::without_strays("/usr/bin/redis-server")
        .args(["--save", "", "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Ready to accept") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "redis ended");
    }
    child.stdout = Some(lines.into_inner());
    (Guarded::new(child), port)
}

struct Client(TcpStream);

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }

    fn ask(&mut self, words: &str, answer: &str) {
        self.0.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        let mut got = vec![0; answer.len()];
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }
}

#[test]
fn redis_is_captured_and_goes_on() {
    let (child, port) = start();
    let mut client = Client::connect(port);
    for n in 0..2000 {
        client.ask(&format!("SET key{n} {}", "v".repeat(1000)), "+OK\r\n");
    }
    let process = child.process();
    let options = Options { tcp: TcpPolicy::Close, ..Options::default() };
    let survey = capture::look(&process, &options).unwrap();
    assert!(survey.blockers().is_empty(), "{:#?}", survey.blockers());
    assert!(survey.resident_bytes() > 2_000_000);
    assert!(survey.command()[0].starts_with(b"/usr/bin/redis-server"));

    let before = Instant::now();
    let mut frozen = support::freeze(&process);
    let captured = capture::state(&mut frozen, &survey, &LineIdentity::default()).unwrap();
    let state_time = before.elapsed();
    let list = capture::pages(&captured.memory).unwrap();
    let pages = Pages::default();
    let copied = capture::copy(&captured.memory, &list, &pages, 2, &|_| None).unwrap();
    let pause = frozen.thaw();
    println!("state {state_time:?}, pause {pause:?}, {} bytes", copied.bytes);

    assert_eq!(copied.bytes, list.bytes());
    let instance = &captured.instance;
    let group = &instance.groups[0];
    assert_eq!(group.threads.len(), survey.threads());
    assert_eq!(group.threads[0].tid, group.pid);
    assert!(group.threads.iter().all(|t| t.clear_child_tid != 0 && t.xstate.len() > 512));
    assert_eq!(group.signal_actions.len(), 64);
    assert!(instance.spaces[0].layout.brk >= instance.spaces[0].layout.start_brk);
    let listening = instance.sockets.iter().filter(|s| s.state == SocketState::Listening);
    assert!(listening.count() >= 1);
    assert!(instance.sockets.iter().any(|s| s.state == SocketState::ClosedByPeer));
    let epoll = instance.descriptions.iter().find_map(|d| match &d.kind {
        DescriptionKind::Epoll { interests } => Some(interests.len()),
        _ => None,
    });
    assert!(epoll.unwrap() >= 3, "{epoll:?}");

    // The values are in the pages, and redis still has them too.
    let bytes: Vec<u8> = pages.0.into_inner().unwrap().into_values().flatten().collect();
    let value = "v".repeat(1000);
    assert!(bytes.windows(1000).filter(|w| *w == value.as_bytes()).count() >= 1000);
    client.ask("GET key1999", &format!("$1000\r\n{value}\r\n"));
    Client::connect(port).ask("PING", "+PONG\r\n");
    assert!(process.is_alive().unwrap());
}
