//! Which route a request takes: its host first, then the exact path, then the longest prefix, as in nginx.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, header::HOST};

use crate::{
    backend::Backend,
    envelope::Name,
    health::{Health, Kind, gate::Gate},
    telemetry::RouteMetrics,
};

use super::settings::{PathMatch, RouteSettings, Spill};

/// A backend as the proxy sees it.
#[derive(Clone)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// How to send.
    pub backend: Arc<Backend>,
    /// Whether to send.
    pub health: Arc<Health>,
    /// When a request with so many ahead of it will have been delivered.
    pub estimate: Estimate,
}

/// From the number of requests ahead to the time that they will take.
pub type Estimate = Arc<dyn Fn(u64) -> std::time::Duration + Send + Sync>;

/// A route and what it needs at run time.
pub struct Route {
    /// What the configuration says.
    pub settings: RouteSettings,
    /// Where it leads.
    pub upstream: Upstream,
    /// Its own limit, shared with replay.
    pub gate: Option<Arc<Gate>>,
    /// Its counters.
    pub metrics: RouteMetrics,
    /// The classes of its requests: with a safe method, and with another.
    pub kinds: (Kind, Kind),
}

impl Route {
    /// How a request of that method spills on this route; none when it never does.
    pub(super) fn spill(&self, method: &Method) -> Option<&Spill> {
        self.settings.spill.as_ref().filter(|spill| spill.methods.contains(method))
    }

    /// The class of a request of that method.
    pub(super) fn kind(&self, method: &Method) -> Kind {
        if method.is_safe() { self.kinds.0 } else { self.kinds.1 }
    }
}

/// All routes, in the order in which they are tried.
pub struct Table(Vec<Arc<Route>>);

impl Table {
    /// Orders the routes: those with a host before those without, exact paths before prefixes, long prefixes before short ones.
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by_key(|route| {
            let (kind, length) = match &route.settings.path {
                PathMatch::Exact(path) => (0, path.len()),
                PathMatch::Prefix(path) => (1, path.len()),
            };
            (route.settings.host.is_none(), kind, std::cmp::Reverse(length))
        });
        Self(routes)
    }

    /// The route of a request.
    pub(super) fn find(&self, uri: &Uri, headers: &HeaderMap) -> Option<&Arc<Route>> {
        let path = uri.path();
        let mut host = None;
        self.0.iter().find(|route| {
            let of_path = match &route.settings.path {
                PathMatch::Exact(exact) => path == exact,
                PathMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
            };
            of_path
                && route
                    .settings
                    .host
                    .as_deref()
                    .is_none_or(|wanted| host.get_or_insert_with(|| host_of(uri, headers)).eq_ignore_ascii_case(wanted))
        })
    }

    /// All routes.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.iter()
    }
}

/// The host that a request is for, without its port; empty when it names none.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    if let Some(host) = uri.host() {
        return host;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':') {
        // The colons within an IPv6 address are not the one before a port.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}
