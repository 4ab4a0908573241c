//! The index is made whole at first, and made anew from the journal where redb's file cannot be read.

use std::time::Duration;

use forebay::{
    envelope::{DeadReason, Envelope, OrderKey, State},
    store::{Filter, Store, Totals},
};

use crate::{
    disk::{DAMAGED_DATABASE, Fail, FakeDisk},
    faults::{Bench, drain},
    history::adds_up,
    index_flips::{Told, copy, some},
    journal::{frame, three},
    rig,
};

async fn is_as_told(bench: &Bench, told: &Told, context: &str) {
    for &(id, state) in &told.states {
        assert_eq!(bench.state(id).await, Some(state), "{context}");
    }
    assert_eq!(bench.totals(), told.totals, "{context}");
    assert_eq!(bench.store.status().damaged, 0, "{context}");
}

#[tokio::test]
async fn an_index_that_is_ruined_is_made_anew_as_it_was_and_kept() {
    let bench = Bench::new();
    let mut told = some(&bench).await;
    for body in [b"1", b"2", b"3"] {
        let envelope = Envelope { order_key: Some(OrderKey::from_u64(7)), ..rig::envelope(bench.now()) };
        told.states.push((envelope.id, State::Queued));
        rig::append(&*bench.store, envelope, body).await.unwrap();
    }
    (told.totals.accepted, told.totals.queued) = (15, 8);
    bench.idle().await;
    let killed = bench.disk.kill();
    killed.ruin_database();
    let ruined = killed.bytes(crate::disk::DATABASE);
    let bench = bench.restart(killed);
    is_as_told(&bench, &told, "made anew").await;
    adds_up(&*bench.store, "made anew").await;
    assert_eq!(bench.disk.bytes(DAMAGED_DATABASE), ruined);
    let disk = bench.disk.kill();
    let bench = bench.restart(disk);
    is_as_told(&bench, &told, "opened again").await;
    let queued = told.states.iter().filter(|(_, state)| *state == State::Queued).map(|(id, _)| *id);
    let mut claimed = Vec::new();
    loop {
        let got = bench.claim(10).await.unwrap();
        if got.is_empty() {
            break;
        }
        for (id, attempt) in got {
            bench.store.settle(id, attempt, bench.now(), rig::delivered(b"")).await.unwrap();
            claimed.push(id);
        }
    }
    assert_eq!(claimed, queued.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_journal_no_longer_tells_is_set_aside_and_the_rest_goes_on() {
    let (bench, ids, ends) = three().await;
    let disk = bench.disk.kill();
    let frame = frame(&bench.disk, ends[1]);
    disk.flip(|name, offset| name.starts_with("segment") && (ends[1] - 2 * frame..ends[1]).contains(&offset));
    disk.ruin_database();
    let bench = bench.restart(disk);
    assert_eq!(bench.store.status().damaged, 2);
    for (id, state) in ids.into_iter().zip([State::Dead, State::Dead, State::Queued]) {
        let record = bench.store.get(id).await.unwrap();
        assert_eq!((record.state, record.dead_reason), (state, (state == State::Dead).then_some(DeadReason::OutcomeUnknown)));
        assert_eq!(rig::read(&bench.store.body(id).await.unwrap()).await.unwrap(), [7; 100]);
    }
    let totals = Totals { accepted: 3, queued: 1, dead: 2, ..Totals::default() };
    assert_eq!(bench.totals(), totals);
    let disk = bench.disk.kill();
    let bench = bench.restart(disk);
    assert_eq!((bench.store.status().damaged, bench.totals()), (0, totals), "once is enough");
    assert_eq!(bench.store.redrive(Filter::default(), bench.now(), 10).await.unwrap(), 2);
    drain(&bench).await;
    assert_eq!(bench.totals(), Totals { accepted: 3, delivered: 3, ..Totals::default() });
}

#[tokio::test]
async fn wherever_it_is_cut_short_it_is_made_anew_the_next_time() {
    let bench = Bench::new();
    let told = some(&bench).await;
    bench.idle().await;
    let killed = bench.disk.kill();
    killed.ruin_database();
    for end in [FakeDisk::kill, |disk: &FakeDisk| disk.lose_power(7)] {
        for at in 1.. {
            let disk = copy(&killed);
            disk.fail(Fail::From(at));
            drop(Bench::new().try_restart(disk.clone()));
            let is_over = disk.operations() < at;
            let bench = Bench::new().restart(end(&disk));
            is_as_told(&bench, &told, &format!("operation {at}")).await;
            if is_over {
                assert!(at > 20, "it has {at} operations");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_first_start_may_end_anywhere() {
    for end in [FakeDisk::kill, |disk: &FakeDisk| disk.lose_power(7)] {
        for at in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let disk = FakeDisk::new(folder.path().into());
            disk.fail(Fail::From(at));
            let is_over = Bench::new().try_restart(disk.clone()).is_ok();
            let bench = Bench::new().restart(end(&disk));
            bench.put(b"first").await.unwrap();
            if is_over {
                assert!(at > 10, "it has {at} operations");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_was_delivered_and_forgotten_is_never_queued_again() {
    for restarts in 0..3 {
        let mut bench = Bench::with(|_, tuning| tuning.segment_bytes = 8192);
        // What keeps the first segment, and is too much to be moved.
        let held = [bench.put(&[1; 1500]).await.unwrap(), bench.put(&[2; 1500]).await.unwrap()];
        for (id, attempt) in bench.claim(2).await.unwrap() {
            bench.store.settle(id, attempt, bench.now(), rig::again(bench.now().after(Duration::from_secs(600)))).await.unwrap();
        }
        for _ in 0..20 {
            let id = bench.put(b"x").await.unwrap();
            assert_eq!(bench.claim(5).await.unwrap(), [(id, 1)]);
            bench.store.settle(id, 1, bench.now(), rig::delivered(b"")).await.unwrap();
            bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
        }
        bench.idle().await;
        for _ in 0..restarts {
            let disk = bench.disk.kill();
            bench = bench.restart(disk);
        }
        let disk = bench.disk.kill();
        disk.ruin_database();
        let bench = bench.restart(disk);
        for id in held {
            assert!(matches!(bench.state(id).await, Some(State::Queued | State::Dead)));
        }
        assert_eq!(bench.claim(30).await.unwrap(), [], "after {restarts} restarts");
    }
}
