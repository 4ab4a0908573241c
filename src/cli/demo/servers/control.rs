//! The endpoint by which a user crashes a stand-in and brings it back: `curl -X POST http://…/crash/admin`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Standin, Which};
use crate::cli::demo::wire;

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, servers: [Arc<Standin>; 2]) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let servers = servers.clone();
                let service = service_fn(move |request| {
                    let response = answer(&servers, &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                connections.spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
            }
        }
    }
}

fn answer(servers: &[Arc<Standin>; 2], request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (verb, name) = request.uri().path().trim_start_matches('/').split_once('/').unwrap_or_default();
    let server = servers.iter().find(|server| Some(server.which) == Which::from_name(name));
    match (request.method(), verb, server) {
        (&Method::POST, "crash", Some(server)) => done(server.crash("you pulled its plug", server.temper.away), server),
        (&Method::POST, "revive", Some(server)) => done(server.revive(), server),
        (&Method::GET, _, _) if request.uri().path() == "/" => {
            wire::json(StatusCode::OK, &Value::Array(servers.iter().map(|server| describe(server)).collect()))
        }
        _ => wire::json(
            StatusCode::NOT_FOUND,
            &json!({ "error": "try GET /, POST /crash/admin, POST /crash/app, POST /revive/admin or POST /revive/app" }),
        ),
    }
}

fn done(changed: bool, server: &Standin) -> Response<Full<Bytes>> {
    // 409: it was so already.
    wire::json(if changed { StatusCode::OK } else { StatusCode::CONFLICT }, &describe(server))
}

fn describe(server: &Standin) -> Value {
    let extent = server.ledger().extent();
    json!({
        "name": server.which.name(),
        "address": format!("http://{}", server.address()),
        "up": server.is_up(),
        "at_work": server.at_work(),
        "ledger_entries": extent.entries,
        "repeats_known": extent.repeats,
    })
}
