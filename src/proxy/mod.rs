//! From the client to us: listen, find the route, decide, and pass on, queue or refuse.

mod settings;

pub use settings::{Accepted, Clients, ListenAddress, OnDeadLetter, PathMatch, RouteSettings, Settings, Spill, When};
