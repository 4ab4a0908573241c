//! The letters in which field names came.
//!
//! Field names mean the same in any case (RFC 9110 section 5.1), but legacy servers read them as text, so a name goes out as it came in.
//! hyper carries the letters from a received message to a sent one in an extension that only it can read or make. A live request just keeps
//! that extension. A queued one must be written to disk and read again, so here hyper is asked to write the head of a message into
//! memory, where the letters can be read, and to read one from memory, which makes the extension. Neither is on the path of a request that passes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Extensions, HeaderMap, Request, Response, header::CONTENT_LENGTH};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client,
    rt::{Read, ReadBufCursor, Write},
    server,
    service::service_fn,
};
use parking_lot::Mutex;

use crate::envelope::Field;

/// Most fields that a message may have: hyper's own limit unless told otherwise.
const MAX_FIELDS: usize = 100;

/// The fields of a received message in order, each in the letters in which it came where those are known. Its length is left out: it is
/// that of the body that is kept, and a second opinion about it could only be wrong.
pub fn fields(headers: &HeaderMap, extensions: &Extensions) -> Vec<Field> {
    let spellings = names(headers, extensions);
    let mut spellings: Vec<Option<Box<str>>> = spellings.into_iter().map(Some).collect();
    headers
        .iter()
        .filter(|(name, _)| *name != CONTENT_LENGTH)
        .map(|(name, value)| {
            let spelling = spellings
                .iter_mut()
                .find(|spelling| spelling.as_ref().is_some_and(|letters| letters.eq_ignore_ascii_case(name.as_str())))
                .and_then(Option::take)
                .filter(|letters| **letters != *name.as_str());
            Field { name: name.clone(), spelling, value: value.clone() }
        })
        .collect()
}

/// The names of a message's fields in the letters in which they came, in order within each name.
pub fn names(headers: &HeaderMap, extensions: &Extensions) -> Vec<Box<str>> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.headers_mut() = headers.clone();
    *request.extensions_mut() = extensions.clone();
    let Some(text) = written(request).now_or_never().flatten() else { return Vec::new() };
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 8];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(&text) {
        Ok(httparse::Status::Complete(_)) => parsed.headers.iter().map(|field| field.name.into()).collect(),
        Ok(httparse::Status::Partial) | Err(_) => Vec::new(),
    }
}

/// What makes hyper write the fields of a message in these letters, as the message's extensions.
pub fn extensions<'a>(names: impl Iterator<Item = &'a str>) -> Extensions {
    let mut text = String::from("GET / HTTP/1.1\r\n");
    for name in names {
        // Values do not matter, but hyper reads these.
        let value = match name {
            _ if name.eq_ignore_ascii_case("content-length") => "0",
            _ if name.eq_ignore_ascii_case("transfer-encoding") => "chunked",
            _ => "x",
        };
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    head(text.into_bytes()).map(|head| head.into_parts().0.extensions).unwrap_or_default()
}

/// The head of a request that was written down, with its letters; none when it is not whole. What follows it is left out.
pub(super) fn head(text: Vec<u8>) -> Option<Request<()>> {
    read(text).now_or_never().flatten()
}

async fn written(request: Request<Empty<Bytes>>) -> Option<Vec<u8>> {
    let memory = Memory::default();
    let (mut sender, connection) = client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .handshake::<_, Empty<Bytes>>(memory.clone())
        .await
        .ok()?;
    let sent = sender.send_request(request);
    // Neither ends, since nobody answers; but once both have been polled, the head is written.
    let _pending = futures_util::future::join(connection, sent).now_or_never();
    Some(std::mem::take(&mut *memory.written.lock()))
}

async fn read(text: Vec<u8>) -> Option<Request<()>> {
    let memory = Memory { unread: Arc::new(Mutex::new(text)), ..Memory::default() };
    let found = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        *found.lock() = Some(request.map(drop));
        std::future::ready(Ok::<_, io::Error>(Response::new(Empty::<Bytes>::new())))
    });
    let connection = server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(MAX_FIELDS + 8)
        .header_read_timeout(None)
        .serve_connection(memory, service);
    let _pending = connection.now_or_never();
    found.lock().take()
}

/// A connection whose other end is a test tube: what is written is kept, and nothing more comes than was put in.
#[derive(Clone, Default)]
struct Memory {
    unread: Arc<Mutex<Vec<u8>>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Read for Memory {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut unread = self.unread.lock();
        if unread.is_empty() {
            return Poll::Pending;
        }
        let length = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..length]);
        unread.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.lock().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_survive_being_written_down() {
        let came = ["Host", "X-FooBar", "content-type", "SOAPAction", "Content-Length", "x-foobar"];
        let mut head = Request::new(()).into_parts().0;
        head.extensions = extensions(came.into_iter());
        for name in came {
            head.headers.append(name.parse::<http::HeaderName>().unwrap(), "0".parse().unwrap());
        }
        let mut names: Vec<String> = names(&head.headers, &head.extensions).iter().map(ToString::to_string).collect();
        let mut expected = came.map(str::to_owned).to_vec();
        let of_one_name = |names: &[String]| names.iter().filter(|name| name.eq_ignore_ascii_case("x-foobar")).cloned().collect::<Vec<_>>();
        assert_eq!(of_one_name(&names), ["X-FooBar", "x-foobar"], "the order within one name stays");
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_name_that_came_in_no_letters_gets_the_capitals_of_a_live_request() {
        let mut head = Request::new(()).into_parts().0;
        head.headers.insert("x-own", "1".parse().unwrap());
        assert_eq!(names(&head.headers, &head.extensions), [Box::from("X-Own")]);
    }
}
