//! Routes: names and matches that are unique, places that exist, changes and spilling that can work.

mod changes;
mod matching;
mod target;

use std::collections::HashMap;

use bytes::Bytes;
use http::StatusCode;

use crate::{
    config::{
        fault::{Faults, Span},
        file::{self, Accepted, Backend, Matched, Route, Spill},
        read::{At, nearest},
        units::show_size,
        values::{Concurrency, Named, OrderBy, Size},
    },
    envelope::order::Rule,
    proxy::{self, OnDeadLetter, RouteSettings},
};

/// What bounds the bodies of every route.
pub(super) struct Limits {
    /// `clients.max_body`.
    pub body: At<Size>,
    /// `store.max_bytes`.
    pub store: At<Size>,
}

/// What the other parts of the file mean for routes.
pub(super) struct Surroundings<'a> {
    /// Without any, which is a fault of its own, none is missed.
    pub backends: Option<&'a Named<Backend>>,
    pub limits: Limits,
    /// Whether a request can have come by https.
    pub https: bool,
}

/// The settings of all routes that are whole; the others have a fault each.
pub(super) fn settings(routes: Vec<At<Route>>, around: &Surroundings<'_>, faults: &mut Faults) -> Vec<RouteSettings> {
    unique_names(&routes, faults);
    matching::overlaps(&routes, faults);
    routes.into_iter().filter_map(|route| one(route, around, faults)).collect()
}

/// Everything is looked at before any `?`: a route without a name still shows what is wrong with its spilling.
fn one(route: At<Route>, around: &Surroundings<'_>, faults: &mut Faults) -> Option<RouteSettings> {
    if let Some(backends) = around.backends {
        leads_somewhere(&route.value, backends, faults);
    }
    let target = target::of(&route, faults);
    let Route {
        matched: Matched { name, path, host, methods, scheme },
        changed,
        response_timeout,
        max_body,
        concurrency,
        max_share,
        rates,
        spill,
        ..
    } = route.value;
    matching::reachable(scheme.as_ref(), around.https, faults);
    let rewrite = changes::rewrite(changed, path.as_ref(), faults);
    let limits = Limits { body: max_body.clone().unwrap_or(around.limits.body.clone()), store: around.limits.store.clone() };
    let bound = if max_body.is_some() { "`routes.max_body`" } else { "`clients.max_body`" };
    let rate = super::rates::limit(rates, "routes", faults);
    let spill = spill.map(|spill| spilling(spill.value, &limits, bound, faults));
    Some(RouteSettings {
        name: name?.value,
        path: path?.value,
        hosts: host.map_or_else(Vec::new, |at| at.value.0.into_iter().map(|host| host.value).collect()),
        methods: matching::methods(methods, faults),
        scheme: scheme.map(|at| at.value),
        target: target?,
        rewrite,
        response_timeout: response_timeout.map(|at| at.value),
        max_body: max_body.map(|at| at.value.0),
        concurrency: concurrency.map(|at| at.value),
        max_share: max_share.map(|at| at.value.0),
        rate,
        spill,
    })
}

fn unique_names(routes: &[At<Route>], faults: &mut Faults) {
    let mut seen: HashMap<&str, &Span> = HashMap::new();
    for name in routes.iter().filter_map(|route| route.value.matched.name.as_ref()) {
        if let Some(first) = seen.get(&*name.value) {
            faults
                .add(name.span.clone(), format!("two routes have the name `{}`", name.value), "counts and logs could not tell them apart")
                .also((*first).clone(), "first here");
        } else {
            seen.insert(&name.value, &name.span);
        }
    }
}

fn leads_somewhere(route: &Route, backends: &Named<Backend>, faults: &mut Faults) {
    let Some(wanted) = &route.backend else { return };
    let Some((_, backend)) = backends.0.iter().find(|(name, _)| name.value == wanted.value) else {
        let names = || backends.0.iter().map(|(name, _)| &*name.value);
        let label = match nearest(&wanted.value, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there is no `[backends.{}]`", wanted.value),
        };
        let all = names().collect::<Vec<_>>().join(", ");
        faults
            .add(wanted.span.clone(), format!("no backend has the name `{}`", wanted.value), label)
            .help(format!("backends: {all}"))
            .absence = true;
        return;
    };
    let Concurrency::Fixed(limit) = backend.concurrency.value else { return };
    if let Some(own) = route.concurrency.as_ref().filter(|own| own.value > limit) {
        let title = format!("the route's concurrency is more than that of its backend `{}`", wanted.value);
        let fault = faults.add(own.span.clone(), title, format!("at most {limit} requests are at this backend at once"));
        fault
            .also(backend.concurrency.span.clone(), "by this")
            .help(format!("raise `backends.{}.concurrency`, or remove the key", wanted.value));
    }
}

