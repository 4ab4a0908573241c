//! The store's promises: one suite for every engine, the real one in lockstep with the model, and the real one on a disk that fails.

mod conformance;
mod disk;
mod faults;
mod lockstep;
mod rig;
