//! The resources that we serve ourselves: what became of a queued request (`/.forebay/requests/ID`), the backend's answer to it, and its withdrawal.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};

use crate::{
    envelope::{RequestId, State, Timestamp},
    http1::Origin,
    store::{Answer, Record, Store, StoreError},
};

use super::{
    answer,
    body::ClientBody,
    route::{Scene, Table},
};

/// Paths that begin so are ours and never reach a backend.
pub(super) const RESERVED: &str = "/.forebay/";
/// Where outcomes are read.
pub(super) const PREFIX: &str = "/.forebay/requests/";

/// Answers a request for a path under [`RESERVED`]; `scene` is that request.
pub(super) async fn serve(store: &dyn Store, now: Timestamp, routes: &Table, scene: Scene<'_>) -> Response<ClientBody> {
    let Scene { method, headers, .. } = scene;
    let path = scene.uri.path();
    let Some((id, wants_answer)) = parse(path) else {
        return answer::unknown_request(headers);
    };
    match (method, wants_answer) {
        (&Method::GET | &Method::HEAD, false) => state(store, id, headers).await,
        (&Method::GET | &Method::HEAD, true) => kept_answer(store, id, routes, scene).await,
        (&Method::DELETE, false) => cancel(store, id, now, headers).await,
        (_, false) => answer::method_not_allowed("GET, HEAD, DELETE", headers),
        (_, true) => answer::method_not_allowed("GET, HEAD", headers),
    }
}

fn parse(path: &str) -> Option<(RequestId, bool)> {
    let rest = path.strip_prefix(PREFIX)?;
    let (id, wants_answer) = match rest.strip_suffix("/response") {
        Some(id) => (id, true),
        None => (rest, false),
    };
    Some((id.parse().ok()?, wants_answer))
}

async fn state(store: &dyn Store, id: RequestId, headers: &HeaderMap) -> Response<ClientBody> {
    match store.get(id).await {
        Ok(record) => answer::json(StatusCode::OK, &describe(&record)),
        Err(error) => failed(&error, headers),
    }
}

/// The state of a request as a client sees it.
fn describe(record: &Record) -> serde_json::Value {
    let reason = record.dead_reason.map_or(record.envelope.reason.as_str(), |dead| dead.as_str());
    let mut body = serde_json::json!({
        "id": record.envelope.id.to_string(),
        "state": record.state,
        "attempts": record.attempts,
        "reason": reason,
        "accepted_at": record.envelope.accepted_at.to_string(),
        "changed_at": record.changed_at.to_string(),
    });
    if let Some(ahead) = record.ahead {
        body["position"] = (ahead + 1).into();
        body["expires_at"] = record.envelope.expires_at.to_string().into();
    }
    if let Some(status) = record.answer_status {
        body["response"] =
            serde_json::json!({ "status": status, "location": format!("{}/response", answer::location(record.envelope.id)) });
    }
    body
}

/// What the client would have got, had it waited: the backend's answer, with what the request's route changes in answers.
async fn kept_answer(store: &dyn Store, id: RequestId, routes: &Table, scene: Scene<'_>) -> Response<ClientBody> {
    let kept = match store.answer(id).await {
        Ok(kept) => kept,
        Err(error) => return failed(&error, scene.headers),
    };
    let Some(mut response) = replayed(&kept) else { return failed(&StoreError::Damaged(id), scene.headers) };
    if routes.rewrite()
        && let Ok(record) = store.get(id).await
        && let Some(rewriter) = routes.named(&record.envelope.route).and_then(|route| route.rewriter())
    {
        rewriter.changes_of_answer(scene).answer(response.headers_mut());
    }
    response
}

/// Exactly what the backend answered.
fn replayed(kept: &Answer) -> Option<Response<ClientBody>> {
    let mut response = Response::new(match kept.payload.as_memory() {
        Some(bytes) => ClientBody::full(Bytes::clone(bytes)),
        None => ClientBody::kept(kept.payload.body()),
    });
    *response.status_mut() = StatusCode::from_u16(kept.status).ok()?;
    let fields = kept.headers.iter().map(|field| (field.spelling.as_deref().unwrap_or(field.name.as_str()), &field.name, &field.value));
    let (headers, origin) = Origin::of(fields);
    *response.headers_mut() = headers;
    response.extensions_mut().insert(origin);
    Some(response)
}

async fn cancel(store: &dyn Store, id: RequestId, now: Timestamp, headers: &HeaderMap) -> Response<ClientBody> {
    match store.cancel(id, now).await {
        Ok(()) => answer::no_content(),
        Err(error) => failed(&error, headers),
    }
}

fn failed(error: &StoreError, headers: &HeaderMap) -> Response<ClientBody> {
    match error {
        StoreError::NotFound => answer::unknown_request(headers),
        StoreError::WrongState(State::Queued) => answer::conflict("The request has not been tried yet.", headers),
        StoreError::WrongState(state) => answer::conflict(&format!("The request is {state}; only a queued one can be cancelled."), headers),
        other => answer::store_failed(other, headers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_paths_that_we_hand_out_are_understood() {
        let id = RequestId::new();
        assert_eq!(parse(&format!("/.forebay/requests/{id}")), Some((id, false)));
        assert_eq!(parse(&format!("/.forebay/requests/{id}/response")), Some((id, true)));
        for path in [
            "/.forebay/requests/",
            "/.forebay/",
            "/.forebay/requests/1",
            &format!("/.forebay/requests/{id}/x"),
            &format!("/.forebay/requests/{id}/response/response"),
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
