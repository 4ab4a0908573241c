//! The verbs, inside one write transaction. The index follows at once, so that each verb sees what those before it did; what is seen
//! from outside the writer thread follows after the commit, by [`After`].

use ::redb::StorageError;

use super::{
    ages::{Ages, Class},
    command::{Append, Claim, Dead, End, Settle, Step},
    hours,
    ledger::Ledger,
    log::Log,
    row::{Location, Row},
    shared::Shared,
    tables::Tables,
};
use crate::{
    envelope::{DeadReason, Name, OrderKey, RequestId, State, Timestamp},
    store::{Appended, Position, StoreError, history},
};

/// A verb's result: refused is its own affair, broken is everybody's.
pub(super) type Verb<T> = Result<Result<T, StoreError>, ::redb::Error>;

/// What is to be done once it is committed.
#[derive(Debug, Default)]
pub(super) struct After {
    /// Keys with one pending request fewer.
    pub(super) released: Vec<OrderKey>,
    /// Room of requests: `true` to take it, `false` to give it back.
    pub(super) room: Vec<(bool, u64)>,
    /// Files that nothing needs.
    pub(super) needless: Vec<String>,
    /// Attempts that began (with their number) or ended.
    pub(super) flights: Vec<(Position, Option<u32>)>,
    /// Routes of backends that may have something to claim.
    pub(super) rung: Vec<u32>,
    /// Whether anything was written.
    pub(super) changed: bool,
}

pub(super) struct Work<'t, 'w> {
    pub(super) tables: Tables<'t>,
    pub(super) shared: &'w Shared,
    pub(super) log: &'w mut Log,
    pub(super) ledger: &'w mut Ledger,
    /// See [`Writer`](super::writer::Writer).
    pub(super) doubtful: &'w mut Vec<Position>,
    pub(super) after: After,
}

impl Work<'_, '_> {
    pub(super) fn append(&mut self, append: &mut Append, at: Location) -> Verb<Appended> {
        let Some(route) = self.route(&append.backend, &append.route) else {
            return Ok(Err(StoreError::failed("the file has more routes than it can hold")));
        };
        let (id, position) = (append.row.id(), append.turn.position());
        if self.tables.has_id(id)? {
            return Ok(Err(StoreError::failed(format_args!("there is a request {id} already"))));
        }
        append.row.route = route;
        append.row.request = at;
        let ahead = self.shared.index.lock().ahead(route, position);
        self.change(position, None, &append.row)?;
        Ok(Ok(Appended { id, ahead, bytes: append.row.bytes }))
    }

