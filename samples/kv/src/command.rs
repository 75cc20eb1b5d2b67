//! The commands: one request in, one reply out.

use std::process;
use std::time::Instant;

use crate::fill::Fill;
use crate::heartbeat::Heartbeat;
use crate::reply::Reply;
use crate::table::Table;

/// Largest sum of values in one reply, in bytes.
const REPLY_BYTES_MAX: usize = 512 << 20;

/// What the connection does after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the next request.
    Serve,
    /// Close this connection.
    Close,
    /// End the service.
    Shutdown,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) started: Instant,
}

/// Executes one request; `arguments` begins with the command's name.
pub(crate) fn execute(state: &State, arguments: &[Vec<u8>]) -> (Reply, Next) {
    let Some((name, arguments)) = arguments.split_first() else {
        return (Reply::Error("ERR empty request".into()), Next::Serve);
    };
    let name = name.to_ascii_uppercase();
    let next = match name.as_slice() {
        b"SHUTDOWN" => Next::Shutdown,
        b"QUIT" => Next::Close,
        _ => Next::Serve,
    };
    let reply = answer(state, &name, arguments);
    (reply.unwrap_or_else(|text| Reply::Error(format!("ERR {text}"))), next)
}

fn answer(state: &State, name: &[u8], arguments: &[Vec<u8>]) -> Result<Reply, String> {
    let table = &state.table;
    match (name, arguments) {
        (b"PING", []) => Ok(Reply::Simple("PONG".into())),
        (b"PING" | b"ECHO", [text]) => Ok(Reply::Bulk(text.clone())),
        (b"GET", [key]) => Ok(table.get(key).map_or(Reply::Null, Reply::Bulk)),
        (b"SET", [key, value]) => {
            table.set(key, value).map_err(|error| error.to_string()).map(|()| Reply::ok())
        }
        (b"SET", [_, _, _, ..]) => Err("SET takes no options here".into()),
        (b"DEL", keys @ [_, ..]) => {
            Ok(Reply::count(keys.iter().filter(|key| table.remove(key)).count() as u64))
        }
        (b"EXISTS", keys @ [_, ..]) => {
            Ok(Reply::count(keys.iter().filter(|key| table.contains(key)).count() as u64))
        }
        (b"MGET", keys @ [_, ..]) => get_many(table, keys),
        (b"INCR", [key]) => {
            table.increment(key).map(Reply::Integer).map_err(|error| error.to_string())
        }
        (b"DBSIZE", []) => Ok(Reply::count(table.keys())),
        (b"FLUSHALL", [] | [_]) => {
            table.clear();
            Ok(Reply::ok())
        }
        (b"DIGEST", []) => Ok(Reply::Bulk(table.digest().to_string().into_bytes())),
        (b"FILL", numbers) => {
            let fill = fill_of(numbers)?;
            table.fill(&fill).map_err(|error| error.to_string()).map(|()| Reply::ok())
        }
        (b"CHECK", numbers) => {
            let fill = fill_of(numbers)?;
            table.check(&fill).map_err(|error| error.to_string()).map(|()| Reply::ok())
        }
        (b"HEARTBEAT", []) => Ok(Reply::count(state.heartbeat.gap_us_max())),
        (b"INFO", [] | [_]) => Ok(Reply::Bulk(info(state).into_bytes())),
        (b"COMMAND", _) => Ok(Reply::Array(Vec::new())),
        (b"SHUTDOWN" | b"QUIT", _) => Ok(Reply::ok()),
        (
            b"PING" | b"ECHO" | b"GET" | b"SET" | b"DEL" | b"EXISTS" | b"MGET" | b"INCR"
            | b"DBSIZE" | b"FLUSHALL" | b"DIGEST" | b"HEARTBEAT" | b"INFO",
            _,
        ) => Err(format!("wrong number of arguments for '{}'", name.escape_ascii())),
        _ => {
            let shown = &name[..name.len().min(64)];
            Err(format!("unknown command '{}'", shown.escape_ascii()))
        }
    }
}

fn get_many(table: &Table, keys: &[Vec<u8>]) -> Result<Reply, String> {
    let mut bytes = 0;
    keys.iter()
        .map(|key| {
            let Some(value) = table.get(key) else { return Ok(Reply::Null) };
            bytes += value.len();
            if bytes > REPLY_BYTES_MAX {
                return Err(format!("reply too large, at most {REPLY_BYTES_MAX} bytes are sent"));
            }
            Ok(Reply::Bulk(value))
        })
        .collect()
}

