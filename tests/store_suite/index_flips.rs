//! Bits that flip in the file of redb: nothing that was acknowledged is lost, and it starts.

use std::time::Duration;

use forebay::{
    envelope::{RequestId, State},
    store::{Store, Totals},
};

use crate::{
    disk::{DATABASE, Fail, FakeDisk},
    faults::{Bench, drain},
    rig::delivered,
};

/// What was acknowledged.
pub(crate) struct Told {
    pub(crate) states: Vec<(RequestId, State)>,
    pub(crate) totals: Totals,
}

/// Requests in several states.
pub(crate) async fn some(bench: &Bench) -> Told {
    let mut states = Vec::new();
    for i in 0..12 {
        states.push((bench.put(&[i; 300]).await.unwrap(), State::Queued));
    }
    for (id, attempt) in bench.claim(6).await.unwrap() {
        bench.store.settle(id, attempt, bench.now(), delivered(b"yes")).await.unwrap();
    }
    bench.store.cancel(states[11].0, bench.now()).await.unwrap();
    states[..6].iter_mut().for_each(|(_, state)| *state = State::Delivered);
    states[11].1 = State::Cancelled;
    Told { states, totals: Totals { accepted: 12, queued: 5, delivered: 6, cancelled: 1, ..Totals::default() } }
}

/// What a kill leaves, as often as it is asked for.
pub(crate) fn copy(killed: &FakeDisk) -> FakeDisk {
    let copy = killed.kill();
    [killed, &copy].into_iter().for_each(|disk| disk.fail(Fail::Never));
    copy
}

/// Opens a store with one bit flipped: all is there as it was told.
async fn opens(killed: &FakeDisk, told: &Told, offset: usize, bit: u8) {
    let disk = copy(killed);
    disk.flip_database(offset, bit);
    let bench = Bench::new().try_restart(disk).unwrap_or_else(|error| panic!("bit {bit} at {offset}: {error}"));
    for &(id, state) in &told.states {
        assert_eq!(bench.state(id).await, Some(state), "bit {bit} at {offset}");
    }
    assert_eq!(bench.totals(), told.totals, "bit {bit} at {offset}");
    assert_eq!(bench.store.status().damaged, 0, "bit {bit} at {offset}");
    drain(&bench).await;
}

/// Bytes of a segment that has the whole journal.
const WHOLE: u64 = 32 * 1024;

/// Bytes of the first page that mean anything.
const FIRST_PAGE: usize = 320;

#[tokio::test]
async fn a_bit_that_flips_in_the_first_page_before_a_kill_loses_nothing() {
    for (first, every, shrinks) in [(0, Duration::MAX, false), (1, Duration::ZERO, false), (2, Duration::ZERO, true)] {
        let bench = Bench::with(|_, tuning| {
            tuning.checkpoint_every = every;
            tuning.segment_bytes = WHOLE;
            tuning.database_bytes = if shrinks { 0 } else { u64::MAX };
        });
        let told = some(&bench).await;
        bench.tidied().await;
        bench.idle().await;
        let killed = bench.disk.kill();
        for offset in (first..FIRST_PAGE).step_by(3) {
            opens(&killed, &told, offset, (offset % 8) as u8).await;
        }
    }
}

#[tokio::test]
async fn the_journal_is_kept_as_far_as_redb_may_go_back() {
    let bench = Bench::with(|_, tuning| tuning.database_bytes = u64::MAX);
    // Segments that nothing needs but the journal.
    for _ in 0..20 {
        bench.put(b"x").await.unwrap();
        drain(&bench).await;
        bench.store.prune(bench.now().after(Duration::from_secs(61))).await.unwrap();
    }
    let last = bench.put(b"last").await.unwrap();
    bench.idle().await;
    let killed = bench.disk.kill();
    let totals = Totals { accepted: 21, queued: 1, delivered: 20, ..Totals::default() };
    let told = Told { states: vec![(last, State::Queued)], totals };
    // One of the two commits is named at each of them.
    for offset in [100, 211] {
        opens(&killed, &told, offset, 3).await;
    }
}

/// What a program that was stopped leaves.
async fn stopped(bench: &Bench) -> FakeDisk {
    bench.store.close().await;
    bench.disk.kill()
}

#[tokio::test]
async fn a_bit_that_flips_anywhere_in_the_file_of_redb_loses_nothing_and_is_no_reason_not_to_start() {
    for every in [Duration::MAX, Duration::ZERO] {
        for is_killed in [true, false] {
            let bench = Bench::with(|_, tuning| (tuning.checkpoint_every, tuning.segment_bytes) = (every, WHOLE));
            let told = some(&bench).await;
            bench.tidied().await;
            bench.idle().await;
            let left = if is_killed { bench.disk.kill() } else { stopped(&bench).await };
            // Most of the file is empty, and a bit that flips there is nothing.
            let bytes = left.bytes(DATABASE);
            let offsets: Vec<usize> = (0..bytes.len()).filter(|&offset| bytes[offset] != 0).collect();
            let mut random = fastrand::Rng::with_seed(7);
            for _ in 0..150 {
                let (offset, bit) = (offsets[random.usize(..offsets.len())], random.u8(..8));
                opens(&left, &told, offset, bit).await;
            }
        }
    }
}
