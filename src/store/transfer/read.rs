//! Reads the lines of an export into a store.

use std::{
    collections::HashSet,
    io::{self, BufRead, Read},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{AnswerLine, Data, Line, Part, RequestLine, Whole};
use crate::{
    envelope::{OrderKey, RequestId},
    store::{Payload, Store, StoreError, redb::RedbStore},
};

/// Longest line: many times what an export writes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Requests that are on their way to the disk at once.
const AT_ONCE: usize = 256;

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Requests that are in the store now and were not before.
    pub requests: u64,
    /// Requests that were there already, by their identity; they were left as they are.
    pub skipped: u64,
    /// Lines that are wrong; what they stand for was left out.
    pub wrong: u64,
}

/// Why an import came to an early end. What was imported before stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The lines cannot be read on.
    #[error("the lines cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The store takes no more.
    #[error(
        "line {line} could not be imported: {why}; not all of what follows was. Import the same again later: what is there already is skipped"
    )]
    Store {
        /// Number of the line, from 1.
        line: u64,
        /// What the store said.
        why: StoreError,
    },
}

/// Reads requests into `store`, in the order of the lines. Each wrong line is told to `wrong` with its number, from 1, and costs nothing but itself.
pub async fn import(store: &RedbStore, input: impl BufRead, mut wrong: impl FnMut(u64, &str)) -> Result<Imported, ImportError> {
    let mut flights = Flights::new(store);
    let read = launch_all(&mut flights, Lines { input, number: 0, back: None }, &mut wrong).await;
    // Also after an error: what is on its way may get there.
    let landed = flights.land_all().await;
    let wrong = read?;
    landed?;
    Ok(Imported { wrong, ..flights.done })
}

/// Sends off what the lines say. How many of them were wrong.
async fn launch_all(
    flights: &mut Flights<'_>,
    mut lines: Lines<impl BufRead>,
    wrong: &mut impl FnMut(u64, &str),
) -> Result<u64, ImportError> {
    let mut count = 0;
    // Pieces after a request that was left out go with it.
    let mut left_out = false;
    while let Some((number, line)) = lines.next()? {
        let fault = match line {
            Err(why) => Some((number, why)),
            Ok(Line::Piece(_)) if left_out => None,
            Ok(Line::Piece(_)) => Some((number, "a piece without its request before it".to_owned())),
            Ok(Line::Request(request)) => match begin(flights, &request).await.map_err(|why| at(number, why))? {
                Begun::Wrong(why) => Some((number, why)),
                Begun::Known => {
                    flights.done.skipped += 1;
                    left_out = true;
                    continue;
                }
                Begun::New(whole) => match gather(flights.store, *request, *whole, &mut lines).await? {
                    Ok(whole) => {
                        left_out = false;
                        flights.launch(number, whole).await?;
                        continue;
                    }
                    Err(fault) => Some(fault),
                },
            },
        };
        left_out = true;
        if let Some((number, why)) = fault {
            count += 1;
            wrong(number, &why);
        }
    }
    Ok(count)
}

fn at(line: u64, why: StoreError) -> ImportError {
    ImportError::Store { line, why }
}

enum Begun {
    New(Box<Whole>),
    Known,
    Wrong(String),
}

async fn begin(flights: &Flights<'_>, request: &RequestLine) -> Result<Begun, StoreError> {
    let whole = match request.read() {
        Ok(whole) => whole,
        Err(why) => return Ok(Begun::Wrong(why)),
    };
    let id = whole.envelope.id;
    let known = flights.ids.contains(&id) || flights.store.knows(id).await?;
    Ok(if known { Begun::Known } else { Begun::New(Box::new(whole)) })
}

/// A wrong line: its number, and why.
type Fault = (u64, String);

