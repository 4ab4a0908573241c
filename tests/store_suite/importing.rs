//! `store import` on a disk that fails, fills up, or loses its power: whatever cut it short, the store is whole, and the same lines again bring what is missing, once and in order.

use forebay::{
    envelope::{Envelope, OrderKey},
    store::{
        Filter, ImportError, Imported, Outcome, Store, StoreError, export, import,
        redb::{ClosedStore, verify},
    },
};

use crate::{
    disk::{DATABASE, Fail, FakeDisk},
    faults::Bench,
    rig::{Engine, Rig, again, delivered},
};

/// Requests that are imported.
const REQUESTS: usize = 8;

/// The lines of a store with requests in most states, many of one key, with bodies in segments, in files, and in lines of their own.
async fn lines() -> String {
    let rig = Rig::new(Engine::Redb, |_| {});
    let mut ids = Vec::new();
    for number in 0..REQUESTS {
        let key = (number % 3 != 0).then(|| OrderKey::from_u64(7));
        let body = vec![number as u8; [10, 1500, 5000, 100_000][number % 4]];
        ids.push(rig.append(Envelope { order_key: key, ..rig.envelope() }, &body).await.unwrap().id);
    }
    let claimed = rig.claim(4).await;
    let outcomes = [
        delivered(&[7; 3000]),
        again(rig.now()),
        Outcome::Dead { reason: forebay::envelope::DeadReason::Refused, answer: None, why: "no".into() },
    ];
    for (claimed, outcome) in claimed.iter().zip(outcomes.into_iter().chain([delivered(b"")])) {
        rig.settle(claimed.envelope.id, claimed.attempt, outcome).await.unwrap();
    }
    rig.store.cancel(ids[REQUESTS - 1], rig.now()).await.unwrap();
    rig.store.close().await;
    exported(&ClosedStore::open(&rig.settings.path, rig.now()).unwrap())
}

fn exported(store: &ClosedStore) -> String {
    let mut out = Vec::new();
    assert_eq!(export(store, &Filter::default(), &mut out).unwrap().damaged, 0);
    String::from_utf8(out).unwrap()
}

/// The lines of each request.
fn requests(lines: &str) -> Vec<String> {
    let mut requests: Vec<String> = Vec::new();
    for line in lines.lines() {
        match requests.last_mut() {
            Some(last) if line.starts_with("{\"line\":\"piece\"") => last.push_str(line),
            _ => requests.push(line.to_owned()),
        }
    }
    requests
}

async fn bring(bench: &Bench, lines: &str) -> Result<Imported, ImportError> {
    import(&bench.store, lines.as_bytes(), |number, why| panic!("line {number}: {why}")).await
}

/// What `store verify` and `store export` say of what is on the disk: nothing is wrong. The lines of each request.
fn whole(bench: &Bench, context: &str) -> Vec<String> {
    let path = &bench.settings.path;
    let place = |name: &str| if name == DATABASE { path.clone() } else { path.with_extension("redb.payloads").join(name) };
    // Bodies in files are there already.
    let files = bench.disk.state().files.clone();
    files.iter().for_each(|(name, image)| std::fs::write(place(name), &image.now).unwrap());
    let mut closed = ClosedStore::open(path, bench.now()).unwrap();
    let report = verify(&mut closed).unwrap();
    assert!(report.whole, "{context}: {report:?}");
    let found = requests(&exported(&closed));
    files.keys().for_each(|name| std::fs::remove_file(place(name)).unwrap());
    found
}

/// The same lines again bring what is missing: then all is there, once, and of the key in order.
async fn again_brings_the_rest(bench: &Bench, lines: &str, before: Option<Imported>, context: &str) {
    let there = whole(bench, context).len() as u64;
    let second = bring(bench, lines).await.unwrap();
    assert_eq!((second.requests, second.skipped), (REQUESTS as u64 - there, there), "{context}");
    assert!(before.is_none() || second.requests == 0, "{context}: what was said to be imported is lost");
    let (mut wanted, mut found) = (requests(lines), whole(bench, context));
    let keyed = |requests: &[String]| requests.iter().filter(|line| !line.contains("\"order_key\":null")).cloned().collect::<Vec<_>>();
    assert!(keyed(&wanted) == keyed(&found), "{context}: the requests of a key are in another order");
    wanted.sort();
    found.sort();
    assert!(wanted == found, "{context}: what was imported is not what was exported");
    let totals = bench.totals();
    assert_eq!(totals.accepted, REQUESTS as u64, "{context}");
}

/// Imports, and `fail`s at each operation in turn; `end` is how it ends then, and leaves what is on the disk.
async fn cut_short(fail: impl Fn(u64) -> Fail, end: impl AsyncFn(&Bench, u64) -> FakeDisk) {
    let lines = lines().await;
    for at in 1.. {
        let bench = Bench::new();
        let before = bench.disk.operations();
        bench.disk.fail(fail(before + at));
        let first = bring(&bench, &lines).await.ok();
        let reached = bench.disk.operations() >= before + at;
        let disk = end(&bench, at).await;
        let bench = bench.restart(disk);
        again_brings_the_rest(&bench, &lines, first, &format!("operation {at}")).await;
        if !reached {
            assert!(at > 30, "an import has {at} operations");
            return;
        }
    }
}

#[tokio::test]
async fn wherever_the_disk_fails_once_an_import_can_be_done_again() {
    let closed = async |bench: &Bench, _| {
        bench.store.close().await;
        bench.disk.kill()
    };
    cut_short(Fail::Once, closed).await;
}

#[tokio::test]
async fn wherever_the_disk_fails_once_and_it_is_killed_before_it_has_recovered_an_import_can_be_done_again() {
    cut_short(Fail::Once, async |bench: &Bench, _| bench.disk.kill()).await;
}

#[tokio::test]
async fn wherever_it_is_killed_an_import_can_be_done_again() {
    cut_short(Fail::From, async |bench: &Bench, _| bench.disk.kill()).await;
}

#[tokio::test]
async fn wherever_the_power_goes_an_import_can_be_done_again() {
    cut_short(Fail::From, async |bench: &Bench, at| bench.disk.lose_power(at)).await;
}

#[tokio::test]
async fn where_the_disk_is_full_an_import_says_so_and_can_be_done_again_when_there_is_room() {
    let lines = lines().await;
    let mut ends = Vec::new();
    for more in (0..10).map(|power| 1000 << power) {
        let bench = Bench::new();
        let used: usize = bench.disk.state().files.values().map(|image| image.now.len()).sum();
        bench.disk.state().capacity = Some(used + more);
        let first = bring(&bench, &lines).await;
        if let Err(error) = &first {
            assert!(matches!(error, ImportError::Store { why: StoreError::Failed(_), .. }), "{error}");
        }
        ends.push(first.is_ok());
        bench.store.close().await;
        bench.disk.state().capacity = None;
        let disk = bench.disk.kill();
        let bench = bench.restart(disk);
        again_brings_the_rest(&bench, &lines, first.ok(), &format!("{more} bytes of room")).await;
    }
    assert!(!ends[0] && !ends[1] && ends[9], "{ends:?}");
}
