//! What of a client's bytes must not even be parsed.
//!
//! hyper understands some messages that another reader could understand differently, and tells nobody: a line that ends without a carriage return, a length
//! beside chunks, two lengths that agree, a target with a fragment, control characters behind the size of a chunk. What is sent on is built anew from
//! parsed parts, so none of it reaches a backend; but whoever stands before us may have taken the same bytes for one message where we take them for
//! two (RFC 9112 section 11.2). So here a connection's bytes are followed as they come, line by line in heads and by their number in bodies, and
//! where one is out of order, what hyper reads in its place is a byte that no grammar allows: it answers 400 and closes.
//!
//! Only what hyper takes needs to be understood here. A connection on which it will find a fault, or we behind it, is followed no further.

use memchr::memchr;
use tokio::io::ReadBuf;

/// What hyper reads in place of what is out of order: a fault in a head, behind the size of a chunk and in trailers, and the end of what it waits for.
const SPOILED: &[u8] = b"\0\n\r\n\r\n";
/// Digits of the size of a chunk: more would not fit into 64 bits.
const MOST_DIGITS: usize = 16;

/// Follows the bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Strict {
    at: At,
    head: Head,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// What is still to be read in place of what came.
    spoiled: &'static [u8],
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A request line, or an empty line before it (RFC 9112 section 2.2).
    #[default]
    Request,
    /// A line of a head.
    Field,
    /// So many bytes of a body.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of a chunk's line.
    ChunkEnd,
    /// A line after the last chunk.
    Trailer,
    /// What is not followed.
    Beyond,
}

/// What the head that is arriving says about its body.
#[derive(Debug, Default)]
struct Head {
    lengths: u32,
    /// None when it is no number.
    length: Option<u64>,
    codings: u32,
    chunked: bool,
    /// HTTP/1.0 knows no chunks.
    old: bool,
}

/// A line that two readers could understand differently.
#[derive(Debug, PartialEq, Eq)]
struct Ambiguous;

impl Strict {
    /// Looks at what has been read into `buffer` behind its first `before` bytes.
    pub(super) fn look(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        if let Err(end) = self.follow(&buffer.filled()[before..]) {
            buffer.set_filled(before + end);
            self.at = At::Beyond;
            self.spoiled = SPOILED;
            self.spoil(buffer);
        }
    }

    /// Puts what is left of the fault into `buffer`; false when there is none.
    pub(super) fn spoil(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let (now, later) = self.spoiled.split_at(self.spoiled.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.spoiled = later;
        !now.is_empty()
    }

    /// The bytes are no longer those of HTTP/1.
    pub(super) fn give_up(&mut self) {
        self.at = At::Beyond;
    }

    /// Follows `bytes`. Errors: up to where they are in order.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut next = 0;
        while next < bytes.len() {
            let rest = &bytes[next..];
            match self.at {
                At::Beyond => break,
                At::Body(left) => next += self.skip(left, rest.len(), At::Body, At::Request),
                At::Chunk(left) => next += self.skip(left, rest.len(), At::Chunk, At::ChunkEnd),
                At::Request | At::Field | At::Size | At::ChunkEnd | At::Trailer => {
                    let Some(end) = memchr(b'\n', rest) else {
                        self.begun.extend_from_slice(rest);
                        break;
                    };
                    self.line(&rest[..end]).map_err(|Ambiguous| next + end)?;
                    next += end + 1;
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, here: usize, more: fn(u64) -> At, then: At) -> usize {
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        let left = left - skipped as u64;
        self.at = if left == 0 { then } else { more(left) };
        skipped
    }

    /// A line, of which `end` has come last, without its line feed.
    fn line(&mut self, end: &[u8]) -> Result<(), Ambiguous> {
        if self.begun.is_empty() {
            return self.whole_line(end);
        }
        let mut line = std::mem::take(&mut self.begun);
        line.extend_from_slice(end);
        self.whole_line(&line)
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous)?;
        self.at = match self.at {
            At::Request if line.is_empty() => At::Request,
            At::Request => self.request_line(line)?,
            At::Field if line.is_empty() => std::mem::take(&mut self.head).then()?,
            At::Field => {
                self.head.field(line);
                At::Field
            }
            At::Size => match size(line)? {
                0 => At::Trailer,
                size => At::Chunk(size),
            },
            At::ChunkEnd if line.is_empty() => At::Size,
            At::ChunkEnd => return Err(Ambiguous),
            At::Trailer if line.is_empty() => At::Request,
            other => other,
        };
        Ok(())
    }

    fn request_line(&mut self, line: &[u8]) -> Result<At, Ambiguous> {
        if line.starts_with(b"PRI * HTTP/2") {
            return Ok(At::Beyond);
        }
        // A target has no fragment (RFC 9112 section 3.2). hyper would cut it off, and another reader take it for a part of the path.
        let target = memchr(b' ', line).map_or(line, |space| &line[space..]);
        if memchr(b'#', target).is_some() {
            return Err(Ambiguous);
        }
        self.head.old = line.ends_with(b"HTTP/1.0");
        Ok(At::Field)
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value(line, b"content-length:") {
                    self.lengths += 1;
                    self.length = number(value);
                }
            }
            Some(b't' | b'T') => {
                if let Some(value) = value(line, b"transfer-encoding:") {
                    self.codings += 1;
                    self.chunked = value.eq_ignore_ascii_case(b"chunked");
                }
            }
            _ => {}
        }
    }

    /// What follows it.
    fn then(self) -> Result<At, Ambiguous> {
        match (self.codings, self.lengths) {
            (0, 0) => Ok(At::Request),
            (0, 1) => Ok(match self.length {
                Some(0) => At::Request,
                Some(length) => At::Body(length),
                None => At::Beyond,
            }),
            (1, 0) if self.chunked && !self.old => Ok(At::Size),
            // Not what we take; the answer says so, and closes.
            (_, 0) => Ok(At::Beyond),
            // RFC 9112 sections 6.1 and 6.3: the mark of an attempt to smuggle, also where the two lengths agree.
            (_, _) => Err(Ambiguous),
        }
    }
}

/// The value of a field with that name; none when the line is of another.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (name_here, value) = line.split_at_checked(name.len())?;
    name_here.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The size of a chunk (RFC 9112 section 7.1). What follows it is ignored by all readers, so that it must not be able to mean anything to one of them.
fn size(line: &[u8]) -> Result<u64, Ambiguous> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let is_extension = extensions.is_empty() || (extensions.trim_ascii_start().starts_with(b";") && extensions.iter().all(is_text));
    if digits.len() > MOST_DIGITS || !is_extension {
        return Err(Ambiguous);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Ambiguous)?;
    u64::from_str_radix(digits, 16).map_err(|_| Ambiguous)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
