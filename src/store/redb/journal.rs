//! The journal: what each batch changed in the tables, written behind its payloads and made durable by the same sync.
//!
//! ```text
//! frame    a record (see segments) without a body, written twice, so that a bit that flips in one copy costs nothing
//!          id     0..8   the secret of the store, which no client can know: what a client sends is never taken for a frame
//!                 8..16  number of the frame, counting up by one  (big-endian)
//!          head   changes, in the order in which they were made   (numbers little-endian)
//! change   0      1 a request that is new   1..9 position, 9..13 length, Row
//!                 2 a request               as above
//!                 3 a request that is gone  1..9 position, 9..25 identity
//!                 4 a route                 1..5 number, 5..9 length, RouteRow
//!                 5 an hour                 1..5 hour, 5..9 route, 9..13 length, HourRow
//!                 6 an hour that is gone    1..5 hour, 5..9 route
//! ```
//! A change says what is there afterwards and not what was done, so that one that is done again changes nothing. See [`redo`](super::redo) for when it is.

use memchr::memmem::Finder;
use prost::Message;

use super::{
    row::{HourRow, RouteRow, Row, id_key},
    segments::{HEADER, Record},
};
use crate::{envelope::RequestId, store::Position};

/// A number that is the store's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret(u64);

impl Secret {
    /// One for a new store: the random part of an identity that is given to nobody.
    pub(super) fn new() -> Self {
        let (_, random) = crate::store::records::halves(RequestId::new());
        Self(random)
    }

    pub(super) fn from_u64(number: u64) -> Self {
        Self(number)
    }

    pub(super) fn as_u64(self) -> u64 {
        self.0
    }

    /// Whether an identity in a segment is that of a frame.
    pub(super) fn is_of(self, id: RequestId) -> bool {
        id.to_bytes()[..8] == self.0.to_be_bytes()
    }
}

const NEW: u8 = 1;
const ROW: u8 = 2;
const GONE: u8 = 3;
const ROUTE: u8 = 4;
const HOUR: u8 = 5;
const HOUR_GONE: u8 = 6;

/// What one batch changes, as it is noted.
#[derive(Debug)]
pub(super) struct Changes(Vec<u8>);

impl Changes {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(8192);
        bytes.resize(HEADER, 0);
        Self(bytes)
    }

    /// Notes a row, and returns its bytes.
    pub(super) fn row(&mut self, position: Position, row: &Row, is_new: bool) -> &[u8] {
        self.0.push(if is_new { NEW } else { ROW });
        self.0.extend_from_slice(&position.to_le_bytes());
        self.message(row)
    }

    pub(super) fn gone(&mut self, position: Position, id: RequestId) {
        self.0.push(GONE);
        self.0.extend_from_slice(&position.to_le_bytes());
        self.0.extend_from_slice(&id.to_bytes());
    }

    pub(super) fn route(&mut self, number: u32, row: &RouteRow) -> &[u8] {
        self.0.push(ROUTE);
        self.0.extend_from_slice(&number.to_le_bytes());
        self.message(row)
    }

    pub(super) fn hour(&mut self, (hour, route): (u32, u32), row: &HourRow) -> &[u8] {
        self.0.push(HOUR);
        self.0.extend_from_slice(&hour.to_le_bytes());
        self.0.extend_from_slice(&route.to_le_bytes());
        self.message(row)
    }

    pub(super) fn hour_gone(&mut self, (hour, route): (u32, u32)) {
        self.0.push(HOUR_GONE);
        self.0.extend_from_slice(&hour.to_le_bytes());
        self.0.extend_from_slice(&route.to_le_bytes());
    }

    fn message(&mut self, message: &impl Message) -> &[u8] {
        let at = self.0.len() + 4;
        self.0.extend_from_slice(&[0; 4]);
        message.encode_raw(&mut self.0);
        // A row that is longer than 4 GiB makes the frame so, which is refused.
        let len = u32::try_from(self.0.len() - at).unwrap_or(u32::MAX);
        self.0[at - 4..at].copy_from_slice(&len.to_le_bytes());
        &self.0[at..]
    }

    /// The frame of these changes. None where they are too many for one.
    pub(super) fn into_frame(self, secret: Secret, number: u64) -> Option<Record> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&secret.0.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        Record::headed(id, self.0, &[])
    }
}

