//! A backend that says at once when it has no room: its refusals are cheap, and outnumber what it does.

use std::time::Duration;

use crate::health::{
    State,
    sim::{Backend, Fate, Forebay, closed, read},
};

/// Requests that were served within 15 s, after 5 s, as a part of what the servers could have done; refused ones for each of them; and trips of the breaker.
async fn used(servers: usize, room: u32, clients: usize) -> (f64, f64, u64) {
    let forebay = std::sync::Arc::new(Forebay::new(&Backend::without_queue(servers, room)));
    let done = closed(&forebay, clients, read("reads", 50), Duration::from_secs(20)).await;
    let late = || done.iter().filter(|done| done.due > Duration::from_secs(5));
    let good = late().filter(|done| done.fate == Fate::Good).count() as f64;
    let failed = late().filter(|done| done.fate == Fate::Failed).count() as f64;
    assert_eq!(forebay.health.state(), State::Passing);
    (good / (15.0 * 20.0 * servers as f64 * f64::from(room)), failed / good, forebay.health.trips())
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_refuses_what_it_has_no_room_for_is_not_shed_but_used_and_the_limit_learns_where_that_begins() {
    for (servers, room, clients) in [(2, 3, 8), (2, 2, 8), (1, 5, 8), (1, 20, 40), (1, 100, 300), (3, 4, 100)] {
        let (part, refused, trips) = used(servers, room, clients).await;
        let found = format!("{servers} servers of {room}, {clients} clients: {part:.2} used, {refused:.2} refused for each");
        assert!(part > 0.6 && refused < 0.5 && trips == 0, "{found}, {trips} trips");
    }
}

#[tokio::test(start_paused = true)]
async fn one_with_less_room_than_the_least_limit_is_used_too_whatever_it_refuses() {
    let (part, _, trips) = used(1, 2, 8).await;
    assert!(part > 0.95 && trips == 0, "{part:.2} used, {trips} trips");
}
