//! Requests: an incremental decoder for RESP2 arrays of bulk strings and for inline commands.
//!
//! The decoder takes bytes in pieces of any size; how they were cut never changes what comes out.
//! Inline commands are split at blanks and know no quoting.

use thiserror::Error;

/// Largest number of arguments in one request.
const ARGUMENTS_MAX: i64 = 1_000_000;
/// Largest argument, in bytes.
pub(crate) const BULK_BYTES_MAX: i64 = 64 << 20;
/// Largest sum of all arguments of one request, in bytes.
const REQUEST_BYTES_MAX: i64 = 256 << 20;
/// Longest inline command, in bytes without its line end.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Longest `*N` or `$N` line, in bytes without its line end.
const HEADER_BYTES_MAX: usize = 32;
/// Consumed bytes above which the buffer is moved down.
const COMPACT_BYTES: usize = 256 << 10;

/// Why bytes are not a request. The connection cannot go on: where the next request would begin
/// is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The number after `*` is not a number or above the limit.
    #[error("invalid multibulk length, at most {ARGUMENTS_MAX} arguments are taken")]
    ArgumentCount,
    /// An argument does not begin with `$`.
    #[error("expected '$' before an argument, got '{}'", .0.escape_ascii())]
    ArgumentMarker(u8),
    /// The number after `$` is not a number, negative or above the limit.
    #[error("invalid bulk length, at most {BULK_BYTES_MAX} bytes are taken")]
    BulkLength,
    /// All arguments together are above the limit.
    #[error("request too large, at most {REQUEST_BYTES_MAX} bytes are taken")]
    RequestLength,
    /// An argument does not end with CR LF where its length says.
    #[error("expected CR LF after an argument")]
    BulkEnd,
    /// A line does not end within its limit.
    #[error("line too long, at most {0} bytes are taken")]
    LineLength(usize),
}

/// An incremental request decoder.
///
/// After an error every further call of [`Decoder::next_request`] returns the same error.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    /// Arguments of the request being read.
    arguments: Vec<Vec<u8>>,
    arguments_missing: usize,
    arguments_bytes: i64,
    /// Length of the argument whose header has been read.
    bulk: Option<usize>,
    failed: Option<RequestError>,
}

impl Decoder {
    /// Appends received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start >= COMPACT_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete request: its command name and arguments, never empty. `None`
    /// means that more bytes are needed.
    ///
    /// # Errors
    /// [`RequestError`] when the bytes are not a request; the connection must be closed.
    pub fn next_request(&mut self) -> Result<Option<Vec<Vec<u8>>>, RequestError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Vec<Vec<u8>>>, RequestError> {
        loop {
            if self.arguments_missing > 0 {
                if !self.next_argument()? {
                    return Ok(None);
                }
                if self.arguments_missing == 0 {
                    self.arguments_bytes = 0;
                    return Ok(Some(std::mem::take(&mut self.arguments)));
                }
                continue;
            }
            match self.rest().first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(line) = self.take_line(HEADER_BYTES_MAX)? else { return Ok(None) };
                    let count = number(&line[1..]).filter(|count| *count <= ARGUMENTS_MAX);
                    let count = count.ok_or(RequestError::ArgumentCount)?;
                    // Zero and negative counts are empty requests: nothing to answer.
                    self.arguments_missing = usize::try_from(count).unwrap_or(0);
                }
                Some(_) => {
                    let Some(line) = self.take_line(INLINE_BYTES_MAX)? else { return Ok(None) };
                    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                    let arguments: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
                    if !arguments.is_empty() {
                        return Ok(Some(arguments));
                    }
                }
            }
        }
    }

    /// Reads one argument; false when more bytes are needed.
    fn next_argument(&mut self) -> Result<bool, RequestError> {
        let length = match self.bulk {
            Some(length) => length,
            None => {
                match self.rest().first() {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(other) => return Err(RequestError::ArgumentMarker(*other)),
                }
                let Some(line) = self.take_line(HEADER_BYTES_MAX)? else { return Ok(false) };
                let length = number(&line[1..]).filter(|length| *length <= BULK_BYTES_MAX);
                let length = length.ok_or(RequestError::BulkLength)?;
                let bulk = usize::try_from(length).map_err(|_| RequestError::BulkLength)?;
                self.arguments_bytes += length;
                if self.arguments_bytes > REQUEST_BYTES_MAX {
                    return Err(RequestError::RequestLength);
                }
                self.bulk = Some(bulk);
                bulk
            }
        };
        let Some(bytes) = self.rest().get(..length + 2) else { return Ok(false) };
        let (argument, end) = bytes.split_at(length);
        if end != b"\r\n" {
            return Err(RequestError::BulkEnd);
        }
        let argument = argument.to_vec();
        self.arguments.push(argument);
        self.start += length + 2;
        self.bulk = None;
        self.arguments_missing -= 1;
        Ok(true)
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes one line without its end; `None` when its end has not been received.
    fn take_line(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, RequestError> {
        // One more for the CR: a line of exactly the limit is taken, however it is cut.
        let window = &self.rest()[..self.rest().len().min(bytes_max + 2)];
        let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
            if window.len() == bytes_max + 2 {
                return Err(RequestError::LineLength(bytes_max));
            }
            return Ok(None);
        };
        let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]).to_vec();
        self.start += end + 1;
        Ok(Some(line))
    }
}

