//! The payloads: append-only segment files of records, each the bytes of one request or of one answer.
//!
//! ```text
//! record   0..4    CRC-32 of bytes 8 .. 32 + head length
//!          4..8    CRC-32 of the body
//!          8..12   length of the head      (all numbers little-endian)
//!         12..16   length of the body
//!         16..32   id of the request
//!         32..     head (see store::records), body
//! segment  records without gaps; what no row refers to was never acknowledged, or is no longer needed
//! name     segment-00000001, counting up
//! ```
//! A record is synced before the rows that refer to it are committed. Which records are needed is counted per segment; one of which
//! nothing is needed is removed. Bodies that were spooled lie in files of their own, since they are not copied.

use std::{collections::HashMap, io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    disk::{Disk, Segment},
    row::{Location, Row},
};
use crate::{envelope::RequestId, store::payload::extend_crc};

const HEADER: usize = 32;
const PREFIX: &str = "segment-";

/// A segment is sparse when less than one part in so many is needed.
const SPARSE: u64 = 4;

/// A record, ready to be written.
#[derive(Debug)]
pub(super) struct Record {
    bytes: Vec<u8>,
    head: u32,
    body: u32,
}

impl Record {
    /// None when it is too large for a record.
    pub(super) fn new(id: RequestId, head: &[u8], body: &[u8]) -> Option<Self> {
        let (head_len, body_len) = (u32::try_from(head.len()).ok()?, u32::try_from(body.len()).ok()?);
        let mut bytes = Vec::with_capacity(HEADER + head.len() + body.len());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&extend_crc(0, body).to_le_bytes());
        bytes.extend_from_slice(&head_len.to_le_bytes());
        bytes.extend_from_slice(&body_len.to_le_bytes());
        bytes.extend_from_slice(&id.to_bytes());
        bytes.extend_from_slice(head);
        let crc = extend_crc(0, &bytes[8..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(body);
        Some(Self { bytes, head: head_len, body: body_len })
    }

    /// The record at a place, byte for byte as it is there: one that is damaged stays damaged.
    pub(super) fn copy(segment: &dyn Segment, at: Location) -> io::Result<Self> {
        let mut bytes = vec![0; HEADER + at.head as usize + at.body as usize];
        segment.read(at.offset.into(), &mut bytes)?;
        Ok(Self { bytes, head: at.head, body: at.body })
    }

    /// Bytes that it takes.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Identity and place of the record at `offset`, as its header has them. None where none begins.
    pub(super) fn peek(segment: &dyn Segment, number: u32, offset: u64) -> Option<(RequestId, Location)> {
        let mut header = [0; HEADER];
        segment.read(offset, &mut header).ok()?;
        let length = |from: usize| u32::from_le_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]]);
        let at = Location { segment: number, offset: u32::try_from(offset).ok()?, head: length(8), body: length(12) };
        let id: [u8; 16] = header[16..].try_into().ok()?;
        (at.head > 0).then(|| (RequestId::from_bytes(id), at))
    }
}

/// What could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The bytes are not those that were written.
    Damaged,
    /// The segment is gone: the record was let go of meanwhile.
    Gone,
    /// Anything else.
    Io(io::Error),
}

/// Open segments, for whoever reads.
#[derive(Debug)]
pub(super) struct Readers {
    disk: Arc<dyn Disk>,
    open: Mutex<HashMap<u32, Arc<dyn Segment>>>,
}

impl Readers {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// Where the segments lie, and the bodies in files of their own.
    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn segment(&self, number: u32) -> io::Result<Arc<dyn Segment>> {
        if let Some(segment) = self.open.lock().get(&number) {
            return Ok(Arc::clone(segment));
        }
        let segment = self.disk.open_segment(&name(number))?;
        Ok(Arc::clone(self.open.lock().entry(number).or_insert(segment)))
    }

    /// Gives back what is reserved past the end of a segment; of none when its number is 0.
    pub(super) fn truncate(&self, (number, end): (u32, u64)) -> io::Result<()> {
        if number == 0 { Ok(()) } else { self.segment(number)?.truncate(end) }
    }

    /// The head of a record.
    pub(super) fn head(&self, id: RequestId, at: Location) -> Result<Bytes, ReadError> {
        self.read(id, at, 0).map(|(head, _)| head)
    }

    /// Head and body of a record.
    pub(super) fn whole(&self, id: RequestId, at: Location) -> Result<(Bytes, Bytes), ReadError> {
        self.read(id, at, at.body)
    }

