//! What `Proxy-Status` says in our own answers: which of the registered error types of RFC 9209 section 2.3 it was, and our own word for it.

use http::{HeaderName, StatusCode};

use crate::{backend::ErrorKind, envelope::Reason, store::StoreError};

/// The field.
pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// How a live attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no answer.
    NoAnswer(ErrorKind),
    /// The answer was one that says: not now, or not here.
    Answer(StatusCode),
}

/// Why a request was queued or refused, and what had failed where a live attempt had.
pub(super) fn of_reason(reason: Reason, failure: Option<Failure>) -> String {
    let error = match (reason, failure) {
        (_, Some(Failure::NoAnswer(kind))) => kind.as_str(),
        (_, Some(Failure::Answer(_))) | (Reason::Down | Reason::Rescued, None) => "destination_unavailable",
        (Reason::Overload, None) => "connection_limit_reached",
        // Nobody was asked, and not because of a fault.
        (Reason::Order | Reason::Asked | Reason::Mode | Reason::Always, None) => "proxy_internal_response",
    };
    match failure {
        Some(Failure::Answer(status)) => format!("forebay; error={error}; received-status={}; details=\"{reason}\"", status.as_u16()),
        _ => format!("forebay; error={error}; details=\"{reason}\""),
    }
}

/// A live attempt got no answer, and the client hears of it.
pub(super) fn of_kind(kind: ErrorKind) -> String {
    format!("forebay; error={}", kind.as_str())
}

/// The store could not take a write: the limit that refused it, or what else it was, in one word.
pub(super) fn of_store(error: &StoreError) -> String {
    format!("forebay; error=proxy_internal_error; details=\"{}\"", error.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Limit;

    /// The HTTP Proxy Error Types registry, as RFC 9209 section 2.3 fills it.
    const REGISTERED: &[&str] = &[
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ];

    fn error_of(value: &str) -> &str {
        value.strip_prefix("forebay; error=").unwrap().split(';').next().unwrap()
    }

    #[test]
    fn every_error_type_is_a_registered_one() {
        use ErrorKind::{
            BadResponse, Certificate, Connect, ConnectTimeout, NoServer, RequestBody, RequestStalled, RequestTooLarge, Reset, Timeout, Tls,
        };
        let kinds = [
            NoServer,
            Connect,
            ConnectTimeout,
            Tls,
            Certificate,
            Reset,
            Timeout,
            BadResponse,
            RequestBody,
            RequestTooLarge,
            RequestStalled,
        ];
        for kind in kinds {
            assert!(REGISTERED.contains(&error_of(&of_kind(kind))), "{kind:?}");
        }
        let failures = kinds.map(Failure::NoAnswer).into_iter().chain([Failure::Answer(StatusCode::BAD_GATEWAY)]).map(Some).chain([None]);
        for failure in failures {
            for &reason in Reason::ALL {
                let value = of_reason(reason, failure);
                assert!(REGISTERED.contains(&error_of(&value)), "{value}");
                assert!(value.ends_with(&format!("; details=\"{reason}\"")), "{value}");
            }
        }
        assert!(REGISTERED.contains(&error_of(&of_store(&StoreError::Closed))));
    }

    #[test]
    fn an_answer_that_made_a_write_spill_is_named_by_its_status() {
        let value = of_reason(Reason::Rescued, Some(Failure::Answer(StatusCode::SERVICE_UNAVAILABLE)));
        assert_eq!(value, "forebay; error=destination_unavailable; received-status=503; details=\"rescued\"");
    }

    #[test]
    fn each_limit_of_the_store_has_its_word() {
        for (limit, word) in [(Limit::Requests(1), "max_requests"), (Limit::Bytes(1), "max_bytes"), (Limit::FreeDisk(1), "min_free_disk")] {
            assert_eq!(of_store(&limit.into()), format!("forebay; error=proxy_internal_error; details=\"{word}\""));
        }
        let failed = StoreError::Failed("no space \"left\"".into());
        assert_eq!(of_store(&failed), "forebay; error=proxy_internal_error; details=\"store_failed\"");
    }
}
