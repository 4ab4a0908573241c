//! Sending a request once more whose kept connection turns out to have died.
//!
//! A server may close an idle connection in the moment in which we send on it (RFC 9112 section 9.3.1). A request of which nothing had been written is simply
//! sent elsewhere. What had been written may have been executed, so that only an idempotent request (RFC 9110 section 9.2.2) is sent again, once.

use bytes::Bytes;
use http::Method;

use super::RequestBody;

/// What is needed to have a body once more that has been sent; none where it is gone.
#[derive(Debug, Clone)]
pub(super) struct Spare(Option<Bytes>);

impl Spare {
    /// Of a body that is about to be sent.
    pub(super) fn of(body: &RequestBody) -> Self {
        Self(body.in_memory())
    }

    /// The body as it was.
    pub(super) fn body(self) -> Option<RequestBody> {
        self.0.map(RequestBody::full)
    }

    /// The body of a request that may have been executed, and may be so once more.
    pub(super) fn again(self, method: &Method) -> Option<RequestBody> {
        if method.is_idempotent() { self.body() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn only_what_may_be_executed_twice_is_ever_sent_twice() {
        for (method, again) in
            [("GET", true), ("HEAD", true), ("PUT", true), ("DELETE", true), ("OPTIONS", true), ("POST", false), ("PATCH", false)]
        {
            let spare = Spare::of(&RequestBody::full(Bytes::from_static(b"x")));
            let body = spare.again(&method.parse().unwrap());
            assert_eq!(body.map(|body| body.in_memory().unwrap()), again.then_some(Bytes::from_static(b"x")), "{method}");
        }
        let body = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
        assert!(Spare::of(&RequestBody::boxed(body)).again(&Method::PUT).is_none(), "its body is gone once it is sent");
    }
}
