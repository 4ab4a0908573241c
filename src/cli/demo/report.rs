//! The end of the demo on paper: the books as a table, what else is worth knowing, and one closing sentence.

use std::time::Duration;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use super::{
    books::{Account, Books},
    journal::Tally,
    screen::grouped,
    stage::Status,
};

/// Faults that are named one by one.
const NAMED: usize = 5;

/// What is reported besides the books.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// What the senders counted.
    pub tally: Tally,
    /// Why writes were refused, and how often, most frequent first.
    pub refusals: Vec<(String, u64)>,
    /// How often a server got a request that it had executed, and knew it.
    pub repeats: u64,
    /// Crashes and time away, of the admin and of the app server.
    pub outages: [(u32, Duration); 2],
}

/// The whole report.
pub fn report(books: &Books, status: Option<&Status>, circumstances: &Circumstances) -> String {
    let mut text = format!("{}\n", promises(books));
    if let Some(status) = status {
        text.push_str(&format!("{}\n", counts(status)));
    }
    for note in notes(books, circumstances) {
        text.push_str(&format!("- {note}\n"));
    }
    text.push('\n');
    text.push_str(&sentence(books, circumstances));
    text
}

fn promises(books: &Books) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "sent through forebay",
        "writes",
        "acknowledged",
        "= passed",
        "+ queued (202)",
        "executed once",
        "missing",
        "doubled",
        "out of order",
    ]);
    for (name, account) in [("orders", books.orders), ("delivery marks", books.marks)] {
        let Account { sent, passed, queued, once, missing, doubled, disordered, .. } = account;
        let numbers = [sent, passed + queued, passed, queued, once, missing, doubled, disordered];
        table.add_row(std::iter::once(name.to_owned()).chain(numbers.map(grouped)));
    }
    table
}

fn counts(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "forebay's own count",
        "accepted",
        "= queued",
        "+ delivering",
        "+ delivered",
        "+ dead",
        "+ cancelled",
        "+ discarded",
    ]);
    for route in &status.routes {
        let totals = route.totals;
        let numbers =
            [totals.accepted, totals.queued, totals.delivering, totals.delivered, totals.dead, totals.cancelled, totals.discarded];
        table.add_row(std::iter::once(route.name.clone()).chain(numbers.map(grouped)));
    }
    table
}

fn notes(books: &Books, circumstances: &Circumstances) -> Vec<String> {
    let Tally { reads, reads_refused, reads_failed, around_lost, .. } = circumstances.tally;
    let mut notes = Vec::new();
    if around_lost > 0 {
        notes.push(format!("{around_lost} uploads that went around forebay got no answer: their senders must find out for themselves."));
    }
    if circumstances.repeats > 0 {
        notes.push(format!(
            "{} requests reached a server again after it had died between the deed and the answer; it knew them by their Idempotency-Key.",
            grouped(circumstances.repeats)
        ));
    }
    let untold = books.orders.untold + books.marks.untold;
    if untold > 0 {
        notes
            .push(format!("{} entries were executed although their senders got no answer; nobody was promised anything.", grouped(untold)));
    }
    let mut sentence = format!("Of the reads {} were served and {} refused honestly (503)", grouped(reads), grouped(reads_refused));
    if reads_failed > 0 {
        sentence.push_str(&format!(", {} failed otherwise", grouped(reads_failed)));
    }
    notes.push(sentence + ".");
    for (why, times) in circumstances.refusals.iter().take(NAMED) {
        notes.push(format!("A write was not acknowledged, and its sender knew it, {} times: {why}.", grouped(*times)));
    }
    if books.foreign > 0 {
        notes.push(format!("{} further entries in the ledgers came from outside the load: yours.", grouped(books.foreign)));
    }
    notes
}

fn sentence(books: &Books, circumstances: &Circumstances) -> String {
    if books.faults.is_empty() {
        let [admin, app] = circumstances.outages;
        let acknowledged = |account: Account| grouped(account.passed + account.queued);
        return format!(
            "The books balance: {} orders and {} marks were acknowledged, and each is in its server's ledger exactly once, \
             every driver's marks in order, although admin {} and app {}.",
            acknowledged(books.orders),
            acknowledged(books.marks),
            outage(admin),
            outage(app)
        );
    }
    let mut text = format!("The books do NOT balance: {} faults.", grouped(books.faults.len() as u64));
    for fault in books.faults.iter().take(NAMED) {
        text.push_str(&format!("\n  {fault}"));
    }
    if books.faults.len() > NAMED {
        text.push_str(&format!("\n  and {} more", grouped((books.faults.len() - NAMED) as u64)));
    }
    text
}

fn outage((crashes, away): (u32, Duration)) -> String {
    match crashes {
        0 => "never crashed".to_owned(),
        1 => format!("crashed once and was away for {:.1} s", away.as_secs_f64()),
        _ => format!("crashed {crashes} times and was away for {:.1} s", away.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::{books::Fault, journal::Promise};

    #[test]
    fn balanced_books_end_with_what_was_kept_and_through_what() {
        let books = Books {
            orders: Account { sent: 12_000, passed: 9000, queued: 3000, once: 12_000, ..Account::default() },
            marks: Account { sent: 3, passed: 3, once: 3, ..Account::default() },
            ..Books::default()
        };
        let outages = [(2, Duration::from_millis(14_400)), (0, Duration::ZERO)];
        let text = report(&books, Some(&Status::default()), &Circumstances { outages, ..Circumstances::default() });
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "The books balance: 12,000 orders and 3 marks were acknowledged, and each is in its server's ledger exactly once, \
             every driver's marks in order, although admin crashed 2 times and was away for 14.4 s and app never crashed."
        );
    }

    #[test]
    fn the_first_faults_are_named_and_the_others_counted() {
        let fault = |number| Fault::Missing(format!("order P-{number}"), Promise::Passed);
        let books = Books { faults: (1..=7).map(fault).collect(), ..Books::default() };
        let text = report(&books, None, &Circumstances::default());
        assert!(text.contains("The books do NOT balance: 7 faults."), "{text}");
        assert!(text.contains("order P-5 is missing") && !text.contains("order P-6"), "{text}");
        assert!(text.ends_with("and 2 more"), "{text}");
    }
}
