//! Who gets a seat, and how long he waits for it: by what is lost when he gets none.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Health, NoSeat, Rank, Seat};

impl Health {
    /// For one who fails without.
    pub(super) async fn live_seat(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        self.load.live_asked();
        let _on = self.is_contested();
        match self.gate.try_seat() {
            Some(seat) => Ok(seat),
            // Boxed, so that what has a timer makes no request larger that finds a seat.
            None => Box::pin(self.wait_in_first_rank()).await,
        }
    }

    async fn wait_in_first_rank(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        self.load.live_waits();
        let (began, wait) = (Instant::now(), self.wait());
        let seat = self.gate.wait_for_seat(Rank::First, began, wait).await;
        let full = matches!(seat, Err(NoSeat::Full));
        if full {
            self.load.rejected();
        }
        if !matches!(seat, Err(NoSeat::Shedding)) {
            let now = Instant::now();
            let waited = now - began;
            if self.contest.waited(waited, wait, full, now - self.start) {
                self.log_contest(waited, full);
            }
        }
        seat
    }

    /// For one who is queued without: while others suffer he takes what is to spare, or nothing.
    pub(super) async fn spillable_seat(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        self.load.live_asked();
        let contested = self.is_contested();
        let at_once = if contested { self.gate.try_spare_seat() } else { self.gate.try_seat() };
        if let Some(seat) = at_once {
            return Ok(seat);
        }
        self.load.live_waits();
        if contested {
            return Err(self.gate.refusal());
        }
        let seat = Box::pin(self.gate.wait_for_seat(Rank::Second, Instant::now(), self.wait())).await;
        if matches!(seat, Err(NoSeat::Full)) {
            self.load.rejected();
        }
        seat
    }

    /// Whether reads suffer; its end is told by the first request that comes after it.
    fn is_contested(&self) -> bool {
        self.contest.is_on(|| self.now(), |ended| self.log_contest_end(ended))
    }

    /// For replay.
    pub(super) fn spare_seat(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        self.gate.try_spare_seat().ok_or_else(|| self.gate.refusal())
    }
}
