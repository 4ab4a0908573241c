//! The admin server: takes orders as spreadsheets, and is as bad at it as the real one was.
//!
//! An upload holds its file and all its cells in memory from beginning to end, every upload slows down every other, and one too many takes the
//! whole server with it. Uploading the same number one after the other would have been no trouble: that is what forebay's route limit does for it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyDataStream, Full};
use hyper::body::Incoming;
use multer::{Constraints, Multipart, SizeLimit};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Standin;
use crate::cli::demo::{
    ledger::{Entry, Executed},
    wire, workbook,
};

/// Where spreadsheets are uploaded.
pub const UPLOAD_PATH: &str = "/admin/orders/";

/// Bytes of an upload.
const UPLOAD_LIMIT: u64 = 64 << 20;

/// Steps that an upload takes when it is alone.
const STEPS: u32 = 10;

pub(super) async fn answer(server: &Arc<Standin>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, UPLOAD_PATH) => import(server, request).await.unwrap_or_else(|problem| {
            let Problem(status, text) = problem;
            wire::json(status, &json!({ "error": text }))
        }),
        (&Method::GET, UPLOAD_PATH) => wire::json(StatusCode::OK, &json!({ "orders": server.ledger().extent().entries })),
        (&Method::GET, "/healthz") => wire::json(StatusCode::OK, &json!({ "uploads": server.at_work() })),
        _ => wire::json(StatusCode::NOT_FOUND, &json!({ "error": "no such page" })),
    }
}

/// What the uploader is told instead of being served.
struct Problem(StatusCode, String);

fn bad(error: impl std::fmt::Display) -> Problem {
    Problem(StatusCode::BAD_REQUEST, error.to_string())
}

async fn import(server: &Arc<Standin>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Problem> {
    let key = request.headers().get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let file = uploaded(request).await?;

    let work = server.begin();
    if work.at_once > server.temper.uploads_at_once {
        server.crash(&format!("{} uploads at once were too many for it", work.at_once), server.temper.away);
        // The crash drops this request wherever it is; nothing may happen after it.
        std::future::pending::<()>().await;
    }

    let read = move || workbook::read(&file).map(|sheet| (sheet, file));
    let (sheet, file) = tokio::task::spawn_blocking(read).await.map_err(bad)?.map_err(bad)?;
    for _ in 0..STEPS {
        sleep(server.temper.step.mul_f64(strain(server.at_work()))).await;
    }

    let answer = receipt(&sheet.orders);
    let entries = sheet.orders.iter().map(|number| Entry { name: number.clone(), place: None }).collect();
    let executed = server.ledger().execute(key.as_deref(), entries, &answer);
    // Between the commit and the answer a real server still draws a page, and may die of it: done, and nobody was told.
    sleep(server.temper.step).await;
    // Held to the very end, as the real one did.
    drop((sheet, file, work));

    let answer = match executed {
        Executed::Now => answer,
        Executed::Before(answer) => answer,
    };
    let mut response = wire::json(StatusCode::CREATED, &Value::Null);
    *response.body_mut() = Full::new(answer);
    Ok(response)
}

/// How much longer a step takes with so many uploads at work: the processor is shared, and the swapping grows with every pair of them.
fn strain(at_work: usize) -> f64 {
    let uploads = f64::from(u32::try_from(at_work.max(1)).unwrap_or(u32::MAX));
    uploads + uploads * (uploads - 1.0) / 4.0
}

fn receipt(orders: &[String]) -> Bytes {
    let answer = json!({ "imported": orders.len(), "first": orders.first(), "last": orders.last() });
    Bytes::from(format!("{answer}\n"))
}

/// The first file of a form (RFC 7578).
async fn uploaded(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let kind = request.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(bad)?;
    let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(UPLOAD_LIMIT));
    let mut form = Multipart::with_constraints(BodyDataStream::new(request.into_body()), boundary, limits);
    while let Some(field) = form.next_field().await.map_err(bad)? {
        if field.file_name().is_some() {
            let file = field.bytes().await.map_err(bad)?;
            // The rest is read too: a form that ends early is not a form.
            while form.next_field().await.map_err(bad)?.is_some() {}
            return Ok(file);
        }
    }
    Err(bad("the form has no file; send it as: curl -F file=@orders.xlsx URL"))
}

#[cfg(test)]
mod tests {
    use super::strain;

    #[test]
    fn each_further_upload_costs_more_than_its_share() {
        assert!((strain(0) - 1.0).abs() < f64::EPSILON && (strain(1) - 1.0).abs() < f64::EPSILON);
        for uploads in 1..20_u32 {
            let (fewer, more) = (strain(uploads as usize), strain(uploads as usize + 1));
            assert!(more / f64::from(uploads + 1) > fewer / f64::from(uploads), "{uploads}");
        }
    }
}
