//! What the outcome of an attempt means, for a live write and for a replayed one.
//!
//! One table, [`classify`], and two readings of it. Statuses are those of RFC 9110 section 15 and RFC 6585. What the table rests on:
//! a request that may have been executed is sent again only where its route or its method allows it, and a request that the backend
//! certainly did not see is never the client's trouble. When to try again is [`retry`](super::retry)'s business.

use std::time::Duration;

use http::StatusCode;

use super::DeadReason;

/// What is known after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Not one byte of it was taken by the backend: refused, connect timeout, no name, no TLS, or handed back by the client library.
    NotSent,
    /// Some of it was sent, then a timeout, a reset, or an answer that cannot be read.
    NoAnswer,
    /// The backend answered.
    Answer {
        /// Its status.
        status: StatusCode,
        /// It redirects to something that looks like a login page.
        to_login: bool,
    },
}

/// The classes of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The backend certainly did not see it.
    NotSent,
    /// The backend said: not now (429, 503).
    Rejected,
    /// A passing condition of this request alone (408, 423, 425).
    Transient,
    /// It may have been executed (timeout or reset after bytes were sent; 500, 502, 504, and what is not known better).
    Ambiguous,
    /// Done (2xx, 3xx).
    Delivered,
    /// No (other 4xx, 501, 505, a redirect to a login).
    Refused,
}

/// What becomes of a live write on a spill route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// The client gets the backend's answer, or our own 502 or 504 where there is none.
    PassOn,
    /// It is queued, and the client gets the 202.
    Spill,
}

/// What becomes of a replayed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// Done.
    Delivered,
    /// Try again later.
    Again {
        /// Whether this attempt counts against `max_attempts`.
        consumes_attempt: bool,
        /// Whether the backend as a whole is to be left alone: it said so itself.
        pauses_backend: bool,
    },
    /// Give it up.
    Dead(DeadReason),
}

/// Longest pause that a backend's `Retry-After` is granted.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// "Page expired": what Laravel and others answer when the session or its form token is gone. In no RFC.
const PAGE_EXPIRED: u16 = 419;

/// The class of an outcome.
///
/// A status that is not listed counts as the x00 of its class (RFC 9110 section 15), and one past 599 as 500 (the same). An interim 1xx is
/// no answer at all: it never gets here, and would be taken for one that says nothing.
pub fn classify(evidence: Evidence) -> Class {
    let (status, to_login) = match evidence {
        Evidence::NotSent => return Class::NotSent,
        Evidence::NoAnswer => return Class::Ambiguous,
        Evidence::Answer { status, to_login } => (status.as_u16(), to_login),
    };
    match status {
        429 | 503 => Class::Rejected,
        408 | 423 | 425 => Class::Transient,
        300..=399 if to_login => Class::Refused,
        200..=399 => Class::Delivered,
        400..=499 | 501 | 505 => Class::Refused,
        _ => Class::Ambiguous,
    }
}

/// What becomes of a live write: `may_be_resent` as its route and method say, `backend_failing` when the breaker holds that the
/// backend fails as a whole (only then is a 500 not the application's own answer).
pub fn live(evidence: Evidence, may_be_resent: bool, backend_failing: bool) -> Live {
    match classify(evidence) {
        Class::NotSent | Class::Rejected => Live::Spill,
        // The client knows that it does not know: without leave to send it again that is all that can be said.
        Class::Ambiguous if may_be_resent && (backend_failing || is_gateway_trouble(evidence)) => Live::Spill,
        Class::Ambiguous | Class::Transient | Class::Delivered | Class::Refused => Live::PassOn,
    }
}

/// Whether it was the way to the application that failed, not the application.
fn is_gateway_trouble(evidence: Evidence) -> bool {
    match evidence {
        Evidence::NoAnswer => true,
        Evidence::Answer { status, .. } => matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT),
        Evidence::NotSent => false,
    }
}

/// What becomes of a replayed request.
pub fn replayed(evidence: Evidence, may_be_resent: bool) -> Replayed {
    match classify(evidence) {
        // Time in which the backend cannot be reached uses up age alone.
        Class::NotSent => Replayed::Again { consumes_attempt: false, pauses_backend: false },
        Class::Rejected => Replayed::Again { consumes_attempt: true, pauses_backend: true },
        Class::Transient => Replayed::Again { consumes_attempt: true, pauses_backend: false },
        Class::Ambiguous if may_be_resent => Replayed::Again { consumes_attempt: true, pauses_backend: false },
        Class::Ambiguous => Replayed::Dead(DeadReason::OutcomeUnknown),
        Class::Delivered => Replayed::Delivered,
        Class::Refused => Replayed::Dead(refusal(evidence)),
    }
}

