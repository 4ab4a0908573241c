//! What the journal has and the database may have lost, done again at an opening.
//!
//! redb opens with its last durable commit, a checkpoint, or with the one before it. From the place that it names on the frames are read, and what they changed is changed
//! again, in order. The journal ends with the first frame that is not there in either copy: nobody was told of it. Where others follow it, it was there once and the disk has
//! lost it: what can be done is done, and the loss is told and counted.

use std::io;

use ::redb::{Database, ReadableDatabase};

use super::{
    checkpoint::Place,
    disk::Disk,
    held::Held,
    journal::{Change, Secret, each_frame},
    segments,
    tables::Tables,
};

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Redone {
    /// Frames that were done again.
    pub(super) frames: u64,
    /// Frames that were there once; one for each file that is missing or too short.
    pub(super) lost: u64,
    /// The number of the last frame.
    pub(super) sequence: u64,
    /// The segment in which the journal went on.
    pub(super) segment: u32,
    /// Segment and offset where it ends.
    pub(super) end: (u32, u64),
}

/// Does again what the journal has, in one durable commit. Frames after number `until` were told to nobody and are not done.
pub(super) fn redo(database: &Database, disk: &dyn Disk, secret: Secret, until: u64) -> Result<Redone, ::redb::Error> {
    let Some(place) = Place::read(&database.begin_read()?)? else { return Ok(Redone::default()) };
    let end = if place.offset > 0 { (place.segment, place.offset) } else { (0, 0) };
    let mut redone = Redone { sequence: place.sequence, segment: place.segment, end, ..Redone::default() };
    let transaction = database.begin_write()?;
    let mut held = Held::default();
    let mut tables = Tables::open(&transaction, &mut held)?;
    for part in Tail::of(disk, place, &mut redone)? {
        let (segment, from, bytes) = part?;
        each_frame(secret, &bytes, |number, head, end| {
            redone.end = (segment, from + end as u64);
            if number <= redone.sequence || number > until {
                return Ok(());
            }
            let Some(changes) = Change::all(head) else { return Ok(()) };
            let missing = number - redone.sequence - 1;
            lose(&mut redone, missing, "frames of the journal are damaged or missing, and what they changed is lost");
            changes.iter().try_for_each(|change| tables.redo(change))?;
            redone.frames += 1;
            redone.sequence = number;
            Ok::<_, ::redb::Error>(())
        })?;
    }
    drop(tables);
    if redone.frames > 0 {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    if until < u64::MAX {
        let missing = until.saturating_sub(redone.sequence);
        lose(&mut redone, missing, "the end of the journal is missing, and what it changed is lost");
    }
    Ok(redone)
}

fn lose(redone: &mut Redone, frames: u64, what: &str) {
    redone.lost += frames;
    if frames > 0 {
        tracing::error!(frames, after = redone.sequence, "{what}");
    }
}

/// The bytes of the segments from a place on, one after another, with the number of each and where they begin in it.
struct Tail<'a> {
    disk: &'a dyn Disk,
    place: Place,
    segments: std::vec::IntoIter<u32>,
}

impl<'a> Tail<'a> {
    /// Finds fault with what should be there and is not.
    fn of(disk: &'a dyn Disk, place: Place, redone: &mut Redone) -> io::Result<Self> {
        let mut segments: Vec<u32> = disk.list()?.iter().filter_map(|name| segments::number(name)).collect();
        segments.retain(|&number| number >= place.segment);
        segments.sort_unstable();
        if place.offset > 0 && segments.first() != Some(&place.segment) {
            lose(redone, 1, "the segment in which the journal goes on is missing, and what it had of it is lost");
        } else if place.offset > 0 && disk.open_segment(&segments::name(place.segment))?.len()? < place.reserved {
            lose(redone, 1, "the segment in which the journal goes on is shorter than it was, and what it had of it may be lost");
        }
        Ok(Self { disk, place, segments: segments.into_iter() })
    }
}

impl Iterator for Tail<'_> {
    type Item = io::Result<(u32, u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.segments.next()?;
        let from = if number == self.place.segment { self.place.offset } else { 0 };
        Some(segments::read_all(self.disk, number, from).map(|bytes| (number, from, bytes)))
    }
}