/// The request with its bodies, which may follow in lines of their own.
async fn gather<R: BufRead>(
    store: &RedbStore,
    request: RequestLine,
    mut whole: Whole,
    lines: &mut Lines<R>,
) -> Result<Result<Whole, Fault>, ImportError> {
    let first = lines.number;
    if let Some(body) = request.body {
        match collect(store, &request.id, Part::Body, body, lines).await? {
            Ok(body) if body.len() == whole.body_bytes => whole.body = Some(body),
            Ok(body) => return Ok(Err((first, format!("the body has {} bytes, and body_bytes says {}", body.len(), whole.body_bytes)))),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    if let (Some(AnswerLine { body: Some(body), .. }), Some(answer)) = (request.answer, whole.answer.as_mut()) {
        match collect(store, &request.id, Part::Answer, body, lines).await? {
            Ok(body) => answer.payload = body,
            Err(fault) => return Ok(Err(fault)),
        }
    }
    Ok(Ok(whole))
}

async fn collect<R: BufRead>(
    store: &RedbStore,
    id: &str,
    wanted: Part,
    data: Data,
    lines: &mut Lines<R>,
) -> Result<Result<Payload, Fault>, ImportError> {
    let Data::Follows(expected) = data else {
        let number = lines.number;
        return Ok(data.read().map(|bytes| Payload::from(bytes.unwrap_or_default())).map_err(|why| (number, why)));
    };
    let mut spool = store.spooler().begin(Some(expected));
    while spool.len() < expected {
        let missing = |there: u64| format!("{there} of {expected} bytes are there of what request {id} says that follows");
        let bytes: Bytes = match lines.next()? {
            Some((number, Ok(Line::Piece(piece)))) if piece.of == id && piece.part == wanted => match piece.data.read() {
                Ok(Some(bytes)) if !bytes.is_empty() && spool.len() + bytes.len() as u64 <= expected => bytes,
                Ok(_) => {
                    return Ok(Err((number, format!("a piece that is empty, or more than the {expected} bytes that were said to follow"))));
                }
                Err(why) => return Ok(Err((number, why))),
            },
            // What comes in its place counts by itself.
            Some((number, line @ Ok(_))) => {
                lines.back = Some((number, line));
                return Ok(Err((number, missing(spool.len()))));
            }
            Some((number, Err(why))) => return Ok(Err((number, why))),
            None => return Ok(Err((lines.number, missing(spool.len())))),
        };
        spool.push(bytes).await.map_err(|why| at(lines.number, why))?;
    }
    spool.finish().await.map(Ok).map_err(|why| at(lines.number, why))
}

/// A request that is on the disk, or could not get there.
struct Landed {
    /// Number of its line.
    number: u64,
    id: RequestId,
    key: Option<OrderKey>,
    /// Whether it is new.
    stored: Result<bool, StoreError>,
}

/// Requests on their way to the disk. Of one ordering key one at a time: were a later one there when an import is cut short, the earlier one would come behind it when
/// the import is done again.
struct Flights<'a> {
    store: &'a RedbStore,
    waiting: FuturesUnordered<BoxFuture<'a, Landed>>,
    ids: HashSet<RequestId>,
    keys: HashSet<OrderKey>,
    done: Imported,
}

impl<'a> Flights<'a> {
    fn new(store: &'a RedbStore) -> Self {
        Self { store, waiting: FuturesUnordered::new(), ids: HashSet::new(), keys: HashSet::new(), done: Imported::default() }
    }

    async fn launch(&mut self, number: u64, whole: Whole) -> Result<(), ImportError> {
        let key = whole.envelope.order_key;
        while self.waiting.len() >= AT_ONCE || key.is_some_and(|key| self.keys.contains(&key)) {
            self.land().await?;
        }
        let (id, storing) = (whole.envelope.id, self.store.import(whole));
        self.ids.insert(id);
        self.keys.extend(key);
        self.waiting.push(Box::pin(async move { Landed { number, id, key, stored: storing.await } }));
        Ok(())
    }

    async fn land(&mut self) -> Result<(), ImportError> {
        let Some(Landed { number, id, key, stored }) = self.waiting.next().await else { return Ok(()) };
        self.ids.remove(&id);
        key.map(|key| self.keys.remove(&key));
        if stored.map_err(|why| at(number, why))? {
            self.done.requests += 1;
        } else {
            self.done.skipped += 1;
        }
        Ok(())
    }

    /// Waits for all. The first error.
    async fn land_all(&mut self) -> Result<(), ImportError> {
        let mut landed = Ok(());
        while !self.waiting.is_empty() {
            landed = landed.and(self.land().await);
        }
        landed
    }
}

/// An error of one line, which is line 1 to its parser.
fn describe(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// The lines of an input, and their numbers.
struct Lines<R> {
    input: R,
    /// Of the last one that was read, from 1.
    number: u64,
    /// One that was read and not used.
    back: Option<(u64, Result<Line, String>)>,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<(u64, Result<Line, String>)>> {
        if let Some(back) = self.back.take() {
            return Ok(Some(back));
        }
        loop {
            let mut bytes = Vec::new();
            if self.input.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if bytes.len() as u64 == LONGEST && bytes.last() != Some(&b'\n') {
                self.skip_line()?;
                return Ok(Some((self.number, Err(format!("it is longer than {LONGEST} bytes")))));
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some((self.number, serde_json::from_slice(&bytes).map_err(|error| describe(&error)))));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffered = self.input.fill_buf()?;
            let (len, end) = match buffered.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffered.len(), buffered.is_empty()),
            };
            self.input.consume(len);
            if end {
                return Ok(());
            }
        }
    }
}
