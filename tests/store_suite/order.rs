//! What every engine promises about order.

use std::{sync::Arc, time::Duration};

use forebay::{
    envelope::{DeadReason, Envelope, OrderKey, RequestId, State},
    store::{Claim, Filter, Totals, Turn},
};
use futures_util::future::join_all;

use crate::{
    conformance::{dead, of_state},
    rig::{self, Rig, again, name},
};

#[tokio::test]
async fn of_one_key_one_at_a_time_is_claimed_in_order_of_arrival() {
    for rig in Rig::both() {
        let (first, second) = (rig.put(Some(7)).await, rig.put(Some(7)).await);
        let other = rig.put(Some(8)).await;
        assert_eq!(rig.claim_ids(10).await, [first, other]);
        let backoff = rig.now().after(Duration::from_secs(1));
        rig.settle(first, 1, again(backoff)).await.unwrap();
        assert!(rig.claim(10).await.is_empty(), "its backoff holds back its key");
        rig.pass(1000);
        assert_eq!(rig.claim_ids(10).await, [first]);
        rig.deliver(first).await;
        assert_eq!(rig.claim_ids(10).await, [second]);
    }
}

#[tokio::test]
async fn a_key_is_pending_until_its_last_request_is_settled() {
    for rig in Rig::both() {
        let key = Some(OrderKey::from_u64(7));
        let is_live = || matches!(rig.store.turn(key).unwrap(), Turn::Live(_));
        assert!(is_live());
        let id = rig.put(Some(7)).await;
        assert!(!is_live());
        rig.claim(1).await;
        assert!(!is_live());
        rig.settle(id, 1, again(rig.now())).await.unwrap();
        assert!(!is_live());
        rig.claim(1).await;
        rig.settle(id, 2, dead(DeadReason::Refused)).await.unwrap();
        assert!(is_live(), "a dead letter lets its key go on");
        rig.store.redrive(Filter::default(), rig.now(), 10).await.unwrap();
        assert!(!is_live());
        rig.store.cancel(id, rig.now()).await.unwrap();
        assert!(is_live());
    }
}

#[tokio::test]
async fn a_dead_letter_may_hold_its_key_until_it_is_redriven_or_discarded() {
    for rig in Rig::both() {
        let holding = || Envelope { order_key: Some(OrderKey::from_u64(7)), hold_key_when_dead: true, ..rig.envelope() };
        let first = rig.append(holding(), b"1").await.unwrap().id;
        let second = rig.append(holding(), b"2").await.unwrap().id;
        rig.claim(1).await;
        rig.settle(first, 1, dead(DeadReason::Refused)).await.unwrap();
        assert!(rig.claim(10).await.is_empty());
        assert_eq!(rig.store.next_due("app", &[]), None);
        let rig = rig.reopen();
        assert!(rig.claim(10).await.is_empty());
        assert!(matches!(rig.store.turn(Some(OrderKey::from_u64(7))).unwrap(), Turn::Queued(_)));
        assert_eq!(rig.store.redrive(Filter::default(), rig.now(), 10).await.unwrap(), 1);
        assert_eq!(rig.claim_ids(10).await, [first], "it comes at its old place");
        rig.settle(first, 2, dead(DeadReason::Refused)).await.unwrap();
        let wake = rig.store.wake("app");
        wake.notified().await;
        assert_eq!(rig.store.discard(of_state(State::Dead), rig.now()).await.unwrap(), 1);
        wake.notified().await;
        assert_eq!(rig.claim_ids(10).await, [second]);
        rig.deliver(second).await;
        assert!(matches!(rig.store.turn(Some(OrderKey::from_u64(7))).unwrap(), Turn::Live(_)));
        assert_eq!(rig.totals(), Totals { accepted: 2, delivered: 1, discarded: 1, ..Totals::default() });
    }
}

