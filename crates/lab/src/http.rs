//! Just enough HTTP/1.1 for a shop, its customers and its monitoring: one request at a time on a kept connection,
//! `Content-Length` bodies only, every length bounded.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest request or status line, and longest header, in bytes.
const LINE_BYTES_MAX: u64 = 4 << 10;
/// Most headers in one message.
const HEADERS_MAX: usize = 64;
/// Longest body in bytes.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Start of a message and what its headers say that matters here.
struct Head {
    start: String,
    body_bytes: usize,
    close: bool,
}

/// A request as the shop sees it.
#[derive(Debug)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Whether the client wants no further request on this connection.
    pub close: bool,
}

/// A response as the client sees it.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
    /// Whether the server closes the connection.
    pub close: bool,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if from.take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    match line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(invalid("line is cut or too long")),
    }
}

/// `None` where the peer closed between messages.
fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(start) = read_line(from)? else { return Ok(None) };
    let mut head = Head {
        start,
        body_bytes: 0,
        close: false,
    };
    for _ in 0..HEADERS_MAX {
        let header = read_line(from)?.ok_or_else(|| invalid("headers are cut"))?;
        if header.is_empty() {
            return Ok(Some(head));
        }
        let Some((name, value)) = header.split_once(':') else {
            return Err(invalid("header without colon"));
        };
        if name.eq_ignore_ascii_case("content-length") {
            head.body_bytes = value
                .trim()
                .parse()
                .map_err(|_| invalid("content-length is no number"))?;
            if head.body_bytes > BODY_BYTES_MAX {
                return Err(invalid("body too long"));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Err(invalid("too many headers"))
}

/// Reads one request and drops its body; `None` where the client closed the connection between requests.
///
/// # Errors
/// Where the bytes are no request, or the connection breaks or times out.
pub fn read_request(from: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(head) = read_head(from)? else { return Ok(None) };
    io::copy(&mut from.take(head.body_bytes as u64), &mut io::sink())?;
    let mut words = head.start.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(method), Some(path), Some(version)) if version.starts_with("HTTP/1.") => Ok(Some(Request {
            method: method.to_owned(),
            path: path.to_owned(),
            close: head.close,
        })),
        _ => Err(invalid("no request line")),
    }
}

/// Writes one response.
///
/// # Errors
/// Where the connection breaks or times out.
pub fn write_response(to: &mut impl Write, status: u16, body: &[u8], close: bool) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        401 => "Unauthorized",
        402 => "Payment Required",
        404 => "Not Found",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Other",
    };
    let connection = if close { "close" } else { "keep-alive" };
    let length = body.len();
    write!(
        to,
        "HTTP/1.1 {status} {reason}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    )?;
    to.write_all(body)?;
    to.flush()
}

/// One kept connection to a shop.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects; `timeout` bounds the connect and each later read and write.
    ///
    /// # Errors
    /// Where nobody listens there or the timeout passes.
    pub fn connect(to: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends one request without body and reads the response.
    ///
    /// # Errors
    /// Where the connection breaks, times out, or the answer is no HTTP.
    pub fn request(&mut self, method: &str, path: &str) -> io::Result<Response> {
        let message = format!("{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n");
        self.0.get_mut().write_all(message.as_bytes())?;
        let head = read_head(&mut self.0)?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        let status = head.start.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let mut body = vec![0; head.body_bytes];
        self.0.read_exact(&mut body)?;
        Ok(Response {
            status,
            body,
            close: head.close,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(5_000));
        let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        type Case<'a> = (&'a str, &'a [u8], Result<Option<&'a str>, ()>);
        let cases: &[Case<'_>] = &[
            ("closed", b"", Ok(None)),
            ("plain", b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n\r\n", Ok(Some("/a?b=1"))),
            (
                "body",
                b"POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi",
                Ok(Some("/a")),
            ),
            ("no version", b"GET /a\r\n\r\n", Err(())),
            ("other version", b"GET /a HTTP/2\r\n\r\n", Err(())),
            ("cut", b"GET /a HT", Err(())),
            ("headers cut", b"GET /a HTTP/1.1\r\nHost: x\r\n", Err(())),
            ("no colon", b"GET /a HTTP/1.1\r\nHost\r\n\r\n", Err(())),
            (
                "length not a number",
                b"GET /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                Err(()),
            ),
            (
                "length too large",
                b"GET /a HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
                Err(()),
            ),
            ("no text", b"GET /\xff HTTP/1.1\r\n\r\n", Err(())),
            ("long line", long.as_bytes(), Err(())),
            ("many headers", headers.as_bytes(), Err(())),
        ];
        for (name, bytes, expected) in cases {
            let got = read_request(&mut BufReader::new(*bytes));
            let got = got.map(|r| r.map(|r| r.path)).map_err(drop);
            assert_eq!(got, expected.map(|p| p.map(str::to_owned)), "{name}");
        }
    }
}
