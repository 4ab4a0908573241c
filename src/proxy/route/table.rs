//! The routes in the order in which they are tried: by host, then the exact path, then the longest prefix, as nginx's `server_name` and `location`.

use std::{borrow::Cow, cmp::Reverse};

use ahash::AHashMap;
use http::{HeaderMap, Method, Uri, header::HOST};

use crate::proxy::settings::{HostMatch, PathMatch, RouteSettings, Scheme};

use super::{Route, Way, path};

/// All routes. A request takes the first that fits of its host, then of the wildcards for it, the longest first, then of those for any host.
pub struct Table {
    ways: Vec<Way>,
    hosts: AHashMap<String, Vec<Entry>>,
    /// By what a host must end with, longest first.
    wildcards: Vec<(String, Vec<Entry>)>,
    any: Vec<Entry>,
    /// Whether any route asks how a request came.
    by_scheme: bool,
}

/// What a route asks of a request, host aside.
#[derive(Clone)]
struct Entry {
    /// Decoded, as it is matched.
    path: Box<[u8]>,
    exact: bool,
    /// Empty for all.
    methods: Vec<Method>,
    scheme: Option<Scheme>,
    /// Index in `ways`.
    way: usize,
}

/// Where a request goes.
pub(in crate::proxy) enum Found<'a> {
    /// By this route.
    Way(&'a Way),
    /// Nowhere.
    Nothing,
    /// Only requests with one of these methods go there.
    OtherMethods(Vec<&'a Method>),
    /// Its path leads above the root, or has a NUL in it.
    NoPath,
}

impl Table {
    /// Orders the routes: exact paths before prefixes, long ones before short ones, those that ask for more before those that take everything.
    pub fn new(ways: impl IntoIterator<Item = Way>) -> Self {
        let ways: Vec<_> = ways.into_iter().collect();
        let mut table = Self { hosts: AHashMap::new(), wildcards: Vec::new(), any: Vec::new(), by_scheme: false, ways: Vec::new() };
        let mut wildcards: AHashMap<String, Vec<Entry>> = AHashMap::new();
        for (index, way) in ways.iter().enumerate() {
            let settings = way.settings();
            let entry = Entry::of(settings, index);
            table.by_scheme |= settings.scheme.is_some();
            if settings.hosts.is_empty() {
                table.any.push(entry.clone());
            }
            for host in &settings.hosts {
                let (entries, name) = match host {
                    HostMatch::Exact(name) => (&mut table.hosts, name),
                    HostMatch::Under(suffix) => (&mut wildcards, suffix),
                };
                entries.entry(name.clone()).or_default().push(entry.clone());
            }
        }
        table.wildcards = wildcards.into_iter().collect();
        table.wildcards.sort_by_key(|(suffix, _)| Reverse(suffix.len()));
        let lists = table.hosts.values_mut().chain(table.wildcards.iter_mut().map(|(_, list)| list)).chain([&mut table.any]);
        lists.for_each(|list| list.sort_by_key(Entry::rank));
        table.ways = ways;
        table
    }

    /// The way of a request; `is_https` says whether its client used https, and is asked only when that matters.
    pub(in crate::proxy) fn find(&self, uri: &Uri, headers: &HeaderMap, method: &Method, is_https: impl FnOnce() -> bool) -> Found<'_> {
        let Some(path) = path::normal(uri.path()) else { return Found::NoPath };
        let scheme = if self.by_scheme && is_https() { Scheme::Https } else { Scheme::Http };
        let candidates = || self.lists(uri, headers).flatten().filter(|entry| entry.takes(&path.path, scheme));
        match candidates().find(|entry| entry.takes_method(method)) {
            Some(entry) => Found::Way(&self.ways[entry.way]),
            None => {
                let methods = methods(candidates());
                if methods.is_empty() { Found::Nothing } else { Found::OtherMethods(methods) }
            }
        }
    }

    /// The methods with which a request goes anywhere from there; none where some route takes all of them.
    pub(in crate::proxy) fn methods(&self, uri: &Uri, headers: &HeaderMap, is_https: impl FnOnce() -> bool) -> Vec<&Method> {
        let Some(path) = path::normal(uri.path()) else { return Vec::new() };
        let scheme = if self.by_scheme && is_https() { Scheme::Https } else { Scheme::Http };
        let candidates = || self.lists(uri, headers).flatten().filter(|entry| entry.takes(&path.path, scheme));
        if candidates().any(|entry| entry.methods.is_empty()) { Vec::new() } else { methods(candidates()) }
    }

    /// The lists of routes that are for a request's host, in the order in which they are tried.
    fn lists(&self, uri: &Uri, headers: &HeaderMap) -> impl Iterator<Item = &[Entry]> {
        let (mut exact, mut wildcards) = (None, Vec::new());
        if !(self.hosts.is_empty() && self.wildcards.is_empty()) {
            let host = host_of(uri, headers);
            let lower =
                if host.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(host.to_ascii_lowercase()) } else { host.into() };
            exact = self.hosts.get(&*lower);
            wildcards.extend(self.wildcards.iter().filter(|(suffix, _)| is_under(&lower, suffix)).map(|(_, list)| list));
        }
        exact.into_iter().chain(wildcards).chain([&self.any]).map(Vec::as_slice)
    }

    /// Whether any route to a backend changes anything.
    pub(in crate::proxy) fn rewrite(&self) -> bool {
        self.backend_routes().any(|route| route.rewriter().is_some())
    }

    /// The route to a backend that has this name.
    pub(in crate::proxy) fn named(&self, name: &str) -> Option<&Route> {
        self.backend_routes().find(|route| *route.settings.name == *name)
    }

    fn backend_routes(&self) -> impl Iterator<Item = &Route> {
        self.ways.iter().filter_map(|way| match way {
            Way::Backend(route) => Some(&**route),
            Way::Own(_) => None,
        })
    }
}

/// All methods of these, each once.
fn methods<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a Method> {
    let mut methods: Vec<&Method> = Vec::new();
    for method in entries.flat_map(|entry| &entry.methods) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods
}

/// Whether a host is one or more labels in front of `.suffix`.
fn is_under(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')).is_some_and(|rest| !rest.is_empty())
}

impl Entry {
    fn of(settings: &RouteSettings, way: usize) -> Self {
        let (exact, path) = match &settings.path {
            PathMatch::Exact(path) => (true, path),
            PathMatch::Prefix(path) => (false, path),
        };
        Self { path: path::decoded(path).into(), exact, methods: settings.methods.clone(), scheme: settings.scheme, way }
    }

    fn rank(&self) -> impl Ord + use<> {
        (!self.exact, Reverse(self.path.len()), self.scheme.is_none(), self.methods.is_empty())
    }

    fn takes(&self, path: &[u8], scheme: Scheme) -> bool {
        let of_path = if self.exact { *path == *self.path } else { path.starts_with(&self.path) };
        of_path && self.scheme.is_none_or(|wanted| wanted == scheme)
    }

    /// Who may GET may ask for the head alone (RFC 9110 section 9.3.2).
    fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method) || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

/// The host that a request is for, without its port and the dot of the root; empty when it names none.
pub(super) fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let host = match uri.host() {
        Some(host) => host,
        None => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            match host.rsplit_once(':') {
                // The colons within an IPv6 address are not the one before a port.
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                _ => host,
            }
        }
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests;
