//! What redb holds. Narrow rows: everything that a request is to be found, ordered, counted and pruned by, and where its bytes lie.
//!
//! ```text
//! table     key                        value
//! meta      name                       number: "format" is the version of all of this, "history_since" the moment from which on hours are counted,
//!                                      "journal" the secret of the store (see journal), "journal_*" the place up to which this contains it (see checkpoint)
//! routes    number of the route        RouteRow: its names, its exact totals, and its latest hour
//! requests  position (see turns)       Row
//! ids       request id, as a number    position
//! history   hour from 1970, route      HourRow: what happened in an hour before the route's latest
//! ```
//! Formats: 1 had no history, 2 no journal; see `format`.
//! Rows are keyed by position and not by identity, so that they are appended at the end of their tree and read back in order.

use ::redb::TableDefinition;
use prost::Message;

use super::hours::Latest;
use crate::{
    envelope::{DeadReason, Envelope, OrderKey, RequestId, State, Timestamp},
    store::{Filter, Moves, Totals, records},
};

/// The newest format that this program reads, and the one that it writes.
pub(super) const FORMAT: u32 = 3;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const ROUTES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("routes");
pub(super) const REQUESTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("requests");
pub(super) const IDS: TableDefinition<'_, u128, u64> = TableDefinition::new("ids");
pub(super) const HISTORY: TableDefinition<'_, (u32, u32), &[u8]> = TableDefinition::new("history");

/// One route at one backend.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RouteRow {
    #[prost(string, tag = "1")]
    pub(super) backend: String,
    #[prost(string, tag = "2")]
    pub(super) route: String,
    #[prost(uint64, tag = "3")]
    pub(super) accepted: u64,
    #[prost(uint64, tag = "4")]
    pub(super) queued: u64,
    #[prost(uint64, tag = "5")]
    pub(super) delivering: u64,
    #[prost(uint64, tag = "6")]
    pub(super) delivered: u64,
    #[prost(uint64, tag = "7")]
    pub(super) dead: u64,
    #[prost(uint64, tag = "8")]
    pub(super) cancelled: u64,
    #[prost(uint64, tag = "9")]
    pub(super) discarded: u64,
    /// The latest hour in which anything happened, and what.
    #[prost(uint32, tag = "10")]
    hour: u32,
    #[prost(message, optional, tag = "11")]
    moves: Option<HourRow>,
}

/// What happened to the requests of one route in one hour.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct HourRow {
    #[prost(uint64, tag = "1")]
    accepted: u64,
    #[prost(uint64, tag = "2")]
    delivered: u64,
    #[prost(uint64, tag = "3")]
    dead: u64,
    #[prost(uint64, tag = "4")]
    cancelled: u64,
    #[prost(uint64, tag = "5")]
    discarded: u64,
}

impl HourRow {
    pub(super) fn new(moves: Moves) -> Self {
        let Moves { accepted, delivered, dead, cancelled, discarded } = moves;
        Self { accepted, delivered, dead, cancelled, discarded }
    }

    pub(super) fn moves(self) -> Moves {
        let Self { accepted, delivered, dead, cancelled, discarded } = self;
        Moves { accepted, delivered, dead, cancelled, discarded }
    }
}

impl RouteRow {
    pub(super) fn latest(&self) -> Latest {
        Latest { hour: self.hour, moves: self.moves.map(HourRow::moves).unwrap_or_default() }
    }

    pub(super) fn totals(&self) -> Totals {
        let &Self { accepted, queued, delivering, delivered, dead, cancelled, discarded, .. } = self;
        Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded }
    }

    pub(super) fn new(backend: &str, route: &str, totals: Totals, latest: Latest) -> Self {
        let Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded } = totals;
        let (backend, route) = (backend.to_owned(), route.to_owned());
        let Latest { hour, moves } = latest;
        let moves = (!moves.is_empty()).then(|| HourRow::new(moves));
        Self { backend, route, accepted, queued, delivering, delivered, dead, cancelled, discarded, hour, moves }
    }
}

