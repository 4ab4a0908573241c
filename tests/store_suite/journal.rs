//! What only the journal has: the real engine between two checkpoints, on bytes and files that somebody else has changed.

use std::time::Duration;

use forebay::{
    envelope::{RequestId, State},
    store::{Store, Totals},
};

use crate::{
    disk::FakeDisk,
    faults::{Bench, drain},
    rig,
};

/// Three requests in one segment, of which only the journal knows, and where each ends there.
pub(crate) async fn three() -> (Bench, [RequestId; 3], [usize; 3]) {
    let bench = Bench::with(|_, tuning| tuning.segment_bytes = 8_192);
    // The first batch in a segment is followed by a checkpoint.
    let mut ids = [RequestId::new(); 3];
    let mut ends = [0; 3];
    for (id, end) in ids.iter_mut().zip(&mut ends) {
        *id = bench.put(&[7; 100]).await.unwrap();
        *end = bench.disk.written("segment-00000001");
    }
    (bench, ids, ends)
}

/// Bytes of the frame, of which two copies end at `end`.
pub(crate) fn frame(disk: &FakeDisk, end: usize) -> usize {
    let bytes = disk.bytes("segment-00000001");
    (32..end / 2).find(|len| bytes[end - 2 * len..end - len] == bytes[end - len..end]).unwrap()
}

#[tokio::test]
async fn one_damaged_copy_of_a_frame_costs_nothing() {
    for copy in [1, 2] {
        let (bench, ids, ends) = three().await;
        let disk = bench.disk.kill();
        for end in ends {
            let frame = frame(&bench.disk, end);
            disk.flip(|_, offset| (end - copy * frame..end - (copy - 1) * frame).contains(&offset));
        }
        let bench = bench.restart(disk);
        assert_eq!(bench.totals(), Totals { accepted: 3, queued: 3, ..Totals::default() });
        assert_eq!(bench.store.status().damaged, 0);
        for id in ids {
            assert_eq!(rig::read(&bench.store.body(id).await.unwrap()).await.unwrap(), [7; 100]);
        }
        drain(&bench).await;
    }
}

#[tokio::test]
async fn a_frame_that_is_lost_costs_what_it_changed_is_counted_and_no_reason_not_to_start() {
    let (bench, ids, ends) = three().await;
    let disk = bench.disk.kill();
    let frame = frame(&bench.disk, ends[1]);
    disk.flip(|_, offset| (ends[1] - 2 * frame..ends[1]).contains(&offset));
    let bench = bench.restart(disk);
    assert_eq!(bench.store.status().damaged, 1);
    assert_eq!(
        [bench.state(ids[0]).await, bench.state(ids[1]).await, bench.state(ids[2]).await],
        [Some(State::Queued), None, Some(State::Queued)]
    );
    let totals = Totals { accepted: 3, queued: 2, discarded: 1, ..Totals::default() };
    assert_eq!(bench.totals(), totals, "it is missed in the books");
    let disk = bench.disk.kill();
    let bench = bench.restart(disk);
    assert_eq!((bench.store.status().damaged, bench.totals()), (0, totals), "once is enough");
    drain(&bench).await;
}

#[tokio::test]
async fn a_segment_that_is_gone_with_the_end_of_the_journal_is_counted_and_no_reason_not_to_start() {
    for cut in [false, true] {
        let (bench, ids, ends) = three().await;
        let disk = bench.disk.kill();
        if cut {
            // Between the second and the third.
            disk.cut("segment-00000001", ends[1]);
        } else {
            disk.lose("segment-00000001");
        }
        let bench = bench.restart(disk);
        assert_eq!(bench.store.status().damaged, 1);
        assert_eq!(bench.state(ids[0]).await, Some(State::Queued), "the checkpoint has it");
        assert_eq!(bench.state(ids[2]).await, None);
        bench.put(b"one more").await.unwrap();
        let _ = bench.claim(9).await.unwrap();
        let disk = bench.disk.kill();
        let bench = bench.restart(disk);
        assert_eq!(bench.store.status().damaged, 0);
        drain(&bench).await;
    }
}

#[tokio::test]
async fn segments_go_although_the_journal_is_written_into_them() {
    let bench = Bench::new();
    for _ in 0..30 {
        bench.put(b"x").await.unwrap();
        drain(&bench).await;
    }
    let begun = bench.disk.segments().last().cloned().unwrap();
    bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
    bench.tidied().await;
    let left = bench.disk.segments();
    assert!(*begun > *"segment-00000005" && left.len() <= 3, "those back to the checkpoint before the last are left: {left:?}");
}
