//! Backends: servers, checks and replay that fit together.

use std::{collections::HashMap, time::Duration};

use http::Uri;

use crate::{
    backend,
    config::{
        BackendConfig,
        fault::Faults,
        file::{self, Backend},
        read::At,
        values::{Concurrency, Named},
    },
    envelope::Name,
    health, replay,
};

/// The most servers that a backend may have.
const SERVERS_MAX: usize = 64;
/// How long a live request waits for a seat: long enough for a short burst, too short for a client to notice.
const SEAT_WAIT: Duration = Duration::from_millis(250);

pub(super) fn settings(backends: Named<Backend>, faults: &mut Faults) -> Vec<BackendConfig> {
    backends.0.into_iter().map(|(name, backend)| one(name.value, backend, faults)).collect()
}

fn one(name: Name, backend: Backend, faults: &mut Faults) -> BackendConfig {
    let Backend {
        servers,
        protocol,
        tls,
        connect_timeout,
        response_timeout,
        idle_timeout,
        tunnel_timeout,
        resolve_interval,
        concurrency,
        health,
        replay,
    } = backend;
    let tls = servers.as_ref().and_then(|servers| super::tls::settings(&name, servers, &protocol, tls, faults));
    let servers = servers.map_or_else(Vec::new, |servers| unique_servers(&name, servers, faults));
    let limit = match concurrency.value {
        Concurrency::Fixed(limit) => limit,
        Concurrency::Adaptive => u32::MAX,
    };
    if let Some(replayed) = replay.concurrency.as_ref().filter(|replayed| replayed.value > limit) {
        let title = format!("`backends.{name}.replay.concurrency` is more than the backend's own concurrency");
        let label = format!("at most {limit} requests are at this backend at once");
        faults
            .add(replayed.span.clone(), title, label)
            .also(concurrency.span, "by this")
            .help("live and replayed requests share the backend's concurrency");
    }
    let profile = replay.profile.value;
    // Nothing else bounds a pace that heeds nothing.
    let alone = (profile == replay::Profile::Fixed).then(|| file::REPLAY_CONCURRENCY.min(limit));
    BackendConfig {
        backend: backend::Settings {
            servers,
            protocol: protocol.value,
            tls,
            connect_timeout: connect_timeout.value,
            response_timeout: response_timeout.value,
            idle_timeout: idle_timeout.value,
            tunnel_timeout: tunnel_timeout.value,
            resolve_interval: resolve_interval.value,
        },
        health: health::Settings {
            concurrency: match concurrency.value {
                Concurrency::Fixed(limit) => health::Concurrency::Fixed(limit),
                Concurrency::Adaptive => health::Concurrency::Adaptive,
            },
            wait: SEAT_WAIT,
            check: health.and_then(|health| check(&name, health.value, faults)),
        },
        replay: replay::Settings {
            profile,
            rate: replay.rate.map(|at| at.value),
            concurrency: replay.concurrency.map(|at| at.value).or(alone),
        },
        name,
    }
}

fn unique_servers(name: &Name, servers: At<Vec<At<backend::ServerAddress>>>, faults: &mut Faults) -> Vec<backend::ServerAddress> {
    if servers.value.len() > SERVERS_MAX {
        let title = format!("`backends.{name}.servers` has {} servers", servers.value.len());
        faults.add(servers.span, title, format!("at most {SERVERS_MAX} are balanced"));
    }
    let mut seen = HashMap::new();
    for server in &servers.value {
        if let Some(first) = seen.insert(&server.value, &server.span) {
            let title = format!("`backends.{name}.servers` has {} twice", server.value);
            faults.add(server.span.clone(), title, "it is one server all the same").also(first.clone(), "first here");
        }
    }
    servers.value.into_iter().map(|at| at.value).collect()
}

fn check(name: &Name, health: file::Health, faults: &mut Faults) -> Option<health::Check> {
    let file::Health { path, interval, timeout, fall, rise } = health;
    if timeout.value > interval.value {
        let title = format!("`backends.{name}.health.timeout` is longer than its interval");
        let span = timeout.span.clone().or_else(|| interval.span.clone());
        faults.add(span, title, "a check would still be under way when the next is due").also(interval.span.clone(), "the interval");
    }
    let path = path?;
    let is_target = path.value.starts_with('/') && !path.value.contains('#') && path.value.parse::<Uri>().is_ok();
    if !is_target {
        let title = format!("`backends.{name}.health.path` is not a path");
        faults
            .add(path.span, title, "it begins with `/` and is written as in a request")
            .help("write it as \"/healthz\"; the servers are those of the backend");
        return None;
    }
    Some(health::Check { path: path.value, interval: interval.value, timeout: timeout.value, fall: fall.value, rise: rise.value })
}