/// Reads a decimal number with an optional minus sign and nothing around it.
pub(crate) fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Appends `arguments` to `output` as one request.
pub fn encode_request(output: &mut Vec<u8>, arguments: &[&[u8]]) {
    output.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        output.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        output.extend_from_slice(argument);
        output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that comes out of `input`, fed in `pieces`: requests and the error that ends it.
    fn decode(pieces: &[&[u8]]) -> (Vec<Vec<Vec<u8>>>, Option<RequestError>) {
        let mut decoder = Decoder::default();
        let mut requests = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            loop {
                match decoder.next_request() {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn check(input: &[u8], expected: &[&[&[u8]]], error: Option<RequestError>) {
        let requests: Vec<Vec<Vec<u8>>> =
            expected.iter().map(|r| r.iter().map(|a| a.to_vec()).collect()).collect();
        assert_eq!(decode(&[input]), (requests, error), "{}", input.escape_ascii());
    }

    #[test]
    fn requests_and_errors() {
        check(b"", &[], None);
        check(b"PING\r\n", &[&[b"PING"]], None);
        check(b"\r\n\n SET  a\tb \nGET a\r\n", &[&[b"SET", b"a", b"b"], &[b"GET", b"a"]], None);
        check(b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]], None);
        check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*0\r\n*-1\r\nx\n", &[&[b"GET", b""], &[b"x"]], None);
        check(b"*1\r\n$4\r\nPI\r\n\r\n", &[&[b"PI\r\n"]], None);
        check(b"*1\r\n$4\r\nPIN", &[], None);
        check(b"*1000001\r\n", &[], Some(RequestError::ArgumentCount));
        check(b"*x\r\n", &[], Some(RequestError::ArgumentCount));
        check(b"*+1\r\n", &[], Some(RequestError::ArgumentCount));
        check(b"*1\r\nPING\r\n", &[], Some(RequestError::ArgumentMarker(b'P')));
        check(b"*1\r\n$-1\r\n", &[], Some(RequestError::BulkLength));
        check(b"*1\r\n$67108865\r\n", &[], Some(RequestError::BulkLength));
        check(b"*1\r\n$4\r\nPINGS\r\n", &[], Some(RequestError::BulkEnd));
        check(b"*11111111111111111111111111111111111", &[], Some(RequestError::LineLength(32)));
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let mut line = vec![b'a'; INLINE_BYTES_MAX];
        line.extend_from_slice(b"\r\n");
        assert_eq!(decode(&[&line]).0.len(), 1);
        line.insert(0, b'a');
        assert_eq!(decode(&[&line]).1, Some(RequestError::LineLength(INLINE_BYTES_MAX)));
        // A huge promised count must not reserve memory before its arguments arrive.
        let mut decoder = Decoder::default();
        decoder.feed(b"*1000000\r\n$67108864\r\n");
        assert_eq!(decoder.next_request(), Ok(None));
        assert!(decoder.arguments.capacity() < 1024);
    }

    /// Bytes that often come near the grammar.
    fn near_requests() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            3 => prop::sample::select(vec![
                &b"*"[..], b"$", b"\r\n", b"\n", b"\r", b"-1", b"0", b"1", b"2", b"3", b"PING", b" ",
                b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\n", b"999999999999999999999",
            ]).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ];
        prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            decode(&[&bytes]);
        }

        #[test]
        fn the_cut_does_not_matter(
            bytes in near_requests(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = decode(&[&bytes]);
            prop_assert_eq!(&decode(&pieces), &whole);
            prop_assert_eq!(&decode(&single), &whole);
        }

        #[test]
        fn encoded_requests_come_back(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6), 0..6),
        ) {
            let mut bytes = Vec::new();
            for request in &requests {
                let arguments: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
                encode_request(&mut bytes, &arguments);
            }
            prop_assert_eq!(decode(&[&bytes]), (requests, None));
        }
    }
}
