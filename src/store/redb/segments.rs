//! The payloads: append-only segment files of records, each the bytes of one request or of one answer.
//!
//! ```text
//! record   0..4    CRC-32 of bytes 8 .. 32 + head length
//!          4..8    CRC-32 of the body
//!          8..12   length of the head      (all numbers little-endian)
//!         12..16   length of the body
//!         16..32   id of the request
//!         32..     head (see store::records), body
//! segment  records without gaps; what no row refers to was never acknowledged, is no longer needed, or is a frame of the journal (see journal)
//! name     segment-00000001, counting up
//! ```
//! A record is synced before anybody hears of it; `log` writes them. Bodies that were spooled lie in files of their own, since they are not copied.

use std::{collections::HashMap, io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    disk::{Disk, Segment},
    row::Location,
};
use crate::{envelope::RequestId, store::payload::extend_crc};

/// Bytes of a record before its head.
pub(super) const HEADER: usize = 32;
const PREFIX: &str = "segment-";

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
        let mut bytes = Vec::with_capacity(HEADER + head.len() + body.len());
        bytes.extend_from_slice(&[0; HEADER]);
        bytes.extend_from_slice(head);
        Self::headed(id.to_bytes(), bytes, body)
    }

    /// A record whose head stands in `bytes` already, behind room for what comes before it.
    pub(super) fn headed(id: [u8; 16], mut bytes: Vec<u8>, body: &[u8]) -> Option<Self> {
        let (head_len, body_len) = (u32::try_from(bytes.len() - HEADER).ok()?, u32::try_from(body.len()).ok()?);
        bytes[4..8].copy_from_slice(&extend_crc(0, body).to_le_bytes());
        bytes[8..12].copy_from_slice(&head_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&body_len.to_le_bytes());
        bytes[16..HEADER].copy_from_slice(&id);
        let crc = extend_crc(0, &bytes[8..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(body);
        Some(Self { bytes, head: head_len, body: body_len })
    }

    /// What is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where it lies once it is written at a place.
    pub(super) fn at(&self, segment: u32, offset: u32) -> Location {
        Location { segment, offset, head: self.head, body: self.body }
    }

    /// The head of the record that begins `bytes`, if it is whole.
    pub(super) fn checked_head(bytes: &[u8]) -> Option<&[u8]> {
        let head = number_at(bytes.get(8..12)?, 0) as usize;
        let checked = bytes.get(8..HEADER.checked_add(head)?)?;
        (number_at(bytes, 0) == extend_crc(0, checked)).then_some(&checked[HEADER - 8..])
    }

    /// The same of one that has no body.
    pub(super) fn whole_head(bytes: &[u8]) -> Option<&[u8]> {
        Self::checked_head(bytes).filter(|_| number_at(bytes, 12) == 0)
    }

    /// Identities and places of the records that `bytes` of a segment begin with, one after another. Behind one whose head is damaged nothing is known.
    pub(super) fn all(bytes: &[u8], number: u32) -> impl Iterator<Item = (RequestId, Location)> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let record = bytes.get(offset..)?;
            let head = Self::checked_head(record).filter(|head| !head.is_empty())?;
            let (head, body) = (u32::try_from(head.len()).ok()?, number_at(record, 12));
            let at = Location { segment: number, offset: u32::try_from(offset).ok()?, head, body };
            offset = usize::try_from(end(at)).ok()?;
            Some((RequestId::from_bytes(record[16..HEADER].try_into().ok()?), at))
        })
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
        let at =
            Location { segment: number, offset: u32::try_from(offset).ok()?, head: number_at(&header, 8), body: number_at(&header, 12) };
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

    pub(super) fn segment(&self, number: u32) -> io::Result<Arc<dyn Segment>> {
        if let Some(segment) = self.open.lock().get(&number) {
            return Ok(Arc::clone(segment));
        }
        let segment = self.disk.open_segment(&name(number))?;
        Ok(Arc::clone(self.open.lock().entry(number).or_insert(segment)))
    }

    /// Has a segment that was just made be found.
    pub(super) fn opened(&self, number: u32, segment: &Arc<dyn Segment>) {
        self.open.lock().insert(number, Arc::clone(segment));
    }

    /// Forgets one that is gone.
    pub(super) fn forget(&self, number: u32) {
        self.open.lock().remove(&number);
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
        let number = |from: usize| number_at(&bytes, from);
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

/// All bytes of a segment from a place on.
pub(super) fn read_all(disk: &dyn Disk, number: u32, from: u64) -> io::Result<Vec<u8>> {
    let segment = disk.open_segment(&name(number))?;
    let mut bytes = vec![0; usize::try_from(segment.len()?.saturating_sub(from)).unwrap_or(usize::MAX)];
    if !bytes.is_empty() {
        segment.read(from, &mut bytes)?;
    }
    Ok(bytes)
}

/// Where a record ends.
pub(super) fn end(at: Location) -> u64 {
    u64::from(at.offset) + length(at)
}

/// A number in the bytes of a record.
fn number_at(bytes: &[u8], from: usize) -> u32 {
    u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
}

/// Bytes of a record.
pub(super) fn length(at: Location) -> u64 {
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
