//! HTTP/1.1 messages as bytes, with nothing smoothed over: heads with the letters in which they came, bodies as they were framed.
//!
//! Both ends of the kit read with it: the backend requests, the client responses.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A header or trailer field; the name keeps its letters.
pub type Field = (String, Vec<u8>);

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks, and trailers after them.
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// A body, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The bytes on the wire, chunk headers included.
    pub wire: Vec<u8>,
    /// The content.
    pub content: Vec<u8>,
    /// Fields after the last chunk.
    pub trailers: Vec<Field>,
    /// False when the connection ended first.
    pub complete: bool,
}

/// One end of a connection, with what was read and not yet used.
#[derive(Debug)]
pub struct Wire {
    /// The connection.
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Nothing read yet.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends these bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Whether a byte is there to be read, as soon as that is known; false at the end.
    pub async fn has_more(&mut self) -> io::Result<bool> {
        if !self.buffer.is_empty() {
            return Ok(true);
        }
        let mut byte = [0];
        Ok(self.stream.peek(&mut byte).await? > 0)
    }

    /// The raw bytes of a head, the empty line included; none when the connection ends before its first byte.
    pub async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(self.buffer.drain(..end + 4).collect()));
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// A body that is framed so. One that breaks off is given as far as it came.
    pub async fn body(&mut self, framing: Framing) -> Body {
        let mut body = Body::default();
        let result = match framing {
            Framing::Empty => Ok(()),
            Framing::Length(length) => self.content(length, &mut body).await,
            Framing::Chunked => self.chunks(&mut body).await,
            Framing::UntilClose => self.content(u64::MAX, &mut body).await.or_else(ended_cleanly),
        };
        body.complete = result.is_ok();
        body
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        self.body(Framing::UntilClose).await.content
    }

    async fn chunks(&mut self, body: &mut Body) -> io::Result<()> {
        loop {
            let line = self.line(body).await?;
            let size = httparse::parse_chunk_size(&line).map_err(|_| invalid("chunk size"))?;
            let httparse::Status::Complete((_, size)) = size else { return Err(invalid("chunk size")) };
            if size == 0 {
                break;
            }
            self.content(size, body).await?;
            if self.line(body).await? != b"\r\n" {
                return Err(invalid("end of a chunk"));
            }
        }
        let mut block = Vec::new();
        loop {
            let line = self.line(body).await?;
            block.extend_from_slice(&line);
            if line == b"\r\n" {
                break;
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        match httparse::parse_headers(&block, &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => body.trailers = owned(fields),
            _ => return Err(invalid("trailers")),
        }
        Ok(())
    }

    async fn content(&mut self, length: u64, body: &mut Body) -> io::Result<()> {
        let mut missing = length;
        while missing > 0 {
            if self.buffer.is_empty() && !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = self.buffer.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            body.wire.extend_from_slice(&self.buffer[..taken]);
            body.content.extend(self.buffer.drain(..taken));
            missing -= taken as u64;
        }
        Ok(())
    }

    async fn line(&mut self, body: &mut Body) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                body.wire.extend_from_slice(&line);
                return Ok(line);
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Whether this is the end that a body without a length is known by, and not a reset.
fn ended_cleanly(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) }
}

/// The values of a field, whatever its letters.
pub fn values<'a>(fields: &'a [Field], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

/// The framing that the fields of a message tell, if they tell one.
pub fn framing(fields: &[Field]) -> Option<Framing> {
    if values(fields, "transfer-encoding").any(|value| value.to_ascii_lowercase().ends_with(b"chunked")) {
        return Some(Framing::Chunked);
    }
    let length = values(fields, "content-length").next()?;
    Some(Framing::Length(String::from_utf8_lossy(length).trim().parse().ok()?))
}

/// Owned fields from parsed ones.
pub fn owned(fields: &[httparse::Header<'_>]) -> Vec<Field> {
    fields.iter().map(|field| (field.name.to_owned(), field.value.to_owned())).collect()
}

/// An error of the peer's, by the part that is wrong.
pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