    /// The number of a route, which may be new. None when there are too many.
    pub(super) fn route(&mut self, backend: &Name, route: &Name) -> Option<u32> {
        let (number, is_new) = self.ledger.number(backend, route)?;
        if is_new {
            self.ledger.touch(number);
            self.shared.index.lock().add_route(backend, route);
        }
        Some(number)
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Vec<(Position, Row)>, ::redb::Error> {
        let mut claimed = Vec::new();
        while claimed.len() < claim.max {
            let next = {
                let mut index = self.shared.index.lock();
                index.advance(claim.now);
                index.next(&claim.backend, &claim.full_routes)
            };
            let Some(position) = next else { break };
            let before = self.tables.row(position)?.filter(|row| row.state() == State::Queued);
            // The index is what the rows say. Where it is not, it is built anew.
            let before = before.ok_or_else(|| StorageError::Corrupted(format!("request {position} is not queued")))?;
            let mut row = before.clone();
            if row.expires_at() <= claim.now {
                row.die(DeadReason::Expired, claim.now);
                self.change(position, Some(&before), &row)?;
            } else {
                row.become_at(State::Delivering, claim.now);
                row.attempts += 1;
                self.change(position, Some(&before), &row)?;
                claimed.push((position, row));
            }
        }
        Ok(claimed)
    }

    /// Takes back the start of an attempt that was not made.
    pub(super) fn unclaim(&mut self, position: Position, attempt: u32, at: Timestamp) -> Result<(), ::redb::Error> {
        let begun = |row: &Row| row.state() == State::Delivering && row.attempts == attempt;
        let Some(before) = self.tables.row(position)?.filter(begun) else { return Ok(()) };
        let mut row = before.clone();
        row.queue_again(at, before.due().min(at));
        row.attempts -= 1;
        self.change(position, Some(&before), &row)
    }

    pub(super) fn settle(&mut self, settle: &mut Settle, answer: Option<Location>, head: Option<Location>) -> Verb<()> {
        let Some((position, before)) = self.tables.find(settle.id)? else { return Ok(Err(StoreError::NotFound)) };
        if before.state() != State::Delivering || before.attempts != settle.attempt {
            return Ok(Err(StoreError::WrongState(before.state())));
        }
        let mut row = before.clone();
        if let Some(stored) = settle.answer.as_ref().filter(|_| answer.is_some()) {
            row.answer = answer;
            row.answer_file = if stored.file.is_some() { settle.attempt } else { 0 };
        }
        row.answer_status = settle.answer.as_ref().map_or(0, |stored| stored.status.into());
        match &mut settle.end {
            End::Delivered => {
                row.become_at(State::Delivered, settle.at);
                row.last_outcome = format!("answered {}", row.answer_status);
                let_body_go(&mut row, head);
            }
            End::Again { due, consumes_attempt, trips, why } => {
                row.queue_again(settle.at, *due);
                row.failures += u32::from(*consumes_attempt);
                row.trips = row.trips.saturating_add(*trips);
                row.last_outcome = std::mem::take(why);
            }
            End::Dead { reason, why } => {
                row.die(*reason, settle.at);
                row.last_outcome = std::mem::take(why);
            }
        }
        self.change(position, Some(&before), &row)?;
        Ok(Ok(()))
    }

    pub(super) fn cancel(&mut self, id: RequestId, at: Timestamp, head: Option<Location>) -> Verb<()> {
        let Some((position, before)) = self.tables.find(id)? else { return Ok(Err(StoreError::NotFound)) };
        if before.state() != State::Queued {
            return Ok(Err(StoreError::WrongState(before.state())));
        }
        let mut row = before.clone();
        row.become_at(State::Cancelled, at);
        let_body_go(&mut row, head);
        self.change(position, Some(&before), &row)?;
        Ok(Ok(()))
    }

    pub(super) fn redrive(&mut self, dead: &Dead) -> Result<Step, ::redb::Error> {
        self.each_dead(dead, |work, position, before| {
            let mut row = before.clone();
            row.queue_again(dead.at, dead.at);
            row.redriven_at = dead.at.as_millis();
            (row.failures, row.trips) = (0, 0);
            row.dead_reason.clear();
            (row.answer, row.answer_file, row.answer_status) = (None, 0, 0);
            work.change(position, Some(before), &row)
        })
    }

    pub(super) fn discard(&mut self, dead: &Dead) -> Result<Step, ::redb::Error> {
        self.each_dead(dead, |work, position, row| work.forget(position, row, dead.at))
    }

    fn each_dead(
        &mut self,
        dead: &Dead,
        act: impl Fn(&mut Self, Position, &Row) -> Result<(), ::redb::Error>,
    ) -> Result<Step, ::redb::Error> {
        let Dead { filter, after, limit, .. } = dead;
        let mut step = Step { touched: 0, next: Some(*after) };
        for _ in 0..self.shared.tuning.step {
            let last = step.next.unwrap_or_default();
            let next = self.shared.index.lock().next_dead(last, |backend, route| filter.is_of(backend, route));
            step.next = next.filter(|_| step.touched < *limit);
            let Some(position) = step.next else { break };
            if let Some(row) = self.tables.row(position)?.filter(|row| row.matches(filter)) {
                act(self, position, &row)?;
                step.touched += 1;
            }
        }
        Ok(step)
    }

    pub(super) fn prune(&mut self, now: Timestamp) -> Result<Step, ::redb::Error> {
        let mut left = self.shared.tuning.step;
        let (kept, dead) = (self.shared.settings.keep_delivered, self.shared.settings.keep_dead);
        let before = |keep: std::time::Duration| {
            let keep = u64::try_from(keep.as_millis()).ok()?;
            now.as_millis().checked_sub(keep).map(Timestamp::from_millis)
        };
        for (class, until) in [(Class::Expires, Some(now)), (Class::Kept, before(kept)), (Class::Dead, before(dead))] {
            let Some(until) = until else { continue };
            let seconds = self.shared.index.lock().ages.reached(class, until);
            for (second, positions) in seconds {
                let (found, earliest) = self.aged(class, second, positions, until, left)?;
                left -= found.len();
                for (position, row) in &found {
                    self.age(class, *position, row, now)?;
                }
                if left == 0 {
                    return Ok(Step { touched: self.shared.tuning.step as u64, next: Some(0) });
                }
                if let Some(earliest) = earliest {
                    self.shared.index.lock().ages.looked(class, second, earliest);
                }
            }
        }
        let more = self.forget_hours(now)? | self.compact()?;
        Ok(Step { touched: (self.shared.tuning.step - left) as u64, next: more.then_some(0) })
    }

    /// Up to `most` requests of a second that have reached the age, and the earliest moment of those that have not.
    #[expect(clippy::type_complexity, reason = "two results of one walk")]
    fn aged(
        &mut self,
        class: Class,
        second: u64,
        positions: std::ops::RangeInclusive<Position>,
        until: Timestamp,
        most: usize,
    ) -> Result<(Vec<(Position, Row)>, Option<Timestamp>), ::redb::Error> {
        let mut found = Vec::new();
        let mut earliest: Option<Timestamp> = None;
        for entry in self.tables.rows(positions)? {
            let Some((position, row)) = entry? else { continue };
            let moment = if class == Class::Expires { row.expires_at() } else { row.changed_at() };
            if Class::of(row.state()) != Some(class) || Ages::second(moment) != second {
                continue;
            }
            if moment > until {
                earliest = Some(earliest.map_or(moment, |earliest| earliest.min(moment)));
            } else {
                found.push((position, row));
                if found.len() == most {
                    break;
                }
            }
        }
        Ok((found, earliest))
    }

    fn age(&mut self, class: Class, position: Position, before: &Row, now: Timestamp) -> Result<(), ::redb::Error> {
        if class != Class::Expires {
            return self.forget(position, before, now);
        }
        let mut row = before.clone();
        row.die(DeadReason::Expired, now);
        self.change(position, Some(before), &row)
    }

    /// Writes one row, and has everything follow.
    pub(super) fn change(&mut self, position: Position, before: Option<&Row>, after: &Row) -> Result<(), ::redb::Error> {
        self.write(position, before, Some(after))?;
        self.ledger.book(before, Some(after), after.changed_at());
        self.follow(position, before, Some(after));
        Ok(())
    }

    /// Removes one row at a moment, and has everything follow.
    fn forget(&mut self, position: Position, before: &Row, at: Timestamp) -> Result<(), ::redb::Error> {
        self.write(position, Some(before), None)?;
        self.ledger.book(Some(before), None, at);
        self.follow(position, Some(before), None);
        Ok(())
    }

    /// Forgets hours that have been kept long enough. Whether there are more.
    fn forget_hours(&mut self, now: Timestamp) -> Result<bool, ::redb::Error> {
        let (first, step) = (history::first_kept(now), self.shared.tuning.step);
        let gone = hours::forget(&mut self.tables, first, step)?;
        self.after.changed |= self.ledger.forget_hours(first) || gone > 0;
        Ok(gone == step)
    }

    /// Removes a request of which nobody was ever told.
    pub(super) fn undo_append(&mut self, position: Position) -> Result<(), ::redb::Error> {
        let Some(row) = self.tables.row(position)? else { return Ok(()) };
        self.write(position, Some(&row), None)?;
        self.ledger.unbook(&row);
        self.follow(position, Some(&row), None);
        Ok(())
    }

    fn write(&mut self, position: Position, before: Option<&Row>, after: Option<&Row>) -> Result<(), ::redb::Error> {
        self.after.changed = true;
        match (before, after) {
            (_, Some(row)) => self.tables.put(position, row, before.is_none()),
            (Some(row), None) => self.tables.remove(position, row.id())?,
            (None, None) => {}
        }
        Ok(())
    }

    fn follow(&mut self, position: Position, before: Option<&Row>, after: Option<&Row>) {
        let (key_before, key_after) = (before.and_then(Row::pending_key), after.and_then(Row::pending_key));
        match (key_before, key_after) {
            (Some(key), None) => self.after.released.push(key),
            // An append's turn already stands for it.
            (None, Some(key)) if before.is_some() => self.shared.turns.add_stored(key),
            _ => {}
        }
        let room = |row: Option<&Row>| row.is_some_and(Row::takes_room);
        if let Some(row) = before.filter(|_| room(before) != room(after)) {
            self.after.room.push((room(after), row.bytes));
        }
        let is = |row: Option<&Row>, state: State| row.is_some_and(|row| row.state() == state);
        if is(before, State::Delivering) {
            self.after.flights.push((position, None));
        }
        if let Some(row) = after.filter(|row| row.state() == State::Delivering) {
            self.after.flights.push((position, Some(row.attempts)));
        } else if let Some(row) = after.or(before) {
            self.after.rung.push(row.route);
        }
        let names =
            |row: Option<&Row>| row.map(|row| [row.body_name(), row.answer_name()]).into_iter().flatten().flatten().collect::<Vec<_>>();
        let kept = names(after);
        self.after.needless.extend(names(before).into_iter().filter(|name| !kept.contains(name)));
        after.iter().for_each(|row| self.log.retain(row));
        before.iter().for_each(|row| self.log.release(row));
        let mut index = self.shared.index.lock();
        before.iter().for_each(|row| index.leave(position, row));
        after.iter().for_each(|row| index.enter(position, row));
    }

    pub(super) fn write_ledger(&mut self) -> Result<(), ::redb::Error> {
        for (number, row) in self.ledger.changed() {
            self.tables.put_route(number, &row)?;
        }
        self.ledger.late.write(&mut self.tables)
    }
}

/// The body is no longer needed: where its head was written anew, the old record goes with it.
fn let_body_go(row: &mut Row, head: Option<Location>) {
    row.body_file = false;
    if let Some(head) = head {
        row.request = head;
    }
}
