//! Framing a body that is sent (RFC 9112 section 6).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::HeaderMap;

use super::{
    parse::keep_trailing,
    pipe::Piped,
    wire::{Out, Piece},
    write,
};

/// Bytes of a body after which others have their turn, however fast its source and its reader are.
pub(super) const TURN: usize = 1024 * 1024;

/// How a body is framed, and what of it is still to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoder {
    /// There is none, or it is over.
    Over,
    /// So many bytes are missing.
    Length(u64),
    /// In chunks; with trailers, where the other side reads them.
    Chunks { trailers: bool },
    /// It ends with the connection.
    Close,
}

impl Encoder {
    /// One for a body of so many bytes.
    pub(super) const fn of(length: u64) -> Self {
        if length == 0 { Self::Over } else { Self::Length(length) }
    }
}

/// Why a body was not sent whole.
#[derive(Debug, thiserror::Error)]
pub enum Unsent<E> {
    /// It broke off at its source.
    #[error(transparent)]
    Source(E),
    /// It is longer or shorter than was said.
    #[error("the body is not as long as was said")]
    Length,
}

/// A body on its way out.
#[derive(Debug)]
pub(super) struct Sending<B> {
    pub(super) body: B,
    pub(super) encoder: Encoder,
    /// Something has been taken from the body.
    pub(super) begun: bool,
}

impl<B: Piped> Sending<B> {
    pub(super) fn new(body: B, encoder: Encoder) -> Self {
        Self { body, encoder, begun: false }
    }

    /// Whether all of it has been put out.
    pub(super) fn is_over(&self) -> bool {
        self.encoder == Encoder::Over
    }

    /// The next part of the body, framed; none at its end. To be put out while there is room. `pipes`: it may be a pipe.
    pub(super) fn poll_next(&mut self, pipes: bool, cx: &mut Context<'_>) -> Poll<Result<Option<Framed>, Unsent<B::Error>>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(None));
            }
            if pipes && let Some(pipe) = ready!(self.body.poll_pipe(cx)).transpose().map_err(Unsent::Source)? {
                self.begun = true;
                return Poll::Ready(self.data(Piece::Pipe(pipe)).map(Some));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose().map_err(Unsent::Source)? else {
                return Poll::Ready(self.end());
            };
            self.begun = true;
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(self.data(Piece::Bytes(data)).map(Some)),
                Err(frame) => {
                    if let (Ok(trailers), Encoder::Chunks { trailers: true }) = (frame.into_trailers(), self.encoder) {
                        self.encoder = Encoder::Over;
                        return Poll::Ready(Ok(Some(Framed::Trailers(trailers))));
                    }
                }
            }
        }
    }

    fn data(&mut self, data: Piece) -> Result<Framed, Unsent<B::Error>> {
        match &mut self.encoder {
            Encoder::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Unsent::Length)?;
                if *left == 0 {
                    self.encoder = Encoder::Over;
                }
                Ok(Framed::Data(data))
            }
            Encoder::Chunks { .. } if self.body.is_end_stream() => {
                self.encoder = Encoder::Over;
                Ok(Framed::LastChunk(data))
            }
            Encoder::Chunks { .. } => Ok(Framed::Chunk(data)),
            Encoder::Close => Ok(Framed::Data(data)),
            Encoder::Over => Err(Unsent::Length),
        }
    }

    fn end(&mut self) -> Result<Option<Framed>, Unsent<B::Error>> {
        match std::mem::replace(&mut self.encoder, Encoder::Over) {
            Encoder::Length(_) => Err(Unsent::Length),
            Encoder::Chunks { .. } => Ok(Some(Framed::End)),
            Encoder::Close | Encoder::Over => Ok(None),
        }
    }
}

/// A part of a body as it is to be written.
#[derive(Debug)]
pub(super) enum Framed {
    Data(Piece),
    Chunk(Piece),
    LastChunk(Piece),
    Trailers(HeaderMap),
    End,
}

impl Framed {
    /// Bytes of the body in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(data) | Self::Chunk(data) | Self::LastChunk(data) => data.len(),
            Self::Trailers(_) | Self::End => 0,
        }
    }

    /// Puts it out.
    pub(super) fn put(self, out: &mut Out) {
        match self {
            Self::Data(data) => out.push(data, b""),
            Self::Chunk(data) => {
                size(data.len(), &mut out.text);
                out.push(data, b"\r\n");
            }
            Self::LastChunk(data) => {
                size(data.len(), &mut out.text);
                out.push(data, b"\r\n0\r\n\r\n");
            }
            Self::Trailers(mut fields) => {
                out.text.extend_from_slice(b"0\r\n");
                keep_trailing(&mut fields);
                write::trailers(&fields, &mut out.text);
                out.text.extend_from_slice(b"\r\n");
            }
            Self::End => out.text.extend_from_slice(b"0\r\n\r\n"),
        }
    }
}

/// The size of a chunk.
fn size(size: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[size >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    async fn sent(encoder: Encoder, parts: &[&'static str], trailer: bool) -> Result<String, String> {
        let mut frames: Vec<Result<Frame<Bytes>, std::io::Error>> =
            parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
        if trailer {
            let fields = [("x-sum", "1"), ("host", "a"), ("content-length", "1")];
            frames.push(Ok(Frame::trailers(
                fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).into_iter().collect(),
            )));
        }
        let mut sending = Sending::new(StreamBody::new(stream::iter(frames)).boxed_unsync(), encoder);
        let mut out = Out::default();
        while let Some(framed) = std::future::poll_fn(|cx| sending.poll_next(false, cx)).await.map_err(|error| error.to_string())? {
            framed.put(&mut out);
        }
        assert!(sending.is_over());
        Ok(String::from_utf8(out.text).unwrap())
    }

    #[tokio::test]
    async fn a_body_is_framed_so_that_its_end_is_certain() {
        let chunks = Encoder::Chunks { trailers: true };
        assert_eq!(
            sent(chunks, &["abc", "", "0123456789abcdefg"], true).await.unwrap(),
            "3\r\nabc\r\n11\r\n0123456789abcdefg\r\n0\r\nX-Sum: 1\r\n\r\n"
        );
        assert_eq!(sent(Encoder::Chunks { trailers: false }, &["abc"], true).await.unwrap(), "3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(sent(chunks, &[], false).await.unwrap(), "0\r\n\r\n");
        assert_eq!(sent(Encoder::Length(4), &["ab", "cd"], true).await.unwrap(), "abcd");
        assert_eq!(sent(Encoder::Close, &["ab", "cd"], true).await.unwrap(), "abcd");
        assert_eq!(sent(Encoder::Over, &[], false).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_was_said_is_not_taken_for_whole() {
        assert!(sent(Encoder::Length(5), &["ab", "cd"], false).await.is_err());
        assert!(sent(Encoder::Length(3), &["ab", "cd"], false).await.is_err());
    }

    #[test]
    fn sizes_are_hexadecimal() {
        for length in [1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX] {
            let mut out = Vec::new();
            size(length, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }
}
