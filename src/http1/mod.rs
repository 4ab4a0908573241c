//! HTTP/1.1 on the wire (RFC 9112): heads are read and written, bodies are framed.
//!
//! A head is parsed once. Its values stay where they came, in one piece of memory that is shared, and [`Origin`] keeps hold of that piece: the letters of a
//! field's name stand there right before its value, so that a head goes out again in the letters in which it came without anybody having kept them apart. The head of
//! an answer is not even taken apart ([`AnswerHead`]): hardly anybody changes one.
//!
//! [`server`] is one connection of a client, [`client`] one to a server; both read with [`decode`] and write with [`encode`]. A connection that is idle has no
//! buffer. What a message means is for others to say: here it is only refused what could be read in two ways, or in none.

mod answer;
mod any;
pub mod client;
mod decode;
mod encode;
#[cfg(test)]
mod fuzz;
mod letters;
mod message;
mod origin;
mod parse;
mod pipe;
pub mod server;
mod spare;
mod wire;
mod write;

use http::StatusCode;

#[cfg(test)]
pub(crate) use answer::tests::is_the_same_in_both_forms;
pub use answer::{AnswerHead, HOP_BY_HOP, KEEP_ALIVE, OwnField};
pub(crate) use any::any_socket;
pub use message::{Message, Part, RequestHead, RequestOf, ResponseOf};
pub use origin::{Interim, Origin, fields};
pub use parse::keep_trailing;
pub use pipe::{Pipe, Piped, Socket};
pub use write::{Finished, now};

/// Most fields of a head.
const MOST_FIELDS: usize = 100;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no HTTP/1.
    #[error("this is not HTTP/1.1: {0}")]
    Syntax(httparse::Error),
    /// RFC 9112 section 2.2: a line ends without a carriage return, which another reader could take for a part of the line.
    #[error("a line ends without a carriage return")]
    LineFeed,
    /// RFC 9112 section 3.2: the target is no URI, or has a fragment.
    #[error("the target of the request is none")]
    Target,
    /// RFC 9112 section 3: the target is longer than a URI may be here.
    #[error("the target of the request is too long")]
    TargetTooLong,
    /// The head is longer than is allowed, or has more fields.
    #[error("the head is too large")]
    HeadTooLarge,
    /// RFC 9112 section 6.3: no length, or more than one.
    #[error("Content-Length is not one number")]
    Length,
    /// RFC 9112 section 6.1: a coding that leaves open where the body ends, or one in HTTP/1.0.
    #[error("Transfer-Encoding leaves the end of the body open")]
    Coding,
    /// RFC 9112 section 6.1: the mark of an attempt to smuggle.
    #[error("Content-Length stands beside Transfer-Encoding")]
    LengthAndCoding,
    /// RFC 9112 section 7.1: what ought to be a chunk is none.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// RFC 9112 section 7.1.2: what follows the last chunk are no fields, or too many.
    #[error("the trailers of the body are malformed")]
    Trailers,
}

/// The reason phrase of a status: by RFC 9110, which has renamed some that the library calls by their old names.
pub fn phrase(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some("Content Too Large"),
        StatusCode::UNPROCESSABLE_ENTITY => Some("Unprocessable Content"),
        other => other.canonical_reason(),
    }
}

/// Keeps for the next head what one that is over was made of.
pub fn recycle(head: Box<RequestHead>) {
    spare::give_request(head);
}

/// How a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What came cannot be understood.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The connection ended in the middle of a message.
    #[error("the connection ended in the middle of a message")]
    Ended,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
