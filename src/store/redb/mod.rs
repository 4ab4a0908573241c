//! The real engine.
