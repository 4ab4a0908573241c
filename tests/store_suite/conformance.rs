//! What every engine promises.

use std::time::Duration;

use forebay::{
    envelope::{DeadReason, Delivery, Envelope, OrderKey, RequestId, State},
    store::{Filter, Limit, Outcome, StoreError, Totals},
};
use futures_util::future::join_all;

use crate::rig::{self, Engine, Rig, again, delivered, name, read};

pub(crate) fn dead(reason: DeadReason) -> Outcome {
    Outcome::Dead { reason, why: "answered 422".into(), answer: Some(rig::answer(b"no")) }
}

pub(crate) fn of_state(state: State) -> Filter {
    Filter { state: Some(state), ..Filter::default() }
}

#[tokio::test]
async fn a_request_comes_back_byte_for_byte_whatever_its_size_and_after_a_reopen() {
    for mut rig in Rig::both() {
        let mut sent = Vec::new();
        for len in [0, 1, 2048, 2049, 300_000] {
            let body: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let envelope = rig.envelope();
            let appended = rig.append(envelope.clone(), &body).await.unwrap();
            assert_eq!((appended.id, appended.ahead), (envelope.id, sent.len() as u64));
            assert!(appended.bytes > len as u64);
            sent.push((envelope, body));
        }
        rig = rig.reopen();
        let claimed = rig.claim(10).await;
        assert_eq!(claimed.len(), sent.len());
        for (claimed, (envelope, body)) in claimed.iter().zip(&sent) {
            assert_eq!((&claimed.envelope, claimed.attempt, claimed.failures), (envelope, 1, 0));
            assert_eq!(read(&claimed.payload).await.unwrap(), *body);
            let record = rig.store.get(envelope.id).await.unwrap();
            assert_eq!((record.body_bytes, record.state, &record.envelope), (body.len() as u64, State::Delivering, envelope));
            assert_eq!(read(&rig.store.body(envelope.id).await.unwrap()).await.unwrap(), *body);
        }
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_the_body_let_go_at_once() {
    for rig in Rig::both() {
        for len in [10, 100_000] {
            let id = rig.append(rig.envelope(), &vec![1; len]).await.unwrap().id;
            assert_eq!(rig.claim_ids(1).await, [id]);
            assert!(matches!(rig.store.answer(id).await, Err(StoreError::NotFound)));
            let payload = rig::spooled(&*rig.store, &vec![2; len]).await;
            rig.settle(id, 1, Outcome::Delivered(forebay::store::Answer { payload, ..rig::answer(b"") })).await.unwrap();
            let answer = rig.store.answer(id).await.unwrap();
            assert_eq!((answer.status, answer.headers.len()), (201, 1));
            assert_eq!(read(&answer.payload).await.unwrap(), vec![2; len]);
            assert!(matches!(rig.store.body(id).await, Err(StoreError::NotFound)));
            let record = rig.store.get(id).await.unwrap();
            assert_eq!((record.state, record.answer_status, record.due, record.ahead), (State::Delivered, Some(201), None, None));
            assert_eq!(rig.store.prune(rig.now().after(Duration::from_millis(59_999))).await.unwrap(), 0);
            assert_eq!(rig.store.prune(rig.now().after(Duration::from_secs(60))).await.unwrap(), 1);
            assert!(matches!(rig.store.get(id).await, Err(StoreError::NotFound)));
            assert!(matches!(rig.store.answer(id).await, Err(StoreError::NotFound)));
        }
        assert_eq!(rig.totals(), Totals { accepted: 2, delivered: 2, ..Totals::default() });
    }
}

#[tokio::test]
async fn an_attempt_is_settled_once_and_by_its_number() {
    for rig in Rig::both() {
        let id = rig.put(None).await;
        assert!(matches!(rig.settle(id, 0, delivered(b"")).await, Err(StoreError::WrongState(State::Queued))));
        rig.claim(1).await;
        assert!(matches!(rig.settle(id, 2, delivered(b"")).await, Err(StoreError::WrongState(State::Delivering))));
        rig.settle(id, 1, again(rig.now())).await.unwrap();
        let claimed = rig.claim(1).await;
        assert_eq!((claimed[0].attempt, claimed[0].failures), (2, 1));
        assert!(matches!(rig.settle(id, 1, delivered(b"")).await, Err(StoreError::WrongState(_))));
        let free = Outcome::Again { due: rig.now(), consumes_attempt: false, trips: 0, why: "refused".into() };
        rig.settle(id, 2, free).await.unwrap();
        let claimed = rig.claim(1).await;
        assert_eq!((claimed[0].attempt, claimed[0].failures), (3, 1));
        rig.settle(id, 3, delivered(b"")).await.unwrap();
        assert!(matches!(rig.settle(id, 3, delivered(b"")).await, Err(StoreError::WrongState(State::Delivered))));
        let stranger = RequestId::new();
        assert!(matches!(rig.settle(stranger, 1, delivered(b"")).await, Err(StoreError::NotFound)));
    }
}

#[tokio::test]
async fn trips_of_the_breaker_are_remembered_until_a_redrive() {
    for rig in Rig::both() {
        let id = rig.put(None).await;
        assert_eq!(rig.claim(1).await[0].trips, 0);
        let tripped = |trips| Outcome::Again { due: rig.now(), consumes_attempt: false, trips, why: "the backend went down".into() };
        rig.settle(id, 1, tripped(1)).await.unwrap();
        assert_eq!(rig.claim(1).await[0].trips, 1);
        rig.settle(id, 2, tripped(2)).await.unwrap();
        let rig = rig.reopen();
        assert_eq!(rig.claim(1).await[0].trips, 3);
        rig.settle(id, 3, dead(DeadReason::Poison)).await.unwrap();
        assert_eq!(rig.store.redrive(Filter::default(), rig.now(), 1).await.unwrap(), 1);
        assert_eq!(rig.claim(1).await[0].trips, 0);
    }
}

#[tokio::test]
async fn a_key_knows_how_many_pend() {
    for rig in Rig::both() {
        let key = OrderKey::from_u64(7);
        assert_eq!(rig.store.pending(key), 0);
        let id = rig.put(Some(7)).await;
        rig.put(Some(7)).await;
        rig.put(Some(8)).await;
        assert_eq!(rig.store.pending(key), 2);
        rig.claim(1).await;
        assert_eq!(rig.store.pending(key), 2);
        rig.settle(id, 1, delivered(b"")).await.unwrap();
        assert_eq!(rig.store.pending(key), 1);
    }
}

#[tokio::test]
async fn a_retry_is_claimed_when_it_falls_due_and_not_before() {
    for rig in Rig::both() {
        let id = rig.put(None).await;
        rig.claim(1).await;
        let due = rig.now().after(Duration::from_secs(5));
        rig.settle(id, 1, again(due)).await.unwrap();
        assert_eq!(rig.store.next_due("app", &[]), Some(due));
        assert_eq!(rig.store.next_due("app", &[name("marks")]), None);
        assert_eq!(rig.store.get(id).await.unwrap().due, Some(due));
        rig.pass(4_999);
        assert!(rig.claim(1).await.is_empty());
        rig.pass(1);
        assert!(rig.store.next_due("app", &[]).unwrap() <= rig.now());
        assert_eq!(rig.claim_ids(1).await, [id]);
        assert_eq!(rig.store.next_due("app", &[]), None);
    }
}

#[tokio::test]
async fn what_was_being_delivered_at_a_crash_is_resent_only_where_it_may_be() {
    for mut rig in Rig::both() {
        let once = Envelope { delivery: Delivery::AtMostOnce, ..rig.envelope() };
        let idempotent = Envelope { method: http::Method::PUT, delivery: Delivery::AtMostOnce, ..rig.envelope() };
        let (once, idempotent, again) = (
            rig.append(once, b"1").await.unwrap().id,
            rig.append(idempotent, b"2").await.unwrap().id,
            rig.append(rig.envelope(), b"3").await.unwrap().id,
        );
        let waiting = rig.put(None).await;
        assert_eq!(rig.claim_ids(3).await, [once, idempotent, again]);
        rig = rig.reopen();
        let record = rig.store.get(once).await.unwrap();
        assert_eq!((record.state, record.dead_reason), (State::Dead, Some(DeadReason::OutcomeUnknown)));
        let claimed = rig.claim(10).await;
        let numbers: Vec<_> = claimed.iter().map(|claimed| (claimed.envelope.id, claimed.attempt)).collect();
        assert_eq!(numbers, [(idempotent, 2), (again, 2), (waiting, 1)]);
        assert_eq!(rig.totals(), Totals { accepted: 4, delivering: 3, dead: 1, ..Totals::default() });
    }
}

#[tokio::test]
async fn only_what_is_queued_can_be_cancelled() {
    for rig in Rig::both() {
        let (first, second) = (rig.put(None).await, rig.put(None).await);
        rig.claim(1).await;
        assert!(matches!(rig.store.cancel(first, rig.now()).await, Err(StoreError::WrongState(State::Delivering))));
        rig.store.cancel(second, rig.now()).await.unwrap();
        assert!(matches!(rig.store.cancel(second, rig.now()).await, Err(StoreError::WrongState(State::Cancelled))));
        assert!(matches!(rig.store.cancel(RequestId::new(), rig.now()).await, Err(StoreError::NotFound)));
        assert!(matches!(rig.store.body(second).await, Err(StoreError::NotFound)));
        assert_eq!(rig.store.get(second).await.unwrap().state, State::Cancelled);
        assert_eq!(rig.totals(), Totals { accepted: 2, delivering: 1, cancelled: 1, ..Totals::default() });
    }
}

#[tokio::test]
async fn what_is_too_old_dies_at_a_claim_and_at_a_prune() {
    for rig in Rig::both() {
        let short = || Envelope { expires_at: rig.now().after(Duration::from_secs(10)), ..rig.envelope() };
        let (first, second) = (rig.append(short(), b"").await.unwrap().id, rig.append(short(), b"").await.unwrap().id);
        let long = rig.put(None).await;
        rig.pass(9_999);
        assert_eq!(rig.store.prune(rig.now()).await.unwrap(), 0);
        assert_eq!(rig.claim_ids(1).await, [first]);
        rig.settle(first, 1, again(rig.now())).await.unwrap();
        rig.pass(1);
        assert_eq!(rig.claim_ids(1).await, [long]);
        assert_eq!(rig.store.prune(rig.now()).await.unwrap(), 0, "the claim has done it");
        for id in [first, second] {
            assert_eq!(rig.store.get(id).await.unwrap().dead_reason, Some(DeadReason::Expired));
        }
        // A redrive begins its age anew.
        assert_eq!(rig.store.redrive(Filter::default(), rig.now(), 1).await.unwrap(), 1);
        let record = rig.store.get(first).await.unwrap();
        assert_eq!((record.state, record.envelope.expires_at), (State::Queued, rig.now().after(Duration::from_secs(10))));
        rig.pass(10_000);
        assert_eq!(rig.store.prune(rig.now()).await.unwrap(), 1);
        rig.pass(600_000);
        assert_eq!(rig.store.prune(rig.now()).await.unwrap(), 2, "dead letters are discarded by age");
        assert_eq!(rig.totals(), Totals { accepted: 3, delivering: 1, discarded: 2, ..Totals::default() });
    }
}

#[tokio::test]
async fn dead_letters_are_redriven_and_discarded_as_the_filter_says() {
    for rig in Rig::both() {
        let mut ids = Vec::new();
        for reason in [DeadReason::Refused, DeadReason::AuthExpired, DeadReason::Refused, DeadReason::Refused, DeadReason::Refused] {
            let id = rig.put(None).await;
            rig.claim(1).await;
            rig.settle(id, 1, dead(reason)).await.unwrap();
            ids.push(id);
        }
        let refused = Filter { dead_reason: Some(DeadReason::Refused), ..Filter::default() };
        let elsewhere = Filter { backend: Some(name("admin")), ..Filter::default() };
        assert_eq!(rig.store.redrive(elsewhere, rig.now(), 10).await.unwrap(), 0);
        assert_eq!(rig.store.answer(ids[0]).await.unwrap().status, 201);
        assert_eq!(rig.store.redrive(refused.clone(), rig.now(), 2).await.unwrap(), 2);
        assert_eq!(rig.claim_ids(10).await, [ids[0], ids[2]]);
        assert!(matches!(rig.store.answer(ids[0]).await, Err(StoreError::NotFound)));
        let record = rig.store.get(ids[0]).await.unwrap();
        assert_eq!((record.attempts, record.dead_reason, record.answer_status), (2, None, None));
        assert_eq!(rig.store.discard(refused, rig.now()).await.unwrap(), 2);
        assert!(matches!(rig.store.get(ids[4]).await, Err(StoreError::NotFound)));
        let page = rig.store.page(of_state(State::Dead), None, 10).await.unwrap();
        assert_eq!(page.records.iter().map(|record| record.envelope.id).collect::<Vec<_>>(), [ids[1]]);
    }
}

#[tokio::test]
async fn pages_follow_one_another_without_gap_or_overlap() {
    for rig in Rig::both() {
        let mut ids = Vec::new();
        for i in 0..7 {
            let route = if i % 2 == 0 { "even" } else { "odd" };
            ids.push(rig.append(Envelope { route: route.into(), ..rig.envelope() }, b"").await.unwrap().id);
        }
        ids.sort();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = rig.store.page(Filter::default(), after, 3).await.unwrap();
            seen.extend(page.records.iter().map(|record| record.envelope.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
        let odd = Filter { route: Some(name("odd")), backend: Some(name("app")), ..Filter::default() };
        let page = rig.store.page(odd, None, 3).await.unwrap();
        assert_eq!((page.records.len(), page.next), (3, None));
    }
}

#[tokio::test]
async fn limits_are_exact_however_many_come_at_once() {
    for engine in [Engine::Memory, Engine::Redb] {
        let rig = Rig::new(engine, |settings| settings.max_requests = 5);
        let results = join_all((0..20).map(|_| rig.append(rig.envelope(), b"x"))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
        let refused = results.iter().filter(|result| matches!(result, Err(StoreError::Full(Limit::Requests(5))))).count();
        assert_eq!(refused, 15);
        assert!(matches!(rig.store.room(0, 0), Err(StoreError::Full(Limit::Requests(5)))));
        let status = rig.store.status();
        assert_eq!(status.requests, 5);
        let id = rig.claim_ids(1).await[0];
        rig.deliver(id).await;
        rig.store.room(0, 0).unwrap();
        let rig = rig.reopen();
        rig.put(None).await;
        assert!(matches!(rig.append(rig.envelope(), b"").await, Err(StoreError::Full(_))));
        assert_eq!(rig.totals(), Totals { accepted: 6, queued: 5, delivered: 1, ..Totals::default() });
    }
}

#[tokio::test]
async fn bytes_are_counted_and_given_back() {
    for engine in [Engine::Memory, Engine::Redb] {
        let rig = Rig::new(engine, |settings| settings.max_bytes = 20_000);
        let first = rig.append(rig.envelope(), &[0; 10_000]).await.unwrap();
        assert!(matches!(rig.append(rig.envelope(), &[0; 10_000]).await, Err(StoreError::Full(Limit::Bytes(20_000)))));
        assert!(matches!(rig.store.room(15_000, 0), Err(StoreError::Full(Limit::Bytes(_)))));
        rig.store.room(5_000, 0).unwrap();
        assert_eq!(rig.store.counts().queues[0].bytes, first.bytes);
        assert_eq!(rig.store.status().bytes, first.bytes);
        rig.store.cancel(first.id, rig.now()).await.unwrap();
        rig.store.room(20_000, 0).unwrap();
        assert_eq!(rig.store.counts().queues[0].bytes, 0);
    }
}

#[tokio::test]
async fn counts_name_the_oldest_and_every_route_that_ever_was() {
    for rig in Rig::both() {
        let first = rig.put(None).await;
        rig.pass(5_000);
        let route = Envelope { backend: "zoo".into(), route: "b".into(), ..rig.envelope() };
        rig.append(route, b"").await.unwrap();
        rig.put(None).await;
        let oldest = |rig: &Rig| rig.store.counts().queues.iter().map(|queue| queue.oldest.map(|at| at.as_millis())).collect::<Vec<_>>();
        let second = |millis: u64| Some(millis / 1000 * 1000);
        assert_eq!(oldest(&rig), [second(rig::START), second(rig::START + 5_000)]);
        rig.claim(1).await;
        assert_eq!(oldest(&rig)[0], second(rig::START));
        rig.deliver(first).await;
        let rig = rig.reopen();
        assert_eq!(oldest(&rig)[0], second(rig::START + 5_000));
        let names: Vec<_> = rig.store.counts().routes.iter().map(|route| (route.backend.clone(), route.route.clone())).collect();
        assert_eq!(names, [(name("app"), name("marks")), (name("zoo"), name("b"))]);
    }
}

#[tokio::test]
async fn a_closed_store_refuses_everything_and_opens_again() {
    for rig in Rig::both() {
        let id = rig.put(None).await;
        rig.store.close().await;
        rig.store.close().await;
        assert!(matches!(rig.append(rig.envelope(), b"").await, Err(StoreError::Closed)));
        assert!(matches!(rig.store.room(0, 0), Err(StoreError::Closed)));
        assert!(matches!(rig.store.get(id).await, Err(StoreError::Closed)));
        assert!(matches!(rig.store.prune(rig.now()).await, Err(StoreError::Closed)));
    }
}
