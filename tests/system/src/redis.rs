//! A small client of the redis protocol.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `+OK` and the like.
    Simple(String),
    /// `-ERR ...`.
    Error(String),
    /// `:N`.
    Number(i64),
    /// Bytes, or nothing.
    Bulk(Option<Vec<u8>>),
    /// A list.
    Array(Vec<Answer>),
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Client {
    /// Connects; every later read has `limit`.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, stream) })
    }

    /// Sends one command and reads its answer; an answer that is an error is one.
    ///
    /// # Errors
    /// When the connection breaks or the server says no.
    pub fn command(&mut self, words: &[&[u8]]) -> io::Result<Answer> {
        let mut all = self.pipeline(&[words])?;
        match all.pop() {
            Some(Answer::Error(text)) => Err(invalid(format!("the server said {text}"))),
            Some(answer) => Ok(answer),
            None => Err(invalid("no answer".into())),
        }
    }

    /// Sends many commands at once and reads their answers.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn pipeline<W: AsRef<[u8]>, C: AsRef<[W]>>(
        &mut self,
        commands: &[C],
    ) -> io::Result<Vec<Answer>> {
        let mut bytes = Vec::new();
        for command in commands {
            let words = command.as_ref();
            write!(bytes, "*{}\r\n", words.len())?;
            for word in words {
                let word = word.as_ref();
                write!(bytes, "${}\r\n", word.len())?;
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.reader.get_mut().write_all(&bytes)?;
        commands.iter().map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let rest = line.get(1..).unwrap_or_default().to_owned();
        let number = || rest.parse::<i64>().map_err(|_| invalid(format!("number {line:?}")));
        match line.chars().next() {
            Some('+') => Ok(Answer::Simple(rest)),
            Some('-') => Ok(Answer::Error(rest)),
            Some(':') => number().map(Answer::Number),
            Some('$') => match usize::try_from(number()?) {
                Ok(len) => self.bulk(len),
                Err(_) => Ok(Answer::Bulk(None)),
            },
            Some('*') => {
                (0..number()?).map(|_| self.answer()).collect::<io::Result<_>>().map(Answer::Array)
            }
            _ => Err(invalid(format!("answer {line:?}"))),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn bulk(&mut self, len: usize) -> io::Result<Answer> {
        let mut bytes = vec![0; len + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(len);
        Ok(Answer::Bulk(Some(bytes)))
    }

    /// A field of INFO.
    ///
    /// # Errors
    /// When the connection breaks or there is no such field.
    pub fn info(&mut self, field: &str) -> io::Result<String> {
        let Answer::Bulk(Some(bytes)) = self.command(&[b"INFO"])? else {
            return Err(invalid("INFO is no text".into()));
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let prefix = format!("{field}:");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        found.map(|value| value.trim().to_owned()).ok_or_else(|| invalid(format!("no {field}")))
    }
}

/// Deterministic contents: what key `number` holds in version `version`.
pub fn value_of(number: u64, version: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.rotate_left(40);
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    next();
    let words = 20 + next() % 200;
    let mut text = format!("{{\"id\":{number},\"version\":{version},\"words\":[");
    for _ in 0..words {
        text.push_str(&format!("\"{:x}\",", next() % 4096));
    }
    text.push_str("\"end\"]}");
    text.into_bytes()
}

/// The name of key `number`.
pub fn key_of(number: u64) -> Vec<u8> {
    format!("key:{number:08}").into_bytes()
}