fn refusal(evidence: Evidence) -> DeadReason {
    match evidence {
        Evidence::Answer { to_login: true, status } if status.is_redirection() => DeadReason::AuthExpired,
        Evidence::Answer { status, .. } if matches!(status.as_u16(), 401 | 403 | PAGE_EXPIRED) => DeadReason::AuthExpired,
        _ => DeadReason::Refused,
    }
}

/// Whether a `Location` (RFC 9110 section 10.2.2) looks like a login page: old applications answer a write whose session has expired with a
/// redirect there and not with a 401, and have then not done it.
///
/// It is a guess. It errs towards "login", since a write wrongly set aside can be sent again by an operator, and one wrongly taken for done
/// is lost. It looks at words, which are runs of letters and digits, in any case:
/// - in the path: one that begins or ends with `login` or `logon`; one of `signin`, `sso`, `saml`, `saml2`, `auth`, `oauth`, `oauth2`, `cas`,
///   `authenticate`, `authentication`, `authorize`; or the pairs `log in`, `log on`, `sign in`, `sessions new`, `session new`;
/// - in the query: a parameter whose whole value is `login`, `logon` or `signin`;
/// - in a host other than `own_host` (the one that the request was sent to): the words of the path, or `accounts`.
pub fn looks_like_login(location: &str, own_host: Option<&str>) -> bool {
    let (host, rest) = split_host(location);
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let elsewhere = host.filter(|host| !own_host.is_some_and(|own| own.eq_ignore_ascii_case(host)));

    has_login_words(path)
        || query.split('&').filter_map(|pair| pair.split_once('=')).any(|(_, value)| is_one_of(value, &["login", "logon", "signin"]))
        || elsewhere.is_some_and(|host| has_login_words(host) || words(host).any(|word| word.eq_ignore_ascii_case("accounts")))
}

