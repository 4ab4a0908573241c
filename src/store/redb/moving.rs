//! Whole requests, out of a store that nobody runs and into one that is open.

use ::redb::{ReadableDatabase, ReadableTable};
use prost::Message;

use super::{
    RedbStore,
    closed::ClosedStore,
    command::{Command, Import},
    row::{REQUESTS, ROUTES, RouteRow, Row, body_name},
    segments::{ReadError, Record as SegmentRecord},
    shared::Shared,
    unwritten,
    work::{Verb, Work},
};
use crate::{
    envelope::{Name, RequestId, Timestamp},
    store::{ExportError, Filter, Payload, Position, StoreError, payload::off_thread, records, transfer::Whole},
};

impl ClosedStore {
    /// Hands over every request that `filter` means, by position; in place of one whose bytes are damaged, what is wrong with it.
    pub(in crate::store) fn each(
        &self,
        filter: &Filter,
        mut take: impl FnMut(Result<Whole, String>) -> std::io::Result<()>,
    ) -> Result<(), ExportError> {
        let read = self.database.begin_read().map_err(::redb::Error::from)?;
        let mut wanted = Vec::new();
        for entry in read.open_table(ROUTES).map_err(::redb::Error::from)?.iter().map_err(::redb::Error::from)? {
            let (_, bytes) = entry.map_err(::redb::Error::from)?;
            let row = RouteRow::decode(bytes.value()).unwrap_or_default();
            wanted.push(filter.is_of(&Name::from(row.backend), &Name::from(row.route)));
        }
        for entry in read.open_table(REQUESTS).map_err(::redb::Error::from)?.iter().map_err(::redb::Error::from)? {
            let (position, bytes) = entry.map_err(::redb::Error::from)?;
            let row = match Row::decode(bytes.value()) {
                Ok(row) => row,
                Err(error) => {
                    take(Err(format!("the request at position {} cannot be read: {error}", position.value())))?;
                    continue;
                }
            };
            if row.matches(filter) && wanted.get(row.route as usize).copied().unwrap_or(true) {
                let whole = self.whole(&row).map_err(|error| format!("request {} cannot be read: {}", row.id(), describe(&error)));
                take(whole)?;
            }
        }
        Ok(())
    }

    fn whole(&self, row: &Row) -> Result<Whole, ReadError> {
        let (mut envelope, body) = if row.keeps_body() {
            self.readers.request(row).map(|(envelope, body)| (envelope, Some(body)))?
        } else {
            let head = self.readers.head(row.id(), row.request)?;
            (records::decode_request(&head).map_err(|_| ReadError::Damaged)?.0, None)
        };
        envelope.expires_at = Timestamp::from_millis(row.accepted_at.saturating_add(row.max_age));
        Ok(Whole {
            envelope,
            state: row.state(),
            changed_at: row.changed_at(),
            due: row.due(),
            redriven_at: (row.redriven_at > 0).then(|| Timestamp::from_millis(row.redriven_at)),
            attempts: row.attempts,
            failures: row.failures,
            trips: row.trips,
            dead_reason: row.dead_reason(),
            last_outcome: row.last_outcome.clone(),
            body_bytes: row.body_bytes,
            body,
            answer_status: u16::try_from(row.answer_status).ok().filter(|&status| status > 0),
            answer: row.answer.map(|at| self.readers.answer(row, at)).transpose()?,
        })
    }
}

fn describe(error: &ReadError) -> String {
    match error {
        ReadError::Damaged => "its bytes do not match their checksum".to_owned(),
        ReadError::Gone => "a file of it is missing".to_owned(),
        ReadError::Io(error) => error.to_string(),
    }
}

impl RedbStore {
    /// Whether there is a request of this identity.
    pub(in crate::store) async fn knows(&self, id: RequestId) -> Result<bool, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        off_thread(move || knows(&shared, id)).await
    }

    /// Makes a request durable as it is, in whatever state. False, and nothing is changed, where there is one of its identity. Requests are in order as this is called.
    pub(in crate::store) fn import(&self, whole: Whole) -> impl Future<Output = Result<bool, StoreError>> + '_ {
        let position = self.shared.turns.next_position();
        self.import_at(whole, position)
    }

    async fn import_at(&self, whole: Whole, position: Position) -> Result<bool, StoreError> {
        let envelope = &whole.envelope;
        let id = envelope.id;
        if self.knows(id).await? {
            return Ok(false);
        }
        let body = whole.body.unwrap_or_else(|| Payload::from(bytes::Bytes::new()));
        let head = records::request_head(envelope, &body);
        let bytes = head.len() as u64 + whole.body_bytes;
        self.check_open(unwritten(&head, &body))?;
        let inline: &[u8] = body.as_memory().map_or(&[], |bytes| bytes);
        let record = SegmentRecord::new(id, &head, inline).ok_or_else(|| StoreError::failed("a body of 4 GiB must be spooled"))?;
        let mut row = Row::new(envelope, bytes, whole.body_bytes, body.as_file().is_some());
        row.restore(whole.state, whole.changed_at, whole.due);
        row.redriven_at = whole.redriven_at.map_or(0, Timestamp::as_millis);
        (row.attempts, row.failures, row.trips) = (whole.attempts, whole.failures, whole.trips);
        row.dead_reason = whole.dead_reason.map(|reason| reason.to_string()).unwrap_or_default();
        row.last_outcome = whole.last_outcome;
        row.answer_status = whole.answer_status.map_or(0, u32::from);
        let reserved = row.takes_room().then(|| self.shared.capacity.reserve(bytes)).transpose()?;
        let file = self.keep_file(&body, || body_name(id)).await?;
        let answer = match whole.answer {
            Some(answer) => Some(self.store_answer(id, row.attempts, answer).await?),
            None => None,
        };
        let (backend, route) = (Name::clone(&whole.envelope.backend), Name::clone(&whole.envelope.route));
        let import = Box::new(Import { backend, route, row, record, position, reserved, file, answer });
        self.ask(|reply| Command::Import(import, reply)).await
    }
}

fn knows(shared: &Shared, id: RequestId) -> Result<bool, StoreError> {
    match shared.find(id) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Work<'_, '_> {
    /// A request that comes as it is. False where there is one of its identity.
    pub(super) fn import(&mut self, import: &mut Import, at: super::row::Location, answer: Option<super::row::Location>) -> Verb<bool> {
        let Some(route) = self.route(&import.backend, &import.route) else {
            return Ok(Err(StoreError::failed("the file has more routes than it can hold")));
        };
        if self.tables.has_id(import.row.id())? {
            return Ok(Ok(false));
        }
        let row = &mut import.row;
        (row.route, row.request, row.answer) = (route, at, answer);
        if import.answer.as_ref().is_some_and(|stored| stored.file.is_some()) {
            row.answer_file = row.attempts;
        }
        // No turn stands for it, as one does for an append. Before it is on offer, so that no live write of its key begins once it is.
        import.row.pending_key().into_iter().for_each(|key| self.shared.turns.add_stored(key));
        self.change(import.position, None, &import.row)?;
        Ok(Ok(true))
    }
}