/// One change, as it was noted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    New(Position, &'a [u8]),
    Row(Position, &'a [u8]),
    /// Position, and key of its identity.
    Gone(Position, u128),
    Route(u32, &'a [u8]),
    Hour((u32, u32), &'a [u8]),
    HourGone((u32, u32)),
}

impl<'a> Change<'a> {
    /// All changes of a frame. None where they are not what this program writes.
    pub(super) fn all(mut head: &'a [u8]) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        while !head.is_empty() {
            all.push(Self::take(&mut head)?);
        }
        Some(all)
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let (&what, after) = rest.split_first()?;
        *rest = after;
        Some(match what {
            NEW => Self::New(u64::from_le_bytes(take(rest)?), bytes(rest)?),
            ROW => Self::Row(u64::from_le_bytes(take(rest)?), bytes(rest)?),
            GONE => Self::Gone(u64::from_le_bytes(take(rest)?), id_key(RequestId::from_bytes(take(rest)?))),
            ROUTE => Self::Route(u32::from_le_bytes(take(rest)?), bytes(rest)?),
            HOUR => Self::Hour((u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?)), bytes(rest)?),
            HOUR_GONE => Self::HourGone((u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?))),
            _ => return None,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(take(rest)?) as usize;
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// Hands over every whole copy of a frame that lies in `bytes` of a segment: its number, its head, and where it ends. They are looked for by the secret, so that
/// neither a damaged record nor a damaged frame hides those behind it.
pub(super) fn each_frame<E>(secret: Secret, bytes: &[u8], mut take: impl FnMut(u64, &[u8], usize) -> Result<(), E>) -> Result<(), E> {
    let secret = secret.0.to_be_bytes();
    let finder = Finder::new(&secret);
    // Where the id of a record begins.
    const ID: usize = HEADER - 16;
    for at in finder.find_iter(bytes) {
        let Some(begin) = at.checked_sub(ID) else { continue };
        let record = &bytes[begin..];
        if let (Some(head), Some(number)) = (Record::whole_head(record), record[ID + 8..].first_chunk()) {
            take(u64::from_be_bytes(*number), head, begin + HEADER + head.len())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::hours::Latest;
    use super::*;
    use crate::{envelope::Timestamp, store::Totals};

    fn changes() -> Changes {
        let mut row = Row::default();
        (row.id_low, row.accepted_at) = (7, 6);
        let mut changes = Changes::new();
        changes.row(1, &row, true);
        row.queue_again(Timestamp::from_millis(8), Timestamp::from_millis(9));
        changes.row(1, &row, false);
        changes.gone(2, RequestId::from_bytes([3; 16]));
        changes.route(0, &RouteRow::new("app", "marks", Totals { accepted: 2, ..Totals::default() }, Latest::default()));
        changes.hour((5, 0), &HourRow::default());
        changes.hour_gone((4, 0));
        changes
    }

    fn found(secret: Secret, bytes: &[u8]) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        let all = each_frame(secret, bytes, |number, head, _| {
            found.push((number, Change::all(head).map_or(0, |changes| changes.len())));
            Ok::<_, ()>(())
        });
        assert_eq!(all, Ok(()));
        found
    }

    #[test]
    fn frames_are_found_between_other_bytes_and_are_those_of_this_store_alone() {
        let (ours, theirs) = (Secret::from_u64(0x0102_0304_0506_0708), Secret::from_u64(9));
        let frame = |secret, number| changes().into_frame(secret, number).unwrap().bytes().to_vec();
        let bytes = [&b"\x01\x02\x03"[..], &frame(ours, 1), &frame(ours, 1), b"a payload", &frame(theirs, 2), &frame(ours, 3)].concat();
        assert_eq!(found(ours, &bytes), [(1, 6), (1, 6), (3, 6)]);
        assert_eq!(found(theirs, &bytes), [(2, 6)]);
        assert_eq!(found(ours, &bytes[..bytes.len() - 1]), [(1, 6), (1, 6)], "one that is torn is none");
    }

    #[test]
    fn what_was_noted_is_read_back_in_order() {
        let frame = changes().into_frame(Secret::from_u64(1), 1).unwrap();
        let all = Change::all(Record::whole_head(frame.bytes()).unwrap()).unwrap();
        let [Change::New(1, first), Change::Row(1, second), gone, Change::Route(0, route), hour, last] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(Row::decode(*first).unwrap().id_low, 7);
        assert_eq!(Row::decode(*second).unwrap().due(), Timestamp::from_millis(9));
        assert_eq!(*gone, Change::Gone(2, id_key(RequestId::from_bytes([3; 16]))));
        assert_eq!(RouteRow::decode(*route).unwrap().accepted, 2);
        assert_eq!((hour, last), (&Change::Hour((5, 0), b""), &Change::HourGone((4, 0))));
    }

    #[test]
    fn fuzz_no_bytes_are_taken_for_a_frame_that_was_not_written() {
        let secret = Secret::from_u64(0x0102_0304_0506_0708);
        let frame = changes().into_frame(secret, 1).unwrap();
        let head = Record::whole_head(frame.bytes()).unwrap();
        crate::fuzz::run(&[frame.bytes()], &[b"\x01\x02\x03\x04\x05\x06\x07\x08", b"\xff\xff\xff\xff"], |bytes| {
            let mut is_found = false;
            let all = each_frame(secret, bytes, |number, found, _| {
                is_found = (number, found) == (1, head);
                if is_found { Ok(()) } else { Err(number) }
            });
            assert_eq!(all, Ok(()));
            is_found
        });
        crate::fuzz::run(&[head], &[b"\x01", b"\x06", b"\xff\xff\xff\xff"], |bytes| Change::all(bytes).is_some());
    }
}
