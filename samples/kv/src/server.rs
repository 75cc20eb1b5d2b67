//! The service: an accept loop in the caller's thread, one thread per connection, a heartbeat.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::command::{Next, State, execute};
use crate::fill::Fill;
use crate::heartbeat::Heartbeat;
use crate::reply::Reply;
use crate::request::Decoder;
use crate::table::{Table, TableError};

/// Most connections at one time.
const CONNECTIONS_MAX: usize = 500;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Replies are sent when this many bytes wait, though more requests may be at hand.
const FLUSH_BYTES: usize = 1 << 20;
/// Wait after a failed accept: out of descriptors or memory, which only others can give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// What to load before listening.
    pub fill: Option<Fill>,
    /// Largest sum of all entries, in bytes.
    pub memory_bytes_max: u64,
}

impl Default for Config {
    /// A free port of 127.0.0.1, nothing loaded, at most 8 GiB.
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), fill: None, memory_bytes_max: 8 << 30 }
    }
}

/// Why the service cannot run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}, choose another --port")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The first filling does not fit.
    #[error("cannot load the first filling: {0}")]
    Fill(#[from] TableError),
    /// A thread cannot be started.
    #[error("cannot start the {name} thread: {source}")]
    Thread {
        /// What the thread was to do.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
}

#[derive(Debug)]
struct Shared {
    state: State,
    address: SocketAddr,
    stopping: AtomicBool,
    connections: Mutex<BTreeMap<u64, Arc<TcpStream>>>,
}

/// A service that listens and is ready to [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// Ends a running service from another thread.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Ends the service: connections are closed and [`Server::run`] returns.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Server {
    /// Loads the first filling and listens. Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// [`ServeError`] when the filling does not fit or the address is taken.
    pub fn bind(config: &Config) -> Result<Self, ServeError> {
        let address = config.address;
        let listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let table = Table::new(config.memory_bytes_max);
        if let Some(fill) = &config.fill {
            table.fill(fill)?;
        }
        let state = State { table, heartbeat: Heartbeat::default(), started: Instant::now() };
        let connections = Mutex::default();
        let stopping = AtomicBool::new(false);
        Ok(Self { listener, shared: Arc::new(Shared { state, address, stopping, connections }) })
    }

    /// Where the service listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// A handle to end the service with.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Serves until `SHUTDOWN` or [`Handle::stop`].
    ///
    /// # Errors
    /// [`ServeError::Thread`] when the heartbeat cannot be started.
    pub fn run(self) -> Result<(), ServeError> {
        let shared = Arc::clone(&self.shared);
        let heartbeat = thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || shared.state.heartbeat.run())
            .map_err(|source| ServeError::Thread { name: "heartbeat", source })?;
        let mut serial = 0;
        while !self.shared.stopping.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    serial += 1;
                    accept(&self.shared, serial, stream);
                }
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
        for stream in self.shared.connections().values() {
            // Already closed by its peer is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.state.heartbeat.stop();
        // A panic there has been printed and loses nothing.
        let _ = heartbeat.join();
        Ok(())
    }
}

/// Serves `config` until `SHUTDOWN`.
///
/// # Errors
/// [`ServeError`] when the service cannot run.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    Server::bind(config)?.run()
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<TcpStream>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the accept loop. When it fails the loop is awake or gone.
        let _ = TcpStream::connect(self.address);
    }
}

/// Starts a thread for one connection, or tells its peer why not.
fn accept(shared: &Arc<Shared>, serial: u64, stream: TcpStream) {
    if shared.stopping.load(Ordering::Acquire) {
        return;
    }
    let stream = Arc::new(stream);
    let mut connections = shared.connections();
    if connections.len() >= CONNECTIONS_MAX {
        refuse(&stream, "ERR too many connections");
        return;
    }
    connections.insert(serial, Arc::clone(&stream));
    drop(connections);
    let owner = Arc::clone(shared);
    let connection = Arc::clone(&stream);
    let thread = thread::Builder::new().name(format!("client-{serial}")).spawn(move || {
        let _guard = Registration { shared: &owner, serial };
        // A connection that fails ends: there is nobody left to tell.
        let _ = converse(&owner, &connection);
    });
    if thread.is_err() {
        shared.connections().remove(&serial);
        refuse(&stream, "ERR no thread for this connection");
    }
}

/// Takes a connection off the list when its thread ends, in whichever way.
struct Registration<'a> {
    shared: &'a Shared,
    serial: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.serial);
    }
}

fn refuse(mut stream: &TcpStream, text: &str) {
    let mut bytes = Vec::new();
    Reply::Error(text.into()).encode(&mut bytes);
    // The peer is gone if this fails.
    let _ = stream.write_all(&bytes);
}

/// Answers requests until the peer ends, asks for an end, or sends something that is no request.
fn converse(shared: &Shared, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut decoder = Decoder::default();
    let mut input = vec![0; READ_BYTES];
    let mut output = Vec::new();
    loop {
        let length = stream.read(&mut input)?;
        if length == 0 {
            return Ok(());
        }
        decoder.feed(&input[..length]);
        let next = answer_all(shared, &mut decoder, &mut output, stream)?;
        stream.write_all(&output)?;
        output.clear();
        match next {
            Next::Serve => {}
            Next::Close => return stream.shutdown(Shutdown::Both),
            Next::Shutdown => {
                shared.stop();
                return Ok(());
            }
        }
    }
}

fn answer_all(
    shared: &Shared,
    decoder: &mut Decoder,
    output: &mut Vec<u8>,
    mut stream: &TcpStream,
) -> io::Result<Next> {
    loop {
        let arguments = match decoder.next_request() {
            Ok(Some(arguments)) => arguments,
            Ok(None) => return Ok(Next::Serve),
            Err(error) => {
                Reply::Error(format!("ERR protocol error: {error}")).encode(output);
                return Ok(Next::Close);
            }
        };
        let (reply, next) = execute(&shared.state, &arguments);
        reply.encode(output);
        if next != Next::Serve {
            return Ok(next);
        }
        if output.len() >= FLUSH_BYTES {
            stream.write_all(output)?;
            output.clear();
        }
    }
}
