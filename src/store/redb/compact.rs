//! Gives back the room of segments of which little is needed: one dead letter that is kept for weeks must not keep 64 MiB with it.
//!
//! A sparse segment is walked from its first record to its last. What a row still refers to is copied to the segment that is written, byte for
//! byte, and the row refers to the copy from the same commit on; after the last one the segment goes like every other that nothing
//! needs. A crash leaves either the old reference or the new one, and the bytes of both. It is done in steps, so that others get their turn between two.

use ::redb::Error;

use super::{
    log::Passed,
    row::{Location, Row},
    segments::{self, Record},
    work::Work,
};
use crate::{
    envelope::{RequestId, State},
    store::Position,
};

/// Most bytes that one step copies.
const STEP_BYTES: u64 = 1024 * 1024;

/// A record to be moved.
struct Move {
    position: Position,
    from: Location,
    record: Record,
}

impl Work<'_, '_> {
    /// One step. Whether there is more to do.
    pub(super) fn compact(&mut self) -> Result<bool, Error> {
        let going_on = self.log.walk.at.and_then(|(number, offset)| Some((number, self.log.needed_segment(number)?, offset)));
        let Some((number, segment, mut offset)) = going_on.or_else(|| self.log.sparse().map(|(number, segment)| (number, segment, 0)))
        else {
            // The next round looks again at what was being delivered in this one.
            (self.log.walk.at, self.log.walk.until) = (None, None);
            self.log.walk.passed.retain(|_, passed| *passed == Passed::ForGood);
            return Ok(false);
        };
        let (mut moves, mut bytes, mut ended) = (Vec::new(), 0, false);
        for _ in 0..self.shared.tuning.step {
            let Some((id, at)) = Record::peek(&*segment, number, offset) else {
                ended = true;
                break;
            };
            offset = segments::end(at);
            let Some((position, row)) = self.refers(id, at)? else { continue };
            if row.state() == State::Delivering {
                // Whoever delivers it may be about to read it where it is.
                self.log.walk.passed.insert(number, Passed::ForNow);
                continue;
            }
            // What cannot be read stays where it is.
            let Ok(record) = Record::copy(&*segment, at) else { continue };
            bytes += record.len();
            moves.push(Move { position, from: at, record });
            if bytes >= STEP_BYTES {
                break;
            }
        }
        self.move_all(moves)?;
        self.log.walk.at = (!ended).then_some((number, offset));
        if ended && self.log.needs(number) {
            self.log.walk.passed.entry(number).or_insert(Passed::ForGood);
        }
        Ok(true)
    }

    fn refers(&self, id: RequestId, at: Location) -> Result<Option<(Position, Row)>, Error> {
        let found = self.tables.find(id)?;
        Ok(found.filter(|(_, row)| row.request == at || row.answer == Some(at)))
    }

    fn move_all(&mut self, moves: Vec<Move>) -> Result<(), Error> {
        // The copies are there before the row that names them, which the next sync may write first.
        let staged: Result<Vec<Location>, _> = moves.iter().map(|each| self.log.stage(&each.record)).collect();
        let staged = match staged.and_then(|staged| self.log.sync().map(|()| staged)) {
            Ok(staged) => staged,
            Err(error) => {
                tracing::warn!(%error, "a sparse segment could not be compacted; it stays as it is");
                self.log.walk.passed.extend(moves.iter().map(|each| (each.from.segment, Passed::ForNow)));
                return Ok(());
            }
        };
        for (Move { position, from, .. }, to) in moves.into_iter().zip(staged) {
            let Some(before) = self.tables.row(position)? else { continue };
            let mut row = before.clone();
            if row.request == from {
                row.request = to;
            }
            if row.answer == Some(from) {
                row.answer = Some(to);
            }
            self.change(position, Some(&before), &row)?;
        }
        Ok(())
    }
}
