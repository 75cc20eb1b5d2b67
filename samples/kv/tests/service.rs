//! The service over its socket, as clients see it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rekindle_sample_kv::{
    Client, ClientError, Config, Fill, Reply, ServeError, Server, fill_key, fill_value,
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn start(config: &Config) -> (SocketAddr, JoinHandle<Result<(), ServeError>>) {
    let server = Server::bind(config).unwrap();
    (server.address(), thread::spawn(|| server.run()))
}

/// A filling made by the service is the one that the library tells, and survives checking.
#[test]
fn values_are_known_from_outside() {
    let fill = Fill::new(2000, 900, 1500, 5).unwrap();
    let (address, service) = start(&Config { fill: Some(fill), ..Config::default() });
    let mut client = Client::connect(address, TIMEOUT).unwrap();
    assert_eq!(client.keys().unwrap(), 2000);
    for index in 0..2000 {
        client.queue(&[b"GET", &fill_key(index)]);
    }
    client.flush().unwrap();
    for index in 0..2000 {
        assert_eq!(client.receive().unwrap(), Reply::Bulk(fill_value(5, index)), "{index}");
    }
    let digest = client.digest().unwrap();
    client.check(&fill).unwrap();
    client.set(&fill_key(7), b"other").unwrap();
    assert_eq!(client.get(&fill_key(7)).unwrap().unwrap(), b"other");
    assert!(matches!(client.check(&fill), Err(ClientError::Refused(text)) if text.contains('7')));
    client.fill(&fill).unwrap();
    assert_eq!(client.digest().unwrap(), digest);
    assert!(client.heartbeat_us_max().unwrap() > 0);
    client.shutdown().unwrap();
    service.join().unwrap().unwrap();
}

/// A peer that sends nonsense gets an error and an end; others go on, and a shutdown ends all.
#[test]
fn nonsense_ends_one_connection_only() {
    let (address, service) = start(&Config::default());
    let mut client = Client::connect(address, TIMEOUT).unwrap();
    let mut other = TcpStream::connect(address).unwrap();
    other.set_read_timeout(Some(TIMEOUT)).unwrap();
    other.write_all(b"PING\r\n*1\r\n$-5\r\nGET a\r\n").unwrap();
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("+PONG\r\n-ERR protocol error: invalid bulk length"), "{text}");
    client.set(b"a", b"1").unwrap();

    let mut idle = TcpStream::connect(address).unwrap();
    idle.set_read_timeout(Some(TIMEOUT)).unwrap();
    idle.write_all(b"GET a\r\n").unwrap();
    let mut reply = [0; 7];
    idle.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"$1\r\n1\r\n");
    client.shutdown().unwrap();
    service.join().unwrap().unwrap();
    assert_eq!(idle.read(&mut reply).unwrap(), 0);
}

/// Many clients at once lose no update.
#[test]
fn increments_from_many_threads_add_up() {
    let (address, service) = start(&Config::default());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut client = Client::connect(address, TIMEOUT).unwrap();
                for _ in 0..500 {
                    client.queue(&[b"INCR", b"n"]);
                }
                client.flush().unwrap();
                for _ in 0..500 {
                    client.receive().unwrap();
                }
            });
        }
    });
    let mut client = Client::connect(address, TIMEOUT).unwrap();
    assert_eq!(client.get(b"n").unwrap().unwrap(), b"4000");
    client.shutdown().unwrap();
    service.join().unwrap().unwrap();
}

/// A taken port and an impossible filling are refused with their reason.
#[test]
fn a_service_that_cannot_run_says_why() {
    let server = Server::bind(&Config::default()).unwrap();
    let config = Config { address: server.address(), ..Config::default() };
    let error = Server::bind(&config).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {}", server.address())), "{error}");
    let fill = Some(Fill::new(1000, 900, 1500, 1).unwrap());
    let error = Server::bind(&Config { fill, memory_bytes_max: 1 << 16, ..Config::default() });
    assert!(matches!(error, Err(ServeError::Fill(_))));
}
