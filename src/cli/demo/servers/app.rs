//! The app server: takes delivery marks from drivers' phones, and answers questions about parcels.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use super::Standin;
use crate::cli::demo::{
    ledger::{Entry, Executed},
    wire,
};

/// Where marks are posted.
pub const MARK_PATH: &str = "/marks";

/// Bytes of a mark.
const MARK_LIMIT: usize = 64 << 10;

/// A delivery mark: a driver says that a parcel was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its own number, unique in the world of the demo.
    pub id: String,
    /// Who says so.
    pub driver: String,
    /// Which parcel.
    pub parcel: String,
    /// Which mark of this driver it is, from 1. The server must see them in this order: the last state of a parcel is the true one.
    pub sequence: u64,
}

pub(super) async fn answer(server: &Arc<Standin>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, MARK_PATH) => mark(server, request).await,
        (&Method::GET, "/healthz") => wire::json(StatusCode::OK, &json!({ "ok": true })),
        (&Method::GET, path) if path.starts_with("/parcels/") => parcel(server, path).await,
        _ => wire::json(StatusCode::NOT_FOUND, &json!({ "error": "no such page" })),
    }
}

async fn mark(server: &Arc<Standin>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let key = request.headers().get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = match wire::whole(request.into_body(), MARK_LIMIT).await {
        Ok(body) => body,
        Err(error) => return wire::json(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })),
    };
    let mark: Mark = match serde_json::from_slice(&body) {
        Ok(mark) => mark,
        Err(error) => return wire::json(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })),
    };

    let _work = server.begin();
    let half = server.temper.step / 10;
    sleep(half).await;
    let answer = Bytes::from(format!("{}\n", json!({ "mark": mark.id, "state": "delivered" })));
    let entry = Entry { name: mark.id, place: Some((mark.driver, mark.sequence)) };
    let executed = server.ledger().execute(key.as_deref(), vec![entry], &answer);
    // A crash here leaves a mark that is written down and was never answered.
    sleep(half).await;

    let answer = match executed {
        Executed::Now => answer,
        Executed::Before(answer) => answer,
    };
    let mut response = wire::json(StatusCode::CREATED, &json!(null));
    *response.body_mut() = Full::new(answer);
    response
}

async fn parcel(server: &Arc<Standin>, path: &str) -> Response<Full<Bytes>> {
    let _work = server.begin();
    sleep(server.temper.step / 10).await;
    let parcel = path.trim_start_matches("/parcels/");
    let delivered = server.ledger().times(&format!("M-{parcel}")) > 0;
    wire::json(StatusCode::OK, &json!({ "parcel": parcel, "delivered": delivered }))
}
