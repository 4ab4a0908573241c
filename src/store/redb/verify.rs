//! Whether a store is whole: every checksum, every reference from rows to payloads and back, every count.
//!
//! What a crash may leave behind is no fault: records that no row refers to were never acknowledged or are no longer needed, and go by themselves.

use std::{collections::HashMap, io};

use ::redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use prost::Message;
use serde::Serialize;

use super::{
    closed::ClosedStore,
    hours,
    row::{IDS, Location, REQUESTS, ROUTES, RouteRow, Row, id_key},
    segments::{self, ReadError, Record},
};
use crate::{
    envelope::{Envelope, RequestId},
    store::{Moves, Payload, Totals, history::Event},
};

/// Most faults that are told one by one.
const TOLD: usize = 100;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The file.
    pub path: String,
    /// Its format.
    pub format: u32,
    /// Whether nothing is wrong.
    pub whole: bool,
    /// What was looked at, and how much of it is wrong.
    pub checks: Vec<Check>,
    /// The first hundred things that are wrong.
    pub faults: Vec<String>,
    /// What is odd and no fault.
    pub notes: Vec<String>,
}

/// One kind of thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// How many there are.
    pub examined: u64,
    /// How many of them are wrong.
    pub wrong: u64,
}

/// Looks at all of a store. An error means that its file cannot even be read to the end.
pub fn verify(store: &mut ClosedStore) -> Result<Report, ::redb::Error> {
    let mut report = Report {
        path: store.path.display().to_string(),
        format: store.format,
        whole: false,
        checks: ["index", "journal", "rows", "identities", "heads", "bodies", "answers", "leftovers", "counters", "hours"]
            .map(|what| Check { what, examined: 0, wrong: 0 })
            .into(),
        faults: Vec::new(),
        notes: Vec::new(),
    };
    let sound = store.database.check_integrity()?;
    report.look("index", || if sound { Ok(()) } else { Err("its pages did not agree with its list of free pages".into()) });
    let journal = report.checks.iter_mut().find(|check| check.what == "journal");
    journal.into_iter().for_each(|check| check.examined = store.redone.frames);
    if store.redone.lost > 0 {
        report.look("journal", || Err(format!("{} frames of it are damaged or missing, and what they changed is lost", store.redone.lost)));
    }
    let read = store.database.begin_read()?;
    let mut walk = Walk { store, read: &read, report: &mut report, routes: Vec::new(), needed: HashMap::new(), files: Vec::new() };
    walk.routes()?;
    walk.rows()?;
    walk.identities()?;
    walk.counters()?;
    walk.hours()?;
    walk.folder()?;
    report.whole = report.checks.iter().all(|check| check.wrong == 0);
    Ok(report)
}

impl Report {
    /// Counts one thing of a kind, and says what is wrong with it.
    fn look(&mut self, what: &str, is: impl FnOnce() -> Result<(), String>) -> bool {
        let fault = is().err();
        if let Some(check) = self.checks.iter_mut().find(|check| check.what == what) {
            check.examined += 1;
            check.wrong += u64::from(fault.is_some());
        }
        let fine = fault.is_none();
        if let Some(fault) = fault.filter(|_| self.faults.len() < TOLD) {
            self.faults.push(format!("{what}: {fault}"));
        }
        fine
    }
}

struct Walk<'a> {
    store: &'a ClosedStore,
    read: &'a ReadTransaction,
    report: &'a mut Report,
    /// Rows of routes, and what the requests say that they should be.
    routes: Vec<(RouteRow, Totals)>,
    /// Records of each segment that rows refer to.
    needed: HashMap<u32, u64>,
    /// Files that rows refer to.
    files: Vec<String>,
}

