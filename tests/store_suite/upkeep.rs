//! The upkeep that the program runs beside traffic and replay, on a clock that the test turns.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::sync_channel},
    time::Duration,
};

use forebay::{
    envelope::{DeadReason, RequestId},
    replay,
    store::{Outcome, Settings, redb::Tuning},
};
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::rig::{Engine, Rig, delivered, tuning};

const OUTAGE: usize = 1_500;

/// What the rows of the hour, and of the one dead letter, may need.
const FEW_PAGES_KIB: u64 = 64;

/// What a folder takes on the disk, in KiB.
fn disk_kib(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let size =
        |entry: std::fs::DirEntry| if entry.path().is_dir() { disk_kib(&entry.path()) } else { entry.metadata().unwrap().blocks() / 2 };
    entries.map(size).sum()
}

/// Delivers all that is queued but the first, which is given up.
async fn drain(rig: &Rig) {
    let mut first = true;
    loop {
        let claimed = rig.claim(200).await;
        if claimed.is_empty() {
            return;
        }
        let settled = claimed.into_iter().map(|request| {
            let dead = Outcome::Dead { reason: DeadReason::Refused, why: "422".into(), answer: None };
            let outcome = if std::mem::take(&mut first) { dead } else { delivered(b"done") };
            rig.settle(request.envelope.id, request.attempt, outcome)
        });
        join_all(settled).await.into_iter().for_each(Result::unwrap);
    }
}

/// The writer has done what it was asked before, and whoever asked had a chance to ask for more.
async fn turns(rig: &Rig) {
    for _ in 0..30 {
        let _not_found = rig.store.cancel(RequestId::new(), rig.now()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_minute_after_a_drain_the_disk_is_as_it_was_before_the_outage() {
    // As long as this waits, time goes on only as the test says.
    let (stop_waiting, wait) = sync_channel::<()>(1);
    let waiting = tokio::task::spawn_blocking(move || wait.recv());
    let keep = |settings: &mut Settings| {
        settings.keep_delivered = Duration::from_secs(10);
        settings.max_requests = 2 * OUTAGE as u64;
    };
    let sizes = Tuning { segment_bytes: 256 * 1024, step: 1024, shrink_every: Duration::from_secs(10), ..tuning() };
    let rig = Rig::tuned(Engine::Redb, sizes, keep);
    let folder = rig.settings.path.parent().unwrap().to_owned();
    let (_stop, stopped) = watch::channel(None);
    let upkeep = tokio::spawn(replay::prune(Arc::clone(&rig.store), crate::rig::clock(&rig.now), stopped));
    rig.append(rig.envelope(), &[0; 1_000]).await.unwrap();
    turns(&rig).await;
    let before = disk_kib(&folder);

    let bodies: Vec<_> = (0..OUTAGE).map(|number| vec![number as u8; 1_000 + number % 5 * 1_000]).collect();
    join_all(bodies.iter().map(|body| async { rig.append(rig.envelope(), body).await.unwrap() })).await;
    let during = disk_kib(&folder);
    assert!(during > before + 4_000, "{before} KiB, then {during} KiB");
    drain(&rig).await;
    for _ in 0..12 {
        rig.now.fetch_add(5_000, Relaxed);
        tokio::time::advance(Duration::from_secs(5)).await;
        turns(&rig).await;
    }
    let after = disk_kib(&folder);
    assert!(after <= before + FEW_PAGES_KIB, "{before} KiB before the outage, {during} in it, {after} after it");
    assert_eq!((rig.totals().dead, rig.totals().delivered), (1, OUTAGE as u64));
    assert!(!upkeep.is_finished());
    drop(stop_waiting);
    let _disconnected = waiting.await.unwrap();
}
