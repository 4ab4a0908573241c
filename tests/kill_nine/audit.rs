//! The three books side by side: clients, queue, backend.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;

use crate::{
    books::{Books, Heard, Route},
    common::client,
    ledger::{Execution, Ledger},
};

/// What does not agree, each with its keys; all empty when all is well.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Acknowledged, and neither executed nor a dead letter that its route allows.
    pub(crate) lost: Vec<String>,
    /// At the backend or in the queue, and never sent so, or not taken.
    pub(crate) phantom: Vec<String>,
    /// Executed twice at most-once, or twice without one identity.
    pub(crate) duplicate: Vec<String>,
    /// Executed before an earlier one of its ordering value.
    pub(crate) disorder: Vec<String>,
    /// Counters that do not agree with the requests.
    pub(crate) miscounted: Vec<String>,
}

impl Faults {
    pub(crate) fn none(&self) -> bool {
        [&self.lost, &self.phantom, &self.duplicate, &self.disorder, &self.miscounted].iter().all(|faults| faults.is_empty())
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) sent: usize,
    pub queued_202: usize,
    pub live_2xx: usize,
    pub(crate) not_taken: usize,
    pub(crate) nothing_heard: usize,
    pub(crate) accepted: usize,
    pub(crate) delivered: usize,
    pub(crate) outcome_unknown: usize,
    pub(crate) sent_again_with_one_identity: usize,
}

/// A request as the queue knows it.
struct Queued {
    id: String,
    state: String,
    dead_reason: Option<String>,
}

/// Counters of a running program against the clients' books: each route balances, and has accepted what was acknowledged and no more than was sent.
pub(crate) fn counters(status: &Value, noted_before: &BTreeMap<&'static str, (u64, u64)>, books: &Books) -> Vec<String> {
    let mut faults = Vec::new();
    for route in Route::ALL {
        let Some(counted) = status["routes"].as_array().unwrap().iter().find(|counted| counted["name"] == route.name()) else {
            faults.push(format!("no route {}", route.name()));
            continue;
        };
        let of = |name: &str| counted["totals"][name].as_u64().unwrap();
        let sum: u64 = ["queued", "delivering", "delivered", "dead", "cancelled", "discarded"].map(of).iter().sum();
        let (noted, _) = noted_before[route.name()];
        let (_, sent) = books.bounds(route);
        if of("accepted") != sum || of("accepted") < noted || of("accepted") > sent {
            faults.push(format!("{}: noted {noted}, sent {sent}, counted {}", route.name(), counted["totals"]));
        }
    }
    faults
}

/// Everything, once the queue is empty.
pub(crate) async fn everything(admin: SocketAddr, books: &Books, ledger: &Ledger) -> (Faults, Figures) {
    let queue = queue(admin).await;
    let executions = ledger.executions();
    let mut faults = Faults::default();
    let mut figures = Figures { accepted: queue.len(), ..Figures::default() };
    let mut by_key: BTreeMap<&str, Vec<&Execution>> = BTreeMap::new();
    for execution in &executions {
        by_key.entry(&execution.key).or_default().push(execution);
    }
    let writes = books.writes();
    for key in by_key.keys().copied().chain(queue.keys().map(String::as_str)) {
        if !writes.get(key).is_some_and(|(write, _)| write.whole) {
            faults.phantom.push(format!("{key} was never sent"));
        }
    }
    for (key, (write, heard)) in writes.iter().filter(|(_, (write, _))| write.whole) {
        figures.sent += 1;
        let executed = by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let queued = queue.get(key);
        let sent_so = |execution: &Execution| {
            let identity = &write.idempotency_key;
            execution.body == write.body && (identity.is_none() || *identity == execution.idempotency_key)
        };
        if !executed.iter().all(|execution| sent_so(execution)) {
            faults.phantom.push(format!("{key} arrived with another body or identity: {executed:?}, {write:?}"));
        }
        match heard {
            Some(Heard::Queued(id)) => {
                figures.queued_202 += 1;
                if queued.is_none_or(|queued| queued.id != *id) {
                    faults.lost.push(format!("{key} is not in the queue"));
                }
            }
            Some(Heard::Done) => {
                figures.live_2xx += 1;
                if !executed.iter().any(|execution| execution.attempt.is_none() && execution.confirmed) {
                    faults.lost.push(format!("{key} was not executed"));
                }
                if queued.is_some() {
                    faults.phantom.push(format!("{key} was done, and queued"));
                }
            }
            Some(Heard::NotTaken(status)) => {
                figures.not_taken += 1;
                if queued.is_some() {
                    faults.phantom.push(format!("{key} was answered {status}, and queued"));
                }
            }
            Some(Heard::Nothing) | None => figures.nothing_heard += 1,
        }
        if let Some(queued) = queued {
            settled(key, queued, write.route, executed, &mut faults, &mut figures);
        }
        faults.duplicate.extend(duplicates(key, write.route, executed));
        figures.sent_again_with_one_identity += executed.len().saturating_sub(1);
    }
    drop(writes);
    faults.disorder = disorder(&executions, books);
    (faults, figures)
}

/// A request of the queue must have arrived, or be a dead letter that its route allows.
fn settled(key: &str, queued: &Queued, route: Route, executed: &[&Execution], faults: &mut Faults, figures: &mut Figures) {
    match (queued.state.as_str(), queued.dead_reason.as_deref()) {
        ("delivered", _) => {
            figures.delivered += 1;
            if !executed.iter().any(|execution| execution.confirmed && execution.forebay_id.as_ref() == Some(&queued.id)) {
                faults.lost.push(format!("{key} is delivered, and the backend did not confirm it"));
            }
        }
        ("dead", Some("outcome-unknown")) if route == Route::Most => figures.outcome_unknown += 1,
        (state, reason) => faults.lost.push(format!("{key} ended as {state} {reason:?}")),
    }
}

fn duplicates(key: &str, route: Route, executed: &[&Execution]) -> Option<String> {
    if executed.len() < 2 {
        return None;
    }
    // A client that gave no key has its live attempt without one; a replay always carries one.
    let live = executed.iter().filter(|execution| execution.attempt.is_none()).count();
    let given: BTreeSet<_> = executed.iter().filter_map(|execution| execution.idempotency_key.as_ref()).collect();
    let one_identity = live <= 1 && given.len() == 1;
    (route == Route::Most || !one_identity).then(|| format!("{key} was executed {} times: {executed:?}", executed.len()))
}

/// Among the executions of one ordering value none may come after a later one; one that is tried again comes again before the next.
fn disorder(executions: &[Execution], books: &Books) -> Vec<String> {
    let writes = books.writes();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    for execution in executions {
        let Some((value, number)) = writes.get(&execution.key).and_then(|(write, _)| write.order.as_ref()) else { continue };
        let last = last.entry(value).or_default();
        if number < last {
            faults.push(format!("{} came after number {last} of {value}", execution.key));
        }
        *last = *number;
    }
    faults
}

/// Everything that the queue knows, by target.
async fn queue(admin: SocketAddr) -> BTreeMap<String, Queued> {
    let mut found = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = client::ask(admin, &format!("/api/v1/requests?limit=1000{after}")).await;
        for request in page["requests"].as_array().unwrap() {
            let text = |name: &str| request[name].as_str().map(str::to_owned);
            let queued = Queued { id: text("id").unwrap(), state: text("state").unwrap(), dead_reason: text("dead_reason") };
            let before = found.insert(text("target").unwrap(), queued);
            assert!(before.is_none(), "queued twice: {request}");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}
