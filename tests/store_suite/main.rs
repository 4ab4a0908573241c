//! The store's promises: one suite for every engine, the real one in lockstep with the model, and the real one on a disk that fails.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod conformance;
mod damage;
mod disk;
mod faults;
mod flight;
mod formats;
mod history;
mod importing;
mod index_flips;
mod journal;
mod limits;
mod lockstep;
mod order;
mod rebuild;
mod rig;
mod space;
mod spoil;
mod upkeep;
