//! A fault is planted in books that balance, and must be found.

use super::*;
use crate::cli::demo::{
    journal::{SentMark, SentUpload},
    stage::{Route, Totals},
};

/// Two uploads of two orders and three marks of one driver: one upload and one mark queued, everything done once and in order.
fn balanced() -> (Entries, Pages, Pages, Status) {
    let upload = |orders: [&str; 2], promise| SentUpload { orders: orders.map(str::to_owned).to_vec(), promise, around: false };
    let mark = |sequence, promise| SentMark { id: format!("M-1-{sequence}"), driver: "driver-1".into(), sequence, promise };
    let mut sent = Entries {
        uploads: vec![upload(["P1-1", "P1-2"], Promise::Passed), upload(["P2-1", "P2-2"], Promise::Queued("id-1".into()))],
        marks: vec![mark(1, Promise::Passed), mark(2, Promise::Queued("id-2".into())), mark(3, Promise::Passed)],
        ..Entries::default()
    };
    sent.tally.passed = 3;
    sent.tally.queued = 2;
    let once = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), 1)).collect();
    let admin = Pages { executions: once(&["P1-1", "P1-2", "P2-1", "P2-2"]), ..Pages::default() };
    let app = Pages {
        executions: once(&["M-1-1", "M-1-2", "M-1-3"]),
        sequences: [("driver-1".to_owned(), vec![1, 2, 3])].into(),
        ..Pages::default()
    };
    let route =
        |name: &str| Route { name: name.into(), backend: name.into(), totals: Totals { accepted: 1, delivered: 1, ..Totals::default() } };
    (sent, admin, app, Status { backends: Vec::new(), routes: vec![route("order-upload"), route("delivery-marks")] })
}

/// The faults of the balanced books after `spoil`.
fn faults(spoil: impl FnOnce(&mut Entries, &mut Pages, &mut Pages, &mut Status)) -> Vec<Fault> {
    let (mut sent, mut admin, mut app, mut status) = balanced();
    spoil(&mut sent, &mut admin, &mut app, &mut status);
    close(&sent, &admin, &app, Ok(&status)).faults
}

#[test]
fn books_without_a_fault_balance() {
    let (sent, admin, app, status) = balanced();
    let books = close(&sent, &admin, &app, Ok(&status));
    assert_eq!(books.faults, []);
    assert_eq!(books.orders, Account { sent: 4, passed: 2, queued: 2, once: 4, ..Account::default() });
    assert_eq!(books.marks, Account { sent: 3, passed: 2, queued: 1, once: 3, ..Account::default() });
    assert_eq!(books.foreign, 0);
}

#[test]
fn one_acknowledged_order_that_is_missing_is_named() {
    let found = faults(|_, admin, _, _| {
        admin.executions.remove("P2-2");
    });
    assert_eq!(found, [Fault::Missing("order P2-2".into(), Promise::Queued("id-1".into()))]);
    assert_eq!(found[0].to_string(), "order P2-2 is missing: acknowledged with a 202 as id-1, never executed");
}

#[test]
fn one_acknowledged_mark_that_is_missing_is_named() {
    let found = faults(|_, _, app, _| {
        app.executions.remove("M-1-3");
    });
    assert_eq!(found, [Fault::Missing("mark M-1-3".into(), Promise::Passed)]);
}

#[test]
fn an_entry_that_was_executed_twice_is_named_acknowledged_or_not() {
    let twice = |_: &mut Entries, admin: &mut Pages, _: &mut Pages, _: &mut Status| {
        admin.executions.insert("P1-1".into(), 2);
    };
    assert_eq!(faults(twice), [Fault::Doubled("order P1-1".into(), 2)]);
    let unpromised = faults(|sent, admin, app, status| {
        sent.uploads[0].promise = Promise::None;
        twice(sent, admin, app, status);
    });
    assert_eq!(unpromised, [Fault::Doubled("order P1-1".into(), 2)]);
}

#[test]
fn a_mark_that_overtook_an_earlier_one_is_found() {
    let found = faults(|_, _, app, _| {
        app.sequences.insert("driver-1".into(), vec![1, 3, 2]);
    });
    assert_eq!(found, [Fault::Disordered { driver: "driver-1".into(), sequence: 2, after: 3 }]);
}

#[test]
fn the_same_mark_twice_is_doubled_and_not_disordered() {
    let found = faults(|_, _, app, _| {
        app.executions.insert("M-1-2".into(), 2);
        app.sequences.insert("driver-1".into(), vec![1, 2, 2, 3]);
    });
    assert_eq!(found, [Fault::Doubled("mark M-1-2".into(), 2)]);
}

#[test]
fn nothing_was_promised_about_what_was_refused() {
    let (mut sent, mut admin, app, status) = balanced();
    sent.uploads[0].promise = Promise::None;
    admin.executions.remove("P1-1");
    let books = close(&sent, &admin, &app, Ok(&status));
    assert_eq!((books.faults, books.orders.untold), (vec![], 1));
}

#[test]
fn what_went_around_the_proxy_and_what_a_user_did_is_not_judged() {
    let (mut sent, mut admin, mut app, status) = balanced();
    sent.uploads.push(SentUpload { orders: vec!["R1".into(), "R2".into()], promise: Promise::Passed, around: true });
    admin.executions.insert("R1".into(), 2);
    admin.executions.insert("TRY-1".into(), 3);
    app.executions.insert("try-1".into(), 1);
    app.sequences.insert("you".into(), vec![5, 1]);
    let books = close(&sent, &admin, &app, Ok(&status));
    assert_eq!((books.faults, books.foreign, books.orders.sent), (vec![], 2, 4));
}

#[test]
fn counts_of_the_proxy_that_do_not_add_up_are_found() {
    assert_eq!(faults(|_, _, _, status| status.routes[0].totals.delivered = 0), [Fault::Unbalanced("order-upload".into())]);
    assert_eq!(
        faults(|_, _, _, status| {
            status.routes[0].totals.delivered = 0;
            status.routes[0].totals.queued = 1;
        }),
        [Fault::Open(1)]
    );
    assert_eq!(faults(|sent, _, _, _| sent.tally.queued = 3), [Fault::Uncounted { held: 3, accepted: 2 }]);
}

#[test]
fn books_without_the_word_of_the_proxy_do_not_balance() {
    let (sent, admin, app, _) = balanced();
    assert_eq!(close(&sent, &admin, &app, Err("refused".into())).faults, [Fault::NoStatus("refused".into())]);
}

#[test]
fn a_dead_letter_of_the_journal_shows_as_missing_and_one_of_a_user_does_not_matter() {
    let users = faults(|_, _, _, status| {
        status.routes[1].totals.accepted += 1;
        status.routes[1].totals.dead += 1;
    });
    assert_eq!(users, []);
    let ours = faults(|_, _, app, status| {
        app.executions.remove("M-1-2");
        status.routes[1].totals = Totals { accepted: 1, dead: 1, ..Totals::default() };
    });
    assert_eq!(ours, [Fault::Missing("mark M-1-2".into(), Promise::Queued("id-2".into()))]);
}

#[test]
fn a_proxy_that_acknowledges_nothing_has_no_balanced_books() {
    let found = faults(|sent, _, app, _| {
        sent.marks.iter_mut().for_each(|mark| mark.promise = Promise::None);
        *app = Pages::default();
        sent.tally.queued = 1;
    });
    assert_eq!(found, [Fault::Idle("mark")]);
}
