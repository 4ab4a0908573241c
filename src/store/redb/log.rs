//! The writing end of the segments: payloads, and behind them the frames of the journal.
//!
//! Which records are needed is counted per segment; one of which nothing is needed is removed. The frames in it count until two checkpoints have passed them.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use super::{
    checkpoint::{Checkpoints, Place},
    disk::Segment,
    journal::{Changes, Secret},
    row::{Location, Row},
    segments::{Readers, Record, length, name},
};

/// A segment is sparse when less than one part in so many is needed.
const SPARSE: u64 = 4;

/// The segments, to be written.
#[derive(Debug)]
pub(super) struct Log {
    readers: Arc<Readers>,
    /// Bytes of a new segment.
    size: u64,
    next: u32,
    current: Option<Current>,
    /// What has been staged for the current segment and not written; kept for its room.
    buffer: Vec<u8>,
    /// Room for the next one, while this one is written.
    spare: Vec<u8>,
    /// What rows need of each segment.
    needed: HashMap<u32, Need>,
    /// Where the walk through a sparse segment goes on, and what it is not to look at again before the next start.
    pub(super) walk: Walk,
    /// Segments that may have become needless.
    idle: Vec<u32>,
    /// The store's number, by which frames are told from what clients send.
    secret: Secret,
    /// Of the last frame, whatever became of it.
    sequence: u64,
    /// Something that was staged could not be written.
    lost: bool,
    checkpoints: Checkpoints,
}

/// What rows need of a segment.
#[derive(Debug, Default, Clone, Copy)]
struct Need {
    records: u64,
    bytes: u64,
}

/// See [`compact`](super::compact).
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Segment and offset.
    pub(super) at: Option<(u32, u64)>,
    /// The first segment that this round leaves alone: what it writes itself, it does not look at.
    pub(super) until: Option<u32>,
    /// Segments that are needed although their walk has ended, until the next round or for good.
    pub(super) passed: HashMap<u32, Passed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Something in it is being delivered.
    ForNow,
    /// It cannot be read, or is not as sparse as it looked.
    ForGood,
}

/// What remains to be written of a batch.
#[derive(Debug)]
pub(super) struct Unwritten {
    number: u32,
    segment: Arc<dyn Segment>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Unwritten {
    /// Makes it durable.
    pub(super) fn write(&self) -> io::Result<()> {
        self.segment.write(self.offset, &self.bytes).and_then(|()| self.segment.sync())
    }

    pub(super) fn segment(&self) -> u32 {
        self.number
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// See [`Log::mark`].
#[derive(Debug)]
pub(super) struct Mark {
    segment: Option<u32>,
    staged: usize,
    lost: bool,
}

#[derive(Debug)]
struct Current {
    number: u32,
    segment: Arc<dyn Segment>,
    size: u64,
    /// Bytes of the file as it was made.
    reserved: u64,
    /// Where the buffer is to be written.
    written: u64,
}

impl Log {
    /// A log whose next segment is `next`, and which goes on behind a frame.
    pub(super) fn new(readers: &Arc<Readers>, size: u64, next: u32, secret: Secret, sequence: u64) -> Self {
        Self {
            readers: Arc::clone(readers),
            size,
            next,
            current: None,
            buffer: Vec::new(),
            spare: Vec::new(),
            needed: HashMap::new(),
            walk: Walk::default(),
            idle: Vec::new(),
            secret,
            sequence,
            lost: false,
            checkpoints: Checkpoints::default(),
        }
    }

    /// Puts a record at the end. It is durable after [`sync`](Self::sync). After an error nothing that was staged since the last sync is there.
    pub(super) fn stage(&mut self, record: &Record) -> io::Result<Location> {
        let len = record.len();
        let end = |current: &Current, buffer: &[u8]| current.written + buffer.len() as u64;
        if self.current.as_ref().is_some_and(|current| end(current, &self.buffer) + len > current.size) {
            self.sync()?;
            self.retire();
        }
        if self.current.is_none() {
            self.current = Some(self.begin(len)?);
        }
        let current = self.current.as_ref().ok_or_else(|| io::Error::other("no segment"))?;
        let (segment, offset) = (current.number, end(current, &self.buffer));
        let offset = u32::try_from(offset).map_err(|_| io::Error::other("a segment is longer than 4 GiB"))?;
        self.buffer.extend_from_slice(record.bytes());
        Ok(record.at(segment, offset))
    }

    /// Makes all that was staged durable. After an error its segment is left alone: what a failed sync left in it is not known.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(current) = self.current.as_mut().filter(|_| !self.buffer.is_empty()) else { return Ok(()) };
        let result = current.segment.write(current.written, &self.buffer).and_then(|()| current.segment.sync());
        current.written += self.buffer.len() as u64;
        self.buffer.clear();
        if result.is_err() {
            self.lost = true;
            self.retire();
        }
        result
    }

    /// Ends a batch: behind all that was staged stands what it changed, as the next frame. What is left to be written is handed over; its segment goes on behind it. None
    /// where there is no room for the frame although all else is durable. After an error nothing is known of any of it, and its frame is void.
    pub(super) fn seal(&mut self, changes: Changes) -> io::Result<Option<Unwritten>> {
        self.sequence += 1;
        let frame = changes.into_frame(self.secret, self.sequence).ok_or_else(|| io::Error::other("a batch changes more than 4 GiB"))?;
        let staged = self.stage(&frame).and_then(|_| self.stage(&frame)).inspect_err(|error| {
            tracing::warn!(%error, "the journal cannot be written; what waits is committed by itself, which takes longer");
        });
        if self.lost {
            return Err(io::Error::other("what belongs to a batch could not be written"));
        }
        let Some(current) = self.current.as_mut().filter(|_| staged.is_ok()) else { return Ok(None) };
        let (number, segment, offset) = (current.number, Arc::clone(&current.segment), current.written);
        current.written += self.buffer.len() as u64;
        let bytes = std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare));
        Ok(Some(Unwritten { number, segment, offset, bytes }))
    }

