//! The people: drivers, partners, visitors of a rush, and a reader.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{Settings, stopped};
use crate::cli::demo::{
    journal::{Journal, Line, Promise},
    servers::{MARK_PATH, Mark, UPLOAD_PATH},
    wire::{Client, Reply, WireError},
    workbook,
};

/// Separates the parts of an upload; the bytes of a spreadsheet are compressed and will not contain it.
const BOUNDARY: &str = "forebay-demo-2f9c61d0b7";

/// What one upload carries.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    /// Its number, and the beginning of its order numbers.
    number: String,
    orders: usize,
    around: bool,
}

impl Upload {
    pub(super) fn new(number: String, orders: usize, around: bool) -> Self {
        Self { number, orders, around }
    }
}

/// An upload of a spreadsheet as a browser's form sends it (RFC 7578). `sender` is who sends it, `key` its `Idempotency-Key`.
pub fn upload_request(sender: &str, key: &str, file: &[u8]) -> http::Result<Request<Full<Bytes>>> {
    let mut body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{key}.xlsx\"\r\n\
         Content-Type: application/vnd.openxmlformats-officedocument.spreadsheetml.sheet\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    Request::builder()
        .method(Method::POST)
        .uri(UPLOAD_PATH)
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .header(header::AUTHORIZATION, format!("Bearer {sender}"))
        .header("idempotency-key", key)
        .body(Full::new(Bytes::from(body)))
}

/// A mark as a driver's phone sends it.
pub fn mark_request(mark: &Mark) -> http::Result<Request<Full<Bytes>>> {
    // The mark is a few strings and a number: it always has a JSON form.
    let body = serde_json::to_vec(mark).unwrap_or_default();
    Request::builder()
        .method(Method::POST)
        .uri(MARK_PATH)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", mark.driver))
        .header("idempotency-key", &mark.id)
        .body(Full::new(Bytes::from(body)))
}

/// One mark after the other, each until it is acknowledged.
pub(super) async fn driver(number: u32, settings: Settings, journal: Arc<Journal>, mut stopping: watch::Receiver<bool>) {
    let name = format!("driver-{number}");
    let mut client = Client::new(settings.proxy, settings.patience);
    let mut ticks = ticks(number, settings.drivers, settings.mark_interval);
    for sequence in 1_u64.. {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            _ = ticks.tick() => {}
        }
        let parcel = format!("{number}-{sequence}");
        let mark = Mark { id: format!("M-{parcel}"), driver: name.clone(), parcel, sequence };
        let line = journal.marking(mark.id.clone(), name.clone(), sequence);
        while !said(&journal, line, mark_request(&mark), &mut client).await {
            tokio::select! {
                () = stopped(&mut stopping) => return,
                () = sleep(settings.pause) => {}
            }
        }
    }
}

/// One spreadsheet after the other.
pub(super) async fn partner(number: u32, settings: Settings, journal: Arc<Journal>, mut stopping: watch::Receiver<bool>) {
    let mut client = Client::new(settings.proxy, settings.patience);
    let mut ticks = ticks(number, settings.partners, settings.upload_interval);
    for sheet in 1_u64.. {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            _ = ticks.tick() => {}
        }
        upload(&Upload::new(format!("P{number}-{sheet:05}"), settings.orders, false), &format!("partner-{number}"), &mut client, &journal)
            .await;
    }
}

/// Somebody who comes once.
pub(super) async fn visitor(visit: Upload, settings: Settings, journal: Arc<Journal>) {
    let address = if visit.around { settings.admin } else { settings.proxy };
    let mut client = Client::new(address, settings.patience);
    let name = format!("visitor-{}", visit.number);
    upload(&visit, &name, &mut client, &journal).await;
}

/// Asks for a parcel now and then.
pub(super) async fn reader(settings: Settings, journal: Arc<Journal>, mut stopping: watch::Receiver<bool>) {
    let mut client = Client::new(settings.proxy, settings.patience);
    let mut ticks = ticks(1, 1, settings.read_interval);
    for round in 0_u64.. {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            _ = ticks.tick() => {}
        }
        let driver = 1 + round % u64::from(settings.drivers.max(1));
        let request = Request::get(format!("/parcels/{driver}-1")).body(Full::default());
        if let Ok(request) = request {
            journal.read(client.send(request).await.ok().map(|reply| reply.status));
        }
    }
}

async fn upload(upload: &Upload, sender: &str, client: &mut Client, journal: &Journal) {
    let orders = workbook::orders(&upload.number, upload.orders);
    let numbers = orders.iter().map(|order| order.number.clone()).collect();
    // Writing a spreadsheet takes milliseconds; the drivers on this thread must not wait for it.
    let written = tokio::task::spawn_blocking(move || workbook::workbook(&orders)).await;
    let line = journal.uploading(numbers, upload.around);
    let file = match written {
        Ok(Ok(file)) => file,
        Ok(Err(error)) => return journal.told(line, Promise::None, Some(format!("no spreadsheet: {error}"))),
        Err(error) => return journal.told(line, Promise::None, Some(format!("no spreadsheet: {error}"))),
    };
    said(journal, line, upload_request(sender, &upload.number, &file), client).await;
}

/// Sends it and writes down what was said. True when it was acknowledged.
async fn said(journal: &Journal, line: Line, request: http::Result<Request<Full<Bytes>>>, client: &mut Client) -> bool {
    let (promise, why) = match request {
        Ok(request) => outcome(client.send(request).await),
        Err(error) => (Promise::None, Some(error.to_string())),
    };
    let acknowledged = promise != Promise::None;
    journal.told(line, promise, why);
    acknowledged
}

fn outcome(result: Result<Reply, WireError>) -> (Promise, Option<String>) {
    match result {
        Ok(reply) => match Promise::of(&reply) {
            Promise::None => (Promise::None, Some(format!("answered {}", reply.status))),
            promise => (promise, None),
        },
        Err(error) => (Promise::None, Some(error.to_string())),
    }
}

/// Ticks of one of `all` senders, spread evenly over the interval.
fn ticks(number: u32, all: u32, interval: Duration) -> tokio::time::Interval {
    let offset = interval * (number - 1) / all.max(1);
    let mut ticks = interval_at(Instant::now() + offset, interval);
    // After a pause the lost ticks are not made up for: a driver who has waited delivers no faster afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mark_travels_as_json_under_its_own_key() {
        let mark = Mark { id: "M-7-1".into(), driver: "driver-7".into(), parcel: "7-1".into(), sequence: 1 };
        let request = mark_request(&mark).unwrap();
        assert_eq!(request.headers()["idempotency-key"], "M-7-1");
        assert_eq!(request.headers()["authorization"], "Bearer driver-7");
        let body = crate::cli::demo::wire::whole(request.into_body(), 1000).await.unwrap();
        assert_eq!(serde_json::from_slice::<Mark>(&body).unwrap(), mark);
    }
}