    fn read(&self, id: RequestId, at: Location, body: u32) -> Result<(Bytes, Bytes), ReadError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => ReadError::Gone,
            io::ErrorKind::UnexpectedEof => ReadError::Damaged,
            _ => ReadError::Io(error),
        };
        let mut bytes = vec![0; HEADER + at.head as usize + body as usize];
        self.segment(at.segment).and_then(|segment| segment.read(at.offset.into(), &mut bytes)).map_err(failed)?;
        let bytes = Bytes::from(bytes);
        let head_end = HEADER + at.head as usize;
        let number = |from: usize| u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]]);
        let as_written = (number(8), number(12)) == (at.head, at.body)
            && bytes[16..HEADER] == id.to_bytes()
            && number(0) == extend_crc(0, &bytes[8..head_end])
            && (body == 0 || number(4) == extend_crc(0, &bytes[head_end..]));
        if !as_written {
            return Err(ReadError::Damaged);
        }
        Ok((bytes.slice(HEADER..head_end), bytes.slice(head_end..)))
    }
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    readers: Arc<Readers>,
    /// Bytes of a new segment.
    size: u64,
    next: u32,
    current: Option<Current>,
    /// What has been staged for the current segment and not written; kept for its room.
    buffer: Vec<u8>,
    /// What rows need of each segment.
    needed: HashMap<u32, Need>,
    /// Where the walk through a sparse segment goes on, and what it is not to look at again before the next start.
    pub(super) walk: Walk,
    /// Segments that may have become needless.
    idle: Vec<u32>,
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

#[derive(Debug)]
struct Current {
    number: u32,
    segment: Arc<dyn Segment>,
    size: u64,
    /// Where the buffer is to be written.
    written: u64,
}

impl Log {
    /// A log whose next segment is `next`.
    pub(super) fn new(disk: Arc<dyn Disk>, readers: Arc<Readers>, size: u64, next: u32) -> Self {
        Self {
            disk,
            readers,
            size,
            next,
            current: None,
            buffer: Vec::new(),
            needed: HashMap::new(),
            walk: Walk::default(),
            idle: Vec::new(),
        }
    }

    /// Puts a record at the end. It is durable after [`sync`](Self::sync). After an error nothing that was staged since the last sync is there.
    pub(super) fn stage(&mut self, record: &Record) -> io::Result<Location> {
        let len = record.bytes.len() as u64;
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
        self.buffer.extend_from_slice(&record.bytes);
        let offset = u32::try_from(offset).map_err(|_| io::Error::other("a segment is longer than 4 GiB"))?;
        Ok(Location { segment, offset, head: record.head, body: record.body })
    }

    /// Makes all that was staged durable. After an error its segment is left alone: what a failed sync left in it is not known.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(current) = self.current.as_mut().filter(|_| !self.buffer.is_empty()) else { return Ok(()) };
        let result = current.segment.write(current.written, &self.buffer).and_then(|()| current.segment.sync());
        current.written += self.buffer.len() as u64;
        self.buffer.clear();
        if result.is_err() {
            self.retire();
        }
        result
    }

    /// Whether there is room for another record, made if need be.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        if self.current.is_none() {
            self.current = Some(self.begin(0)?);
        }
        Ok(())
    }

    /// Drops what was staged, after a failure elsewhere.
    pub(super) fn forget_staged(&mut self) {
        self.buffer.clear();
    }

    fn begin(&mut self, at_least: u64) -> io::Result<Current> {
        let size = self.size.max(at_least);
        let number = self.next;
        // Never the same number twice, whatever a failure leaves behind.
        self.next += 1;
        let segment = self.disk.create_segment(&name(number), size)?;
        self.idle.push(number);
        self.disk.sync_folder()?;
        self.readers.open.lock().insert(number, Arc::clone(&segment));
        Ok(Current { number, segment, size, written: 0 })
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
        let current = self.current.as_ref().map(|current| current.number);
        let looks_sparse = |(number, need): (&u32, &Need)| {
            (need.bytes < self.size / SPARSE && Some(*number) != current && !self.walk.passed.contains_key(number)).then_some(*number)
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

    /// Removes segments that nothing needs. To be called after the commit that made it so.
    pub(super) fn sweep(&mut self) {
        let (current, needed) = (self.current.as_ref().map(|current| current.number), &self.needed);
        let (disk, readers) = (&self.disk, &self.readers);
        self.idle.sort_unstable();
        self.idle.dedup();
        self.idle.retain(|&number| {
            if needed.contains_key(&number) || Some(number) == current {
                return false;
            }
            readers.open.lock().remove(&number);
            match disk.remove(&name(number)) {
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

/// Where a record ends.
pub(super) fn end(at: Location) -> u64 {
    u64::from(at.offset) + length(at)
}

/// Bytes of a record.
fn length(at: Location) -> u64 {
    HEADER as u64 + u64::from(at.head) + u64::from(at.body)
}

/// The file of a segment.
pub(super) fn name(number: u32) -> String {
    format!("{PREFIX}{number:08}")
}

/// The number of a segment's file.
pub(super) fn number(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod fuzz;
