//! forebay is a load-shedding reverse proxy that stands in front of legacy servers and never loses a write.
//!
//! # The way of a request
//! A client's request comes in through [`proxy`], which finds its route and asks the [`health`] of the route's backend for a seat. With a
//! seat it goes straight through [`backend`] and the answer streams back. Without one, a read is refused honestly, and a write on a spill route is
//! frozen into an [`envelope`] and put into the [`store`]; once it is durable, and no sooner, the client gets its 202. A write whose live attempt fails is rescued
//! the same way where its route allows it.
//!
//! [`replay`] takes it out again when the backend can take it: it asks the same health for a seat, claims the request (durably, before the first
//! byte is sent), sends it through [`backend`], and settles what became of it.
//!
//! Both speak HTTP/1.1 by [`http1`] and HTTP/2 by [`http2`].
//!
//! [`admin`] lets operators see and steer all of this, [`config`] says what is to be, and [`app`] joins the rooms.

pub mod admin;
pub mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod envelope;
pub mod health;
pub mod http1;
pub mod http2;
pub mod proxy;
pub mod replay;
pub mod shutdown;
pub mod store;
pub mod telemetry;

#[cfg(test)]
#[path = "../tests/fuzz/driver.rs"]
mod fuzz;
