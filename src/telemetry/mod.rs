//! Logs, the access log, and every metric with its unit and help.
//!
//! Whatever happens on the path of a request costs a few atomic operations here ([`RouteMetrics`], [`Histogram`]) or one `try_send` ([`AccessLog`]):
//! nothing takes a lock, and nothing waits for a disk. What other rooms know by themselves (queues, breakers, the store) is not kept a
//! second time: the admin room reads it at each scrape and passes it to [`Metrics::encode`] as [`Gauges`].

mod access;
mod clients;
mod histogram;
mod logs;
mod metrics;
mod scrape;

pub use access::{AccessEntry, AccessFormat, AccessLog, AccessTarget};
pub use clients::{ClientMetrics, RateLimited, Refusal};
pub use histogram::Histogram;
pub use logs::{LogError, LogFormat, init};
pub use metrics::{AnswerMetrics, AttemptOutcome, CONTENT_TYPE, Metrics, RequestOutcome, RouteMetrics, StoreMetrics};
pub use scrape::{AgeGauges, BackendGauges, CertificateGauges, Gauges, RefusalGauges, ReplayGauges, StoreGauges, Word};
