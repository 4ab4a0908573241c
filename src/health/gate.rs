//! Seats: how many requests are at a backend at once, and who waits for one. (in progress)

/// A request's place at the backend. Dropping it gives the place to the next; hold it until the response body has ended.
#[derive(Debug)]
#[must_use = "dropping a seat frees it"]
pub struct Seat {}
