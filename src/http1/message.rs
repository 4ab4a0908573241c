//! A message whose head has a place of its own.

use http::{Request, Response, request};

use super::AnswerHead;

/// A message. A head is some hundred bytes and goes through many hands: it stays where it is, and only a pointer to it is moved.
#[derive(Debug)]
pub struct Message<H, B> {
    /// What stands before the body.
    pub head: Box<H>,
    /// See the name.
    pub body: B,
}

/// A request with such a body.
pub type RequestOf<B> = Message<request::Parts, B>;
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

impl<B> From<Request<B>> for RequestOf<B> {
    fn from(request: Request<B>) -> Self {
        let (head, body) = request.into_parts();
        Self::new(Box::new(head), body)
    }
}

impl<B> From<RequestOf<B>> for Request<B> {
    fn from(request: RequestOf<B>) -> Self {
        Self::from_parts(*request.head, request.body)
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
