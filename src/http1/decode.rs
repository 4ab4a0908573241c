//! Finding the end of a body (RFC 9112 section 6), and undoing its chunks (section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memchr;

use super::{Fault, parse};

/// Digits of the size of a chunk: more would not fit into 64 bits.
const MOST_DIGITS: usize = 16;
/// Bytes of the line with the size of a chunk: what else stands in it means nothing to anybody.
const MOST_SIZE_LINE: usize = 4096;
/// A buffer that is used again has at least so many bytes.
const LARGE: usize = 16 * 1024;
/// Bytes of all trailers.
const MOST_TRAILERS: usize = 16 * 1024;

/// Follows a body to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    /// The body is over.
    Over,
    /// So many bytes are missing.
    Length(u64),
    /// It ends with the connection.
    Close,
    /// The line with the size of a chunk comes next.
    Size,
    /// So many bytes of a chunk are missing.
    Chunk(u64),
    /// The end of a chunk's line comes next.
    ChunkEnd,
    /// What follows the last chunk comes next.
    Trailers,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The body is over, and nothing was left of it to tell.
    Over,
    /// More has to come.
    More,
}

impl Decoder {
    /// One for a body of so many bytes.
    pub(super) const fn of(length: u64) -> Self {
        if length == 0 { Self::Over } else { Self::Length(length) }
    }

    pub(super) fn is_over(self) -> bool {
        self == Self::Over
    }

    /// How many bytes of the body are still to come, where that is known.
    pub(super) fn left(self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Length(left) => Some(left),
            _ => None,
        }
    }

    /// So many bytes of the body, of a length or to its end, have gone by.
    pub(super) fn pass(&mut self, bytes: usize) {
        if let Self::Length(left) = self {
            *self = Self::of(left.saturating_sub(bytes as u64));
        }
    }

    /// Takes the next part of the body from `buffer`.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Fault> {
        loop {
            *self = match *self {
                Self::Over => {
                    release(buffer);
                    return Ok(Decoded::Over);
                }
                _ if buffer.is_empty() => return Ok(Decoded::More),
                Self::Close => return Ok(Decoded::Data(take(buffer, u64::MAX))),
                Self::Length(left) => {
                    let data = take(buffer, left);
                    *self = Self::of(left - data.len() as u64);
                    if self.is_over() {
                        release(buffer);
                    }
                    return Ok(Decoded::Data(data));
                }
                Self::Chunk(left) => {
                    let data = take(buffer, left);
                    let left = left - data.len() as u64;
                    *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                    return Ok(Decoded::Data(data));
                }
                Self::ChunkEnd => match buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        Self::Size
                    }
                    [b'\r'] => return Ok(Decoded::More),
                    _ => return Err(Fault::Chunk),
                },
                Self::Size => match size(buffer)? {
                    None => return Ok(Decoded::More),
                    Some((0, line)) => {
                        buffer.advance(line);
                        Self::Trailers
                    }
                    Some((size, line)) => {
                        buffer.advance(line);
                        Self::Chunk(size)
                    }
                },
                Self::Trailers => match parse::trailers(buffer)? {
                    None if buffer.len() > MOST_TRAILERS => return Err(Fault::Trailers),
                    None => return Ok(Decoded::More),
                    Some((trailers, length)) => {
                        buffer.advance(length);
                        *self = Self::Over;
                        release(buffer);
                        return Ok(if trailers.is_empty() { Decoded::Over } else { Decoded::Trailers(trailers) });
                    }
                },
            }
        }
    }
}

/// At most so many bytes.
fn take(buffer: &mut BytesMut, most: u64) -> Bytes {
    match usize::try_from(most) {
        Ok(most) if most < buffer.len() => buffer.split_to(most).freeze(),
        // The room of a body that comes fast is used again and again: to ask the system for new memory each time costs more than all else.
        _ if buffer.capacity() >= LARGE => buffer.split().freeze(),
        // All of it: there is nothing to be shared.
        _ => std::mem::take(buffer).freeze(),
    }
}

/// Whoever waits for the next message has no buffer.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

/// The size of a chunk (RFC 9112 section 7.1) and how long its line is; none while the line is not whole. What follows the size is ignored by all readers, so
/// that it must not be able to mean anything to one of them.
fn size(buffer: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MOST_DIGITS {
        return Err(Fault::Chunk);
    }
    let Some(end) = memchr(b'\n', buffer) else {
        let is_too_long = buffer.len() > MOST_SIZE_LINE;
        return if is_too_long || !is_begun(&buffer[digits..]) { Err(Fault::Chunk) } else { Ok(None) };
    };
    let extensions = buffer[digits..end].strip_suffix(b"\r").ok_or(Fault::LineFeed)?;
    let digits = std::str::from_utf8(&buffer[..digits]).map_err(|_| Fault::Chunk)?;
    let is_extension = extensions.is_empty() || (extensions.trim_ascii_start().starts_with(b";") && extensions.iter().all(is_text));
    if !is_extension {
        return Err(Fault::Chunk);
    }
    let size = u64::from_str_radix(digits, 16).map_err(|_| Fault::Chunk)?;
    Ok(Some((size, end + 1)))
}