/// Where a record lies among the segments.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Location {
    #[prost(uint32, tag = "1")]
    pub(super) segment: u32,
    #[prost(uint32, tag = "2")]
    pub(super) offset: u32,
    #[prost(uint32, tag = "3")]
    pub(super) head: u32,
    #[prost(uint32, tag = "4")]
    pub(super) body: u32,
}

/// One request. Absent numbers are 0 and take no bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Row {
    #[prost(fixed64, tag = "1")]
    pub(super) id_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) id_low: u64,
    #[prost(uint32, tag = "3")]
    pub(super) route: u32,
    /// Place in [`State::ALL`].
    #[prost(uint32, tag = "4")]
    state: u32,
    #[prost(bool, tag = "5")]
    pub(super) may_be_resent: bool,
    #[prost(bool, tag = "6")]
    pub(super) holds_key_when_dead: bool,
    #[prost(fixed64, optional, tag = "7")]
    pub(super) order_key: Option<u64>,
    #[prost(uint64, tag = "8")]
    pub(super) accepted_at: u64,
    /// Its whole age, in milliseconds from its acceptance or its last redrive.
    #[prost(uint64, tag = "9")]
    pub(super) max_age: u64,
    #[prost(uint64, tag = "10")]
    pub(super) redriven_at: u64,
    /// 0 means `accepted_at`.
    #[prost(uint64, tag = "11")]
    changed_at: u64,
    /// 0 means `accepted_at`.
    #[prost(uint64, tag = "12")]
    due: u64,
    /// What it takes of `max_bytes`.
    #[prost(uint64, tag = "13")]
    pub(super) bytes: u64,
    #[prost(uint64, tag = "14")]
    pub(super) body_bytes: u64,
    #[prost(uint32, tag = "15")]
    pub(super) attempts: u32,
    #[prost(uint32, tag = "16")]
    pub(super) failures: u32,
    /// Its head, and its body unless that lies in a file or is no longer kept.
    #[prost(message, required, tag = "17")]
    pub(super) request: Location,
    #[prost(bool, tag = "18")]
    pub(super) body_file: bool,
    #[prost(message, optional, tag = "19")]
    pub(super) answer: Option<Location>,
    /// Number of the attempt whose answer lies in a file; 0 for none.
    #[prost(uint32, tag = "20")]
    pub(super) answer_file: u32,
    #[prost(uint32, tag = "21")]
    pub(super) answer_status: u32,
    /// The name of the reason; empty unless dead.
    #[prost(string, tag = "22")]
    pub(super) dead_reason: String,
    #[prost(string, tag = "23")]
    pub(super) last_outcome: String,
    /// Trips of the breaker during which it was at the backend.
    #[prost(uint32, tag = "24")]
    pub(super) trips: u32,
}

impl Row {
    /// A new, queued request; where its bytes lie is not known yet.
    pub(super) fn new(envelope: &Envelope, bytes: u64, body_bytes: u64, body_file: bool) -> Self {
        let (id_high, id_low) = records::halves(envelope.id);
        Self {
            id_high,
            id_low,
            may_be_resent: envelope.may_be_resent(),
            holds_key_when_dead: envelope.hold_key_when_dead,
            order_key: envelope.order_key.map(OrderKey::as_u64),
            accepted_at: envelope.accepted_at.as_millis(),
            max_age: u64::try_from(envelope.expires_at.since(envelope.accepted_at).as_millis()).unwrap_or(u64::MAX),
            bytes,
            body_bytes,
            body_file,
            ..Self::default()
        }
    }

    pub(super) fn id(&self) -> RequestId {
        records::from_halves(self.id_high, self.id_low)
    }

    /// A number of a newer program's state reads as queued, which loses nothing.
    pub(super) fn state(&self) -> State {
        State::ALL.get(self.state as usize).copied().unwrap_or(State::Queued)
    }

    pub(super) fn become_at(&mut self, state: State, at: Timestamp) {
        self.state = state as u32;
        self.changed_at = at.as_millis();
    }

    /// Takes up a life that was led elsewhere.
    pub(super) fn restore(&mut self, state: State, changed_at: Timestamp, due: Timestamp) {
        self.become_at(state, changed_at);
        self.due = due.as_millis();
    }

    pub(super) fn die(&mut self, reason: DeadReason, at: Timestamp) {
        self.become_at(State::Dead, at);
        reason.as_str().clone_into(&mut self.dead_reason);
    }

