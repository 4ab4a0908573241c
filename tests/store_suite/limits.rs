//! Limits and ages, each at its edge: one under, at, and one over; and what is said of them before they bite.

use std::time::Duration;

use forebay::{
    envelope::{DeadReason, Envelope, RequestId, State, Timestamp},
    store::{Age, Filter, Limit, Outcome, Refused, Settings, Store, StoreError, Totals},
};

use crate::{
    faults::Bench,
    rig::{Engine, Rig, START, again, append, envelope},
};

const ENGINES: [Engine; 2] = [Engine::Memory, Engine::Redb];

async fn state(rig: &Rig, id: RequestId) -> Option<State> {
    rig.store.get(id).await.ok().map(|record| record.state)
}

#[tokio::test]
async fn max_requests_takes_as_many_as_it_says_and_a_full_queue_drops_nothing_old() {
    for engine in ENGINES {
        let rig = Rig::new(engine, |settings| settings.max_requests = 3);
        let mut ids = Vec::new();
        for held in 0..3 {
            assert_eq!(rig.store.status().requests, held);
            rig.store.room(1, 0).unwrap();
            ids.push(rig.put(None).await);
        }
        for refused in 1..=4 {
            let one_over = rig.append(rig.envelope(), b"").await;
            assert!(matches!(one_over, Err(StoreError::Full(Limit::Requests(3)))));
            let refused = Refused { requests: refused, since: Some(rig.now()) };
            assert_eq!(rig.store.status().refusals.max_requests, refused);
        }
        for &id in &ids {
            assert_eq!(state(&rig, id).await, Some(State::Queued), "nothing old makes way");
        }
        let claimed = rig.claim_ids(1).await;
        assert!(rig.store.room(0, 0).is_err(), "what is being delivered is still held");
        rig.deliver(claimed[0]).await;
        rig.put(None).await;
        assert_eq!(rig.totals(), Totals { accepted: 4, queued: 3, delivered: 1, ..Totals::default() });
    }
}

#[tokio::test]
async fn max_bytes_takes_the_last_byte_and_not_one_more() {
    let bytes = Rig::new(Engine::Redb, |_| {}).append(envelope(start()), &[7; 900]).await.unwrap().bytes;
    for engine in ENGINES {
        for (max, fits) in [(2 * bytes - 1, false), (2 * bytes, true), (2 * bytes + 1, true)] {
            let rig = Rig::new(engine, |settings| settings.max_bytes = max);
            rig.append(envelope(start()), &[7; 900]).await.unwrap();
            assert_eq!(rig.store.room(bytes, 0).is_ok(), fits, "{max}");
            let second = rig.append(envelope(start()), &[7; 900]).await;
            match second {
                Ok(_) => assert!(fits, "{max}"),
                Err(StoreError::Full(Limit::Bytes(limit))) => assert_eq!((limit, fits), (max, false)),
                other => panic!("{other:?}"),
            }
            assert_eq!(rig.store.status().bytes, if fits { 2 * bytes } else { bytes });
            rig.store.room(max - rig.store.status().bytes, 0).unwrap();
            assert!(rig.store.room(max - rig.store.status().bytes + 1, 0).is_err());
        }
    }
}

#[tokio::test]
async fn min_free_disk_leaves_exactly_so_much_and_counts_nothing_twice() {
    const FLOOR: u64 = 1_000_000;
    // Past 2,048 bytes a body is on the disk before its request is appended, so that only the head is yet to come.
    for (body, spooled) in [(900, false), (5_000, true)] {
        let bench = Bench::with(|settings, _| settings.min_free_disk = FLOOR);
        bench.disk.set_free(u64::MAX);
        let body = vec![7; body];
        let put = async || append(&*bench.store, envelope(bench.now()), &body).await.map(|appended| appended.bytes);
        let bytes = put().await.unwrap();
        let missing = if spooled { bytes - body.len() as u64 } else { bytes };
        bench.disk.set_free(FLOOR + missing - 1);
        assert!(matches!(put().await, Err(StoreError::Full(Limit::FreeDisk(FLOOR)))), "{spooled}");
        assert!(bench.store.room(bytes, bytes - missing).is_err(), "{spooled}");
        for free in [FLOOR + missing, FLOOR + missing + 1] {
            bench.disk.set_free(free);
            bench.store.room(bytes, bytes - missing).unwrap();
            put().await.unwrap();
        }
        let status = bench.store.status();
        assert_eq!((status.free_disk, status.refusals.min_free_disk.requests), (FLOOR + missing + 1, 2));
        assert_eq!(bench.totals().queued, 3);
    }
}