#[tokio::test]
async fn a_rescued_write_keeps_its_place_and_waits_for_live_ones_of_its_key() {
    for rig in Rig::both() {
        let key = Some(OrderKey::from_u64(7));
        let (Turn::Live(first), Turn::Live(second)) = (rig.store.turn(key).unwrap(), rig.store.turn(key).unwrap()) else { panic!() };
        let append = async |turn| {
            let envelope = Envelope { order_key: key, ..rig.envelope() };
            let payload = rig::spooled(&*rig.store, b"x").await;
            rig.store.append(forebay::store::NewRequest { envelope, payload, turn }).await.unwrap()
        };
        let later = append(second.into_queued()).await;
        assert!(rig.claim(10).await.is_empty(), "a live write of its key is under way");
        assert_eq!(rig.store.next_due("app", &[]), None);
        let rescued = append(first.into_queued()).await;
        assert_eq!(rescued.ahead, 0);
        assert_eq!(rig.store.get(later.id).await.unwrap().ahead, Some(1));
        assert_eq!(rig.claim_ids(10).await, [rescued.id]);
        rig.deliver(rescued.id).await;
        assert_eq!(rig.claim_ids(10).await, [later.id]);
    }
}

#[tokio::test]
async fn the_end_of_a_live_write_wakes_the_queue_that_waited_for_it() {
    for rig in Rig::both() {
        let key = Some(OrderKey::from_u64(7));
        let (Turn::Live(first), Turn::Live(second)) = (rig.store.turn(key).unwrap(), rig.store.turn(key).unwrap()) else { panic!() };
        let envelope = Envelope { order_key: key, ..rig.envelope() };
        let payload = rig::spooled(&*rig.store, b"x").await;
        let wake = rig.store.wake("app");
        rig.store.append(forebay::store::NewRequest { envelope, payload, turn: second.into_queued() }).await.unwrap();
        wake.notified().await;
        assert!(rig.claim(1).await.is_empty());
        drop(first);
        wake.notified().await;
        assert_eq!(rig.claim(1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_full_route_is_passed_over_and_other_backends_are_left_alone() {
    for rig in Rig::both() {
        let heavy = rig.append(Envelope { route: "heavy".into(), ..rig.envelope() }, b"").await.unwrap().id;
        let light = rig.put(None).await;
        rig.append(Envelope { backend: "admin".into(), ..rig.envelope() }, b"").await.unwrap();
        let full = [name("heavy")];
        let claimed = rig.store.claim(Claim { backend: "app", full_routes: &full, max: 10, now: rig.now() }).await.unwrap();
        assert_eq!(claimed.iter().map(|claimed| claimed.envelope.id).collect::<Vec<_>>(), [light]);
        assert_eq!(rig.store.next_due("app", &full), None);
        assert_eq!(rig.claim_ids(10).await, [heavy]);
        assert_eq!(rig.store.next_due("nobody", &[]), None);
    }
}

#[tokio::test]
async fn a_write_that_is_given_up_before_it_is_stored_leaves_nothing() {
    for rig in Rig::both() {
        let key = Some(OrderKey::from_u64(3));
        drop(rig.store.turn(key).unwrap().into_queued());
        assert!(matches!(rig.store.turn(key).unwrap(), Turn::Live(_)));
        let envelope = Envelope { order_key: key, ..rig.envelope() };
        let payload = rig::spooled(&*rig.store, &[1; 5000]).await;
        let turn = rig.store.turn(key).unwrap().into_queued();
        drop(rig.store.append(forebay::store::NewRequest { envelope, payload, turn }));
        assert!(matches!(rig.store.turn(key).unwrap(), Turn::Live(_)));
        assert_eq!(rig.totals(), Totals::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_lose_nothing_and_keep_the_order_of_their_keys() {
    for rig in Rig::both() {
        let rig = Arc::new(rig);
        let puts = (0..8u64).map(|producer| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..20 {
                    ids.push(rig.put(Some(producer)).await);
                }
                ids
            })
        });
        let sent: Vec<Vec<RequestId>> = join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let mut got = Vec::new();
        while got.len() < 160 {
            let claimed = rig.claim_ids(5).await;
            assert!(!claimed.is_empty());
            join_all(claimed.iter().map(|&id| rig.deliver(id))).await;
            got.extend(claimed);
        }
        for ids in sent {
            let order: Vec<_> = got.iter().copied().filter(|id| ids.contains(id)).collect();
            assert_eq!(order, ids);
        }
        assert_eq!(rig.totals(), Totals { accepted: 160, delivered: 160, ..Totals::default() });
    }
}
