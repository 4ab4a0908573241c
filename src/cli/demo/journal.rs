//! What the senders know: every write they sent, and what they were promised for it.
//!
//! A write is entered before its first byte leaves, and its promise when the answer is whole: what stands here as promised was acknowledged.

use std::collections::HashMap;

use http::StatusCode;
use parking_lot::Mutex;

use super::wire::Reply;

/// What a sender was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promise {
    /// Nothing that binds anybody: no answer, or one that says that it was not done.
    None,
    /// The server itself said that it was done.
    Passed,
    /// The proxy said that it has it, under this identity.
    Queued(String),
}

impl Promise {
    /// What an answer promises: any 2xx binds, and the proxy's own is known by its `Forebay-Id`.
    pub fn of(reply: &Reply) -> Self {
        if !reply.status.is_success() {
            return Self::None;
        }
        match reply.headers.get("forebay-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned()) {
            Some(id) if reply.status == StatusCode::ACCEPTED => Self::Queued(id),
            _ => Self::Passed,
        }
    }
}

/// An upload that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentUpload {
    /// The numbers of its orders.
    pub orders: Vec<String>,
    /// What its sender was told.
    pub promise: Promise,
    /// Whether it went to the server directly, past the proxy.
    pub around: bool,
}

/// A mark that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMark {
    /// Its number.
    pub id: String,
    /// Who sent it.
    pub driver: String,
    /// Which of its driver's it is.
    pub sequence: u64,
    /// What its sender was told.
    pub promise: Promise,
}

/// Everything that was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// Uploads in the order of their sending.
    pub uploads: Vec<SentUpload>,
    /// Marks in the order of their sending.
    pub marks: Vec<SentMark>,
    /// Counts for the screen.
    pub tally: Tally,
}

/// Counts of requests, for the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes that the servers acknowledged themselves.
    pub passed: u64,
    /// Writes that the proxy acknowledged.
    pub queued: u64,
    /// Times that a sender got no promise and knows it.
    pub refused: u64,
    /// Reads that were served.
    pub reads: u64,
    /// Reads that were refused honestly (503).
    pub reads_refused: u64,
    /// Reads that failed in any other way.
    pub reads_failed: u64,
    /// Uploads that were sent past the proxy and lost.
    pub around_lost: u64,
}

impl Tally {
    /// Writes that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.passed + self.queued
    }
}

/// The journal, shared by all senders.
#[derive(Debug, Default)]
pub struct Journal {
    // A plain lock, held for a push or an assignment and never over an await.
    entries: Mutex<Entries>,
    why: Mutex<HashMap<String, u64>>,
}

/// Which upload, or which mark.
#[derive(Debug, Clone, Copy)]
pub enum Line {
    /// By its place among the uploads.
    Upload(usize),
    /// By its place among the marks.
    Mark(usize),
}

impl Journal {
    /// An upload is about to be sent.
    pub fn uploading(&self, orders: Vec<String>, around: bool) -> Line {
        let uploads = &mut self.entries.lock().uploads;
        uploads.push(SentUpload { orders, promise: Promise::None, around });
        Line::Upload(uploads.len() - 1)
    }

    /// A mark is about to be sent.
    pub fn marking(&self, id: String, driver: String, sequence: u64) -> Line {
        let marks = &mut self.entries.lock().marks;
        marks.push(SentMark { id, driver, sequence, promise: Promise::None });
        Line::Mark(marks.len() - 1)
    }

    /// Its sender was told this; `why` says in a few words why it got no promise.
    pub fn told(&self, line: Line, promise: Promise, why: Option<String>) {
        let mut entries = self.entries.lock();
        let Entries { uploads, marks, tally } = &mut *entries;
        let (slot, around) = match line {
            Line::Upload(index) => match uploads.get_mut(index) {
                Some(upload) => (&mut upload.promise, upload.around),
                None => return,
            },
            Line::Mark(index) => match marks.get_mut(index) {
                Some(mark) => (&mut mark.promise, false),
                None => return,
            },
        };
        match (&promise, around) {
            (Promise::None, true) => tally.around_lost += 1,
            (Promise::None, false) => tally.refused += 1,
            (Promise::Passed | Promise::Queued(_), true) => {}
            (Promise::Passed, false) => tally.passed += 1,
            (Promise::Queued(_), false) => tally.queued += 1,
        }
        *slot = promise;
        // The misfortunes of those who went around the proxy are no word about the proxy.
        if let Some(why) = why.filter(|_| !around) {
            *self.why.lock().entry(why).or_default() += 1;
        }
    }

    /// The reasons for which writes through the proxy got no promise, most frequent first; equal ones are counted together.
    pub fn reasons(&self) -> Vec<(String, u64)> {
        let mut reasons: Vec<_> = self.why.lock().iter().map(|(why, times)| (why.clone(), *times)).collect();
        reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        reasons
    }

    /// A read has ended so; none when there was no answer.
    pub fn read(&self, status: Option<StatusCode>) {
        let tally = &mut self.entries.lock().tally;
        match status {
            Some(status) if status.is_success() => tally.reads += 1,
            Some(StatusCode::SERVICE_UNAVAILABLE) => tally.reads_refused += 1,
            _ => tally.reads_failed += 1,
        }
    }

    /// The counts.
    pub fn tally(&self) -> Tally {
        self.entries.lock().tally
    }

    /// A copy of all of it.
    pub fn entries(&self) -> Entries {
        self.entries.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn reply(status: u16, id: Option<&str>) -> Reply {
        let headers = id.map(|id| (http::HeaderName::from_static("forebay-id"), id.parse().unwrap()));
        Reply { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::from_iter(headers), body: Bytes::new() }
    }

    #[test]
    fn any_2xx_is_a_promise_and_nothing_else_is() {
        assert_eq!(Promise::of(&reply(201, None)), Promise::Passed);
        assert_eq!(Promise::of(&reply(202, Some("x"))), Promise::Queued("x".into()));
        assert_eq!(Promise::of(&reply(202, None)), Promise::Passed);
        for status in [100, 302, 400, 409, 500, 502, 503] {
            assert_eq!(Promise::of(&reply(status, Some("x"))), Promise::None, "{status}");
        }
    }

    #[test]
    fn what_was_sent_stands_in_the_journal_before_it_is_promised() {
        let journal = Journal::default();
        let line = journal.uploading(vec!["o1".into(), "o2".into()], false);
        assert_eq!(journal.entries().uploads[0].promise, Promise::None);
        journal.told(line, Promise::Passed, None);
        assert_eq!(journal.entries().uploads[0].promise, Promise::Passed);
        assert_eq!(journal.tally(), Tally { passed: 1, ..Tally::default() });
    }

    #[test]
    fn what_went_past_the_proxy_is_not_counted_as_its_work() {
        let journal = Journal::default();
        journal.told(journal.uploading(vec!["o1".into()], true), Promise::Passed, None);
        journal.told(journal.uploading(vec!["o2".into()], true), Promise::None, Some("reset".into()));
        assert_eq!(journal.tally(), Tally { around_lost: 1, ..Tally::default() });
        assert!(journal.reasons().is_empty());
    }
}
