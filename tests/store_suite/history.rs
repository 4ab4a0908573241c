//! What happened in each hour, at every engine.

use std::time::Duration;

use forebay::{
    envelope::{DeadReason, Envelope, Timestamp},
    store::{Filter, HourCounts, KEPT_HOURS, Moves, Outcome, Store, Totals},
};

use crate::rig::{self, Engine, Rig, name};

const HOUR: u64 = 3_600_000;

/// When the hour of the tests' first moment began.
const FIRST: u64 = rig::START / HOUR * HOUR;

fn dead() -> Outcome {
    Outcome::Dead { reason: DeadReason::Refused, why: "answered 422".into(), answer: None }
}

/// What happened to route `marks`, by hours from the first.
async fn hours(rig: &Rig) -> Vec<(u64, Moves)> {
    let history = rig.store.history(Timestamp::default()).await.unwrap();
    let of_marks = |counts: &HourCounts| counts.route == name("marks") && counts.backend == name("app");
    history.hours.iter().filter(|counts| of_marks(counts)).map(|c| ((c.hour.as_millis() - FIRST) / HOUR, c.moves)).collect()
}

/// Without a hole in it, the history is the totals.
pub(crate) async fn adds_up(store: &dyn Store, context: &str) {
    let history = store.history(Timestamp::default()).await.unwrap();
    for route in store.counts().routes {
        let of_route = history.hours.iter().filter(|counts| counts.backend == route.backend && counts.route == route.route);
        let sum = of_route.fold(Moves::default(), |sum, counts| Moves {
            accepted: sum.accepted + counts.moves.accepted,
            delivered: sum.delivered + counts.moves.delivered,
            dead: sum.dead + counts.moves.dead,
            cancelled: sum.cancelled + counts.moves.cancelled,
            discarded: sum.discarded + counts.moves.discarded,
        });
        let Totals { accepted, delivered, dead, cancelled, discarded, .. } = route.totals;
        assert_eq!((sum.accepted, sum.delivered, sum.cancelled, sum.discarded), (accepted, delivered, cancelled, discarded), "{context}");
        assert!(sum.dead >= dead, "{context}: {} died, {dead} are dead", sum.dead);
    }
}

#[tokio::test]
async fn each_event_is_counted_in_the_hour_in_which_it_happened_and_once() {
    for mut rig in Rig::both() {
        let mut ids = Vec::new();
        for _ in 0..3 {
            let expires_at = rig.now().after(Duration::from_secs(86_400));
            ids.push(rig.append(Envelope { expires_at, ..rig.envelope() }, b"body").await.unwrap().id);
        }
        let (first, second, third) = (ids[0], ids[1], ids[2]);
        rig.pass(HOUR);
        rig.claim(2).await;
        rig.deliver(first).await;
        rig.settle(second, 1, dead()).await.unwrap();
        rig.store.cancel(third, rig.now()).await.unwrap();
        rig.store.redrive(Filter::default(), rig.now(), 1).await.unwrap();
        rig.claim(1).await;
        rig.settle(second, 2, dead()).await.unwrap();
        rig.pass(HOUR);
        rig.store.discard(Filter::default(), rig.now()).await.unwrap();
        rig.put(None).await;
        // Its age ends it in the hour in which that is seen.
        rig.pass(HOUR);
        rig.store.prune(rig.now()).await.unwrap();
        let expected = [
            (0, Moves { accepted: 3, ..Moves::default() }),
            (1, Moves { delivered: 1, dead: 2, cancelled: 1, ..Moves::default() }),
            (2, Moves { accepted: 1, discarded: 1, ..Moves::default() }),
            (3, Moves { dead: 1, ..Moves::default() }),
        ];
        assert_eq!(hours(&rig).await, expected);
        rig = rig.reopen();
        assert_eq!(hours(&rig).await, expected);
        adds_up(&*rig.store, "after a reopen").await;
        let history = rig.store.history(Timestamp::from_millis(FIRST + 2 * HOUR + 5)).await.unwrap();
        assert_eq!(history.since, Timestamp::from_millis(rig::START));
        assert_eq!(history.hours.iter().map(|counts| counts.hour.as_millis()).collect::<Vec<_>>(), [FIRST + 2 * HOUR, FIRST + 3 * HOUR]);
    }
}

#[tokio::test]
async fn what_is_written_down_late_belongs_to_the_hour_in_which_it_was() {
    for mut rig in Rig::both() {
        let early = rig.now();
        rig.put(None).await;
        rig.pass(2 * HOUR);
        rig.put(None).await;
        for _ in 0..3 {
            rig.append(Envelope { accepted_at: early.after(Duration::from_millis(HOUR)), ..rig.envelope() }, b"").await.unwrap();
            rig.append(Envelope { accepted_at: early, ..rig.envelope() }, b"").await.unwrap();
        }
        rig.append(Envelope { route: name("rest"), ..rig.envelope() }, b"").await.unwrap();
        let accepted = |count| Moves { accepted: count, ..Moves::default() };
        assert_eq!(hours(&rig).await, [(0, accepted(4)), (1, accepted(3)), (2, accepted(1))]);
        rig = rig.reopen();
        assert_eq!(hours(&rig).await, [(0, accepted(4)), (1, accepted(3)), (2, accepted(1))]);
        let history = rig.store.history(rig.now()).await.unwrap();
        let routes: Vec<_> = history.hours.iter().map(|counts| (counts.route.clone(), counts.moves.accepted)).collect();
        assert_eq!(routes, [(name("marks"), 1), (name("rest"), 1)]);
    }
}

#[tokio::test]
async fn an_attempt_that_ended_with_the_program_is_counted_at_the_start() {
    for mut rig in Rig::both() {
        let once = Envelope { delivery: forebay::envelope::Delivery::AtMostOnce, ..rig.envelope() };
        rig.append(once, b"").await.unwrap();
        rig.claim(1).await;
        rig.pass(HOUR);
        rig = rig.reopen();
        let counts = |accepted, dead| Moves { accepted, dead, ..Moves::default() };
        assert_eq!(hours(&rig).await, [(0, counts(1, 0)), (1, counts(0, 1))]);
    }
}

#[tokio::test]
async fn an_hour_is_kept_for_90_days_and_not_a_millisecond_more() {
    for engine in [Engine::Memory, Engine::Redb] {
        let rig = Rig::new(engine, |settings| settings.keep_dead = Duration::MAX);
        // More hours than one step of a prune takes.
        for _ in 0..5 {
            rig.put(None).await;
            rig.pass(HOUR);
        }
        rig.put(None).await;
        let kept = |from: u64| (from..6).collect::<Vec<_>>();
        let left = async |rig: &Rig| hours(rig).await.iter().map(|(hour, _)| *hour).collect::<Vec<_>>();
        rig.pass(FIRST + HOUR + u64::from(KEPT_HOURS) * HOUR - 1 - rig.now().as_millis());
        rig.store.prune(rig.now()).await.unwrap();
        assert_eq!(left(&rig).await[..6], kept(0));
        rig.pass(1);
        rig.store.prune(rig.now()).await.unwrap();
        assert_eq!(left(&rig).await[..5], kept(1));
        rig.pass(4 * HOUR);
        rig.store.prune(rig.now()).await.unwrap();
        assert_eq!(left(&rig).await[..1], kept(5));
        rig.pass(2 * u64::from(KEPT_HOURS) * HOUR);
        rig.store.prune(rig.now()).await.unwrap();
        assert!(left(&rig).await.is_empty(), "also the latest hour of a route goes");
        assert!(left(&rig.reopen()).await.is_empty());
    }
}