/// The authority of an absolute or network-path reference (RFC 3986 section 4.2), and what follows it.
fn split_host(location: &str) -> (Option<&str>, &str) {
    let scheme_end = location.find("//").filter(|&at| at == 0 || location[..at].ends_with(':') && !location[..at].contains(['/', '?']));
    match scheme_end {
        None => (None, location),
        Some(at) => {
            let after = &location[at + 2..];
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            (Some(&after[..end]), &after[end..])
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

fn has_login_words(text: &str) -> bool {
    let mut previous = "";
    words(text).any(|word| {
        let pair = (std::mem::replace(&mut previous, word), word);
        is_login_word(word) || is_login_pair(pair)
    })
}

fn is_login_word(word: &str) -> bool {
    const WORDS: &[&str] =
        &["signin", "sso", "saml", "saml2", "auth", "oauth", "oauth2", "cas", "authenticate", "authentication", "authorize"];
    let word = word.to_ascii_lowercase();
    WORDS.contains(&word.as_str()) || ["login", "logon"].iter().any(|stem| word.starts_with(stem) || word.ends_with(stem))
}

fn is_login_pair((first, second): (&str, &str)) -> bool {
    is_one_of(first, &["log"]) && is_one_of(second, &["in", "on"])
        || is_one_of(first, &["sign"]) && is_one_of(second, &["in"])
        || is_one_of(first, &["session", "sessions"]) && is_one_of(second, &["new"])
}

fn is_one_of(word: &str, these: &[&str]) -> bool {
    these.iter().any(|this| word.eq_ignore_ascii_case(this))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Evidence {
        Evidence::Answer { status: StatusCode::from_u16(status).unwrap(), to_login: false }
    }

    fn login(status: u16) -> Evidence {
        Evidence::Answer { status: StatusCode::from_u16(status).unwrap(), to_login: true }
    }

    /// Every status that HTTP can carry in an answer.
    fn statuses() -> impl Iterator<Item = u16> {
        200..=999
    }

    #[test]
    fn every_status_has_the_class_of_the_table() {
        for status in statuses() {
            let expected = match status {
                200..=399 => Class::Delivered,
                408 | 423 | 425 => Class::Transient,
                429 | 503 => Class::Rejected,
                501 | 505 => Class::Refused,
                400..=499 => Class::Refused,
                _ => Class::Ambiguous,
            };
            assert_eq!(classify(answer(status)), expected, "{status}");
        }
        assert_eq!(classify(Evidence::NotSent), Class::NotSent);
        assert_eq!(classify(Evidence::NoAnswer), Class::Ambiguous);
        assert_eq!(classify(login(302)), Class::Refused);
        assert_eq!(classify(login(200)), Class::Delivered);
    }

    #[test]
    fn a_live_write_spills_exactly_when_sending_it_again_is_safe_and_of_use() {
        use Live::{PassOn, Spill};
        // evidence, and for (may be resent, backend failing): (yes, yes) (yes, no) (no, yes) (no, no)
        let table = [
            (Evidence::NotSent, [Spill, Spill, Spill, Spill]),
            (answer(429), [Spill, Spill, Spill, Spill]),
            (answer(503), [Spill, Spill, Spill, Spill]),
            (Evidence::NoAnswer, [Spill, Spill, PassOn, PassOn]),
            (answer(502), [Spill, Spill, PassOn, PassOn]),
            (answer(504), [Spill, Spill, PassOn, PassOn]),
            (answer(500), [Spill, PassOn, PassOn, PassOn]),
            (answer(507), [Spill, PassOn, PassOn, PassOn]),
        ];
        for (evidence, expected) in table {
            let got = [(true, true), (true, false), (false, true), (false, false)].map(|(resend, failing)| live(evidence, resend, failing));
            assert_eq!(got, expected, "{evidence:?}");
        }
        for status in statuses().filter(|&status| !matches!(status, 429 | 500 | 502..=504 | 506..)) {
            for (resend, failing) in [(true, true), (true, false), (false, true), (false, false)] {
                assert_eq!(live(answer(status), resend, failing), PassOn, "{status}");
            }
        }
        assert_eq!(live(login(302), true, true), PassOn);
    }

    #[test]
    fn a_replayed_request_becomes_what_the_table_says() {
        let again = |consumes_attempt, pauses_backend| Replayed::Again { consumes_attempt, pauses_backend };
        for status in statuses() {
            let (resend, once) = match status {
                200..=399 => (Replayed::Delivered, Replayed::Delivered),
                401 | 403 | 419 => (Replayed::Dead(DeadReason::AuthExpired), Replayed::Dead(DeadReason::AuthExpired)),
                408 | 423 | 425 => (again(true, false), again(true, false)),
                429 | 503 => (again(true, true), again(true, true)),
                400..=499 | 501 | 505 => (Replayed::Dead(DeadReason::Refused), Replayed::Dead(DeadReason::Refused)),
                _ => (again(true, false), Replayed::Dead(DeadReason::OutcomeUnknown)),
            };
            assert_eq!(replayed(answer(status), true), resend, "{status}");
            assert_eq!(replayed(answer(status), false), once, "{status}");
        }
        for resend in [true, false] {
            assert_eq!(replayed(Evidence::NotSent, resend), again(false, false));
            assert_eq!(replayed(login(303), resend), Replayed::Dead(DeadReason::AuthExpired));
        }
        assert_eq!(replayed(Evidence::NoAnswer, true), again(true, false));
        assert_eq!(replayed(Evidence::NoAnswer, false), Replayed::Dead(DeadReason::OutcomeUnknown));
    }

    #[test]
    fn the_login_pages_of_common_applications_are_known() {
        for location in [
            "/login",
            "login.php?next=%2Forders",
            "/Account/LogOn?ReturnUrl=%2forders",
            "/users/sign_in",
            "/wp-login.php",
            "/UserLogin.jsp",
            "/sessions/new",
            "/index.php?action=login",
            "/cas/login?service=x",
            "https://login.example.com/",
            "//sso.example.com/x",
            "https://accounts.example.com/",
            "https://id.example.com/realms/x/protocol/openid-connect/auth?client_id=7",
            "/login#form",
        ] {
            assert!(looks_like_login(location, Some("shop.example.com")), "{location}");
        }
    }

    #[test]
    fn other_redirects_are_no_login() {
        for location in [
            "/",
            "",
            "/orders/7",
            "/blog/in-depth",
            "/signing/requests",
            "/authors/9",
            "/orders?from=/login/done",
            "/orders#login",
            "https://shop.example.com/orders/7",
            "https://accounts.shop.example.com:8080/orders/7",
            "/session",
        ] {
            assert!(!looks_like_login(location, Some("accounts.shop.example.com:8080")), "{location}");
        }
    }
}
