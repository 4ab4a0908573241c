//! Where a route leads: to one backend, to another URL, or to an answer of ours.

use bytes::Bytes;
use http::StatusCode;

use crate::{
    config::{
        fault::{Faults, Span},
        file::{Redirect, Respond, Route},
        read::At,
    },
    proxy::{Accepted, Scheme, Target},
};

/// Where a route leads. `None` means that a fault was noted.
pub(super) fn of(route: &At<Route>, faults: &mut Faults) -> Option<Target> {
    let Route { backend, redirect, respond, .. } = &route.value;
    let places = [
        ("backend", backend.as_ref().map(|at| &at.span)),
        ("redirect", redirect.as_ref().map(|at| &at.span)),
        ("respond", respond.as_ref().map(|at| &at.span)),
    ];
    let given: Vec<_> = places.into_iter().filter_map(|(name, span)| Some((name, span?))).collect();
    match given.as_slice() {
        [] => {
            let fault = faults.add(route.span.clone(), "`[routes]` has no `backend`", "`backend` is missing");
            fault.help("write the NAME of a `[backends.NAME]`, or `redirect` or `respond` for a route that needs none").absence = true;
            return None;
        }
        [_] => {}
        [(first, at), (second, span), ..] => {
            let title = format!("a route has `{first}` and `{second}`");
            faults.add((*span).clone(), title, "it leads to one place").also((*at).clone(), "and this is another");
            return None;
        }
    }
    if backend.is_none() {
        needs_backend(&route.value, faults);
    }
    let scheme = route.value.matched.scheme.as_ref().map(|at| at.value);
    match (backend, redirect, respond) {
        (Some(backend), ..) => Some(Target::Backend(backend.value.clone())),
        (_, Some(redirect), _) => elsewhere(&redirect.value, scheme, faults),
        (.., Some(respond)) => fixed(&respond.value, faults),
        _ => None,
    }
}

/// Keys that say something about a backend that is not asked.
fn needs_backend(route: &Route, faults: &mut Faults) {
    fn span<T>(at: Option<&At<T>>) -> Option<&Span> {
        at.map(|at| &at.span)
    }
    let changed = &route.changed;
    for (name, span) in [
        ("strip_prefix", span(changed.strip_prefix.as_ref())),
        ("add_prefix", span(changed.add_prefix.as_ref())),
        ("host_header", span(changed.host_header.as_ref())),
        ("request_headers", span(changed.request_headers.as_ref())),
        ("locations", span(changed.locations.as_ref())),
        ("response_timeout", span(route.response_timeout.as_ref())),
        ("max_body", span(route.max_body.as_ref())),
        ("concurrency", span(route.concurrency.as_ref())),
        ("max_share", span(route.max_share.as_ref())),
        ("spill", span(route.spill.as_ref())),
    ] {
        if let Some(span) = span {
            let title = format!("`routes.{name}` in a route without a backend");
            faults.add(span.clone(), title, "nothing is sent").help("remove the key");
        }
    }
}

fn elsewhere(redirect: &Redirect, scheme: Option<Scheme>, faults: &mut Faults) -> Option<Target> {
    let Redirect { status, to } = redirect;
    let is_redirect = matches!(status.value, 301 | 302 | 303 | 307 | 308);
    if !is_redirect {
        let title = format!("{} is no redirect", status.value);
        faults.add(status.span.clone(), title, "301, 302, 303, 307 or 308 is");
    }
    let to = to.as_ref()?;
    let text = to.value.to_string();
    if !["http://", "https://", "/", "$scheme://", "${scheme}://"].iter().any(|beginning| text.starts_with(beginning)) {
        let fault =
            faults.add(to.span.clone(), "`routes.redirect.to` is not a URL", "it begins with `https://`, `http://`, `$scheme://` or `/`");
        fault.help("write it as \"https://$host$request_uri\"");
    }
    let rounds = [("https://", Scheme::Https), ("http://", Scheme::Http)].into_iter().any(|(beginning, led_to)| {
        let rest = text.strip_prefix(beginning).unwrap_or_default().replace(['{', '}'], "");
        let same_place =
            ["$host$request_uri", "$http_host$request_uri", "$host$uri", "$http_host$uri"].iter().any(|same| rest.starts_with(same));
        same_place && scheme.is_none_or(|scheme| scheme == led_to)
    });
    if rounds {
        let fault = faults.add(to.span.clone(), "the redirect leads to itself", "the client would go round and round");
        fault.help("to send http to https, give the route `scheme = \"http\"`");
    }
    // In range by its key.
    let status = u16::try_from(status.value).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
    Some(Target::Redirect { status, to: to.value.clone() })
}

fn fixed(respond: &Respond, faults: &mut Faults) -> Option<Target> {
    let Respond { status, content_type, body } = respond;
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status.value, 204 | 205 | 304) && !body.value.is_empty() {
        let title = format!("`routes.respond` has a body, and an answer {} has none", status.value);
        faults.add(body.span.clone(), title, "it could not be sent").also(status.span.clone(), "no body with this");
    }
    // In range by its key.
    let status = u16::try_from(status.value).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
    Some(Target::Respond(Accepted { status, content_type: content_type.value.clone(), body: Bytes::from(body.value.clone()) }))
}
