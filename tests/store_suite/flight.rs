//! Batches that are done while the one before is on its way to the disk: nobody sees or hears of what is not there, and what fails takes with it all that was done behind it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
};

use forebay::{
    envelope::{Envelope, OrderKey, RequestId, State},
    store::{
        BodyFile, Filter, Page, Store, StoreError,
        redb::{Disk, RedbStore, Segment},
    },
};
use futures_util::future::join_all;
use redb::StorageBackend;

use crate::{
    disk::{Fail, FakeDisk},
    faults::{Bench, drain, until_it_works},
    history::adds_up,
    rig::{self, delivered},
};

/// A disk whose next sync of a segment, once it is told so, says that it has begun and then waits to be told how it ends.
#[derive(Debug, Clone)]
struct Stalling {
    disk: FakeDisk,
    stall: Arc<AtomicBool>,
    begun: Arc<Mutex<mpsc::SyncSender<()>>>,
    ends: Arc<Mutex<mpsc::Receiver<io::Result<()>>>>,
}

#[derive(Debug)]
struct StallingSegment(Stalling, Arc<dyn Segment>);

impl Disk for Stalling {
    fn database(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.disk.database()
    }

    fn new_database(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.disk.new_database()
    }

    fn replace_database(&self) -> io::Result<Option<String>> {
        self.disk.replace_database()
    }

    fn database_len(&self) -> io::Result<u64> {
        self.disk.database_len()
    }

    fn create_segment(&self, name: &str, len: u64) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(StallingSegment(self.clone(), self.disk.create_segment(name, len)?)))
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        self.disk.open_segment(name)
    }

    fn keep_body(&self, file: &BodyFile, name: &str) -> io::Result<()> {
        self.disk.keep_body(file, name)
    }

    fn open_body(&self, name: &str) -> io::Result<BodyFile> {
        self.disk.open_body(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.disk.sync_folder()
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }
}

impl Segment for StallingSegment {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1.write(offset, bytes)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.1.read(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.0.stall.swap(false, Relaxed) {
            self.0.begun.lock().unwrap().send(()).unwrap();
            self.0.ends.lock().unwrap().recv().unwrap()?;
        }
        self.1.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.1.truncate(len)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_shows_nothing_that_does_not_come_to_the_disk() {
    for fails in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let settings = rig::settings(&folder);
        let (begun, sync_began) = mpsc::sync_channel(1);
        let (end, ends) = mpsc::sync_channel(1);
        let disk = Stalling {
            disk: FakeDisk::new(folder.path().join("queue.redb.payloads")),
            stall: Arc::default(),
            begun: Arc::new(Mutex::new(begun)),
            ends: Arc::new(Mutex::new(ends)),
        };
        let now = Arc::new(AtomicU64::new(rig::START));
        let store = RedbStore::open_with(settings, rig::clock(&now), rig::tuning(), Arc::new(disk.clone())).unwrap();
        let envelope = rig::envelope(rig::clock(&now).now());
        let id = envelope.id;
        rig::append(&*store, Envelope { id: RequestId::new(), ..envelope.clone() }, b"before").await.unwrap();
        disk.stall.store(true, Relaxed);
        let (putting, looking) = (Arc::clone(&store), Arc::clone(&store));
        let put = tokio::spawn(async move { rig::append(&*putting, envelope, b"under way").await });
        tokio::task::spawn_blocking(move || sync_began.recv().unwrap()).await.unwrap();
        // It is in memory by now, and not on the disk.
        let look = tokio::spawn(async move { looking.page(Filter::default(), None, 10).await });
        assert_eq!(store.counts().routes[0].totals.accepted, 1);
        end.send(if fails { Err(io::Error::other("the sync failed")) } else { Ok(()) }).unwrap();
        let (put, page) = (put.await.unwrap(), look.await.unwrap());
        assert_eq!(matches!(put, Err(StoreError::Failed(_))), fails, "{put:?}");
        let seen = |page: Page| page.records.iter().filter(|record| record.envelope.id == id).count();
        if fails {
            assert!(page.is_err() || page.is_ok_and(|page| seen(page) == 0));
        } else {
            assert_eq!(seen(store.page(Filter::default(), None, 10).await.unwrap()), 1, "who was told of it sees it");
        }
    }
}

/// What eight callers at once were told.
#[derive(Debug, Default)]
struct Told {
    appended: Vec<RequestId>,
    refused: Vec<RequestId>,
    delivered: Vec<RequestId>,
    /// In a look at all that is there.
    seen: Vec<RequestId>,
}

/// One caller: queues, looks, and delivers what it gets.
async fn call(bench: &Bench, caller: u64) -> Told {
    let mut told = Told::default();
    for round in 0..4 {
        let key = caller.is_multiple_of(3).then_some(OrderKey::from_u64(caller));
        let envelope = Envelope { order_key: key, ..rig::envelope(bench.now()) };
        let id = envelope.id;
        match rig::append(&*bench.store, envelope, &vec![caller as u8; 300]).await {
            Ok(_) => told.appended.push(id),
            Err(StoreError::Failed(_)) => told.refused.push(id),
            Err(error) => panic!("{error}"),
        }
        if let Ok(page) = bench.store.page(Filter::default(), None, 100).await {
            told.seen.extend(page.records.iter().map(|record| record.envelope.id));
            let missing = told.appended.iter().find(|id| !told.seen.contains(id));
            assert_eq!(missing, None, "who was told of it sees it");
        }
        if (caller + round).is_multiple_of(2) {
            for (id, attempt) in bench.claim(1).await.unwrap_or_default() {
                if bench.store.settle(id, attempt, bench.now(), delivered(b"done")).await.is_ok() {
                    told.delivered.push(id);
                }
            }
        }
    }
    told
}

async fn check(bench: &Bench, told: &[Told], context: &str) {
    for told in told {
        for &id in told.appended.iter().chain(&told.seen) {
            let state = bench.state(id).await;
            assert!(state.is_some(), "{context}: a request that was acknowledged or seen is lost");
        }
        for &id in &told.refused {
            assert_eq!(bench.state(id).await, None, "{context}: a request that was refused is there");
        }
        for &id in &told.delivered {
            assert_eq!(bench.state(id).await, Some(State::Delivered), "{context}");
        }
    }
    adds_up(&*bench.store, context).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_operation_fails_under_many_callers_at_once_each_was_told_the_truth() {
    for fail in [Fail::Once, Fail::Panic] {
        for at in 1..40 {
            let bench = Bench::new();
            let before = bench.disk.operations();
            bench.disk.fail(fail(before + at));
            let told = join_all((0..8).map(|caller| call(&bench, caller))).await;
            until_it_works(&bench).await;
            let context = format!("operation {at}");
            check(&bench, &told, &context).await;
            let disk = if at % 2 == 0 { bench.disk.kill() } else { bench.disk.lose_power(at) };
            let bench = bench.restart(disk);
            check(&bench, &told, &format!("{context}, restarted")).await;
            drain(&bench).await;
        }
    }
}
