//! What a route changes: prefixes that fit its path, and fields that are not ours or one connection's.

use http::{
    HeaderName,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
    uri::Authority,
};

use crate::{
    config::{
        fault::{Faults, Span},
        file::{Changed, Fields},
        read::At,
        values::{FieldValues, Prefix},
    },
    proxy::{FieldChanges, PathMatch, Rewrite, Template},
};

/// The changes of a route; none when it makes none.
pub(super) fn rewrite(changed: Changed, path: Option<&At<PathMatch>>, faults: &mut Faults) -> Option<Rewrite> {
    let Changed { strip_prefix, add_prefix, host_header, request_headers, response_headers, locations } = changed;
    if let (Some(strip), Some(path)) = (&strip_prefix, path) {
        begins(strip, path, faults);
    }
    if let Some(host) = &host_header {
        is_host(host, faults);
    }
    let changes_place = strip_prefix.is_some() || add_prefix.is_some() || host_header.is_some();
    if let Some(locations) = locations.as_ref().filter(|_| !changes_place) {
        let title = "`routes.locations` in a route that changes neither path nor host";
        faults.add(locations.span.clone(), title, "there is nothing to put back").help("remove the key");
    }
    if !changes_place && request_headers.is_none() && response_headers.is_none() {
        return None;
    }
    Some(Rewrite {
        strip_prefix: strip_prefix.map(|at| at.value.0),
        add_prefix: add_prefix.map(|at| at.value.0),
        host: host_header.map(|at| at.value),
        request: request_headers.map_or_else(FieldChanges::default, |fields| changes(fields.value, Side::Request, faults)),
        response: response_headers.map_or_else(FieldChanges::default, |fields| changes(fields.value, Side::Response, faults)),
        put_back: locations.is_none_or(|at| at.value.0),
    })
}

/// Every path that the route takes must have what is taken off.
fn begins(strip: &At<Prefix>, path: &At<PathMatch>, faults: &mut Faults) {
    let (PathMatch::Exact(text) | PathMatch::Prefix(text)) = &path.value;
    if !text.starts_with(&strip.value.0) {
        let title = format!("`routes.strip_prefix` {} is not the beginning of the route's path", strip.value.0);
        let fault = faults.add(strip.span.clone(), title, "there would be nothing to take off");
        fault.also(path.span.clone(), "the path").help(format!("write a part of \"{text}\" from its beginning"));
    }
}

fn is_host(host: &At<Template>, faults: &mut Faults) {
    let text = host.value.to_string();
    let is_authority = text.parse::<Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
    if host.value.is_constant() && !is_authority {
        let fault = faults.add(host.span.clone(), "`routes.host_header` is not a host", "a name or address, and a port if it needs one");
        fault.help("write it as \"app.internal\" or \"app.internal:8080\"");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

fn changes(fields: Fields, side: Side, faults: &mut Faults) -> FieldChanges {
    let Fields { set, add, remove } = fields;
    let values = |fields: Option<At<FieldValues>>| fields.map_or_else(Vec::new, |fields| fields.value.0);
    let (set, add) = (values(set), values(add));
    let with_value = set.iter().chain(&add).map(|(name, value)| (name, Some(&value.value)));
    for (name, value) in with_value.chain(remove.value.iter().map(|name| (name, None))) {
        if let Some((label, help)) = refused(&name.value, value, side) {
            let fault = faults.add(name.span.clone(), format!("the field `{}` cannot be changed", name.value), label);
            if !help.is_empty() {
                fault.help(help);
            }
        }
    }
    twice(set.iter().map(|(name, _)| name), remove.value.iter(), faults);
    let plain = |fields: Vec<(At<HeaderName>, At<Template>)>| fields.into_iter().map(|(name, value)| (name.value, value.value)).collect();
    FieldChanges { set: plain(set), add: plain(add), remove: remove.value.into_iter().map(|name| name.value).collect() }
}

/// A field that is named once more where that changes nothing.
fn twice<'a>(set: impl Iterator<Item = &'a At<HeaderName>>, remove: impl Iterator<Item = &'a At<HeaderName>>, faults: &mut Faults) {
    let mut seen: Vec<(&HeaderName, &Span)> = Vec::new();
    for name in set.chain(remove) {
        if let Some((_, first)) = seen.iter().find(|(known, _)| **known == name.value) {
            let title = format!("the field `{}` is changed twice", name.value);
            faults.add(name.span.clone(), title, "names mean the same in any case").also((*first).clone(), "first here");
        } else {
            seen.push((&name.value, &name.span));
        }
    }
}

/// Why a field cannot be changed, and what to do instead.
fn refused(name: &HeaderName, value: Option<&Template>, side: Side) -> Option<(&'static str, &'static str)> {
    let of_connection = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];
    match name.as_str() {
        _ if of_connection.contains(name) => Some(("it belongs to one connection (RFC 9110 section 7.6.1)", "remove it: it never crosses")),
        "keep-alive" | "proxy-connection" => Some(("it belongs to one connection (RFC 9110 section 7.6.1)", "remove it: it never crosses")),
        _ if name.as_str().contains('_') && refused(&without_underscores(name)?, value, side).is_some() => {
            Some(("servers that know no hyphens take it for the field with a hyphen", "remove it"))
        }
        _ if *name == CONTENT_LENGTH => Some(("it says where the body ends", "remove it: the length is that of the body")),
        _ if *name == VIA => Some(("every proxy has to add it (RFC 9110 section 7.6.3)", "")),
        _ if name.as_str().starts_with("forebay-") => Some(("fields that begin so are forebay's own", "")),
        _ if side == Side::Response => None,
        _ if *name == HOST => Some(("it has a key of its own", "write `host_header` in the route")),
        _ if *name == EXPECT => Some(("forebay asks for the body itself", "")),
        "idempotency-key" if value.is_some_and(Template::is_constant) => Some((
            "the backend would take every write for the same one, and drop all but the first",
            "take it from what tells one write from another, such as \"$http_x_order_id\"",
        )),
        _ => None,
    }
}

fn without_underscores(name: &HeaderName) -> Option<HeaderName> {
    HeaderName::try_from(name.as_str().replace('_', "-")).ok()
}