/// Whether this may be the beginning of what follows the size of a chunk.
fn is_begun(extensions: &[u8]) -> bool {
    extensions.strip_suffix(b"\r").unwrap_or(extensions).iter().all(is_text)
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data and trailers of a body, what is left behind it, and whether it is over.
    type Found = (Vec<u8>, Option<HeaderMap>, Vec<u8>, bool);

    /// All that a body brings, read in pieces of `piece` bytes; or what is wrong.
    fn decoded(mut decoder: Decoder, body: &[u8], piece: usize) -> Result<Found, Fault> {
        let (mut buffer, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
        for piece in body.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer)? {
                    Decoded::Data(more) => data.extend_from_slice(&more),
                    Decoded::Trailers(fields) => trailers = Some(fields),
                    Decoded::Over | Decoded::More => break,
                }
            }
        }
        Ok((data, trailers, buffer.to_vec(), decoder.is_over()))
    }

    #[test]
    fn a_body_ends_where_it_says_in_pieces_of_any_size() {
        for piece in [1, 2, 3, 7, 1000] {
            let body = b"5\r\na\nb#c\r\n0A;a=\"b\";c\r\n0123456789\r\n1 ; x\r\nx\r\n000\r\nX-Sum: 1\r\nHost: x\r\nX-Sum: 2\r\n\r\nGET /";
            let (data, trailers, rest, over) = decoded(Decoder::Size, body, piece).unwrap();
            assert_eq!((&data[..], &rest[..], over), (&b"a\nb#c0123456789x"[..], &b"GET /"[..], true));
            assert_eq!(trailers.unwrap().get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
            let (data, _, rest, over) = decoded(Decoder::of(3), b"abcdef", piece).unwrap();
            assert_eq!((&data[..], &rest[..], over), (&b"abc"[..], &b"def"[..], true));
            let (data, _, rest, over) = decoded(Decoder::Close, b"abcdef", piece).unwrap();
            assert_eq!((&data[..], &rest[..], over), (&b"abcdef"[..], &b""[..], false));
            assert_eq!(decoded(Decoder::of(0), b"x", piece).unwrap().2, b"x");
        }
    }

    #[test]
    fn what_is_no_chunk_is_none_in_pieces_of_any_size() {
        for body in [
            &b"1\nx\r\n0\r\n\r\n"[..],
            b"1;a\nx",
            b"1;a\0\r\nx\r\n",
            b"1;a\rb\r\nx\r\n",
            b"1 \r\nx\r\n",
            b"1 a\r\nx\r\n",
            b"\r\n0\r\n",
            b"00000000000000001\r\nx\r\n",
            b"fffffffffffffffff\r\n",
            b"+1\r\nx\r\n",
            b"1\r\nxy\r\n0\r\n",
            b"1\r\nx\n0\r\n",
            b"1\r\nx\rX0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nX: a\nY: b\r\n\r\n",
            b"0\r\nX : a\r\n\r\n",
            b"0\r\nX\r\n\r\n",
        ] {
            for piece in [1, 2, 5, 1000] {
                assert!(decoded(Decoder::Size, body, piece).is_err(), "{:?} in pieces of {piece}", String::from_utf8_lossy(body));
            }
        }
    }

    #[test]
    fn the_room_of_a_body_that_comes_fast_is_used_again_and_given_back_at_its_end() {
        let mut decoder = Decoder::of(2 * LARGE as u64);
        let mut buffer = BytesMut::with_capacity(LARGE);
        let place = buffer.as_ptr();
        for end in [false, true] {
            buffer.resize(LARGE, b'x');
            assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Data(data)) if data.len() == LARGE && data.as_ptr() == place));
            assert_eq!(decoder.is_over(), end);
            if !end {
                buffer.reserve(LARGE);
            }
        }
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn a_line_that_does_not_end_is_not_waited_for() {
        let long = format!("1;{}", "a".repeat(MOST_SIZE_LINE));
        assert_eq!(decoded(Decoder::Size, long.as_bytes(), 64).unwrap_err(), Fault::Chunk);
        let long = format!("0\r\nX: {}", "a".repeat(MOST_TRAILERS));
        assert_eq!(decoded(Decoder::Size, long.as_bytes(), 64).unwrap_err(), Fault::Trailers);
    }
}
