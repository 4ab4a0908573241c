//! What happened in each hour: exact counts by route, kept for 90 days.
//!
//! An event belongs to the hour of the moment that is stored with it: of its acceptance, its settlement, its withdrawal. It is counted in the same commit as
//! the move that it is, so that a crash takes both or neither.

use crate::envelope::{Name, State, Timestamp};

/// Hours that are kept besides the one that is under way: 90 days.
pub const KEPT_HOURS: u32 = 90 * 24;

const MILLIS: u64 = 3_600_000;

/// Events of one hour. A request that dies, is queued again and dies again has died twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// Acknowledged.
    pub accepted: u64,
    /// Taken by the backend.
    pub delivered: u64,
    /// Given up.
    pub dead: u64,
    /// Withdrawn.
    pub cancelled: u64,
    /// Dead letters thrown away.
    pub discarded: u64,
}

/// One hour of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourCounts {
    /// When the hour began.
    pub hour: Timestamp,
    /// The backend.
    pub backend: Name,
    /// The route.
    pub route: Name,
    /// What happened.
    pub moves: Moves,
}

/// One consistent look at the hours in which anything happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// From when on all that happened is in it. Later than the store itself where that is of a format without a history.
    pub since: Timestamp,
    /// Ordered by hour, then backend, then route.
    pub hours: Vec<HourCounts>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Accepted,
    Delivered,
    Dead,
    Cancelled,
    Discarded,
}

impl Event {
    /// Every one, in order of declaration.
    pub(super) const ALL: [Self; 5] = [Self::Accepted, Self::Delivered, Self::Dead, Self::Cancelled, Self::Discarded];

    /// What it is to become `state`; queued and delivering are passed through and not counted.
    pub(super) fn of(state: State) -> Option<Self> {
        match state {
            State::Queued | State::Delivering => None,
            State::Delivered => Some(Self::Delivered),
            State::Dead => Some(Self::Dead),
            State::Cancelled => Some(Self::Cancelled),
        }
    }
}

impl Moves {
    /// One count.
    pub(super) fn of(mut self, event: Event) -> u64 {
        *self.of_mut(event)
    }

    /// Corrects one count by `by`.
    pub(super) fn add(&mut self, event: Event, by: i64) {
        let count = self.of_mut(event);
        *count = count.saturating_add_signed(by);
    }

    fn of_mut(&mut self, event: Event) -> &mut u64 {
        match event {
            Event::Accepted => &mut self.accepted,
            Event::Delivered => &mut self.delivered,
            Event::Dead => &mut self.dead,
            Event::Cancelled => &mut self.cancelled,
            Event::Discarded => &mut self.discarded,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The number of the hour of a moment, from the Unix epoch.
pub(super) fn hour_of(moment: Timestamp) -> u32 {
    u32::try_from(moment.as_millis() / MILLIS).unwrap_or(u32::MAX)
}

/// When the hour of a number began.
pub(super) fn start_of(hour: u32) -> Timestamp {
    Timestamp::from_millis(u64::from(hour) * MILLIS)
}

/// The first hour that is kept at a moment: one goes when all of it is more than 90 days ago.
pub(super) fn first_kept(now: Timestamp) -> u32 {
    hour_of(now).saturating_sub(KEPT_HOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_until_all_of_it_is_more_than_90_days_ago() {
        let end = start_of(10).as_millis() + MILLIS;
        let days = 90 * 24 * MILLIS;
        assert_eq!(first_kept(Timestamp::from_millis(end + days - 1)), 10);
        assert_eq!(first_kept(Timestamp::from_millis(end + days)), 11);
        assert_eq!(first_kept(Timestamp::from_millis(5)), 0);
    }
}