    pub(super) fn queue_again(&mut self, at: Timestamp, due: Timestamp) {
        self.become_at(State::Queued, at);
        self.due = due.as_millis();
    }

    pub(super) fn changed_at(&self) -> Timestamp {
        Timestamp::from_millis(if self.changed_at == 0 { self.accepted_at } else { self.changed_at })
    }

    pub(super) fn due(&self) -> Timestamp {
        Timestamp::from_millis(if self.due == 0 { self.accepted_at } else { self.due })
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        let from = if self.redriven_at == 0 { self.accepted_at } else { self.redriven_at };
        Timestamp::from_millis(from.saturating_add(self.max_age))
    }

    pub(super) fn dead_reason(&self) -> Option<DeadReason> {
        DeadReason::from_name(&self.dead_reason)
    }

    /// Whether it counts against `max_requests` and `max_bytes`.
    pub(super) fn takes_room(&self) -> bool {
        matches!(self.state(), State::Queued | State::Delivering)
    }

    pub(super) fn holds_key(&self) -> bool {
        self.state() == State::Dead && self.holds_key_when_dead
    }

    /// The key that it has later ones queue behind it for.
    pub(super) fn pending_key(&self) -> Option<OrderKey> {
        let key = self.order_key.filter(|_| self.takes_room() || self.holds_key())?;
        Some(OrderKey::from_u64(key))
    }

    pub(super) fn keeps_body(&self) -> bool {
        !matches!(self.state(), State::Delivered | State::Cancelled)
    }

    pub(super) fn body_name(&self) -> Option<String> {
        self.body_file.then(|| body_name(self.id()))
    }

    pub(super) fn answer_name(&self) -> Option<String> {
        (self.answer_file > 0).then(|| answer_name(self.id(), self.answer_file))
    }

    /// Whether it is what `filter` asks for, apart from backend and route.
    pub(super) fn matches(&self, filter: &Filter) -> bool {
        filter.state.is_none_or(|state| state == self.state()) && filter.dead_reason.is_none_or(|reason| Some(reason) == self.dead_reason())
    }
}

/// The file of a request's body.
pub(super) fn body_name(id: RequestId) -> String {
    format!("{id}.body")
}

/// The file of the body of the answer to a request's attempt.
pub(super) fn answer_name(id: RequestId, attempt: u32) -> String {
    format!("{id}.{attempt}.answer")
}

/// The key of an identity in [`IDS`], which sorts as identities do.
pub(super) fn id_key(id: RequestId) -> u128 {
    u128::from_be_bytes(id.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_a_row_of_any_bytes_is_read_or_refused() {
        let at = Location { segment: 1, offset: 2, head: 3, body: 4 };
        let row = Row {
            id_high: 1,
            order_key: Some(5),
            accepted_at: 6,
            max_age: 7,
            request: at,
            answer: Some(at),
            answer_file: 1,
            ..Row::default()
        };
        let mut dead = row.clone();
        dead.die(DeadReason::Refused, Timestamp::from_millis(9));
        let route = RouteRow::new("b", "r", Totals { accepted: 1, queued: 1, ..Totals::default() }, Latest::default());
        crate::fuzz::run(
            &[&row.encode_to_vec(), &dead.encode_to_vec()],
            &[b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x20\x09"],
            |bytes| {
                let Ok(row) = Row::decode(bytes) else { return false };
                let (state, filter) = (row.state(), Filter::default());
                assert!(row.matches(&filter) && row.expires_at() >= Timestamp::from_millis(0));
                let _read =
                    (row.id(), row.changed_at(), row.due(), row.dead_reason(), row.pending_key(), row.body_name(), row.answer_name());
                assert_eq!(Row::decode(&row.encode_to_vec()[..]).map(|again| again.state()), Ok(state));
                true
            },
        );
        crate::fuzz::run(&[&route.encode_to_vec()], &[b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"], |bytes| {
            RouteRow::decode(bytes)
                .is_ok_and(|row| row.totals() == RouteRow::new(&row.backend, &row.route, row.totals(), row.latest()).totals())
        });
    }
}
