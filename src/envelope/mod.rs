//! The domain: what a write is while it waits, what may happen to it, and the rules that decide which of those things does.
//!
//! Nothing here does I/O, reads a clock or knows tokio: time is passed in, so that every rule is a plain function with a table test.
//!
//! - [`RequestId`], [`State`], [`Reason`], [`DeadReason`]: the names that users see.
//! - [`Envelope`]: a request, frozen as it was sent.
//! - [`verdict`]: what the outcome of an attempt means. [`retry`]: when to try again. [`order`]: which requests must wait for one another.

mod id;
pub mod order;
mod rate;
mod request;
pub mod retry;
mod state;
mod time;
pub mod verdict;

pub use id::{InvalidId, RequestId};
pub use order::OrderKey;
pub use rate::Rate;
pub use request::{Delivery, Envelope, Field, Name};
pub use state::{DeadReason, Reason, State};
pub use time::{Clock, InvalidMoment, Timestamp};
