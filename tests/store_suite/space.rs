//! Room: what happens when the disk has none, that it comes back, and how the store gets over a database that panics.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay::{
    envelope::{DeadReason, State},
    store::{Outcome, Store, StoreError},
};

use crate::{
    disk::Fail,
    faults::{Bench, drain, gets_over, until_it_works},
    rig,
};

fn dead() -> Outcome {
    Outcome::Dead { reason: DeadReason::Refused, why: "no".into(), answer: None }
}

/// Appends 40 requests of 1,000 bytes, three to a segment, and gives up the 1st, the 14th and so on.
async fn few_dead_among_many(bench: &Bench) -> Vec<forebay::envelope::RequestId> {
    for i in 0..40 {
        bench.put(&[i; 1000]).await.unwrap();
    }
    let mut kept = Vec::new();
    for (i, (id, attempt)) in bench.claim(40).await.unwrap().into_iter().enumerate() {
        let outcome = if i % 13 == 0 { dead() } else { rig::delivered(b"") };
        if i % 13 == 0 {
            kept.push(id);
        }
        bench.store.settle(id, attempt, bench.now(), outcome).await.unwrap();
    }
    kept
}

#[tokio::test]
async fn a_dead_letter_does_not_keep_a_whole_segment() {
    let bench = Bench::new();
    let first = bench.put(b"few bytes").await.unwrap();
    let (id, attempt) = bench.claim(1).await.unwrap()[0];
    bench.store.settle(id, attempt, bench.now(), dead()).await.unwrap();
    for _ in 0..8 {
        bench.put(&[1; 1000]).await.unwrap();
    }
    drain(&bench).await;
    let segment = bench.disk.segments()[0].clone();
    bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
    bench.tidied().await;
    assert!(!bench.disk.segments().contains(&segment), "it was kept for one record");
    assert_eq!(rig::read(&bench.store.body(first).await.unwrap()).await.unwrap(), b"few bytes");
    let disk = bench.disk.lose_power(3);
    let bench = bench.restart(disk);
    assert_eq!(rig::read(&bench.store.body(first).await.unwrap()).await.unwrap(), b"few bytes");
    assert_eq!(bench.totals().dead, 1);
}

#[tokio::test]
async fn what_is_being_delivered_stays_where_it_is_read() {
    let bench = Bench::new();
    let first = bench.put(b"few bytes").await.unwrap();
    assert_eq!(bench.claim(1).await.unwrap(), [(first, 1)]);
    let segment = bench.disk.segments()[0].clone();
    for _ in 0..8 {
        bench.put(&[1; 1000]).await.unwrap();
    }
    for (id, attempt) in bench.claim(8).await.unwrap() {
        bench.store.settle(id, attempt, bench.now(), rig::delivered(b"")).await.unwrap();
    }
    bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
    bench.tidied().await;
    assert!(bench.disk.segments().contains(&segment));
    bench.store.settle(first, 1, bench.now(), dead()).await.unwrap();
    bench.tidied().await;
    bench.tidied().await;
    assert!(!bench.disk.segments().contains(&segment), "and goes once it is not");
}

#[tokio::test]
async fn compaction_survives_a_failure_and_a_loss_of_power_at_every_operation() {
    let mut at = 1;
    loop {
        let bench = Bench::new();
        let kept = few_dead_among_many(&bench).await;
        let before = bench.disk.operations();
        bench.disk.fail(if at % 2 == 0 { Fail::From(before + at) } else { Fail::Once(before + at) });
        let later = bench.now().after(Duration::from_secs(61));
        let _ = bench.store.prune(later).await;
        let _ = bench.store.prune(later).await;
        let reached = bench.disk.operations() >= before + at;
        let disk = bench.disk.lose_power(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bench = bench.restart(disk);
        for &id in &kept {
            assert_eq!(bench.state(id).await, Some(State::Dead), "operation {at}");
            let body = rig::read(&bench.store.body(id).await.unwrap()).await.unwrap();
            assert!(body.len() == 1000 && body.iter().all(|byte| *byte == body[0]), "operation {at}");
        }
        if !reached {
            assert!(at > 20, "the compaction has {at} operations");
            return;
        }
        at += 1;
    }
}

#[tokio::test]
async fn the_database_is_short_again_after_a_drain() {
    let bench = Bench::new();
    let short = bench.disk.len_of_database();
    bench.tidied().await;
    let disk = bench.disk.kill();
    let bench = bench.restart(disk);
    for _ in 0..6 {
        let puts = (0..500).map(|_| bench.put(b"x"));
        futures_util::future::join_all(puts).await.into_iter().for_each(|put| assert!(put.is_ok()));
        drain(&bench).await;
    }
    let long = bench.disk.len_of_database();
    bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
    bench.tidied().await;
    let after = bench.disk.len_of_database();
    assert!(long > short && after <= short, "{short}, {long}, {after}");
    until_it_works(&bench).await;
}

#[tokio::test]
async fn a_database_that_panics_at_any_operation_is_reopened_and_nothing_is_lost() {
    gets_over(Bench::new, Fail::Panic).await;
    gets_over(Bench::checkpointing, Fail::Panic).await;
}

#[tokio::test]
async fn a_disk_without_room_refuses_what_is_new_keeps_what_is_there_and_goes_on_when_it_has_room() {
    for room in (0..60_000).step_by(3_500) {
        let bench = Bench::new();
        let mut told = vec![bench.put(&[0; 500]).await.unwrap()];
        bench.disk.set_room(Some(room));
        let mut refused = 0;
        for i in 0..60u8 {
            match bench.put(&[i; 500]).await {
                Ok(id) => told.push(id),
                Err(StoreError::Failed(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0, "with {room} bytes");
        for &id in &told {
            // While it is reopened it may not be looked at.
            if let Ok(body) = bench.store.body(id).await {
                assert_eq!(rig::read(&body).await.unwrap().len(), 500);
            }
        }
        bench.disk.set_room(None);
        told.push(until_it_works(&bench).await);
        assert_eq!(bench.totals().accepted, told.len() as u64);
        let disk = bench.disk.lose_power(room as u64);
        let bench = bench.restart(disk);
        assert_eq!(bench.totals().queued, told.len() as u64);
        drain(&bench).await;
    }
}

#[tokio::test]
async fn who_asks_is_told_of_every_commit() {
    let bench = Bench::new();
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    bench.store.on_commit(move |operations, _| seen.lock().unwrap().push(operations));
    let before = bench.store.status();
    bench.put(b"one").await.unwrap();
    bench.put(b"two").await.unwrap();
    let after = bench.store.status();
    let commits = commits.lock().unwrap();
    assert_eq!(commits.len() as u64, after.commits - before.commits);
    assert_eq!(commits.iter().sum::<u64>(), 2);
}
