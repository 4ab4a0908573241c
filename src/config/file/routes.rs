//! The part of the file about routes: what they match, what they change, how they spill.

use http::{HeaderName, HeaderValue, Method};

use super::*;
use crate::{
    config::values::{AnyMethod, FieldValues, Hosts, OrderBy, Prefix, PutBack, Share},
    envelope::{Delivery, order::Rule},
    proxy::{OnDeadLetter, PathMatch, Scheme, Template, When},
};

#[derive(Debug)]
pub(in crate::config) struct Route {
    pub matched: Matched,
    pub backend: Option<At<Name>>,
    pub redirect: Option<At<Redirect>>,
    pub respond: Option<At<Respond>>,
    pub changed: Changed,
    pub response_timeout: Option<At<Duration>>,
    pub max_body: Option<At<Size>>,
    pub concurrency: Option<At<u32>>,
    pub max_share: Option<At<Share>>,
    pub rates: Rates,
    pub spill: Option<At<Spill>>,
}

/// The keys of a route that say what it takes.
#[derive(Debug)]
pub(in crate::config) struct Matched {
    pub name: Option<At<Name>>,
    pub path: Option<At<PathMatch>>,
    pub host: Option<At<Hosts>>,
    pub methods: Option<At<Vec<At<AnyMethod>>>>,
    pub scheme: Option<At<Scheme>>,
}

/// The keys of a route that say what it changes.
#[derive(Debug)]
pub(in crate::config) struct Changed {
    pub strip_prefix: Option<At<Prefix>>,
    pub add_prefix: Option<At<Prefix>>,
    pub host_header: Option<At<Template>>,
    pub request_headers: Option<At<Fields>>,
    pub response_headers: Option<At<Fields>>,
    pub locations: Option<At<PutBack>>,
}

impl Section for Route {
    const ABOUT: &'static str = "One route: which requests go to which backend, what is changed on the way, and whether its writes are queued. It leads to a `backend`, or has \
         `redirect` or `respond`.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            matched: Matched::keys(table),
            backend: table.maybe(key("backend", "The NAME of a `[backends.NAME]`.")),
            redirect: table.maybe(key("redirect", Redirect::ABOUT)),
            respond: table.maybe(key("respond", Respond::ABOUT)),
            changed: Changed::keys(table),
            response_timeout: table.maybe(
                key(
                    "response_timeout",
                    "Time from the whole request being sent to the headers of the response, live and replayed. Default: the backend's.",
                )
                .range(MS, DAY),
            ),
            max_body: table
                .maybe(key("max_body", "Bytes of a request's body; past it 413. Default: `clients.max_body`.").range(BYTE, Size(16 * TIB))),
            concurrency: table.maybe(
                key(
                    "concurrency",
                    "Requests of this route at the backend at once, live and replayed together; the rest is queued or refused.",
                )
                .range(1, 100_000),
            ),
            max_share: table.maybe(
                key(
                    "max_share",
                    "At most this part of the backend's concurrency is this route's, such as 0.5, so that slow requests leave room for the others.",
                )
                .range(Share(0.01), Share(1.0)),
            ),
            rates: Rates::keys(table, "Requests of one client to this route, beside `clients.rate`; past it 429 with Retry-After. Default: no limit."),
            spill: table.maybe(key("spill", Spill::ABOUT)),
        }
    }
}

impl Matched {
    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            name: table.need(key("name", "Its name in counts, logs and metrics; unique.")),
            path: table.need(key("path", "A prefix such as `/admin/orders/`, or one path such as `= /login`.")),
            host: table.maybe(key(
                "host",
                "The host that is asked for, without a port; `*.example.com` is every host under it; several as an array. Default: any.",
            )),
            methods: table.maybe(
                key("methods", "The methods that it takes; GET has HEAD with it. Other methods go to the next route that fits, or get 405. Default: all.")
                    .not_empty(),
            ),
            scheme: table.maybe(key("scheme", "How the client has sent the request: `http` or `https`. Default: either.")),
        }
    }
}

