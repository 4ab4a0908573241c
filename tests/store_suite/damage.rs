//! The real engine on bytes and files that somebody else has changed, and in a folder that takes no new file.

use std::time::Duration;

use forebay::{
    envelope::{DeadReason, RequestId, State},
    store::{Store, StoreError, Totals, redb::Disk},
};

use crate::{
    faults::{Bench, drain, until_it_works},
    rig::{self, Engine, Rig},
};

/// Six requests, three to a segment, of which the database knows.
async fn two_segments() -> (Bench, Vec<RequestId>) {
    let bench = Bench::with(|_, tuning| {
        tuning.segment_bytes = 5_200;
        tuning.checkpoint_every = Duration::ZERO;
    });
    let mut ids = Vec::new();
    for i in 0..6 {
        ids.push(bench.put(&[i; 1000]).await.unwrap());
    }
    bench.tidied().await;
    assert_eq!(bench.disk.segments().len(), 2);
    (bench, ids)
}

/// Of all requests, the last `whole` are delivered and the others are set aside, named and counted, beside the end of the journal where that is `cut` off; then the store
/// goes on, also after a restart.
async fn sets_aside_all_but(bench: Bench, ids: &[RequestId], whole: usize, cut: bool) {
    let (lost, kept) = ids.split_at(ids.len() - whole);
    let claimed = bench.claim(10).await.unwrap();
    assert_eq!(claimed.iter().map(|&(id, _)| id).collect::<Vec<_>>(), kept);
    for &id in lost {
        let record = bench.store.get(id).await.unwrap();
        assert_eq!((record.state, record.dead_reason), (State::Dead, Some(DeadReason::Damaged)));
        assert!(matches!(bench.store.body(id).await, Err(StoreError::Damaged(named)) if named == id));
    }
    assert_eq!(bench.store.status().damaged, lost.len() as u64 + u64::from(cut));
    for (id, attempt) in claimed {
        bench.store.settle(id, attempt, bench.now(), rig::delivered(b"")).await.unwrap();
    }
    let expected = Totals { accepted: ids.len() as u64, delivered: whole as u64, dead: lost.len() as u64, ..Totals::default() };
    assert_eq!(bench.totals(), expected);
    let disk = bench.disk.kill();
    let bench = bench.restart(disk);
    assert_eq!(bench.totals(), expected);
    bench.put(b"one more").await.unwrap();
    drain(&bench).await;
}

#[tokio::test]
async fn a_segment_that_is_gone_costs_the_requests_in_it_and_no_other() {
    let (bench, ids) = two_segments().await;
    let disk = bench.disk.kill();
    disk.lose(&disk.segments()[0]);
    sets_aside_all_but(bench.restart(disk), &ids, 3, false).await;
}

#[tokio::test]
async fn all_segments_that_are_gone_are_no_reason_not_to_start() {
    let (bench, ids) = two_segments().await;
    let disk = bench.disk.kill();
    disk.segments().iter().for_each(|name| disk.lose(name));
    sets_aside_all_but(bench.restart(disk), &ids, 0, true).await;
}

#[tokio::test]
async fn a_segment_that_is_cut_short_costs_the_requests_past_its_end_and_no_other() {
    let (bench, ids) = two_segments().await;
    let disk = bench.disk.kill();
    // In the middle of the first record, of both.
    disk.segments().iter().for_each(|name| disk.cut(name, 700));
    sets_aside_all_but(bench.restart(disk), &ids, 0, true).await;
    let (bench, ids) = two_segments().await;
    let disk = bench.disk.kill();
    disk.cut(&disk.segments()[0], 0);
    sets_aside_all_but(bench.restart(disk), &ids, 3, false).await;
}

#[tokio::test]
async fn a_body_file_that_is_gone_costs_its_request_and_no_other() {
    let bench = Bench::new();
    let ids = [bench.put(&[1; 5000]).await.unwrap(), bench.put(&[2; 5000]).await.unwrap()];
    bench.disk.remove(&format!("{}.body", ids[0])).unwrap();
    sets_aside_all_but(bench, &ids, 1, false).await;
}

#[tokio::test]
async fn a_folder_that_takes_no_new_file_refuses_what_is_new_delivers_what_is_there_and_goes_on_once_it_does() {
    let bench = Bench::new();
    let first = bench.put(&[0; 1000]).await.unwrap();
    bench.disk.set_read_only(true);
    let mut told = vec![first];
    let refused = loop {
        match bench.put(&[1; 1000]).await {
            Ok(id) => told.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Failed(_)), "{refused}");
    assert!(told.len() < 5, "there is room in the segment that is open, and no more");
    assert!(matches!(bench.store.room(0, 0), Err(StoreError::Failed(_))));
    assert!(bench.store.status().failing.is_some());
    assert_eq!(bench.claim(1).await.unwrap(), [(first, 1)]);
    bench.disk.set_read_only(false);
    told.push(until_it_works(&bench).await);
    assert_eq!(bench.store.status().failing, None);
    bench.store.settle(first, 1, bench.now(), rig::delivered(b"")).await.unwrap();
    assert_eq!(bench.totals().accepted, told.len() as u64);
    drain(&bench).await;
}

#[tokio::test]
async fn files_that_nothing_refers_to_are_swept_at_the_start() {
    let rig = Rig::new(Engine::Redb, |_| {});
    let kept = rig.append(rig.envelope(), &[1; 5000]).await.unwrap().id;
    let folder = rig.settings.path.with_extension("redb.payloads");
    for name in [format!("{}.body", RequestId::new()), format!("{kept}.1.answer"), "segment-00000099".into(), "spool-7".into()] {
        std::fs::write(folder.join(name), b"orphan").unwrap();
    }
    let rig = rig.reopen();
    let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    // Beside the lock, the segment of its head, and the one in which the journal goes on.
    assert!(left.contains(&format!("{kept}.body")) && left.len() == 4, "{left:?}");
    assert_eq!(rig::read(&rig.store.body(kept).await.unwrap()).await.unwrap(), [1; 5000]);
    rig.claim(1).await;
    rig.deliver(kept).await;
    rig.store.prune(rig.now()).await.unwrap();
    assert!(!folder.join(format!("{kept}.body")).exists());
}
