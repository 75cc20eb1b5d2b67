//! A small key-value service that speaks enough of the redis protocol (RESP2) for `redis-cli`,
//! for the demo, for tests and for benchmarks.
//!
//! It is an ordinary program that nobody prepared for checkpointing: a table in memory, an accept
//! loop, one thread per connection and a heartbeat thread. What it adds to the protocol is only
//! what lets an outsider judge a checkpoint: `FILL` loads deterministic values, `CHECK` compares
//! every one of them, `DIGEST` sums up the whole table, and `HEARTBEAT` tells the longest time
//! during which a thread of the service could not run.
//!
//! It refuses to be a database: no persistence, no expiry, no replication, no authentication. It
//! binds a loopback address unless told otherwise. Read next: `command.rs` for the commands,
//! `fill.rs` for the values.
#![forbid(unsafe_code)]

mod client;
mod command;
mod fill;
mod heartbeat;
mod options;
mod reply;
mod request;
mod server;
mod table;

pub use client::{Client, ClientError};
pub use fill::{Fill, FillError, fill_key, fill_value};
pub use heartbeat::Heartbeat;
pub use options::{OptionsError, USAGE, parse_options, run};
pub use reply::{Reply, ReplyError};
pub use request::{Decoder, RequestError, encode_request};
pub use server::{Config, Handle, ServeError, Server, serve};
pub use table::{Digest, Table, TableError};
