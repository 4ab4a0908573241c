//! Sending a request once more whose connection turns out to have died.
//!
//! A server may close an idle connection in the moment in which we send on it (RFC 9112 section 9.3.1). A request of which nothing had been written is simply
//! sent elsewhere. What had been written may have been executed, so that only an idempotent request (RFC 9110 section 9.2.2) is sent again, once. Where
//! it was no idle connection, or no answer came, the server itself may be going: only a safe request (section 9.2.1), which asks for nothing to be done, goes to
//! another one.

use bytes::Bytes;
use http::Method;

use super::{ErrorKind, RequestBody, send::Sent};

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
}

/// The connection broke with a request that may have been executed. `body`: its body once more, where it is kept; `reused`: the connection was a kept one.
pub(super) fn cut_off(body: Option<RequestBody>, method: &Method, reused: bool, detail: String) -> Sent {
    match body.map(Box::new) {
        Some(body) if reused && method.is_idempotent() => Sent::Again(body),
        body => Sent::Broken(ErrorKind::Reset, elsewhere(body, method), detail),
    }
}

/// The body of a request that may have been executed, if another server may be given it.
pub(super) fn elsewhere(body: Option<Box<RequestBody>>, method: &Method) -> Option<Box<RequestBody>> {
    body.filter(|_| method.is_safe())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn only_what_may_be_executed_twice_is_ever_sent_twice_and_to_another_server_only_what_is_safe() {
        let of = |method: &str, reused| {
            let spare = Spare::of(&RequestBody::full(Bytes::from_static(b"x")));
            match cut_off(spare.body(), &method.parse().unwrap(), reused, String::new()) {
                Sent::Again(body) => ("here", body.in_memory()),
                Sent::Broken(_, Some(body), _) => ("elsewhere", body.in_memory()),
                Sent::Broken(_, None, _) => ("never", None),
                _ => ("answered", None),
            }
        };
        let x = Some(Bytes::from_static(b"x"));
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!((of(method, true), of(method, false)), (("here", x.clone()), ("elsewhere", x.clone())), "{method}");
        }
        for method in ["PUT", "DELETE"] {
            assert_eq!((of(method, true), of(method, false)), (("here", x.clone()), ("never", None)), "{method}");
        }
        for method in ["POST", "PATCH"] {
            assert_eq!((of(method, true), of(method, false)), (("never", None), ("never", None)), "{method}");
        }
        let body = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
        assert!(Spare::of(&RequestBody::boxed(body)).body().is_none(), "its body is gone once it is sent");
    }
}
