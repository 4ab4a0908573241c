//! What the program says of itself at one moment, by its admin listener.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::backend::Backend;

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub at: f64,
    pub limit: f64,
    pub in_flight: f64,
    pub slowdown: f64,
    pub base: f64,
    pub window: f64,
    pub delivering: f64,
    pub queued: f64,
    /// The breaker sheds.
    pub sheds: bool,
    /// At the backend itself, whoever sent it.
    pub at_backend: f64,
}

/// A look at the program, if there is one, and at the backend. None while the program is away, or opens its store and does not know what is queued.
pub async fn look(admin: Option<SocketAddr>, backend: &Arc<Backend>, now: Duration) -> Option<Look> {
    let at_backend = f64::from(backend.in_flight.load(Relaxed));
    let Some(admin) = admin else { return Some(Look { at: now.as_secs_f64(), at_backend, ..Look::default() }) };
    let status = get(admin, "/api/v1/status").await?;
    if status["phase"] == "opening" {
        return None;
    }
    let app = &status["backends"][0];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let bases: Vec<f64> = app["base_latencies"].as_array()?.iter().map(|base| number(&base["seconds"])).collect();
    Some(Look {
        at: now.as_secs_f64(),
        limit: number(&app["concurrency_limit"]),
        in_flight: number(&app["in_flight"]),
        slowdown: number(&app["slowdown"]),
        base: bases.first().copied().unwrap_or_default(),
        window: number(&app["queue"]["replay"]["window"]),
        delivering: number(&app["queue"]["delivering"]),
        queued: number(&app["queue"]["queued"]),
        sheds: app["state"] == "shedding",
        at_backend,
    })
}

/// The numbers of the writes that are kept as dead letters.
pub async fn dead_numbers(admin: SocketAddr) -> HashSet<u64> {
    let (mut numbers, mut after) = (HashSet::new(), String::new());
    while let Some(page) = get(admin, &format!("/api/v1/requests?state=dead&limit=1000{after}")).await {
        let requests = page["requests"].as_array().cloned().unwrap_or_default();
        let number = |request: &Value| request["target"].as_str()?.rsplit('/').next()?.parse::<u64>().ok();
        numbers.extend(requests.iter().filter_map(number));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    numbers
}

async fn get(admin: SocketAddr, path: &str) -> Option<Value> {
    tokio::time::timeout(Duration::from_secs(2), fetch(admin, path)).await.ok().flatten()
}

async fn fetch(admin: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    serde_json::from_slice(&answer[body..]).ok()
}
