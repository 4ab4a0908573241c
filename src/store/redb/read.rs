//! Looks at one request or many. They run on threads that may wait, and hold a read transaction no longer than a look.

use std::{collections::BTreeSet, ops::Bound};

use bytes::Bytes;
use http::Method;
use prost::Message;

use super::{
    row::{IDS, Location, REQUESTS, Row, answer_name, body_name, id_key},
    segments::{ReadError, Readers},
    shared::Shared,
};
use crate::{
    envelope::{Delivery, Envelope, OrderKey, Reason, RequestId, State, Timestamp},
    store::{Answer, Claimed, Filter, Page, Payload, Position, Record, StoreError, payload::FileBody, records},
};

/// How often a look is begun anew because what it found was moved meanwhile. Each request is moved a few times in its life.
const LOOKS: usize = 8;

impl Readers {
    /// Envelope and body of a request that keeps its body.
    pub(super) fn request(&self, row: &Row) -> Result<(Envelope, Payload), ReadError> {
        let id = row.id();
        let (head, body) = self.whole(id, row.request)?;
        let (mut envelope, file) = records::decode_request(&head).map_err(|_| ReadError::Damaged)?;
        envelope.expires_at = row.expires_at();
        Ok((envelope, self.payload(id, body, file, || body_name(id))?))
    }

    /// The kept answer, which is at `at`.
    pub(super) fn answer(&self, row: &Row, at: Location) -> Result<Answer, ReadError> {
        let id = row.id();
        let (head, body) = self.whole(id, at)?;
        let (status, headers, file) = records::decode_answer(&head).map_err(|_| ReadError::Damaged)?;
        let payload = self.payload(id, body, file, || answer_name(id, row.answer_file))?;
        Ok(Answer { status, headers, payload })
    }

    fn payload(&self, id: RequestId, inline: Bytes, file: Option<records::File>, name: impl Fn() -> String) -> Result<Payload, ReadError> {
        let Some(stored) = file else { return Ok(Payload::from(inline)) };
        let failed =
            |error: std::io::Error| if error.kind() == std::io::ErrorKind::NotFound { ReadError::Gone } else { ReadError::Io(error) };
        let file = self.disk().open_body(&name()).map_err(failed)?;
        Ok(Payload::from_file(FileBody { file, len: stored.len, crc: stored.crc, owner: Some(id) }))
    }
}

pub(super) type ReadRows = (Vec<Claimed>, Vec<(RequestId, u32)>);

/// Envelopes and bodies of claimed requests, and those whose bytes are damaged.
pub(super) fn claimed(shared: &Shared, rows: &[(Position, Row)]) -> Result<ReadRows, StoreError> {
    let (mut whole, mut damaged) = (Vec::with_capacity(rows.len()), Vec::new());
    for (_, row) in rows {
        match shared.request(row) {
            Ok((envelope, payload)) => {
                whole.push(Claimed { envelope, payload, attempt: row.attempts, failures: row.failures, trips: row.trips });
            }
            // A request that is being delivered keeps its bytes: where they are gone, something else took them.
            Err(ReadError::Damaged | ReadError::Gone) => damaged.push((row.id(), row.attempts)),
            Err(ReadError::Io(error)) => return Err(StoreError::failed(error)),
        }
    }
    Ok((whole, damaged))
}

impl Shared {
    /// Of one whose head is damaged or gone, what its row says.
    pub(super) fn record(&self, id: RequestId) -> Result<Record, StoreError> {
        let whole = self.look(id, |position, row| {
            let head = self.readers.head(id, row.request)?;
            let (envelope, _) = records::decode_request(&head).map_err(|_| ReadError::Damaged)?;
            Ok(Ok(self.to_record(position, row, envelope)))
        });
        match whole {
            Err(StoreError::Damaged(_)) => {
                let (position, row) = self.find(id)?;
                Ok(self.to_record(position, &row, self.what_is_left(&row)))
            }
            other => other,
        }
    }

    pub(super) fn body(&self, id: RequestId) -> Result<Payload, StoreError> {
        self.look(id, |_, row| if row.keeps_body() { self.request(row).map(|(_, body)| Ok(body)) } else { Ok(Err(StoreError::NotFound)) })
    }

