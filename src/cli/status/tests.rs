use super::*;
use crate::admin::api::{Queue, Replay, Server};

fn status() -> Status {
    let totals = Totals { accepted: 61, queued: 3, delivering: 1, delivered: 50, dead: 2, cancelled: 1, discarded: 4 };
    let queue = Queue {
        queued: 3,
        delivering: 1,
        dead: 2,
        bytes: 4096,
        oldest_age_seconds: Some(75.2),
        replay_rate: 2.5,
        drained_in_seconds: Some(90.0),
        paused: false,
        replay: Some(Replay {
            profile: "gentle".into(),
            in_flight: 1,
            window: 7,
            ramp: "growing".into(),
            hold: "window".into(),
            slowdown: Some(1.234),
            ..Replay::default()
        }),
    };
    let server = |up| Server { address: "http://127.0.0.1:9001".into(), up, weight: if up { 100 } else { 0 } };
    let backend = Backend {
        name: "admin".into(),
        configured: true,
        state: Some(State::Probing),
        mode: Mode::Auto,
        in_flight: 2,
        waiting: 0,
        concurrency_limit: 20,
        concurrency_adaptive: true,
        concurrency_why: Some(crate::health::Why::Growing),
        slowdown: Some(1.04),
        base_latencies: vec![crate::health::Remembered { route: "order-upload".into(), safe: false, seconds: 2.5 }],
        servers: vec![server(true), server(false)],
        spilled: [(crate::envelope::Reason::Down, 7)].into(),
        queue,
    };
    let store = Store {
        failing: None,
        requests: 4,
        max_requests: 1_000,
        bytes: 4096,
        max_bytes: 8 << 30,
        free_disk_bytes: Some(5 << 30),
        min_free_disk_bytes: 512 << 20,
        refusals: Refusals {
            max_requests: Refused { requests: 17, since: None },
            max_bytes: Refused { requests: 3, since: Some("2026-11-22T11:59:00.000Z".into()) },
            ..Refusals::default()
        },
        ages: Ages {
            max_age: Age { requests: 3, next_in_seconds: Some(200.0), next_requests: 2, ..Age::default() },
            keep_dead: Age { requests: 2, next_in_seconds: Some(86_400.0), next_requests: 1, ..Age::default() },
            ..Ages::default()
        },
        damaged: 0,
        commits: 0,
        committed_operations: 0,
    };
    Status {
        version: "0.1.0".into(),
        at: "2026-11-22T12:00:00.000Z".into(),
        phase: Phase::Accepting,
        totals,
        backends: vec![backend],
        routes: vec![Route { name: "order-upload".into(), backend: "admin".into(), totals }],
        store,
        clients: Clients {
            connections: 7,
            max_connections: 100,
            refused: [("full".to_owned(), 2), ("proxy_protocol".to_owned(), 0)].into(),
            rate_limited: 5,
        },
    }
}

#[test]
fn a_page_shows_exact_counts_and_when_each_queue_will_be_empty() {
    let expected = "\
forebay 0.1.0 is accepting (2026-11-22T12:00:00.000Z)

BACKEND  STATE    SERVERS  IN FLIGHT  SLOWDOWN  QUEUED  DELIVERING  DEAD     SIZE      OLDEST  EMPTY IN
admin    probing      1/2       2/20      1.0x       3           1     2  4.0 KiB  1 min 16 s  1 min 30 s (at 2.5/s)
admin: limit 20, growing; undisturbed: order-upload writes 2.500 s
admin: replay gentle, 1 of 7 under way, last growing, held by window, backend 1.23 times as slow as at rest

ROUTE         BACKEND  ACCEPTED  QUEUED  DELIVERING  DELIVERED  DEAD  CANCELLED  DISCARDED
order-upload  admin          61       3           1         50     2          1          4

accepted 61 = queued 3 + delivering 1 + delivered 50 + dead 2 + cancelled 1 + discarded 4
store: 4 of 1000 requests (0.4%), 4.0 KiB of 8.0 GiB (0.0%), 5.0 GiB free on its disk (nothing new below 512.0 MiB)
REFUSES what is new: store.max_bytes, since 2026-11-22T11:59:00.000Z; 3 since the start
next by age: 2 of 3 queued expire in 3 min 20 s, 1 of 2 dead letters are discarded in 1 d
clients: 7 of 100 connections, 2 turned away (full), 5 requests past their rate
";
    assert_eq!(page(&status(), false), expected);
}

