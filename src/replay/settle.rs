//! What an attempt leads to, and making that durable.

use std::time::Duration;

use http::StatusCode;

use crate::{
    envelope::{
        Clock, DeadReason, Envelope, Timestamp,
        retry::{self, Next, Policy},
        verdict::{self, Evidence, Replayed},
    },
    store::{Answer, Claimed, Outcome, Store, StoreError},
};

use super::{Shutdown, deadline, deliver::Ended, pace::Feedback, suspects};

/// Pause before a settlement that the store did not take is tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What an attempt leads to.
#[derive(Debug)]
pub(super) struct Judgement {
    /// For the store.
    pub(super) outcome: Outcome,
    /// For the pace.
    pub(super) feedback: Feedback,
    /// The backend is to be left alone: for as long as it asked, or a while of our choice.
    pub(super) pause: Option<Option<Duration>>,
    /// Whether it may have been at the backend, so that another attempt is a retry and not the first real one.
    pub(super) sent: bool,
    /// Whether it may have been, and the backend itself did not answer: what a backend that is going down looks like.
    pub(super) unanswered: bool,
}

/// Under which circumstances an attempt was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// Attempts before this one that count.
    pub(super) failures: u32,
    /// Trips of the breaker during which the request was at the backend, as far as the store knows.
    pub(super) trips: u32,
    /// Such trips before this attempt of which the store does not know.
    pub(super) owed: u32,
    /// Trips during this attempt.
    pub(super) tripped: u32,
    /// Whether the breaker was passing from its begin to its end.
    pub(super) passing: bool,
    /// The moment of its end.
    pub(super) now: Timestamp,
    /// A random number in 0..1.
    pub(super) unit: f64,
}

/// What the end of an attempt leads to.
///
/// What fails because the backend is down costs the request nothing but age: while the breaker is not passing, no answer, a 429 and 502 to 504 use
/// up no attempt. What else the application says counts at any time.
pub(super) fn judge(ended: Ended, envelope: &Envelope, circumstances: Circumstances) -> Judgement {
    let (sent, unanswered) = match &ended {
        Ended::Answered { answer, .. } => (true, matches!(answer.status, 502 | 504)),
        Ended::Unanswered { maybe_sent, .. } => (*maybe_sent, *maybe_sent),
        Ended::Unreadable { .. } | Ended::Damaged { .. } | Ended::Interrupted => (false, false),
    };
    let Judged { mut outcome, feedback, pause } = judge_alone(ended, envelope, circumstances);
    if let Outcome::Again { trips, why, .. } = &mut outcome {
        // What was not sent cannot have brought the backend down.
        *trips = circumstances.owed + if sent { circumstances.tripped } else { 0 };
        let all = circumstances.trips.saturating_add(*trips);
        if suspects::is_poison(all) {
            let why = poisoned(all, why);
            outcome = Outcome::Dead { reason: DeadReason::Poison, why, answer: None };
        }
    }
    Judgement { outcome, feedback, pause, sent, unanswered }
}

/// What is said of a request that is given up as poison.
pub(super) fn poisoned(trips: u32, last: &str) -> String {
    format!("the backend went down {trips} times with it, the last time while nothing else was replayed: {last}")
}

/// What an attempt leads to, whatever it may have done to the backend.
struct Judged {
    outcome: Outcome,
    feedback: Feedback,
    pause: Option<Option<Duration>>,
}

fn judge_alone(ended: Ended, envelope: &Envelope, circumstances: Circumstances) -> Judged {
    let Circumstances { failures, passing, now, unit, .. } = circumstances;
    let policy = Policy { max_attempts: envelope.max_attempts, expires_at: envelope.expires_at };
    let may_be_resent = envelope.may_be_resent();
    let trial =
        |not_before, outage: bool, why, answer| Trial { policy, failures, now, not_before, unit, outage: outage && !passing, why, answer };
    match ended {
        Ended::Answered { answer, to_login, retry_after } => {
            // A status outside 100..=999 cannot have come over HTTP.
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let not_before = retry_after.and_then(|value| retry::retry_after(&value, now));
            let feedback = feedback_of(status);
            let trial = trial(not_before, feedback == Feedback::Bad, status.to_string(), Some(answer));
            let verdict = verdict::replayed(Evidence::Answer { status, to_login }, may_be_resent);
            let pause = matches!(verdict, Replayed::Again { pauses_backend: true, .. }).then(|| not_before.map(|moment| moment.since(now)));
            Judged { outcome: trial.outcome(verdict), feedback, pause }
        }
        Ended::Unanswered { maybe_sent, why } => {
            let evidence = if maybe_sent { Evidence::NoAnswer } else { Evidence::NotSent };
            let outcome = trial(None, true, why, None).outcome(verdict::replayed(evidence, may_be_resent));
            Judged { outcome, feedback: Feedback::Bad, pause: None }
        }
        Ended::Unreadable { maybe_sent, why } => {
            let again = Replayed::Again { consumes_attempt: false, pauses_backend: false };
            let unknown = Replayed::Dead(DeadReason::OutcomeUnknown);
            let verdict = if maybe_sent && !may_be_resent { unknown } else { again };
            Judged { outcome: trial(None, false, why, None).outcome(verdict), feedback: Feedback::Neutral, pause: None }
        }
        Ended::Damaged { why } => {
            let outcome = Outcome::Dead { reason: DeadReason::Damaged, why, answer: None };
            Judged { outcome, feedback: Feedback::Neutral, pause: None }
        }
        Ended::Interrupted => {
            let why = "forebay stopped before the backend answered".to_owned();
            let outcome = if may_be_resent {
                give_back(now, 0, why)
            } else {
                Outcome::Dead { reason: DeadReason::OutcomeUnknown, why, answer: None }
            };
            Judged { outcome, feedback: Feedback::Neutral, pause: None }
        }
    }
}

