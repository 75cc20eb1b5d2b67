//! A small blocking client for tests, demo and benchmarks.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use thiserror::Error;

use crate::fill::Fill;
use crate::reply::{Reply, ReplyError};
use crate::request::encode_request;

/// Why a call failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection to the service.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where the service was expected.
        address: SocketAddr,
        /// Why it did not answer.
        source: std::io::Error,
    },
    /// The connection failed, or something that is no reply came back.
    #[error("no reply: {0}")]
    Reply(#[from] ReplyError),
    /// The service answered with an error.
    #[error("the service refused: {0}")]
    Refused(String),
    /// The service answered with another kind of reply than the command has.
    #[error("unexpected reply: {0:?}")]
    Unexpected(Reply),
}

/// One connection to the service.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    output: Vec<u8>,
}

impl Client {
    /// Connects; connecting and every later read and write fail after `timeout`.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody accepts within the time.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Self, ClientError> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, timeout)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        };
        let stream = open().map_err(|source| ClientError::Connect { address, source })?;
        Ok(Self { stream: BufReader::new(stream), output: Vec::new() })
    }

    /// Sends one request and reads its reply.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an error reply; others when the connection failed.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Result<Reply, ClientError> {
        self.queue(arguments);
        self.flush()?;
        self.receive()
    }

    /// Queues one request for [`Client::flush`]; its reply is read by [`Client::receive`].
    pub fn queue(&mut self, arguments: &[&[u8]]) {
        encode_request(&mut self.output, arguments);
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// [`ClientError::Reply`] when the connection failed.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        let result = self.stream.get_mut().write_all(&self.output);
        self.output.clear();
        Ok(result.map_err(ReplyError::from)?)
    }

    /// Reads the next reply.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        match Reply::read(&mut self.stream)? {
            Reply::Error(text) => Err(ClientError::Refused(text)),
            reply => Ok(reply),
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        match self.call(&[b"GET", key])? {
            Reply::Bulk(value) => Ok(Some(value)),
            Reply::Null => Ok(None),
            other => Err(ClientError::Unexpected(other)),
        }
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ClientError> {
        self.expect_ok(&[b"SET", key, value])
    }

    /// Has the service load `fill`.
    ///
    /// # Errors
    /// As [`Client::call`]; a service that holds back longer than the time-out counts as failed.
    pub fn fill(&mut self, fill: &Fill) -> Result<(), ClientError> {
        self.fill_command(b"FILL", fill)
    }

    /// Has the service compare every key of `fill`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] names the first key that differs; else as [`Client::call`].
    pub fn check(&mut self, fill: &Fill) -> Result<(), ClientError> {
        self.fill_command(b"CHECK", fill)
    }

    /// The digest of the whole table.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn digest(&mut self) -> Result<String, ClientError> {
        match self.call(&[b"DIGEST"])? {
            Reply::Bulk(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            other => Err(ClientError::Unexpected(other)),
        }
    }

    /// Number of keys.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn keys(&mut self) -> Result<u64, ClientError> {
        self.integer(&[b"DBSIZE"])
    }

    /// Largest gap of the heartbeat since the last ask, in microseconds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn heartbeat_us_max(&mut self) -> Result<u64, ClientError> {
        self.integer(&[b"HEARTBEAT"])
    }

    /// Ends the service.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn shutdown(&mut self) -> Result<(), ClientError> {
        self.expect_ok(&[b"SHUTDOWN"])
    }

    fn fill_command(&mut self, name: &[u8], fill: &Fill) -> Result<(), ClientError> {
        let (value_min, value_max) = fill.value_bytes();
        let numbers = [fill.keys(), value_min, value_max, fill.seed()].map(|n| n.to_string());
        let [keys, min, max, seed] = numbers.each_ref().map(|text| text.as_bytes());
        self.expect_ok(&[name, keys, min, max, seed])
    }

    fn expect_ok(&mut self, arguments: &[&[u8]]) -> Result<(), ClientError> {
        match self.call(arguments)? {
            Reply::Simple(_) => Ok(()),
            other => Err(ClientError::Unexpected(other)),
        }
    }

    fn integer(&mut self, arguments: &[&[u8]]) -> Result<u64, ClientError> {
        match self.call(arguments)? {
            Reply::Integer(integer) if integer >= 0 => Ok(integer.unsigned_abs()),
            other => Err(ClientError::Unexpected(other)),
        }
    }
}