/// Reads `KEYS VALUE_MIN VALUE_MAX SEED`.
fn fill_of(numbers: &[Vec<u8>]) -> Result<Fill, String> {
    let number = |text: &Vec<u8>| {
        let text = std::str::from_utf8(text).ok();
        text.and_then(|text| text.parse().ok()).ok_or("each number must be 0 or above")
    };
    let [keys, value_min, value_max, seed] = numbers else {
        return Err("takes KEYS VALUE_MIN VALUE_MAX SEED".into());
    };
    Fill::new(number(keys)?, number(value_min)?, number(value_max)?, number(seed)?)
        .map_err(|error| error.to_string())
}

fn info(state: &State) -> String {
    format!(
        "# Server\r\nserver_name:rekindle-sample-kv\r\nserver_version:{}\r\nprocess_id:{}\r\n\
         uptime_in_seconds:{}\r\nheartbeat_ticks:{}\r\n\r\n\
         # Memory\r\nused_memory:{}\r\n\r\n# Keyspace\r\ndb0:keys={},expires=0,avg_ttl=0\r\n",
        env!("CARGO_PKG_VERSION"),
        process::id(),
        state.started.elapsed().as_secs(),
        state.heartbeat.ticks(),
        state.table.bytes(),
        state.table.keys(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: &State, line: &str) -> String {
        let arguments: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
        let mut bytes = Vec::new();
        execute(state, &arguments).0.encode(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_command_answers() {
        let state = State {
            table: Table::new(1 << 20),
            heartbeat: Heartbeat::default(),
            started: Instant::now(),
        };
        for (line, reply) in [
            ("ping", "+PONG\r\n"),
            ("PING hello", "$5\r\nhello\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("GET a", "$1\r\n1\r\n"),
            ("GET b", "$-1\r\n"),
            ("INCR a", ":2\r\n"),
            ("MGET a b", "*2\r\n$1\r\n2\r\n$-1\r\n"),
            ("EXISTS a a b", ":2\r\n"),
            ("DBSIZE", ":1\r\n"),
            ("DEL a b", ":1\r\n"),
            ("DIGEST", "$48\r\n000000000000000000000000000000000000000000000000\r\n"),
            ("FILL 10 0 9 7", "+OK\r\n"),
            ("CHECK 10 0 9 7", "+OK\r\n"),
            ("SET key:0000000003 x", "+OK\r\n"),
            ("CHECK 10 0 9 7", "-ERR 1 of 10 keys are wrong or missing, the first is number 3\r\n"),
            ("FLUSHALL", "+OK\r\n"),
            ("DBSIZE", ":0\r\n"),
            ("COMMAND DOCS", "*0\r\n"),
            ("GET", "-ERR wrong number of arguments for 'GET'\r\n"),
            ("SET a 1 EX 5", "-ERR SET takes no options here\r\n"),
            ("FILL 10", "-ERR takes KEYS VALUE_MIN VALUE_MAX SEED\r\n"),
            ("FILL 10 5 1 0", "-ERR value lengths 5 to 1 are no range within 67108864 bytes\r\n"),
            ("FILL -1 5 1 0", "-ERR each number must be 0 or above\r\n"),
            ("nonsense\r\n", "-ERR unknown command 'NONSENSE\\r\\n'\r\n"),
        ] {
            assert_eq!(run(&state, line), reply, "{line}");
        }
        assert!(run(&state, "FILL 10000 900 1500 1").contains("limit of 1048576 bytes"));
        assert!(run(&state, "INFO").contains("process_id:"));
        assert!(run(&state, "HEARTBEAT").starts_with(':'));
    }

    #[test]
    fn endings() {
        let state = State {
            table: Table::new(0),
            heartbeat: Heartbeat::default(),
            started: Instant::now(),
        };
        assert_eq!(execute(&state, &[b"quit".to_vec()]), (Reply::ok(), Next::Close));
        assert_eq!(execute(&state, &[b"shutdown".to_vec()]), (Reply::ok(), Next::Shutdown));
        assert_eq!(execute(&state, &[]).1, Next::Serve);
    }
}
