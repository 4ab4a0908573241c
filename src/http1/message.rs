//! A message whose head has a place of its own.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Frame;

use super::{AnswerHead, Origin};

/// A message. A head is some hundred bytes and goes through many hands: it stays where it is, and only a pointer to it is moved.
#[derive(Debug)]
pub struct Message<H, B> {
    /// What stands before the body.
    pub head: Box<H>,
    /// See the name.
    pub body: B,
}

/// A part of a body for which there is a place.
#[derive(Debug)]
pub enum Part {
    /// So many bytes of it have been put there.
    Placed(usize),
    /// It has not been.
    Frame(Frame<Bytes>),
}

impl Part {
    /// Bytes of the body in it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Placed(bytes) => *bytes,
            Self::Frame(frame) => frame.data_ref().map_or(0, Bytes::len),
        }
    }
}

/// The head of a request, and where it came from.
#[derive(Debug, Clone)]
pub struct RequestHead {
    parts: request::Parts,
    /// None of one that we made.
    pub origin: Option<Origin>,
}

/// A request with such a body.
pub type RequestOf<B> = Message<RequestHead, B>;
/// An answer with such a body.
pub type ResponseOf<B> = Message<AnswerHead, B>;

impl<H, B> Message<H, B> {
    /// One of these parts.
    pub fn new(head: Box<H>, body: B) -> Self {
        Self { head, body }
    }

    /// The same with another body.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Message<H, C> {
        Message { head: self.head, body: change(self.body) }
    }
}

impl Deref for RequestHead {
    type Target = request::Parts;

    fn deref(&self) -> &request::Parts {
        &self.parts
    }
}

impl DerefMut for RequestHead {
    fn deref_mut(&mut self) -> &mut request::Parts {
        &mut self.parts
    }
}

/// Its origin is among its extensions, where it has one.
impl From<request::Parts> for RequestHead {
    fn from(mut parts: request::Parts) -> Self {
        let origin = parts.extensions.remove();
        Self { parts, origin }
    }
}

impl From<RequestHead> for request::Parts {
    fn from(RequestHead { mut parts, origin }: RequestHead) -> Self {
        if let Some(origin) = origin {
            parts.extensions.insert(origin);
        }
        parts
    }
}

impl<B> From<Request<B>> for RequestOf<B> {
    fn from(request: Request<B>) -> Self {
        let (head, body) = request.into_parts();
        Self::new(Box::new(head.into()), body)
    }
}

impl<B> From<RequestOf<B>> for Request<B> {
    fn from(request: RequestOf<B>) -> Self {
        Self::from_parts((*request.head).into(), request.body)
    }
}

impl<B> From<Response<B>> for ResponseOf<B> {
    fn from(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        Self::new(Box::new(head.into()), body)
    }
}

impl<B> From<ResponseOf<B>> for Response<B> {
    fn from(response: ResponseOf<B>) -> Self {
        Self::from_parts((*response.head).into(), response.body)
    }
}
