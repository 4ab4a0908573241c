//! The books: what was promised, held against what was done.
//!
//! One pure function of three witnesses who did not talk to each other: the journal of the senders, the ledgers of the servers, and the counts
//! of the proxy. What a user did by hand is in the ledgers too, and is nobody's promise here: only what stands in the journal is judged. For the same
//! reason a dead letter is no fault in itself: one that belongs to the journal shows as missing.

use std::{collections::HashMap, fmt};

use super::{
    journal::{Entries, Promise},
    ledger::Pages,
    stage::Status,
};

/// One kind of write, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Sent through the proxy.
    pub sent: u64,
    /// Acknowledged by the server itself.
    pub passed: u64,
    /// Acknowledged by the proxy with a 202.
    pub queued: u64,
    /// Of the acknowledged: executed exactly once.
    pub once: u64,
    /// Of the acknowledged: never executed.
    pub missing: u64,
    /// Executed more than once, acknowledged or not.
    pub doubled: u64,
    /// Executed after a later one of the same sender.
    pub disordered: u64,
    /// Executed although nobody was told: a crash came between the deed and the word, and it was not tried again.
    pub untold: u64,
}

/// What does not balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Promised and not done.
    Missing(String, Promise),
    /// Done more than once.
    Doubled(String, u32),
    /// Done after a later one of the same driver.
    Disordered {
        /// Who sent them.
        driver: String,
        /// The one that came too late.
        sequence: u64,
        /// The later one that came before it.
        after: u64,
    },
    /// Of this kind something was sent and nothing at all was acknowledged: nothing lost, and nothing done either.
    Idle(&'static str),
    /// The proxy still holds requests.
    Open(u64),
    /// The counts of a route do not add up.
    Unbalanced(String),
    /// The proxy knows of fewer acknowledgements than the senders have.
    Uncounted {
        /// 202s that the senders hold.
        held: u64,
        /// Requests that the proxy says that it has accepted.
        accepted: u64,
    },
    /// The proxy did not say.
    NoStatus(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name, Promise::Queued(id)) => write!(f, "{name} is missing: acknowledged with a 202 as {id}, never executed"),
            Self::Missing(name, _) => write!(f, "{name} is missing: acknowledged by its server, not in its ledger"),
            Self::Doubled(name, times) => write!(f, "{name} was executed {times} times"),
            Self::Disordered { driver, sequence, after } => write!(f, "mark {sequence} of {driver} was executed after mark {after}"),
            Self::Idle(kind) => write!(f, "not one {kind} was acknowledged"),
            Self::Open(open) => write!(f, "{open} requests are still in the queue"),
            Self::Unbalanced(route) => {
                write!(f, "route {route}: accepted is not queued + delivering + delivered + dead + cancelled + discarded")
            }
            Self::Uncounted { held, accepted } => write!(f, "the senders hold {held} answers 202, the proxy counts {accepted} accepted"),
            Self::NoStatus(why) => write!(f, "the proxy's counts are unknown: {why}"),
        }
    }
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Orders, one row of a spreadsheet each.
    pub orders: Account,
    /// Delivery marks.
    pub marks: Account,
    /// Entries in the ledgers that came from nobody in the journal: a user's own.
    pub foreign: u64,
    /// What does not balance; empty when everything does.
    pub faults: Vec<Fault>,
}

/// Closes the books.
pub fn close(sent: &Entries, admin: &Pages, app: &Pages, status: Result<&Status, String>) -> Books {
    let mut books = Books::default();
    let mut orders: HashMap<&str, Judged> = HashMap::new();
    let mut around: HashMap<&str, Judged> = HashMap::new();
    for upload in &sent.uploads {
        let side = if upload.around { &mut around } else { &mut orders };
        for order in &upload.orders {
            side.insert(order, Judged::new(&upload.promise, admin.executions.get(order)));
        }
    }
    let marks: HashMap<&str, Judged> =
        sent.marks.iter().map(|mark| (mark.id.as_str(), Judged::new(&mark.promise, app.executions.get(&mark.id)))).collect();

    books.foreign =
        count(admin.executions.keys().filter(|name| !orders.contains_key(name.as_str()) && !around.contains_key(name.as_str())));
    books.foreign += count(app.executions.keys().filter(|name| !marks.contains_key(name.as_str())));
    books.orders = account("order", &orders, &mut books.faults);
    books.marks = account("mark", &marks, &mut books.faults);
    books.marks.disordered = order_of_drivers(sent, app, &mut books.faults);
    proxy(sent, status, &mut books.faults);
    books
}

/// One entry and what became of it.
struct Judged<'a> {
    promise: &'a Promise,
    times: u32,
}

impl<'a> Judged<'a> {
    fn new(promise: &'a Promise, times: Option<&u32>) -> Self {
        Self { promise, times: times.copied().unwrap_or(0) }
    }
}

fn account(kind: &'static str, entries: &HashMap<&str, Judged<'_>>, faults: &mut Vec<Fault>) -> Account {
    let mut account = Account { sent: count(entries.iter()), ..Account::default() };
    let mut found = Vec::new();
    for (name, judged) in entries {
        match judged.promise {
            Promise::None => account.untold += u64::from(judged.times > 0),
            Promise::Passed => account.passed += 1,
            Promise::Queued(_) => account.queued += 1,
        }
        match (judged.promise, judged.times) {
            (Promise::None, 0 | 1) => {}
            (_, 1) => account.once += 1,
            (promise, 0) => {
                account.missing += 1;
                found.push((*name, Fault::Missing(format!("{kind} {name}"), promise.clone())));
            }
            (_, times) => {
                account.doubled += 1;
                found.push((*name, Fault::Doubled(format!("{kind} {name}"), times)));
            }
        }
    }
    // The first ones are named: by name, since a map has no order of its own.
    found.sort_by_key(|(name, _)| *name);
    faults.extend(found.into_iter().map(|(_, fault)| fault));
    if account.sent > 0 && account.passed + account.queued == 0 {
        faults.push(Fault::Idle(kind));
    }
    account
}

fn order_of_drivers(sent: &Entries, app: &Pages, faults: &mut Vec<Fault>) -> u64 {
    let mut drivers: Vec<&str> = sent.marks.iter().map(|mark| mark.driver.as_str()).collect();
    drivers.sort_unstable();
    drivers.dedup();
    let mut disordered = 0;
    for driver in drivers {
        let mut latest = 0;
        for &sequence in app.sequences.get(driver).into_iter().flatten() {
            if sequence < latest {
                disordered += 1;
                faults.push(Fault::Disordered { driver: driver.to_owned(), sequence, after: latest });
            }
            // The same one again is doubled, which is a fault of its own.
            latest = latest.max(sequence);
        }
    }
    disordered
}

fn proxy(sent: &Entries, status: Result<&Status, String>, faults: &mut Vec<Fault>) {
    let status = match status {
        Ok(status) => status,
        Err(why) => return faults.push(Fault::NoStatus(why)),
    };
    faults.extend(status.routes.iter().filter(|route| !route.totals.balance()).map(|route| Fault::Unbalanced(route.name.clone())));
    let totals = status.totals();
    if totals.open() > 0 {
        faults.push(Fault::Open(totals.open()));
    }
    // More is no fault: a user's own uploads, and answers that a sender did not wait for.
    if totals.accepted < sent.tally.queued {
        faults.push(Fault::Uncounted { held: sent.tally.queued, accepted: totals.accepted });
    }
}

fn count(items: impl Iterator) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
