use bytes::Bytes;
use http::Method;

use super::*;
use crate::{
    envelope::{Delivery, Reason, RequestId},
    store::Payload,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn envelope(delivery: Delivery) -> Envelope {
    Envelope {
        id: RequestId::new(),
        backend: "app".into(),
        route: "marks".into(),
        method: Method::POST,
        target: "/marks".into(),
        headers: Vec::new(),
        trailers: Vec::new(),
        reason: Reason::Down,
        accepted_at: Timestamp::default(),
        expires_at: NOW.after(Duration::from_secs(60)),
        delivery,
        max_attempts: 3,
        order_key: None,
        hold_key_when_dead: false,
    }
}

fn answered(status: u16, retry_after: Option<&str>) -> Ended {
    let answer = Answer { status, headers: Vec::new(), payload: Payload::from(Bytes::new()) };
    Ended::Answered { answer, to_login: false, retry_after: retry_after.map(str::to_owned) }
}

fn unanswered(maybe_sent: bool) -> Ended {
    Ended::Unanswered { maybe_sent, why: "gone".into() }
}

/// What is left of an outcome when its texts and its answer are not looked at.
#[derive(Debug, PartialEq)]
enum Short {
    Delivered,
    /// After so many milliseconds.
    Counted(u64),
    Uncounted(u64),
    Dead(DeadReason),
}

fn short(outcome: &Outcome) -> Short {
    match outcome {
        Outcome::Delivered(_) => Short::Delivered,
        Outcome::Again { due, consumes_attempt: true, .. } => Short::Counted(due.as_millis() - NOW.as_millis()),
        Outcome::Again { due, consumes_attempt: false, .. } => Short::Uncounted(due.as_millis() - NOW.as_millis()),
        Outcome::Dead { reason, .. } => Short::Dead(*reason),
    }
}

const CALM: Circumstances = Circumstances { failures: 0, trips: 0, owed: 0, tripped: 0, passing: true, now: NOW, unit: 1.0 };

fn judged(ended: Ended, delivery: Delivery, failures: u32) -> Judgement {
    judge(ended, &envelope(delivery), Circumstances { failures, ..CALM })
}

#[test]
fn every_end_of_an_attempt_leads_to_what_the_table_says() {
    use Short::{Counted, Dead, Delivered, Uncounted};
    let unreadable = |maybe_sent| Ended::Unreadable { maybe_sent, why: String::new() };
    let damaged = || Ended::Damaged { why: String::new() };
    // the end, failures before it, what follows where it may be resent, and where it may not
    let table = [
        (answered(200, None), answered(200, None), 0, Delivered, Delivered),
        (answered(303, None), answered(303, None), 0, Delivered, Delivered),
        (answered(422, None), answered(422, None), 0, Dead(DeadReason::Refused), Dead(DeadReason::Refused)),
        (answered(401, None), answered(401, None), 0, Dead(DeadReason::AuthExpired), Dead(DeadReason::AuthExpired)),
        (answered(500, None), answered(500, None), 0, Counted(2000), Dead(DeadReason::OutcomeUnknown)),
        (answered(500, None), answered(500, None), 1, Counted(4000), Dead(DeadReason::OutcomeUnknown)),
        (answered(500, None), answered(500, None), 2, Dead(DeadReason::AttemptsExhausted), Dead(DeadReason::OutcomeUnknown)),
        (answered(503, None), answered(503, None), 0, Counted(2000), Counted(2000)),
        (answered(503, Some("30")), answered(503, Some("30")), 0, Counted(30_000), Counted(30_000)),
        (answered(503, Some("30")), answered(503, Some("30")), 2, Dead(DeadReason::AttemptsExhausted), Dead(DeadReason::AttemptsExhausted)),
        (unanswered(true), unanswered(true), 0, Counted(2000), Dead(DeadReason::OutcomeUnknown)),
        (unanswered(false), unanswered(false), 2, Uncounted(4000), Uncounted(4000)),
        (unreadable(true), unreadable(true), 0, Uncounted(2000), Dead(DeadReason::OutcomeUnknown)),
        (unreadable(false), unreadable(false), 0, Uncounted(2000), Uncounted(2000)),
        (damaged(), damaged(), 0, Dead(DeadReason::Damaged), Dead(DeadReason::Damaged)),
        (Ended::Interrupted, Ended::Interrupted, 2, Uncounted(0), Dead(DeadReason::OutcomeUnknown)),
    ];
    for (number, (first, second, failures, resent, once)) in table.into_iter().enumerate() {
        assert_eq!(short(&judged(first, Delivery::AtLeastOnce, failures).outcome), resent, "line {number}");
        assert_eq!(short(&judged(second, Delivery::AtMostOnce, failures).outcome), once, "line {number}");
    }
}

#[test]
fn only_a_backend_that_says_not_now_is_paused() {
    let pause = |ended| judged(ended, Delivery::AtLeastOnce, 0).pause;
    assert_eq!(pause(answered(503, Some("30"))), Some(Some(Duration::from_secs(30))));
    assert_eq!(pause(answered(429, Some("100000"))), Some(Some(Duration::from_secs(3600))));
    assert_eq!(pause(answered(429, None)), Some(None));
    assert_eq!(pause(answered(408, Some("30"))), None);
    assert_eq!(pause(answered(200, Some("30"))), None);
    assert_eq!(pause(unanswered(true)), None);
}

#[test]
fn the_pace_hears_what_shows_the_strength_of_the_backend() {
    let feedback = |ended| judged(ended, Delivery::AtLeastOnce, 0).feedback;
    for status in [429, 502, 503, 504] {
        assert_eq!(feedback(answered(status, None)), Feedback::Bad, "{status}");
    }
    for status in [200, 302, 401, 422, 501, 505] {
        assert_eq!(feedback(answered(status, None)), Feedback::Good, "{status}");
    }
    assert_eq!(feedback(answered(500, None)), Feedback::Neutral);
    assert_eq!(feedback(unanswered(true)), Feedback::Bad);
    assert_eq!(feedback(unanswered(false)), Feedback::Bad);
    assert_eq!(feedback(Ended::Interrupted), Feedback::Neutral);
}

#[test]
fn a_request_past_its_age_is_given_up_as_expired() {
    let old = Envelope { expires_at: NOW, ..envelope(Delivery::AtLeastOnce) };
    for ended in [answered(503, None), unanswered(false)] {
        assert_eq!(short(&judge(ended, &old, CALM).outcome), Short::Dead(DeadReason::Expired));
    }
    assert_eq!(short(&judge(answered(200, None), &old, CALM).outcome), Short::Delivered);
}

#[test]
fn the_last_answer_is_kept_with_a_dead_letter() {
    for (status, failures) in [(422, 0), (503, 2)] {
        let Outcome::Dead { answer: Some(answer), why, .. } = judged(answered(status, None), Delivery::AtLeastOnce, failures).outcome
        else {
            panic!("{status} should be dead with its answer");
        };
        assert_eq!(answer.status, status);
        assert!(why.starts_with(&status.to_string()), "{why}");
    }
}

#[test]
fn what_fails_because_the_backend_is_down_uses_up_no_attempt() {
    let short_of = |ended, passing| {
        let circumstances = Circumstances { failures: 2, passing, ..CALM };
        short(&judge(ended, &envelope(Delivery::AtLeastOnce), circumstances).outcome)
    };
    for status in [429, 502, 503, 504] {
        assert_eq!(short_of(answered(status, None), true), Short::Dead(DeadReason::AttemptsExhausted), "{status}");
        assert_eq!(short_of(answered(status, None), false), Short::Uncounted(4000), "{status}");
    }
    assert_eq!(short_of(unanswered(true), true), Short::Dead(DeadReason::AttemptsExhausted));
    assert_eq!(short_of(unanswered(true), false), Short::Uncounted(4000));
    // What the application itself says counts at any time, or a request that it cannot digest would be sent for ever.
    for status in [408, 423, 425, 500, 507] {
        assert_eq!(short_of(answered(status, None), false), Short::Dead(DeadReason::AttemptsExhausted), "{status}");
    }
    assert_eq!(short_of(answered(422, None), false), Short::Dead(DeadReason::Refused));
}

#[test]
fn a_request_that_was_there_at_three_trips_is_poison_and_one_that_was_not_sent_is_innocent() {
    let short_of = |ended, trips, owed, tripped| {
        let circumstances = Circumstances { trips, owed, tripped, passing: false, ..CALM };
        match judge(ended, &envelope(Delivery::AtLeastOnce), circumstances).outcome {
            Outcome::Again { trips, .. } => Ok(trips),
            other => Err(short(&other)),
        }
    };
    // The end, trips that the store knows of, those that it does not, those of this attempt, and what the store is told.
    for (sent, trips, owed, tripped, expected) in [
        (true, 0, 0, 0, Ok(0)),
        (true, 0, 0, 1, Ok(1)),
        (true, 0, 1, 1, Ok(2)),
        (true, 1, 0, 1, Ok(1)),
        (true, 2, 0, 0, Ok(0)),
        (true, 2, 0, 1, Err(Short::Dead(DeadReason::Poison))),
        (true, 1, 1, 1, Err(Short::Dead(DeadReason::Poison))),
        (true, 1, 0, 2, Err(Short::Dead(DeadReason::Poison))),
        (false, 2, 0, 1, Ok(0)),
        (false, 1, 1, 1, Ok(1)),
    ] {
        assert_eq!(short_of(unanswered(sent), trips, owed, tripped), expected, "{sent} {trips} {owed} {tripped}");
    }
    assert_eq!(short_of(answered(200, None), 2, 0, 1), Err(Short::Delivered));
    assert_eq!(short_of(answered(422, None), 2, 0, 1), Err(Short::Dead(DeadReason::Refused)));
}

#[test]
fn a_retry_is_what_follows_something_that_was_sent() {
    for (ended, sent, nothing_came) in [
        (answered(503, None), true, false),
        (answered(502, None), true, true),
        (answered(504, None), true, true),
        (answered(500, None), true, false),
        (unanswered(true), true, true),
        (unanswered(false), false, false),
        (Ended::Interrupted, false, false),
    ] {
        let judgement = judged(ended, Delivery::AtLeastOnce, 0);
        assert_eq!((judgement.sent, judgement.unanswered), (sent, nothing_came), "{:?}", judgement.outcome);
    }
}