impl Walk<'_> {
    fn routes(&mut self) -> Result<(), ::redb::Error> {
        for entry in self.read.open_table(ROUTES)?.iter()? {
            let (number, bytes) = entry?;
            let expected = self.routes.len();
            let row = RouteRow::decode(bytes.value());
            self.report.look("rows", || match &row {
                Ok(_) if number.value() as usize == expected => Ok(()),
                Ok(_) => Err(format!("route {} has the number {}", expected, number.value())),
                Err(error) => Err(format!("route {}: {error}", number.value())),
            });
            self.routes.push((row.unwrap_or_default(), Totals::default()));
        }
        Ok(())
    }

    fn rows(&mut self) -> Result<(), ::redb::Error> {
        let ids = self.read.open_table(IDS)?;
        for entry in self.read.open_table(REQUESTS)?.iter()? {
            let (position, bytes) = entry?;
            let position = position.value();
            let row = Row::decode(bytes.value());
            let known = self.routes.len();
            self.report.look("rows", || match &row {
                Ok(row) if (row.route as usize) < known => Ok(()),
                Ok(row) => Err(format!("request {} is of route {}, which there is not", row.id(), row.route)),
                Err(error) => Err(format!("the request at position {position}: {error}")),
            });
            let Ok(row) = row else { continue };
            let found = ids.get(id_key(row.id()))?.map(|found| found.value());
            self.report.look("identities", || match found {
                Some(found) if found == position => Ok(()),
                Some(found) => Err(format!("request {} stands at position {position} and is looked for at {found}", row.id())),
                None => Err(format!("request {} stands at position {position} and cannot be found by its identity", row.id())),
            });
            if let Some((_, totals)) = self.routes.get_mut(row.route as usize) {
                *totals.of(row.state()) += 1;
            }
            self.request(&row);
            self.answer(&row);
        }
        Ok(())
    }

    /// Head and body of a request.
    fn request(&mut self, row: &Row) {
        let id = row.id();
        *self.needed.entry(row.request.segment).or_default() += 1;
        self.files.extend(row.body_name());
        let head = self.store.readers.head(id, row.request);
        let head = head.map_err(|error| damage(id, "head", error)).and_then(|head| self.fits(row, &head));
        if !self.report.look("heads", || head) || !row.keeps_body() {
            return;
        }
        let body = self.store.readers.request(row).map_err(|error| damage(id, "body", error)).and_then(|(_, body)| {
            let len = (body.len() != row.body_bytes)
                .then(|| format!("request {id} has a body of {} bytes, not of {}", body.len(), row.body_bytes));
            len.map_or_else(|| whole(id, "body", &body), Err)
        });
        self.report.look("bodies", || body);
    }

    /// Whether the head is the one of the row.
    fn fits(&self, row: &Row, head: &[u8]) -> Result<(), String> {
        let id = row.id();
        let (envelope, file) = crate::store::records::decode_request(head).map_err(|error| format!("request {id}: {error}"))?;
        let Some((route, _)) = self.routes.get(row.route as usize) else { return Ok(()) };
        let Envelope { backend, route: name, order_key, accepted_at, .. } = &envelope;
        let agree = envelope.id == id
            && (&**backend, &**name) == (&*route.backend, &*route.route)
            && order_key.map(|key| key.as_u64()) == row.order_key
            && accepted_at.as_millis() == row.accepted_at
            && envelope.may_be_resent() == row.may_be_resent
            && (!row.keeps_body() || file.is_some() == row.body_file)
            && row.bytes == u64::from(row.request.head) + row.body_bytes;
        if agree { Ok(()) } else { Err(format!("what was sent as request {id} is not what its row says")) }
    }

    fn answer(&mut self, row: &Row) {
        let id = row.id();
        self.files.extend(row.answer_name());
        let Some(at) = row.answer else { return };
        *self.needed.entry(at.segment).or_default() += 1;
        let answer = self.store.readers.answer(row, at).map_err(|error| damage(id, "answer", error)).and_then(|answer| {
            whole(id, "answer", &answer.payload)?;
            let agree = u32::from(answer.status) == row.answer_status;
            if agree {
                Ok(())
            } else {
                Err(format!("the kept answer of request {id} has the status {}, not {}", answer.status, row.answer_status))
            }
        });
        self.report.look("answers", || answer);
    }

    /// Identities that lead nowhere. Those of rows have been looked at with the rows.
    fn identities(&mut self) -> Result<(), ::redb::Error> {
        let (ids, requests) = (self.read.open_table(IDS)?, self.read.open_table(REQUESTS)?);
        if ids.len()? == requests.len()? {
            return Ok(());
        }
        for entry in ids.iter()? {
            let (id, position) = entry?;
            if requests.get(position.value())?.is_none() {
                let id = RequestId::from_bytes(id.value().to_be_bytes());
                self.report
                    .look("identities", || Err(format!("request {id} is looked for at position {}, where none is", position.value())));
            }
        }
        Ok(())
    }

    fn counters(&mut self) -> Result<(), ::redb::Error> {
        for (row, found) in &self.routes {
            let (totals, name) = (row.totals(), format!("route {} at {}", row.route, row.backend));
            for (what, says, is) in [
                ("queued", totals.queued, found.queued),
                ("delivering", totals.delivering, found.delivering),
                ("dead", totals.dead, found.dead),
            ] {
                self.report.look("counters", || if says == is { Ok(()) } else { Err(format!("{name}: {what} says {says}, and {is} are")) });
            }
            // Those that were delivered or cancelled are forgotten after a while, and stay counted.
            for (what, says, at_least) in
                [("delivered", totals.delivered, found.delivered), ("cancelled", totals.cancelled, found.cancelled)]
            {
                let fits = says >= at_least;
                self.report
                    .look("counters", || if fits { Ok(()) } else { Err(format!("{name}: {what} says {says}, and {at_least} are kept")) });
            }
            let balance = totals.balance();
            self.report.look("counters", || {
                if balance { Ok(()) } else { Err(format!("{name}: accepted {} is not the sum of the others", totals.accepted)) }
            });
        }
        Ok(())
    }

    /// In the hours that are kept, no more can have happened than ever has.
    fn hours(&mut self) -> Result<(), ::redb::Error> {
        let history = match hours::look(self.read, 0) {
            Ok(history) => history,
            Err(error) => {
                self.report.look("hours", || Err(error.to_string()));
                return Ok(());
            }
        };
        let mut sums: HashMap<_, Moves> = HashMap::new();
        for counts in &history.hours {
            let sum = sums.entry((&*counts.backend, &*counts.route)).or_default();
            Event::ALL.into_iter().for_each(|event| sum.add(event, i64::try_from(counts.moves.of(event)).unwrap_or(i64::MAX)));
            self.report.look("hours", || Ok(()));
        }
        for (row, _) in &self.routes {
            let totals = row.totals();
            let sum = sums.get(&(&*row.backend, &*row.route)).copied().unwrap_or_default();
            let fits = sum.accepted <= totals.accepted
                && sum.delivered <= totals.delivered
                && sum.cancelled <= totals.cancelled
                && sum.discarded <= totals.discarded;
            if !fits {
                self.report
                    .look("hours", || Err(format!("route {} at {}: more happened in its hours than ever has", row.route, row.backend)));
            }
        }
        Ok(())
    }

    /// What lies in the folder, and is it needed?
    fn folder(&mut self) -> Result<(), ::redb::Error> {
        let names = self.store.disk.list()?;
        self.files.sort_unstable();
        let (mut bytes, mut orphans) = (0, 0);
        for name in &names {
            match segments::number(name) {
                Some(number) => bytes += self.segment(number)?,
                None if self.files.binary_search(name).is_err() => orphans += 1,
                None => {}
            }
        }
        if orphans > 0 {
            self.report.notes.push(format!("{orphans} files of bodies belong to no request; those that are ours go at the next start"));
        }
        if bytes > 0 {
            self.report
                .notes
                .push(format!("{bytes} bytes of payloads are no longer needed, or were never acknowledged; they go by themselves"));
        }
        Ok(())
    }

    /// Records that no row refers to. Returns their bytes.
    fn segment(&mut self, number: u32) -> Result<u64, ::redb::Error> {
        let ids = self.read.open_table(IDS)?;
        let requests = self.read.open_table(REQUESTS)?;
        let segment = self.store.disk.open_segment(&segments::name(number))?;
        let len = segment.len()?;
        let (mut offset, mut bytes, mut seen) = (0, 0, 0);
        while let Some((id, at)) = Record::peek(&*segment, number, offset).filter(|(_, at)| segments::end(*at) <= len) {
            offset = segments::end(at);
            // The journal has been read already as far as it counts.
            if self.store.secret.is_of(id) {
                continue;
            }
            let row = match ids.get(id_key(id))? {
                Some(position) => requests.get(position.value())?.and_then(|bytes| Row::decode(bytes.value()).ok()),
                None => None,
            };
            if row.is_some_and(|row| row.request == at || row.answer == Some(at)) {
                seen += 1;
                continue;
            }
            if !self.leftover(id, at) {
                break;
            }
            bytes += segments::end(at) - u64::from(at.offset);
        }
        let needed = self.needed.get(&number).copied().unwrap_or_default();
        if seen < needed {
            self.report
                .notes
                .push(format!("{} of {needed} records of segment {number} lie behind bytes that are no record", needed - seen));
        }
        Ok(bytes)
    }

    /// A record that nobody needs. One that is torn was never acknowledged, and what follows it is not known.
    fn leftover(&mut self, id: RequestId, at: Location) -> bool {
        match self.store.readers.whole(id, at) {
            Ok(_) => self.report.look("leftovers", || Ok(())),
            Err(_) => {
                self.report.notes.push(format!("segment {} ends at {} in a record that was not written to its end", at.segment, at.offset));
                false
            }
        }
    }
}

fn whole(id: RequestId, what: &str, payload: &Payload) -> Result<(), String> {
    payload.check().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damage(id, what, ReadError::Damaged),
        _ => damage(id, what, ReadError::Io(error)),
    })
}

fn damage(id: RequestId, what: &str, error: ReadError) -> String {
    match error {
        ReadError::Damaged => format!("the {what} of request {id} does not match its checksum"),
        ReadError::Gone => format!("the file with the {what} of request {id} is missing"),
        ReadError::Io(error) => format!("the {what} of request {id} cannot be read: {error}"),
    }
}