    /// Takes back the room of what was [handed over](Self::seal).
    pub(super) fn reuse(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.spare = bytes;
    }

    /// Leaves a segment alone in which something that was handed over could not be written.
    pub(super) fn leave(&mut self, number: u32) {
        if self.current.as_ref().is_some_and(|current| current.number == number) {
            self.retire();
        }
    }

    /// Up to where something is staged.
    pub(super) fn mark(&self) -> Mark {
        Mark { segment: self.current.as_ref().map(|current| current.number), staged: self.buffer.len(), lost: self.lost }
    }

    /// Drops what was staged since a mark, when nothing refers to it.
    pub(super) fn forget_since(&mut self, mark: &Mark) {
        let is_same = self.current.as_ref().map(|current| current.number) == mark.segment;
        self.buffer.truncate(if is_same { mark.staged } else { 0 });
        // What could not be written was staged after the mark, all of it.
        if mark.staged == 0 {
            self.lost = mark.lost;
        }
    }

    /// The number of the last frame, whatever became of it.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where the journal goes on.
    pub(super) fn place(&self) -> Place {
        let sequence = self.sequence;
        match &self.current {
            Some(current) => Place { segment: current.number, offset: current.written, reserved: current.reserved, sequence },
            None => Place { segment: self.next, offset: 0, reserved: 0, sequence },
        }
    }

    /// All that the journal has up to `place` stands also in the database.
    pub(super) fn checkpointed(&mut self, place: Place) {
        self.checkpoints.passed(place);
        self.sweep();
    }

    /// Whether it is time to have the database contain what the journal has: when it has not for `every`, and whenever a segment was begun, so that
    /// the database knows of each, and that never more than one is to be read at an opening.
    pub(super) fn is_checkpoint_due(&self, every: Duration) -> bool {
        self.checkpoints.is_due(self.place(), every)
    }

    /// Whether the journal has anything that the database may lose.
    pub(super) fn is_ahead(&self) -> bool {
        self.checkpoints.last().sequence < self.sequence
    }