impl Changed {
    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            strip_prefix: table.maybe(key(
                "strip_prefix",
                "Taken off the beginning of the path before the backend sees it; `path` begins with it.",
            )),
            add_prefix: table.maybe(key("add_prefix", "Put before the path, or before what `strip_prefix` leaves of it, letter by letter.")),
            host_header: table.maybe(key("host_header", "`Host` for the backend. Default: the client's.")),
            request_headers: table.maybe(key("request_headers", "Changes of the request's header fields: `{ set, add, remove }`.")),
            response_headers: table.maybe(key(
                "response_headers",
                "Changes of the answer's header fields: `{ set, add, remove }`. What is set or added stands in answers of forebay's own too, where they say nothing else.",
            )),
            locations: table.maybe(key(
                "locations",
                "Whether URLs of the backend in Location, Content-Location and Refresh get back the prefix and host that the client knows: `put-back` or \
                 `keep`. Default: `put-back` where the route changes path or host.",
            )),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Fields {
    pub set: Option<At<FieldValues>>,
    pub add: Option<At<FieldValues>>,
    pub remove: At<Vec<At<HeaderName>>>,
}

impl Section for Fields {
    const ABOUT: &'static str = "Changes of header fields, made in the order remove, set, add.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            set: table.maybe(key("set", "Fields that take the place of those of the same name: `{ NAME = \"VALUE\" }`, with variables.")),
            add: table.maybe(key("add", "Fields that are added to those of the same name.")),
            remove: table.or(key("remove", "Names of fields that are removed."), Vec::new()),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Redirect {
    pub status: At<u32>,
    pub to: Option<At<Template>>,
}

impl Section for Redirect {
    const ABOUT: &'static str = "Sends the client elsewhere; no backend is asked.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            status: table.or(
                key(
                    "status",
                    "301, 302, 303, 307 or 308. With 307 and 308 a write stays a write, while 301 and 302 make most clients GET.",
                )
                .range(301, 308),
                308,
            ),
            to: table.need(key("to", "The URL, such as `https://$host$request_uri`.")),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Respond {
    pub status: At<u32>,
    pub content_type: At<HeaderValue>,
    pub body: At<String>,
}

impl Section for Respond {
    const ABOUT: &'static str = "A fixed answer; no backend is asked.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            status: table.or(key("status", "Status of the answer.").range(200, 599), 200),
            content_type: table.or(key("content_type", "Content-Type of the body."), HeaderValue::from_static("text/plain; charset=utf-8")),
            body: table.or(key("body", "The body, as it is."), String::new()),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Spill {
    pub methods: At<Vec<At<Method>>>,
    pub when: At<When>,
    pub delivery: At<Delivery>,
    pub order_by: At<OrderBy>,
    pub max_body: Option<At<Size>>,
    pub max_age: At<Duration>,
    pub max_attempts: At<u32>,
    pub on_dead_letter: At<OnDeadLetter>,
    pub accepted: Option<At<Accepted>>,
}

impl Section for Spill {
    const ABOUT: &'static str =
        "Whether and how the route's writes are queued. Without this table they never are; empty, it has the defaults.";

    fn keys(table: &mut Table<'_>) -> Self {
        table.later("wait", "wait for the real answer before the 202");
        table.later("callback", "callback with the outcome");
        let methods = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].map(At::nowhere).to_vec();
        let order = [Rule::Header(http::header::AUTHORIZATION), Rule::ClientIp].map(At::nowhere).to_vec();
        Self {
            methods: table.or(key("methods", "Methods that may be queued. GET belongs here only where it changes something.").not_empty(), methods),
            when: table.or(key("when", "`needed`: when it cannot be passed on now; `always`: each one, healthy or not."), When::Needed),
            delivery: table.or(
                key("delivery", "What is done about a request that may have been executed: `at-least-once` sends it again, `at-most-once` never does."),
                Delivery::AtLeastOnce,
            ),
            order_by: table.or(
                key(
                    "order_by",
                    "Requests that agree in the first of these that is present are delivered one after the other: `header:NAME`, `query:NAME`, \
                     `cookie:NAME`, `client-ip`, `path`; or `none`.",
                ),
                OrderBy(order),
            ),
            max_body: table.maybe(
                key("max_body", "Bytes of a body that may be queued. Default: 64 MiB, or clients.max_body or store.max_bytes where that is less.").range(BYTE, Size(16 * TIB)),
            ),
            max_age: table.or(key("max_age", "Age at which a queued request is given up.").range(SECOND, 365 * DAY), DAY),
            max_attempts: table.or(
                key("max_attempts", "Attempts that a queued request gets. Time in which the backend is down uses up none.").range(1, 1000),
                8,
            ),
            on_dead_letter: table.or(
                key("on_dead_letter", "What a dead letter means for the later ones of its key: `continue`, or `hold` until an operator decides."),
                OnDeadLetter::Continue,
            ),
            accepted: table.maybe(key("accepted", Accepted::ABOUT)),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Accepted {
    pub status: At<u32>,
    pub content_type: At<HeaderValue>,
    pub body: At<String>,
}

impl Section for Accepted {
    const ABOUT: &'static str = "What a client that knows no 202 must see when its write is queued.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            status: table.or(key("status", "Status of the answer.").range(200, 399), 202),
            content_type: table.or(key("content_type", "Content-Type of the body."), HeaderValue::from_static("application/json")),
            body: table.or(key("body", "The body, as it is."), String::new()),
        }
    }
}
