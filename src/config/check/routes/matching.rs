//! Routes that take one another's requests, or that no request can take.

use http::Method;

use crate::{
    config::{fault::Faults, file::Route, read::At, values::AnyMethod},
    proxy::{HostMatch, PathMatch, Scheme, decoded},
};

/// Two routes of which neither is more particular than the other, and which take the same requests: the first one would have them all.
pub(super) fn overlaps(routes: &[At<Route>], faults: &mut Faults) {
    for (index, later) in routes.iter().enumerate() {
        let Some(path) = &later.value.matched.path else { continue };
        let Some((earlier, shared)) = routes[..index].iter().find_map(|earlier| Some((earlier, shared(&earlier.value, &later.value)?)))
        else {
            continue;
        };
        let label = match &shared {
            Shared::All => "no request would come here".to_owned(),
            Shared::Some(what) => format!("{what} would not come here"),
        };
        let help = if later.value.matched.host.is_some() {
            "path and host are the same: change one of them, or remove this route"
        } else {
            "the paths are the same: change one of them, give one a `host`, or remove this route"
        };
        let first = earlier.value.matched.path.as_ref().and_then(|path| path.span.clone());
        faults.add(path.span.clone(), "two routes take the same requests", label).also(first, "they all go here").help(help);
    }
}

/// What of the later route's requests the earlier one takes.
enum Shared {
    All,
    Some(String),
}

fn shared(earlier: &Route, later: &Route) -> Option<Shared> {
    let (a, b) = (&earlier.matched, &later.matched);
    let same_scheme = a.scheme.as_ref().map(|at| at.value) == b.scheme.as_ref().map(|at| at.value);
    if !is_same(&a.path.as_ref()?.value, &b.path.as_ref()?.value) || !same_scheme {
        return None;
    }
    let hosts = |route: &Route| {
        let hosts = route.matched.host.as_ref().map(|hosts| hosts.value.0.iter().map(|host| Some(host.value.clone())).collect());
        hosts.unwrap_or_else(|| vec![None::<HostMatch>])
    };
    let (theirs, ours) = (hosts(earlier), hosts(later));
    let common_hosts: Vec<_> = ours.iter().filter(|host| theirs.contains(host)).collect();
    let (theirs, mine) = (methods_of(earlier), methods_of(later));
    let common_methods: Vec<_> = mine.iter().filter(|method| theirs.contains(method)).collect();
    // A route with methods goes before one without, so that these do not meet.
    if common_hosts.is_empty() || theirs.is_empty() != mine.is_empty() || (!mine.is_empty() && common_methods.is_empty()) {
        return None;
    }
    if common_methods.len() < mine.len() {
        let names: Vec<_> = common_methods.iter().map(|method| method.as_str()).collect();
        return Some(Shared::Some(names.join(", ")));
    }
    if common_hosts.len() < ours.len() {
        let names = common_hosts.iter().filter_map(|host| host.as_ref()).map(|host| match host {
            HostMatch::Exact(name) => name.clone(),
            HostMatch::Under(name) => format!("*.{name}"),
        });
        return Some(Shared::Some(names.collect::<Vec<_>>().join(", ")));
    }
    Some(Shared::All)
}

/// However they are written: `/%61` is `/a`.
fn is_same(one: &PathMatch, other: &PathMatch) -> bool {
    match (one, other) {
        (PathMatch::Exact(one), PathMatch::Exact(other)) | (PathMatch::Prefix(one), PathMatch::Prefix(other)) => {
            decoded(one) == decoded(other)
        }
        _ => false,
    }
}

fn methods_of(route: &Route) -> Vec<Method> {
    route.matched.methods.as_ref().map_or_else(Vec::new, |methods| methods.value.iter().map(|method| method.value.0.clone()).collect())
}

/// A route for requests that cannot come.
pub(super) fn reachable(scheme: Option<&At<Scheme>>, https: bool, faults: &mut Faults) {
    if let Some(scheme) = scheme.filter(|scheme| scheme.value == Scheme::Https && !https) {
        let fault = faults.add(scheme.span.clone(), "no request comes by https", "no request would come here");
        fault.help("give a listener a certificate (`tls`), or name the proxy that has one in `clients.trusted_proxies`: its X-Forwarded-Proto says how a request came");
    }
}

/// The methods of a route, each once.
pub(super) fn methods(methods: Option<At<Vec<At<AnyMethod>>>>, faults: &mut Faults) -> Vec<Method> {
    let mut unique = Vec::new();
    for method in methods.map_or_else(Vec::new, |methods| methods.value) {
        if unique.contains(&method.value.0) {
            faults.add(method.span, format!("`routes.methods` has {} twice", method.value.0), "once is enough");
        } else {
            unique.push(method.value.0);
        }
    }
    unique
}