    pub(super) fn answer(&self, id: RequestId) -> Result<Answer, StoreError> {
        self.look(id, |_, row| {
            let Some(at) = row.answer else { return Ok(Err(StoreError::NotFound)) };
            self.readers.answer(row, at).map(Ok)
        })
    }

    /// See [`Readers::request`].
    pub(super) fn request(&self, row: &Row) -> Result<(Envelope, Payload), ReadError> {
        self.readers.request(row)
    }

    /// Looks again where what was found was let go of between the look at the row and that at its bytes.
    fn look<T>(&self, id: RequestId, look: impl Fn(Position, &Row) -> Result<Result<T, StoreError>, ReadError>) -> Result<T, StoreError> {
        let mut last: Option<Row> = None;
        for _ in 0..LOOKS {
            let (position, row) = self.find(id)?;
            match look(position, &row) {
                Ok(result) => return result,
                // It is gone although nothing has moved.
                Err(ReadError::Gone) if last.as_ref() == Some(&row) => break,
                Err(ReadError::Gone) => last = Some(row),
                Err(ReadError::Damaged) => break,
                Err(ReadError::Io(error)) => return Err(StoreError::failed(error)),
            }
        }
        Err(StoreError::Damaged(id))
    }

    /// What the row alone says of a request whose head is damaged, so that an operator sees it among the dead.
    fn what_is_left(&self, row: &Row) -> Envelope {
        let (backend, route) = self.index.lock().names_of(row.route);
        Envelope {
            id: row.id(),
            backend,
            route,
            method: Method::from_bytes(b"UNKNOWN").unwrap_or_default(),
            target: "(damaged)".to_owned(),
            headers: Vec::new(),
            trailers: Vec::new(),
            reason: Reason::Down,
            accepted_at: Timestamp::from_millis(row.accepted_at),
            expires_at: row.expires_at(),
            delivery: if row.may_be_resent { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
            max_attempts: 0,
            order_key: row.order_key.map(OrderKey::from_u64),
            hold_key_when_dead: row.holds_key_when_dead,
        }
    }

    fn to_record(&self, position: Position, row: &Row, mut envelope: Envelope) -> Record {
        envelope.expires_at = row.expires_at();
        let queued = row.state() == State::Queued;
        Record {
            envelope,
            body_bytes: row.body_bytes,
            state: row.state(),
            attempts: row.attempts,
            due: queued.then(|| row.due()),
            changed_at: row.changed_at(),
            dead_reason: row.dead_reason(),
            last_outcome: row.last_outcome.clone(),
            answer_status: u16::try_from(row.answer_status).ok().filter(|&status| status > 0),
            ahead: queued.then(|| self.index.lock().ahead(row.route, position)),
        }
    }

    pub(super) fn page(&self, filter: &Filter, after: Option<RequestId>, limit: usize) -> Result<Page, StoreError> {
        let mut rows = self.rows(filter, after, limit.saturating_add(1))?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().copied() } else { None };
        let mut page = Page { records: Vec::with_capacity(rows.len()), next };
        for id in rows {
            match self.record(id) {
                Ok(record) => page.records.push(record),
                // Forgotten meanwhile, or set aside: no reason not to show the others.
                Err(StoreError::NotFound | StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    fn rows(&self, filter: &Filter, after: Option<RequestId>, most: usize) -> Result<Vec<RequestId>, StoreError> {
        let read = self.begin_read()?;
        let routes: Option<BTreeSet<u32>> = (filter.backend.is_some() || filter.route.is_some())
            .then(|| self.index.lock().route_numbers(|backend, route| filter.is_of(backend, route)));
        let wanted = |row: &Row| row.matches(filter) && routes.as_ref().is_none_or(|routes| routes.contains(&row.route));
        let ids = read.open_table(IDS).map_err(StoreError::failed)?;
        let requests = read.open_table(REQUESTS).map_err(StoreError::failed)?;
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(id_key(after)));
        let mut found = Vec::new();
        for entry in ids.range((from, Bound::Unbounded)).map_err(StoreError::failed)? {
            let (_, position) = entry.map_err(StoreError::failed)?;
            let Some(bytes) = requests.get(position.value()).map_err(StoreError::failed)? else { continue };
            let Ok(row) = Row::decode(bytes.value()) else { continue };
            if wanted(&row) {
                found.push(row.id());
                if found.len() >= most {
                    break;
                }
            }
        }
        Ok(found)
    }
}
