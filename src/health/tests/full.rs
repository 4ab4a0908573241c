//! A backend that says at once when it has no room: its refusals are cheap, and outnumber what it does.

use std::{sync::Arc, time::Duration};

use crate::health::{
    Class, Quality, Sample, Signal, State,
    sim::{Backend, Fate, Forebay, closed, read},
};

/// Requests that were served within 15 s, after 5 s, as a part of what the servers could have done; refused ones for each of them; and trips of the breaker.
async fn used(servers: usize, room: u32, clients: usize) -> (f64, f64, u64) {
    let forebay = Arc::new(Forebay::new(&Backend::without_queue(servers, room)));
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

/// A client of what is out of order in a route: refused at once, it asks again after so many milliseconds.
async fn out_of_order(forebay: Arc<Forebay>, route: &str, pause: u64) {
    let kind = forebay.health.kind(route, true);
    loop {
        if let Ok(seat) = forebay.health.seat(Class::Live).await {
            forebay.health.report(0, Signal::Refusal);
            forebay
                .health
                .sample(&seat, Sample { kind, class: Class::Live, rtt: Some(Duration::from_millis(1)), quality: Quality::Refused });
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_whatever_it_is_asked_slows_no_other_down_and_a_part_of_a_route_the_rest_for_seconds() {
    for (route, clients, pause) in
        [("broken", 2, 20), ("broken", 4, 10), ("broken", 8, 20), ("fine", 2, 20), ("fine", 4, 10), ("fine", 8, 20)]
    {
        let forebay = Arc::new(Forebay::new(&Backend::new(1, 100)));
        let broken: Vec<_> = (0..clients).map(|_| tokio::spawn(out_of_order(forebay.clone(), route, pause))).collect();
        let done = closed(&forebay, 16, read("fine", 20), Duration::from_secs(120)).await;
        broken.iter().for_each(tokio::task::JoinHandle::abort);
        let mut seconds = [0_u32; 120];
        done.iter().filter(|done| done.fate == Fate::Good).for_each(|done| seconds[done.due.as_secs() as usize] += 1);
        let slow = seconds.iter().filter(|count| **count < 600).count();
        let most = if route == "fine" { 10 } else { 1 };
        assert!(slow <= most && forebay.health.trips() == 0, "{route}, of 800 a second: {seconds:?}");
    }
}