#[tokio::test]
async fn an_outcome_and_a_dead_letter_are_kept_to_their_millisecond() {
    for engine in ENGINES {
        let keep = |settings: &mut Settings| {
            settings.keep_delivered = Duration::from_millis(1_500);
            settings.keep_dead = Duration::from_millis(70_001);
        };
        let rig = Rig::new(engine, keep);
        let (delivered, cancelled, dead) = (rig.put(None).await, rig.put(None).await, rig.put(None).await);
        rig.pass(7);
        for _ in 0..3 {
            rig.claim(1).await;
        }
        rig.deliver(delivered).await;
        rig.settle(cancelled, 1, again(rig.now())).await.unwrap();
        rig.store.cancel(cancelled, rig.now()).await.unwrap();
        rig.settle(dead, 1, Outcome::Dead { reason: DeadReason::Refused, why: "422".into(), answer: None }).await.unwrap();
        let at = |millis: u64| Some((Timestamp::from_millis(millis), 1));
        let second = rig.now().as_millis() / 1_000 * 1_000;
        let ages = rig.store.status().ages;
        assert_eq!((ages.max_age, ages.keep_dead), (Age::default(), Age { requests: 1, next: at(second + 70_001) }));
        assert_eq!(ages.keep_delivered, Age { requests: 2, next: at(second + 1_500).map(|(at, _)| (at, 2)) });
        for (pass, outcomes, letters) in [(1_499, 2, 1), (1, 0, 1), (68_500, 0, 1), (1, 0, 0)] {
            rig.pass(pass);
            rig.store.prune(rig.now()).await.unwrap();
            let kept = [state(&rig, delivered).await, state(&rig, cancelled).await].into_iter().flatten().count();
            assert_eq!((kept, usize::from(state(&rig, dead).await.is_some())), (outcomes, letters), "{engine:?} {pass}");
            let ages = rig.store.status().ages;
            assert_eq!((ages.keep_delivered.requests, ages.keep_dead.requests), (outcomes as u64, letters as u64));
        }
        assert_eq!(rig.totals(), Totals { accepted: 3, delivered: 1, cancelled: 1, discarded: 1, ..Totals::default() });
    }
}

#[tokio::test]
async fn a_request_is_given_up_at_the_millisecond_of_its_age_and_not_before() {
    for engine in ENGINES {
        for by_claim in [false, true] {
            let rig = Rig::new(engine, |_| {});
            let short = Envelope { expires_at: rig.now().after(Duration::from_millis(2_001)), ..rig.envelope() };
            let id = rig.append(short, b"").await.unwrap().id;
            let later = rig.put(None).await;
            let first = rig.now().as_millis() + 2_001;
            let next = (Timestamp::from_millis(first / 1_000 * 1_000), 1);
            assert_eq!(rig.store.status().ages.max_age, Age { requests: 2, next: Some(next) }, "said before it bites");
            for (pass, alive) in [(2_000, true), (1, false)] {
                rig.pass(pass);
                if by_claim && !alive {
                    assert_eq!(rig.claim_ids(9).await, [later]);
                } else {
                    rig.store.prune(rig.now()).await.unwrap();
                }
                let record = rig.store.get(id).await.unwrap();
                let dead = (!alive).then_some(DeadReason::Expired);
                assert_eq!((record.state == State::Queued, record.dead_reason), (alive, dead), "{engine:?} {by_claim} {pass}");
            }
            let dead = Filter { state: Some(State::Dead), ..Filter::default() };
            assert_eq!(rig.store.page(dead, None, 9).await.unwrap().records.len(), 1);
        }
    }
}

fn start() -> Timestamp {
    Timestamp::from_millis(START)
}