fn spilling(spill: Spill, limits: &Limits, bound_by: &str, faults: &mut Faults) -> proxy::Spill {
    let Spill { methods, when, delivery, order_by, max_body, max_age, max_attempts, on_dead_letter, accepted } = spill;
    let mut unique = Vec::new();
    for method in methods.value {
        if unique.contains(&method.value) {
            faults.add(method.span, format!("`routes.spill.methods` has {} twice", method.value), "once is enough");
        } else {
            unique.push(method.value);
        }
    }
    order(&order_by, &on_dead_letter, faults);
    if let Some(own) = &max_body {
        fits(own, &limits.body, bound_by, "no larger body comes in", faults);
        fits(own, &limits.store, "`store.max_bytes`", "no larger body fits into the store", faults);
    }
    let bound = file::SPILL_MAX_BODY.min(limits.body.value).min(limits.store.value);
    proxy::Spill {
        methods: unique,
        when: when.value,
        delivery: delivery.value,
        order_by: order_by.value.0.into_iter().map(|at| at.value).collect(),
        max_body: max_body.map_or(bound, |at| at.value).0,
        max_age: max_age.value,
        max_attempts: max_attempts.value,
        on_dead_letter: on_dead_letter.value,
        accepted: accepted.and_then(|accepted| answer(accepted.value, faults)),
    }
}

fn fits(own: &At<Size>, limit: &At<Size>, name: &str, why: &str, faults: &mut Faults) {
    if own.value > limit.value {
        let label = format!("{why} than {}", show_size(limit.value.0));
        faults.add(own.span.clone(), format!("`routes.spill.max_body` is more than {name}"), label).also(limit.span.clone(), "by this");
    }
}

fn order(order_by: &At<OrderBy>, on_dead_letter: &At<OnDeadLetter>, faults: &mut Faults) {
    let rules = &order_by.value.0;
    if rules.is_empty() && on_dead_letter.value == OnDeadLetter::Hold {
        let title = "`on_dead_letter = \"hold\"` with `order_by = \"none\"`";
        let fault = faults.add(on_dead_letter.span.clone(), title, "without an ordering key there is nothing to hold");
        fault.also(order_by.span.clone(), "no key").help("say what orders the requests, or write \"continue\"");
    }
    places(rules, "routes.spill.order_by", faults);
}

/// Places of which the first that is present decides: each once, and none behind one that always is.
pub(super) fn places(rules: &[At<Rule>], path: &str, faults: &mut Faults) {
    for (index, rule) in rules.iter().enumerate() {
        let earlier = &rules[..index];
        if let Some(first) = earlier.iter().find(|first| first.value == rule.value) {
            faults
                .add(rule.span.clone(), format!("`{path}` has {} twice", rule.value), "once is enough")
                .also(first.span.clone(), "first here");
        } else if let Some(always) = earlier.iter().find(|first| matches!(first.value, Rule::ClientIp | Rule::Path)) {
            let title = format!("`{path}` never comes to {}", rule.value);
            let label = format!("`{}` is always present", always.value);
            faults.add(rule.span.clone(), title, label).help(format!("the first that is present decides: put `{}` last", always.value));
        }
    }
}

fn answer(accepted: Accepted, faults: &mut Faults) -> Option<proxy::Accepted> {
    let Accepted { status, content_type, body } = accepted;
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status.value, 204 | 205 | 304) && !body.value.is_empty() {
        let title = format!("`routes.spill.accepted` has a body, and an answer {} has none", status.value);
        let fault = faults.add(body.span, title, "it could not be sent");
        fault.also(status.span.clone(), "no body with this").help("write status = 200, or remove the body");
    }
    // In range by its key.
    let status = u16::try_from(status.value).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
    Some(proxy::Accepted { status, content_type: content_type.value, body: Bytes::from(body.value) })
}
