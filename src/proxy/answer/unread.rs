//! Answers to a client of which no request has been read: what it has sent is none, or its connection is one too many. It has not said in which form it wants them,
//! so that each is the same every time, but for its date: it is made once, and who floods us with such costs no more than a copy of it.

use std::{borrow::Cow, cell::RefCell, time::Duration};

use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, RETRY_AFTER},
};

use super::{PROXY_STATUS, REQUEST_ERROR, problem_bytes, seconds, set};
use crate::http1::{Fault, Finished};

/// Why it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Unread {
    /// What it has sent is no request.
    Fault(Fault),
    /// There are as many connections as there may be,
    Full,
    /// or as many of this client.
    FullOfOne,
    /// It speaks plain HTTP where TLS is spoken.
    NoTls,
}

impl Unread {
    /// The status that says so.
    pub(in crate::proxy) const fn status(self) -> StatusCode {
        match self {
            Self::Fault(Fault::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Fault(Fault::HeadTooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Fault(_) | Self::NoTls => StatusCode::BAD_REQUEST,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::FullOfOne => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn detail(self) -> Cow<'static, str> {
        match self {
            Self::Fault(fault) => fault.to_string().into(),
            Self::Full => "There are as many connections as this proxy takes. Come again later.".into(),
            Self::FullOfOne => "You have as many connections as one client may have here. Close one, or come again later.".into(),
            Self::NoTls => "This port speaks TLS: use https:// instead of http:// here.".into(),
        }
    }

    /// The answer, after which its connection ends.
    pub(in crate::proxy) fn answer(self) -> Finished {
        // As many as there are faults at most.
        thread_local!(static MADE: RefCell<Vec<(Unread, Finished)>> = const { RefCell::new(Vec::new()) });
        MADE.with_borrow_mut(|made| {
            if let Some((_, finished)) = made.iter().find(|(unread, _)| *unread == self) {
                return finished.clone();
            }
            let finished = self.make();
            made.push((self, finished.clone()));
            finished
        })
    }

    fn make(self) -> Finished {
        let mut response = problem_bytes(false, self.status(), &self.detail(), None);
        let headers = response.headers_mut();
        let is_denied = matches!(self, Self::Full | Self::FullOfOne);
        set(headers, PROXY_STATUS, if is_denied { "forebay; error=http_request_denied" } else { REQUEST_ERROR });
        if is_denied {
            headers.insert(RETRY_AFTER, seconds(Duration::from_secs(1)));
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Finished::new(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_been_read_is_told_why_as_everybody_else_is() {
        for (unread, line, error) in [
            (Unread::Fault(Fault::Length), "400 Bad Request", "http_request_error"),
            (Unread::Fault(Fault::Syntax(httparse::Error::Token)), "400 Bad Request", "http_request_error"),
            (Unread::Fault(Fault::TargetTooLong), "414 URI Too Long", "http_request_error"),
            (Unread::Fault(Fault::HeadTooLarge), "431 Request Header Fields Too Large", "http_request_error"),
            (Unread::Full, "503 Service Unavailable", "http_request_denied"),
            (Unread::FullOfOne, "429 Too Many Requests", "http_request_denied"),
            (Unread::NoTls, "400 Bad Request", "http_request_error"),
        ] {
            // The second time it is the one that was made before.
            for _ in 0..2 {
                let text = String::from_utf8(unread.answer().bytes()).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{head}");
                for field in [
                    "Content-Type: application/problem+json".to_owned(),
                    format!("Content-Length: {}", body.len()),
                    format!("Proxy-Status: forebay; error={error}"),
                    "Connection: close".to_owned(),
                ] {
                    assert_eq!(head.lines().filter(|line| **line == field).count(), 1, "{field} in {head}");
                }
                assert_eq!(head.contains("\r\nRetry-After: 1\r\n"), error == "http_request_denied");
                assert!(head.contains("\r\nDate: "));
                let problem: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!((&problem["status"], &problem["type"]), (&unread.status().as_u16().into(), &"about:blank".into()));
            }
        }
    }
}
