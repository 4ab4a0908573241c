//! Logs, the access log, and every metric with its unit and help.

use std::time::Duration;

use crate::envelope::{DeadReason, Reason};

/// All metrics of the program (Prometheus text format 0.0.4 / OpenMetrics, prefix `forebay_`, base units).
#[derive(Debug, Default)]
pub struct Metrics {}

/// How a client's request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// The backend's answer was passed on.
    Passed,
    /// It was queued and answered 202.
    Spilled,
    /// We answered: 4xx, 502, 503, 504.
    Refused,
}

/// What became of an attempt of replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// The backend took it.
    Delivered,
    /// It will be tried again.
    Again,
    /// It was given up.
    Dead,
}

/// The metric handles of one route, looked up once per configuration.
#[derive(Debug, Clone)]
pub struct RouteMetrics {}

impl Metrics {
    /// The handles of a route.
    pub fn route(&self, _backend: &str, _route: &str) -> RouteMetrics {
        todo!()
    }

    /// The whole exposition. Gauges that belong to other rooms are set by the caller (admin) before.
    pub fn encode(&self) -> String {
        todo!()
    }
}

impl RouteMetrics {
    /// A client's request has been answered, `duration` after its head arrived. On the hot path: atomics only.
    pub fn request(&self, _outcome: RequestOutcome, _duration: Duration) {
        todo!()
    }

    /// A write was acknowledged from the queue.
    pub fn spilled(&self, _reason: Reason) {
        todo!()
    }

    /// An attempt of replay has ended.
    pub fn attempt(&self, _outcome: AttemptOutcome, _duration: Duration) {
        todo!()
    }

    /// A queued request was given up.
    pub fn dead(&self, _reason: DeadReason) {
        todo!()
    }
}