    /// Whether there is room for another record, made if need be.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        if self.current.is_none() {
            self.current = Some(self.begin(0)?);
        }
        Ok(())
    }

    /// Drops what was staged, when nothing refers to it.
    pub(super) fn forget_staged(&mut self) {
        self.buffer.clear();
        self.lost = false;
    }

    fn begin(&mut self, at_least: u64) -> io::Result<Current> {
        let size = self.size.max(at_least);
        let number = self.next;
        // Never the same number twice, whatever a failure leaves behind.
        self.next += 1;
        let segment = self.readers.disk().create_segment(&name(number), size)?;
        self.idle.push(number);
        self.readers.disk().sync_folder()?;
        self.readers.opened(number, &segment);
        let reserved = segment.len()?;
        Ok(Current { number, segment, size, reserved, written: 0 })
    }

    fn retire(&mut self) {
        self.buffer.clear();
        if let Some(current) = self.current.take() {
            self.idle.push(current.number);
        }
    }

    /// A row refers to these records.
    pub(super) fn retain(&mut self, row: &Row) {
        for location in [Some(row.request), row.answer].into_iter().flatten() {
            let need = self.needed.entry(location.segment).or_default();
            need.records += 1;
            need.bytes += length(location);
        }
    }

    /// A row no longer refers to these records.
    pub(super) fn release(&mut self, row: &Row) {
        for location in [Some(row.request), row.answer].into_iter().flatten() {
            if let Some(need) = self.needed.get_mut(&location.segment) {
                need.records = need.records.saturating_sub(1);
                need.bytes = need.bytes.saturating_sub(length(location));
                if need.records == 0 {
                    self.needed.remove(&location.segment);
                    self.idle.push(location.segment);
                }
            }
        }
    }

    /// A segment that is no longer written, and of which less than a quarter is needed.
    pub(super) fn sparse(&mut self) -> Option<(u32, Arc<dyn Segment>)> {
        let current = self.current.as_ref().map_or(self.next, |current| current.number);
        let until = *self.walk.until.get_or_insert(current);
        let looks_sparse = |(number, need): (&u32, &Need)| {
            (need.bytes < self.size / SPARSE && *number < until && !self.walk.passed.contains_key(number)).then_some(*number)
        };
        let mut candidates: Vec<u32> = self.needed.iter().filter_map(looks_sparse).collect();
        candidates.sort_unstable();
        for number in candidates {
            let need = self.needed.get(&number).map_or(0, |need| need.bytes);
            match self.readers.segment(number).and_then(|segment| Ok((segment.len()?, segment))) {
                Ok((len, segment)) if need < len / SPARSE => return Some((number, segment)),
                _ => drop(self.walk.passed.insert(number, Passed::ForGood)),
            }
        }
        None
    }

    /// A segment that was found [`sparse`](Self::sparse), as long as it is needed.
    pub(super) fn needed_segment(&self, number: u32) -> Option<Arc<dyn Segment>> {
        if self.needs(number) { self.readers.segment(number).ok() } else { None }
    }

    /// Forgets who needs what, before all rows are read anew.
    pub(super) fn forget_needs(&mut self) {
        self.idle.extend(self.needed.drain().map(|(number, _)| number));
        self.walk = Walk::default();
    }

    /// Whether some row needs a segment.
    pub(super) fn needs(&self, number: u32) -> bool {
        self.needed.contains_key(&number)
    }

    /// Removes segments that nothing needs, neither a row nor one of the last two checkpoints. To be called after the commit that made it so.
    pub(super) fn sweep(&mut self) {
        let (current, needed) = (self.current.as_ref().map(|current| current.number), &self.needed);
        let first_frames = self.checkpoints.first_segment();
        let readers = &self.readers;
        self.idle.sort_unstable();
        self.idle.dedup();
        self.idle.retain(|&number| {
            if needed.contains_key(&number) || Some(number) == current {
                return false;
            }
            if number >= first_frames {
                return true;
            }
            readers.forget(number);
            match readers.disk().remove(&name(number)) {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => {
                    tracing::warn!(segment = number, %error, "a segment that is no longer needed could not be removed; trying again");
                    true
                }
            }
        });
    }
}