#[test]
fn what_is_not_known_until_the_store_is_open_is_not_shown_as_nothing() {
    let opening = Status { phase: Phase::Opening, totals: Totals::default(), ..status() };
    let page = page(&opening, false);
    assert!(page.starts_with("forebay 0.1.0 is passing live traffic while its store is being opened"), "{page}");
    assert_eq!(page.matches('?').count(), 6 + 7, "{page}");
    assert!(page.contains("what is queued is not known") && page.contains("store: being opened") && !page.contains("accepted "), "{page}");
}

#[test]
fn what_keeps_a_queue_from_emptying_is_said() {
    let base = status().backends[0].clone();
    let said = |change: &dyn Fn(&mut Backend)| {
        let mut backend = base.clone();
        change(&mut backend);
        empty_in(&backend)
    };
    assert_eq!(said(&|backend| (backend.queue.queued, backend.queue.delivering) = (0, 0)), "empty");
    assert_eq!(said(&|backend| backend.queue.paused = true), "paused");
    assert_eq!(said(&|backend| backend.mode = Mode::Spill), "waits for the mode");
    assert_eq!(said(&|backend| backend.state = Some(State::Shedding)), "waits for the backend");
    assert_eq!(said(&|backend| backend.queue.drained_in_seconds = None), "not known yet");
    assert_eq!(said(&|backend| backend.state = None), "never: its backend is not configured");
}

#[test]
fn what_replay_does_and_what_is_alarming_is_said_while_there_is_something_to_replay() {
    let base = status().backends[0].clone();
    let said = |change: &dyn Fn(&mut Queue, &mut Replay)| {
        let mut backend = base.clone();
        let mut replay = backend.queue.replay.take().unwrap();
        change(&mut backend.queue, &mut replay);
        backend.queue.replay = Some(replay);
        replay_line(&backend).unwrap_or_default()
    };
    assert_eq!(said(&|queue, _| (queue.queued, queue.delivering) = (0, 0)), "");
    let held = said(&|_, replay| {
        (replay.slow_start, replay.slowdown, replay.hold) = (true, None, "asked".into());
        (replay.held_until, replay.estimate_ratio) = (Some("2026-11-22T12:00:30.000Z".into()), Some(1.26));
    });
    let expected = "admin: replay gentle, 1 of 7 under way, slow start, held by asked, left alone until 2026-11-22T12:00:30.000Z, \
                    its last estimate was 1.3 times the truth\n";
    assert_eq!(held, expected);
    let alarms = said(&|queue, replay| {
        (queue.queued, queue.delivering) = (0, 0);
        (replay.growing, replay.growing_keys, replay.auth_expired) = (true, 3, true);
    });
    assert_eq!(alarms.matches("ALARM").count(), 3, "{alarms}");
}

#[test]
fn a_store_that_fails_says_so_first() {
    let mut store = status().store;
    store.failing = Some("no space\u{1b}[2J".into());
    assert!(store_line(&store).starts_with("store: FAILS, writes cannot be queued: no space\\u{1b}[2J; 4 of"), "{}", store_line(&store));
}

#[test]
fn a_part_is_whole_only_where_there_is_no_more() {
    assert_eq!([part(0, 9), part(999_999, 1_000_000), part(7, 7)], ["0.0%", "99.9%", "100.0%"]);
}

#[test]
fn a_mode_that_an_operator_forces_stands_beside_the_state() {
    let mut status = status();
    status.backends[0].mode = Mode::Spill;
    assert!(page(&status, false).contains("probing, mode spill"), "{}", page(&status, false));
}

#[test]
fn colours_are_there_only_where_they_are_wanted() {
    assert!(!page(&status(), false).contains('\u{1b}'));
    assert!(page(&status(), true).contains('\u{1b}'));
}

#[test]
fn json_is_what_the_admin_api_gave() {
    let text = show(&status(), Output::Json, false).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
}