/// The outcome of an attempt of which nothing was sent, or that may be made again at once. `trips` are added to those that the store knows of.
pub(super) fn give_back(due: Timestamp, trips: u32, why: String) -> Outcome {
    Outcome::Again { due, consumes_attempt: false, trips, why }
}

/// Answers that show no strength (429, 502, 503, 504) are bad; the application's own failures say nothing about it.
fn feedback_of(status: StatusCode) -> Feedback {
    match status.as_u16() {
        429 | 502..=504 => Feedback::Bad,
        501 | 505 | ..=499 => Feedback::Good,
        _ => Feedback::Neutral,
    }
}

/// What is known when a verdict has been spoken.
struct Trial {
    policy: Policy,
    failures: u32,
    now: Timestamp,
    not_before: Option<Timestamp>,
    unit: f64,
    /// Whether it failed because the backend is down.
    outage: bool,
    why: String,
    answer: Option<Answer>,
}

impl Trial {
    fn outcome(self, verdict: Replayed) -> Outcome {
        let dead = |reason| move |why, answer| Outcome::Dead { reason, why, answer };
        match (verdict, self.answer) {
            (Replayed::Delivered, Some(answer)) => Outcome::Delivered(answer),
            // Only an answer is a delivery; without one nothing is known.
            (Replayed::Delivered, None) => dead(DeadReason::OutcomeUnknown)(self.why, None),
            (Replayed::Dead(reason), answer) => dead(reason)(self.why, answer),
            (Replayed::Again { consumes_attempt, .. }, answer) => {
                let consumes_attempt = consumes_attempt && !self.outage;
                let counted = self.failures.saturating_add(u32::from(consumes_attempt));
                match retry::next(self.policy, counted, self.now, self.not_before, self.unit) {
                    Next::At(due) => Outcome::Again { due, consumes_attempt, trips: 0, why: self.why },
                    Next::Exhausted => dead(DeadReason::AttemptsExhausted)(self.why, answer),
                    Next::Expired => dead(DeadReason::Expired)(self.why, answer),
                }
            }
        }
    }
}

/// Makes the end of an attempt durable. A store that fails is asked again until it takes it: the request stays claimed, and is not sent
/// again, meanwhile. Only the deadline of a shutdown ends the asking; then recovery decides at the next start.
pub(super) async fn settle(
    store: &dyn Store,
    clock: &Clock,
    claimed: &Claimed,
    outcome: &Outcome,
    shutdown: Shutdown,
) -> Result<(), StoreError> {
    let id = claimed.envelope.id;
    let mut deadline = std::pin::pin!(deadline(shutdown));
    let mut pause = RETRY_MIN;
    loop {
        let error = match store.settle(id, claimed.attempt, clock.now(), copy(outcome)).await {
            Ok(()) => return Ok(()),
            Err(error @ (StoreError::Failed(_) | StoreError::Full(_))) => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(%id, %error, "the outcome of an attempt could not be stored yet");
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            () = &mut deadline => return Err(error),
        }
    }
}

fn copy(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Delivered(answer) => Outcome::Delivered(answer.clone()),
        Outcome::Again { due, consumes_attempt, trips, why } => {
            Outcome::Again { due: *due, consumes_attempt: *consumes_attempt, trips: *trips, why: why.clone() }
        }
        Outcome::Dead { reason, why, answer } => Outcome::Dead { reason: *reason, why: why.clone(), answer: answer.clone() },
    }
}

#[cfg(test)]
mod tests;
