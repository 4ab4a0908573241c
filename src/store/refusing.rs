//! Which limits refuse what is new. Each is told in the log when it begins to and when it has ceased to, never once per request.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Limit, Refusals, Refused, StoreError};
use crate::envelope::{Clock, Timestamp};

/// A limit that has refused nothing for so long has ceased to. A full queue that drains takes one request for each that goes: without a span, each would be
/// an end and a beginning.
const QUIET: Duration = Duration::from_secs(10);

/// What the limits have refused.
#[derive(Debug, Default)]
pub(super) struct Refusing(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: Spells,
    bytes: Spells,
    free_disk: Spells,
}

#[derive(Debug, Default)]
struct Spells {
    /// Refused since the start.
    refused: u64,
    spell: Option<Spell>,
}

/// A time in which a limit refuses.
#[derive(Debug, Clone, Copy)]
struct Spell {
    limit: Limit,
    since: Timestamp,
    last: Timestamp,
    refused: u64,
}

impl Refusing {
    /// Counts a refusal by a limit, if `result` is one.
    pub(super) fn note<T>(&self, result: Result<T, StoreError>, clock: &Clock) -> Result<T, StoreError> {
        if let Err(StoreError::Full(limit)) = result {
            let begins = self.0.lock().of(limit).refuse(limit, clock.now());
            if begins {
                tracing::warn!(limit = limit.as_str(), "what is new is refused: {limit}");
            }
        }
        result
    }

    /// Time has passed. Called every few seconds.
    pub(super) fn look(&self, now: Timestamp) {
        let ended = self.0.lock().all().map(|spells| spells.end(now));
        for Spell { limit, since, last, refused } in ended.into_iter().flatten() {
            let limit = limit.as_str();
            tracing::info!(limit, refused, %since, until = %last, "store.{limit} refuses no more");
        }
    }

    pub(super) fn status(&self) -> Refusals {
        let kept = self.0.lock();
        let refused = |spells: &Spells| Refused { requests: spells.refused, since: spells.spell.map(|spell| spell.since) };
        Refusals { max_requests: refused(&kept.requests), max_bytes: refused(&kept.bytes), min_free_disk: refused(&kept.free_disk) }
    }
}

impl Kept {
    fn of(&mut self, limit: Limit) -> &mut Spells {
        match limit {
            Limit::Requests(_) => &mut self.requests,
            Limit::Bytes(_) => &mut self.bytes,
            Limit::FreeDisk(_) => &mut self.free_disk,
        }
    }

    fn all(&mut self) -> [&mut Spells; 3] {
        [&mut self.requests, &mut self.bytes, &mut self.free_disk]
    }
}

impl Spells {
    /// Whether this is the first refusal of a spell.
    fn refuse(&mut self, limit: Limit, now: Timestamp) -> bool {
        let begins = self.spell.is_none();
        let spell = self.spell.get_or_insert(Spell { limit, since: now, last: now, refused: 0 });
        spell.last = now;
        spell.refused += 1;
        self.refused += 1;
        begins
    }

    fn end(&mut self, now: Timestamp) -> Option<Spell> {
        self.spell.take_if(|spell| now.since(spell.last) >= QUIET)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_limit_is_told_once_when_it_begins_to_refuse_and_once_when_it_has_ceased_to() {
        let now = Arc::new(AtomicU64::new(0));
        let clock = {
            let now = Arc::clone(&now);
            Clock::from_fn(move || Timestamp::from_millis(now.load(Relaxed)))
        };
        let refusing = Refusing::default();
        let refuse = |limit: Limit| drop(refusing.note(Err::<(), _>(limit.into()), &clock));
        let pass = |millis: u64| {
            now.fetch_add(millis, Relaxed);
            refusing.look(clock.now());
        };
        let log = Log::default();
        let lines = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            (0..5).for_each(|_| refuse(Limit::Requests(9)));
            pass(9_999);
            refuse(Limit::Requests(9));
            refuse(Limit::FreeDisk(7));
            let since = refusing.status().max_requests.since;
            assert_eq!((refusing.status().max_requests.requests, since), (6, Some(Timestamp::from_millis(0))));
            assert_eq!(refusing.status().max_bytes, Refused::default());
            pass(9_999);
            pass(1);
            assert_eq!(refusing.status().max_requests, Refused { requests: 6, since: None });
            refusing.note(Ok(()), &clock).unwrap();
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(
            text.lines().map(str::trim).collect::<Vec<_>>(),
            [
                r#"WARN what is new is refused: the queue holds 9 requests, as many as `store.max_requests` allows limit="max_requests""#,
                r#"WARN what is new is refused: less than `store.min_free_disk` (7 bytes) is free on the disk limit="min_free_disk""#,
                r#"INFO store.max_requests refuses no more limit="max_requests" refused=6 since=1970-01-01T00:00:00.000Z until=1970-01-01T00:00:09.999Z"#,
                r#"INFO store.min_free_disk refuses no more limit="min_free_disk" refused=1 since=1970-01-01T00:00:09.999Z until=1970-01-01T00:00:09.999Z"#,
            ]
        );
    }
}
