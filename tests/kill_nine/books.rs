//! The books of the clients: what each has sent, and what it was told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::watch;

use crate::common::client::Response;

/// The two routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    /// At least once, in order of the field `X-Order`.
    Least,
    /// At most once, in no order.
    Most,
}

impl Route {
    pub(crate) const ALL: [Self; 2] = [Self::Least, Self::Most];

    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Least => "least",
            Self::Most => "most",
        }
    }
}

/// One write, before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) route: Route,
    /// What the route orders by, and the place of this write among those of the same value.
    pub(crate) order: Option<(String, u64)>,
    pub(crate) idempotency_key: Option<String>,
    /// Length and checksum of its body.
    pub(crate) body: (usize, u32),
    /// False for one that is never sent to its end.
    pub(crate) whole: bool,
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// 202, and the identity of the request.
    Queued(String),
    /// The backend's own 2xx.
    Done,
    /// Any other answer: the write was not taken.
    NotTaken(u16),
    /// The connection ended first.
    Nothing,
}

impl Heard {
    pub(crate) fn from(response: &Response) -> Self {
        match (response.status, response.field("Forebay-Id")) {
            (202, Some(id)) => Self::Queued(id.to_owned()),
            (200..=299, None) => Self::Done,
            (status, _) => Self::NotTaken(status),
        }
    }
}

/// Every write by its key, which is its target.
pub(crate) struct Books {
    writes: Mutex<BTreeMap<String, (Write, Option<Heard>)>>,
    /// Writes that have ended, in whatever way.
    ended: watch::Sender<u64>,
}

impl Books {
    pub(crate) fn new() -> Self {
        Self { writes: Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// A client is about to send this one.
    pub(crate) fn begin(&self, key: &str, write: Write) {
        let before = self.writes().insert(key.to_owned(), (write, None));
        assert!(before.is_none(), "{key} is sent once");
    }

    /// And this is what it heard.
    pub(crate) fn end(&self, key: &str, heard: Heard) {
        self.writes().get_mut(key).unwrap().1 = Some(heard);
        self.ended.send_modify(|count| *count += 1);
    }

    pub(crate) fn writes(&self) -> MutexGuard<'_, BTreeMap<String, (Write, Option<Heard>)>> {
        self.writes.lock().unwrap()
    }

    /// Writes that have ended.
    pub(crate) fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Of one route: 202s noted, and whole writes that were begun.
    pub(crate) fn bounds(&self, route: Route) -> (u64, u64) {
        let writes = self.writes();
        let of_route = writes.values().filter(|(write, _)| write.route == route);
        let (mut noted, mut begun) = (0, 0);
        for (write, heard) in of_route {
            noted += u64::from(matches!(heard, Some(Heard::Queued(_))));
            begun += u64::from(write.whole);
        }
        (noted, begun)
    }
}
