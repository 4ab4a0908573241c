//! What a stand-in server has executed: the part of it that outlives its crashes, as the database behind a real one does.
//!
//! A ledger counts, it does not judge: an order that was executed twice stands in it with a 2, and it is for the books to find that.
//!
//! # Why nothing is executed twice although forebay may send it twice
//! The demo's routes are `at-least-once`, since a server that dies between doing the work and saying so leaves no other way to lose nothing. Such a route asks
//! one thing of its server: to know a request that it has seen before. Real legacy servers know it by a unique column (the order number, the number of the
//! mark) or by the `Idempotency-Key` field (draft-ietf-httpapi-idempotency-key-header), which forebay carries from the client through every attempt. The
//! stand-ins know it by that key, stored in the same transaction as the work itself. They deliberately have no unique column: if the
//! proxy lost a key or sent a request under a second one, its orders would be executed again, and the ledger would show it. A server that can do neither
//! belongs behind `delivery = "at-most-once"`.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

/// One thing to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is: an order number or the number of a mark.
    pub name: String,
    /// Whose it is and which in the order of its sender, where order matters.
    pub place: Option<(String, u64)>,
}

/// What became of a request to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// It was done now.
    Now,
    /// It was done before, and this was the answer.
    Before(Bytes),
}

/// The ledger of one server.
#[derive(Debug, Default)]
pub struct Ledger {
    // A plain lock: it is held for a few map operations, never over an await.
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    pages: Pages,
    receipts: HashMap<String, Bytes>,
}

/// A look at a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// How often each entry was executed.
    pub executions: HashMap<String, u32>,
    /// For each sender whose order matters, its places in the order of execution.
    pub sequences: HashMap<String, Vec<u64>>,
    /// Requests that were known by their key and not executed again.
    pub repeats: u64,
}

/// How much there is in a ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Different entries.
    pub entries: usize,
    /// Requests that were known by their key and not executed again.
    pub repeats: u64,
}

impl Ledger {
    /// Executes `entries`, all of them or (when `key` was executed before) none, and keeps `answer` for a repeat.
    pub fn execute(&self, key: Option<&str>, entries: Vec<Entry>, answer: &Bytes) -> Executed {
        let mut written = self.written.lock();
        let Written { pages, receipts } = &mut *written;
        if let Some(key) = key {
            if let Some(answer) = receipts.get(key).cloned() {
                pages.repeats += 1;
                return Executed::Before(answer);
            }
            receipts.insert(key.to_owned(), answer.clone());
        }
        for entry in entries {
            *pages.executions.entry(entry.name).or_default() += 1;
            if let Some((sender, place)) = entry.place {
                pages.sequences.entry(sender).or_default().push(place);
            }
        }
        Executed::Now
    }

    /// How often an entry was executed.
    pub fn times(&self, name: &str) -> u32 {
        self.written.lock().pages.executions.get(name).copied().unwrap_or(0)
    }

    /// How much there is in it.
    pub fn extent(&self) -> Extent {
        let pages = &self.written.lock().pages;
        Extent { entries: pages.executions.len(), repeats: pages.repeats }
    }

    /// A copy of all of it.
    pub fn pages(&self) -> Pages {
        self.written.lock().pages.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<Entry> {
        names.iter().map(|&name| Entry { name: name.into(), place: None }).collect()
    }

    #[test]
    fn a_key_that_was_seen_executes_nothing_and_gets_the_first_answer() {
        let ledger = Ledger::default();
        let first = Bytes::from_static(b"first");
        assert_eq!(ledger.execute(Some("k"), entries(&["a", "b"]), &first), Executed::Now);
        assert_eq!(ledger.execute(Some("k"), entries(&["a", "b"]), &Bytes::from_static(b"second")), Executed::Before(first));
        assert_eq!((ledger.times("a"), ledger.times("b"), ledger.extent()), (1, 1, Extent { entries: 2, repeats: 1 }));
    }

    #[test]
    fn the_same_entry_under_another_key_or_none_is_counted_again() {
        let ledger = Ledger::default();
        let answer = Bytes::new();
        for key in [Some("k1"), Some("k2"), None, None] {
            assert_eq!(ledger.execute(key, entries(&["a"]), &answer), Executed::Now);
        }
        assert_eq!(ledger.times("a"), 4);
    }

    #[test]
    fn places_are_kept_in_the_order_of_execution() {
        let ledger = Ledger::default();
        for place in [1, 3, 2] {
            let entry = Entry { name: format!("m{place}"), place: Some(("driver-1".into(), place)) };
            ledger.execute(None, vec![entry], &Bytes::new());
        }
        assert_eq!(ledger.pages().sequences["driver-1"], [1, 3, 2]);
    }
}
